"""Around the appeal on the review page: look-alikes labelled at once, history, queues and filters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import NEEDS_BROWSER, OpenPage
from tests.review_page import Room, at_hand, enter, following, keys, open_room, saved, shown

pytestmark = NEEDS_BROWSER


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path, 8) as found:
        yield found


@pytest.fixture
def page(room: Room, open_page: OpenPage) -> Any:
    return enter(open_page(f"{room.address}login"), room)


def now(page: Any, head: str) -> str:
    """The answer that stands there for a head."""
    return str(page.inner_text(f"#head-{head}-now b"))


# --- look-alikes, history -------------------------------------------------------------------------


def test_look_alikes_are_labelled_at_once_after_a_preview(page: Any, room: Room) -> None:
    first = at_hand(page)
    page.wait_for_selector("#aside .similar li")
    keys(page, "u", "4", "b")
    page.wait_for_selector(".bulk-list input")
    assert page.inner_text("#bulk-code") == "特急"
    chosen = page.eval_on_selector_all(".bulk-list input:checked", "nodes => nodes.map(n => n.value)")
    keys(page, "ArrowDown", "Space")
    after = page.eval_on_selector_all(".bulk-list input:checked", "nodes => nodes.map(n => n.value)")
    assert len(set(after) ^ set(chosen)) == 1 and after
    keys(page, "Enter")
    page.wait_for_selector(".bulk-table tbody tr")
    assert page.locator(".bulk-table tbody tr").count() == len(after)
    assert room.said() == {}  # only seen so far
    assert f"改变 {len(after)} 条" in page.inner_text(".bulk-sum").replace("确认模型建议 0 条，", "")
    keys(page, "Enter")
    page.wait_for_selector("#bulk-back")
    said = room.said()
    assert set(said) == set(after) and first not in said
    assert {(row.kind, row.head, row.code) for rows in said.values() for row in rows} == {
        ("bulk", "urgency", "特急")
    }
    page.click("#bulk-back")
    page.wait_for_selector("text=已撤回")
    assert room.said() == {}
    keys(page, "Escape")
    assert at_hand(page) == first and now(page, "urgency") == "特急"  # the appeal at hand is untouched


def test_a_preview_that_is_out_of_date_is_made_anew(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login", allow=("status of 409",)), room)
    page.route("**/v1/review/bulk", lambda route: route.fulfill(
        status=409, json={"error": {"code": "review_conflict", "message": "已有变化", "hint": ""}}
    ), times=1)  # fmt: skip
    page.wait_for_selector("#aside .similar li")
    keys(page, "u", "4", "b")
    page.wait_for_selector(".bulk-list input")
    page.click("text=全选")
    page.click("text=预览变化")
    page.wait_for_selector(".bulk-table tbody tr")
    page.wait_for_function("() => document.activeElement.id === 'bulk-do'")
    allowed = page.locator("#bulk .problem")
    keys(page, "Enter")
    page.wait_for_selector("#bulk .problem:not([hidden])")
    assert "请重新预览" in allowed.inner_text() and room.said() == {}
    page.click("#bulk .problem button")
    page.wait_for_function("() => document.activeElement.id === 'bulk-do'")
    keys(page, "Enter")
    page.wait_for_selector("#bulk-back")
    assert len(room.said()) == 7


def test_history_tells_who_did_what(page: Any, room: Room) -> None:
    first = at_hand(page)
    keys(page, "u", "1", "Enter")
    following(page, first)
    saved(page)
    keys(page, "z")
    shown(page, first)
    saved(page)
    keys(page, "h")
    page.wait_for_selector(".history li")
    told = page.inner_text(".history")
    assert "撤回" in told and "修改 紧急程度：" in told and "→ 一般" in told and "developer" in told
    keys(page, "h")
    page.wait_for_selector(".similar li")


# --- queues, filters ------------------------------------------------------------------------------


def test_queues_are_switched_with_two_keys_and_give_back_what_was_held(page: Any, room: Room) -> None:
    first = at_hand(page)
    keys(page, "g")
    assert page.evaluate("document.activeElement.dataset.queue") == "urgent"
    keys(page, "2")
    page.wait_for_selector(".queue[aria-current][data-queue=uncertain]")
    page.wait_for_selector("#paper:not([hidden])")
    assert "released" in room.happened(first)
    page.reload()
    page.wait_for_selector(".queue[aria-current][data-queue=uncertain]")


def test_an_empty_queue_says_so_and_offers_others(page: Any) -> None:
    keys(page, "g", "4")
    page.wait_for_selector("#nothing:not([hidden]) .chip")
    assert "这个队列没有等待的诉求" in page.inner_text("#nothing")
    keys(page, "Enter", "u", "4", "s", "z", "x", "b")  # none of them has anything to act on
    assert page.locator("dialog").count() == 0
    page.click("#nothing .chip >> nth=0")
    page.wait_for_selector("#paper:not([hidden])")


def test_appeals_are_filtered_by_place_and_branch(page: Any, room: Room) -> None:
    page.click(".filters summary")
    page.fill("[name=district]", "西区")
    page.click("#filter-category")
    page.keyboard.insert_text("市政设施")
    page.wait_for_selector("#picker-0")
    keys(page, "Enter")
    assert page.inner_text("#filter-category") == "市政设施"
    with page.expect_request("**/v1/review/take") as taken:
        page.click(".filters [type=submit]")
    filters = taken.value.post_data_json["filters"]
    assert filters["district"] == "西区" and set(filters["categories"]) >= {"0201", "0202", "0203"}
    assert page.inner_text(".filters summary") == "筛选（2 项）"
    page.wait_for_selector("#nothing:not([hidden]), #paper:not([hidden])")
    page.click(".filters button >> text=清除")
    page.wait_for_selector("#paper:not([hidden])")
    page.fill("[name=since]", "2031-01-01")
    page.click(".filters [type=submit]")
    page.wait_for_selector("#nothing:not([hidden]) .hint")


def test_an_appeal_can_be_asked_for_by_its_id(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login"), room, where="#appeal=A-07")
    assert at_hand(page) == "A-07"
    keys(page, "Enter")
    following(page, "A-07")
    saved(page)
    assert set(room.said()) == {"A-07"}
