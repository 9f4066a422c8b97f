"""The review page when things go wrong: no line, no session, no lease, two people, two tabs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import NEEDS_BROWSER, OpenPage
from tests.guarded import PASSWORD
from tests.review_page import (
    Room,
    at_hand,
    closed_room,
    enter,
    fetched_ahead,
    following,
    keys,
    open_room,
    saved,
    shown,
)
from tests.running import until

pytestmark = NEEDS_BROWSER

OFFLINE = ("ERR_INTERNET_DISCONNECTED", "ERR_CONNECTION_FAILED", "ERR_NETWORK_CHANGED")
SHUT = ("status of 401",)
HEADS = 6


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path, 6) as found:
        yield found


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Room]:
    with closed_room(tmp_path, 12) as found:
        yield found


def banner(page: Any, text: str) -> None:
    page.locator("#banner", has_text=text).wait_for()


def once_each(room: Room, ids: set[str]) -> None:
    """Every one of these appeals, and no other, holds one row per head."""
    said = room.said(withdrawn=True)
    assert set(said) == ids
    assert {id: len(rows) for id, rows in said.items()} == dict.fromkeys(ids, HEADS)


# --- the line -------------------------------------------------------------------------------------


def test_work_goes_on_without_a_line_and_is_sent_when_it_is_back(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login", allow=OFFLINE), room)
    fetched_ahead(page)
    page.context.set_offline(True)
    first = at_hand(page)
    keys(page, "u", "1", "Enter")
    second = following(page, first)
    banner(page, "连接中断，已保留 1 条，恢复后自动提交")
    keys(page, "Enter")
    banner(page, "已保留 2 条")
    assert page.inner_text("#saved") == "待提交 2 条" and room.said() == {}
    page.context.set_offline(False)
    page.wait_for_selector("#paper:not([hidden])")
    saved(page)
    page.wait_for_selector("#banner", state="hidden")
    once_each(room, {first, second})
    assert {row.head: row.code for row in room.said()[first]}["urgency"] == "一般"


def test_what_was_not_sent_survives_that_the_page_is_closed(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login", allow=OFFLINE), room)
    page.route("**/v1/review/leases/*/labels", lambda route: route.abort("connectionfailed"))
    first = at_hand(page)
    keys(page, "Enter")
    second = following(page, first)
    banner(page, "已保留 1 条")
    kept = page.evaluate("() => JSON.stringify(localStorage)")
    text = room.in_store(lambda store: store.appeal(first).text)
    assert first in kept and text[:6] not in kept  # codes and numbers, no words of residents
    page.unroute("**/v1/review/leases/*/labels")
    page.reload()
    page.wait_for_selector("#paper:not([hidden])")
    assert at_hand(page) == second  # not handed out again while its labels are on the way
    saved(page)
    once_each(room, {first})


def test_an_answer_that_was_lost_writes_nothing_twice(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login", allow=OFFLINE), room)
    lost: list[int] = []

    def lose(route: Any) -> None:
        lost.append(route.fetch().status)  # it reached the service, the answer does not reach the page
        route.abort("connectionfailed")

    page.route("**/v1/review/leases/*/labels", lose, times=1)
    first = at_hand(page)
    keys(page, "Enter")
    following(page, first)
    saved(page)
    assert lost == [200]
    once_each(room, {first})


def test_undo_takes_back_what_was_never_sent(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login", allow=OFFLINE), room)
    first = at_hand(page)
    held: list[Any] = []
    page.route("**/v1/review/leases/*/labels", lambda route: held.append(route))
    keys(page, "Enter")
    second = following(page, first)
    page.wait_for_function("() => document.getElementById('saved').textContent === '待提交 1 条'")
    keys(page, "Enter")
    following(page, second)
    keys(page, "z")  # the second one waits behind the first
    shown(page, second)
    assert page.inner_text("#saved") == "待提交 1 条"
    held[0].continue_()
    saved(page)
    once_each(room, {first})


def test_a_service_that_is_busy_is_asked_again(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login", allow=("status of 503",)), room)
    page.route("**/v1/review/leases/*/labels", lambda route: route.fulfill(
        status=503, json={"error": {"code": "store_not_ready", "message": "数据库暂时不可用"}}
    ), times=1)  # fmt: skip
    first = at_hand(page)
    keys(page, "Enter")
    banner(page, "已保留 1 条")
    saved(page)
    once_each(room, {first})


def test_what_the_service_refuses_is_told_and_shown_again(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login", allow=("status of 422",)), room)
    page.route("**/v1/review/leases/*/labels", lambda route: route.fulfill(
        status=422, json={"error": {"code": "labels_refused", "message": "标签体系已更新"}}
    ), times=1)  # fmt: skip
    first = at_hand(page)
    keys(page, "u", "1", "Enter")
    following(page, first)
    banner(page, "1 条未能提交：标签体系已更新")
    page.click("text=重新打开这一条")
    shown(page, first)
    assert page.inner_text("#head-urgency-now b") == "一般"  # as it was filled in
    page.wait_for_selector("#banner", state="hidden")
    keys(page, "Enter")
    following(page, first)
    saved(page)
    once_each(room, {first})


def test_what_was_filled_in_survives_a_reload(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login"), room)
    first = at_hand(page)
    keys(page, "u", "1", "m")
    page.keyboard.insert_text("待核实")
    page.reload()
    page.wait_for_selector("#paper:not([hidden])")
    assert at_hand(page) == first and page.inner_text("#head-urgency-now b") == "一般"
    assert page.input_value("#comment") == "待核实" and room.said() == {}


# --- the session ----------------------------------------------------------------------------------


def test_an_expired_session_loses_nothing(closed: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{closed.address}login", allow=SHUT), closed, "ming")
    first = at_hand(page)
    keys(page, "u", "1", "m")
    page.keyboard.insert_text("已核实")
    page.context.clear_cookies()
    keys(page, "Control+Enter")
    page.wait_for_selector("#signin")
    assert "1 条待提交的会在登录后自动提交" in page.inner_text("#signin")
    assert page.input_value("#again-name") == "ming" and closed.said() == {}
    page.keyboard.insert_text("falsch-falsch-falsch")
    keys(page, "Enter")
    page.wait_for_selector("#signin .problem:not([hidden])")
    keys(page, "Escape")  # to read on first
    banner(page, "登录已过期，已保留 1 条")
    page.click("#banner button")
    page.keyboard.insert_text(PASSWORD)
    keys(page, "Enter")
    page.wait_for_selector("#signin", state="detached")
    saved(page)
    page.wait_for_selector("#paper:not([hidden])")
    once_each(closed, {first})
    assert {(row.comment, row.reviewer) for row in closed.said()[first]} == {("已核实", "user:ming")}
    second = at_hand(page)
    keys(page, "Enter")
    following(page, second)
    saved(page)
    once_each(closed, {first, second})


def test_signing_in_anew_in_another_tab_is_noticed(closed: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{closed.address}login", allow=("status of 403",)), closed, "ming")
    first = at_hand(page)
    again = page.request.post(
        f"{closed.address}v1/session",
        data={"name": "ming", "password": PASSWORD},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert again.status == 201
    keys(page, "Enter")  # the token for changes is another one now
    following(page, first)
    saved(page)
    once_each(closed, {first})


def test_what_one_person_said_is_never_sent_in_anothers_name(closed: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{closed.address}login", allow=(*SHUT, "status of 403")), closed, "ming")
    first = at_hand(page)
    other = page.request.post(
        f"{closed.address}v1/session",
        data={"name": "hua", "password": PASSWORD},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert other.status == 201
    keys(page, "Enter")
    page.wait_for_selector("#signin")
    assert page.input_value("#again-name") == "ming" and closed.said() == {}
    page.keyboard.insert_text(PASSWORD)
    keys(page, "Enter")
    saved(page)
    once_each(closed, {first})
    assert {row.reviewer for row in closed.said()[first]} == {"user:ming"}


def test_signing_out_gives_back_what_was_held(closed: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{closed.address}login"), closed, "ming")
    first = at_hand(page)
    page.click("#leave")
    page.wait_for_url("**/login")
    assert closed.happened(first)[-1] == "released"


def test_who_may_not_review_sees_no_way_in(closed: Room, open_page: OpenPage) -> None:
    page = open_page(f"{closed.address}review")
    assert page.url == f"{closed.address}login"
    enter(page, closed, "ming")
    page.goto(closed.address)
    page.wait_for_selector("#rooms a[href='/review']")
    page.click("#rooms a[href='/review']")
    page.wait_for_selector("#paper:not([hidden])")


# --- others ---------------------------------------------------------------------------------------


def test_two_reviewers_never_have_the_same_appeal(closed: Room, open_page: OpenPage) -> None:
    pages = [enter(open_page(f"{closed.address}login"), closed, name) for name in ("ming", "hua")]
    seen: list[list[str]] = [[], []]
    for _ in range(5):
        for mine, page in zip(seen, pages, strict=True):
            mine.append(at_hand(page))
            keys(page, "Enter")
            following(page, mine[-1])
    for page in pages:
        saved(page)
    assert len({*seen[0], *seen[1]}) == 10
    by = {id: {row.reviewer for row in rows} for id, rows in closed.said().items()}
    assert by == {id: {f"user:{name}"} for name, ids in zip(("ming", "hua"), seen, strict=True) for id in ids}


def test_a_second_opinion_is_asked_for_without_showing_the_first(tmp_path: Path, open_page: OpenPage) -> None:
    with closed_room(tmp_path, 1, double=1.0) as room:
        first = enter(open_page(f"{room.address}login"), room, "ming")
        keys(first, "u", "1", "Enter")
        saved(first)
        first.wait_for_selector("#nothing:not([hidden])")
        second = enter(open_page(f"{room.address}login"), room, "hua")
        assert at_hand(second) == "A-01" and "请独立判断" in second.inner_text("#marks")
        assert "一般" not in second.inner_text("#head-urgency-now")
        keys(second, "h")
        second.locator("#aside", has_text="不显示他人的标注").wait_for()
        keys(second, "u", "2", "Enter")
        saved(second)
        lead = enter(open_page(f"{room.address}login"), room, "lan", "#queue=disputed")
        assert at_hand(lead) == "A-01" and lead.inner_text("#accept-name") == "裁定"
        assert "有分歧（hua、ming）" in lead.inner_text("#head-urgency .notes")
        keys(lead, "u", "2", "Enter")
        saved(lead)
        label = room.in_store(lambda store: next(iter(store.labels_in_force()))).heads["urgency"]
        assert (label.code, label.adjudicated) == ("较急", True)
        for page in (first, second, lead):
            page.context.close()


def end_lease(room: Room, id: str, taker: str = "") -> None:
    """End the lease of an appeal as if its time were over; perhaps somebody else has it then."""

    def work(store: Any) -> None:
        [event] = [event for event in store.history(id) if event.what == "taken"]
        store.release(event.number, event.who, now=datetime.now(UTC))
        if taker:
            store.take_appeal(id, taker, now=datetime.now(UTC))

    room.in_store(work)


def opened_with_clock(room: Room, open_page: OpenPage, name: str, *allow: str) -> Any:
    page = open_page(f"{room.address}login", allow=allow)
    page.clock.install()
    return enter(page, room, name)


def test_leases_are_extended_while_somebody_works(closed: Room, open_page: OpenPage) -> None:
    page = opened_with_clock(closed, open_page, "ming")
    extended: list[int] = []
    page.on("response", lambda one: extended.append(one.status) if one.url.endswith("/extend") else None)
    until(lambda: taken(closed) == 2)  # the one at hand, and the one ahead
    page.wait_for_timeout(500)
    page.clock.fast_forward("08:00")
    while len(extended) < 2:
        page.wait_for_timeout(50)
    assert extended == [200, 200]
    page.clock.fast_forward("30:00")  # nobody has touched a key
    page.clock.fast_forward("01:00")
    page.wait_for_timeout(500)
    assert len(extended) == 2


def taken(room: Room) -> int:
    """How many appeals somebody has before them, or has had."""
    numbers = range(1, 13)
    return sum("taken" in room.happened(f"A-{number:02}") for number in numbers)


def test_a_lease_that_ran_out_is_taken_again(closed: Room, open_page: OpenPage) -> None:
    page = opened_with_clock(closed, open_page, "ming", "status of 409")
    first = at_hand(page)
    end_lease(closed, first)
    with page.expect_response(f"**/appeals/{first}/take") as answer:
        page.clock.fast_forward("08:00")
    assert answer.value.status == 200
    keys(page, "Enter")
    following(page, first)
    saved(page)
    once_each(closed, {first})


def test_what_is_said_after_a_lease_was_lost_is_kept_all_the_same(closed: Room, open_page: OpenPage) -> None:
    page = opened_with_clock(closed, open_page, "ming", "status of 409")
    first = at_hand(page)
    end_lease(closed, first, taker="user:hua")
    page.clock.fast_forward("08:00")
    page.locator("#marks", has_text="可能已转给他人").wait_for()
    keys(page, "Enter")
    following(page, first)
    saved(page)
    once_each(closed, {first})


def test_an_appeal_that_another_holds_can_be_read_only(closed: Room, open_page: OpenPage) -> None:
    ming = enter(open_page(f"{closed.address}login"), closed, "ming")
    first = at_hand(ming)
    hua = enter(
        open_page(f"{closed.address}login", allow=("status of 409",)), closed, "hua", f"#appeal={first}"
    )
    assert at_hand(hua) == first and "只读" in hua.inner_text("#marks")
    keys(hua, "Enter")
    assert at_hand(hua) == first and hua.inner_text("#said") == "这条只读，不能提交。"
    assert closed.said() == {}
