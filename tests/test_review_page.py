"""The review page by keyboard: accept, change, pick, skip, undo, flag, cover; the store agrees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import NEEDS_BROWSER, OpenPage
from tests.review_page import Room, at_hand, enter, fetched_ahead, following, keys, open_room, saved, shown

pytestmark = NEEDS_BROWSER

HEADS = 6


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


def codes(room: Room, id: str) -> dict[str, tuple[str, str]]:
    """head → (kind, code) of what stands for an appeal."""
    return {row.head: (row.kind, row.code) for row in room.said()[id]}


# --- a day's work ---------------------------------------------------------------------------------


def test_twenty_appeals_by_keyboard_alone(open_page: OpenPage, tmp_path: Path) -> None:
    plan: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
        ("done", ("Enter",), {}),
        ("done", ("u", "4", "Enter"), {"urgency": "特急"}),
        ("done", ("t", "3", "l", "1", "a"), {"appeal_type": "投诉", "tier": "小区"}),
        ("skipped", ("s", "2"), {}),
        ("done", ("c", "c", "l", "j", "q", "y", "Enter", "Enter"), {"category": "0101"}),
        ("done", ("d", "0", "Enter"), {"unit": ""}),
        ("undone", ("Enter",), {"urgency": "特急"}),
        ("done", ("t", "6", "z", "Enter"), {}),  # the change is taken back, the appeal stays
        ("done", ("p", "/", "Escape", "p", "Escape", "Enter"), {}),
        ("done", ("ArrowDown", "ArrowDown", "6", "Enter"), {"appeal_type": "表扬"}),
    ]
    with open_room(tmp_path, 21) as room:
        page = enter(open_page(f"{room.address}login"), room)
        expected: dict[str, tuple[str, dict[str, str]]] = {}
        for number in range(20):
            what, pressed, changes = plan[number % len(plan)]
            id = at_hand(page)
            keys(page, *pressed)
            following(page, id)
            if what == "undone":
                keys(page, "z")
                shown(page, id)
                keys(page, "u", "4", "Enter")
                following(page, id)
            expected[id] = (what, changes)
        saved(page)
        assert len(expected) == 20 and page.inner_text("#progress") == "本次已完成 18 条"
        assert_stored(room, expected)
        page.context.close()


def assert_stored(room: Room, expected: dict[str, tuple[str, dict[str, str]]]) -> None:
    """The store holds for every appeal exactly what was pressed."""
    done = {id: changes for id, (what, changes) in expected.items() if what != "skipped"}
    said = room.said()
    assert set(said) == set(done)
    for id, changes in done.items():
        rows = {row.head: row for row in said[id]}
        assert len(said[id]) == len(rows) == HEADS
        different = {head: row.code for head, row in rows.items() if row.code != row.shown}
        assert different.items() <= changes.items()
        assert all(rows[head].code == code for head, code in changes.items())
        kinds = {head: "confirmed" if row.code == row.shown else "changed" for head, row in rows.items()}
        assert {head: row.kind for head, row in rows.items()} == kinds
        assert {row.reviewer for row in rows.values()} == {"developer"}
        assert {row.model_version for row in rows.values()} == {"fake-1"}
    for id in set(expected) - set(done):
        assert room.happened(id)[-1] == "skipped"


def test_the_next_appeal_waits_for_no_request(page: Any, room: Room) -> None:
    held: list[Any] = []
    fetched_ahead(page)
    page.route("**/v1/review/leases/*/labels", lambda route: held.append(route))
    page.route("**/v1/review/take", lambda route: held.append(route))
    first = at_hand(page)
    keys(page, "Enter")
    second = following(page, first)
    assert page.evaluate("document.activeElement.id") == "paper"
    assert page.inner_text("#said").startswith("已确认，下一条：") and second in page.inner_text("#said")
    page.wait_for_function("() => document.getElementById('saved').textContent === '待提交 1 条'")
    assert room.said() == {}  # nothing has been answered yet, and the reviewer is already reading
    for route in held:
        route.continue_()
    page.unroute("**/v1/review/leases/*/labels")
    page.unroute("**/v1/review/take")
    saved(page)
    assert set(room.said()) == {first}


def test_a_key_that_is_held_down_answers_one_appeal(page: Any, room: Room) -> None:
    first = at_hand(page)
    for _ in range(5):
        page.keyboard.down("Enter")  # from the second on the browser calls it a repeat
    page.keyboard.up("Enter")
    following(page, first)
    saved(page)
    assert set(room.said()) == {first}


# --- two keys change a head -----------------------------------------------------------------------


def test_small_heads_have_the_same_digit_every_day(page: Any) -> None:
    assert page.eval_on_selector_all("#head-urgency .option", "nodes => nodes.map(n => n.textContent)") == [
        "1一般", "2较急", "3紧急", "4特急", "0无法判断",
    ]  # fmt: skip
    keys(page, "u", "1")
    assert now(page, "urgency") == "一般"
    assert page.inner_text("#head-urgency .tag") == "已改" and "原为：" in page.inner_text("#head-urgency")
    keys(page, "0")
    assert now(page, "urgency") == "无法判断"
    keys(page, "z", "z")
    assert page.inner_text("#head-urgency .tag") == "建议"


def test_a_digit_without_a_head_changes_nothing(page: Any) -> None:
    keys(page, "4")
    assert page.inner_text("#said") == "先按字母选中分类头，再按数字。"
    assert page.locator(".was-changed").count() == 0


def test_the_evidence_follows_the_head(page: Any) -> None:
    for _ in range(8):
        if page.locator("#words .evidence").count():
            break
        keys(page, "Enter")
        page.wait_for_timeout(50)
    assert page.eval_on_selector_all("#words .evidence", "nodes => nodes.map(n => n.textContent)")
    keys(page, "t")
    assert page.is_checked("#layers [value=appeal_type]")
    keys(page, "e")
    assert page.is_checked("#layers [value=urgency]")


def test_with_the_mouse_every_option_can_be_clicked_and_enter_goes_on(page: Any, room: Room) -> None:
    first = at_hand(page)
    page.click("#head-appeal_type .option >> nth=2")
    assert now(page, "appeal_type") == "投诉"
    keys(page, "Enter")
    following(page, first)
    saved(page)
    assert codes(room, first)["appeal_type"][1] == "投诉"


def test_single_keys_can_be_switched_off(page: Any) -> None:
    keys(page, "?")
    page.uncheck("#single-keys")
    keys(page, "Escape", "u", "1")
    assert page.locator(".was-changed").count() == 0
    page.reload()
    page.wait_for_selector("#heads .head")
    keys(page, "u", "1", "s")
    assert page.locator(".was-changed, dialog").count() == 0
    page.click("[data-act=help]")
    page.check("#single-keys")
    keys(page, "Escape", "u", "1")
    assert page.locator(".was-changed").count() == 1


# --- the picker -----------------------------------------------------------------------------------


def test_labels_are_found_by_characters_sound_initials_and_code(page: Any) -> None:
    keys(page, "c", "c")
    page.wait_for_selector("#picker")
    wanted = {
        "ljqy": "垃圾清运", "lajiqingyun": "垃圾清运", "laji": "垃圾清运", "ljqingy": "垃圾清运",
        "清运": "垃圾清运", "市容 lj": "垃圾清运",
        "井盖": "井盖", "窨井": "井盖", "0203": "路灯", "ld": "路灯", "LUDENG": "路灯",
    }  # fmt: skip
    for typed, found in wanted.items():
        page.fill("#picker-input", typed)
        row = page.get_attribute("#picker-input", "aria-activedescendant")
        assert page.inner_text(f"#{row} .picker-name") == found, typed
        assert page.inner_text(".picker-title") == found


def test_the_picker_is_a_combobox_that_arrows_walk(page: Any) -> None:
    before = now(page, "category")
    keys(page, "/")
    active = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
    assert page.evaluate(f"{active}.querySelector('.picker-name').textContent") == before
    assert page.get_attribute("#picker-input", "role") == "combobox"
    group = f"{active}.closest('[role=group]').id || {active}.closest('[role=group]').textContent.slice(0, 4)"
    here = page.evaluate(group)
    keys(page, "PageDown")
    assert page.evaluate(group) != here
    assert page.evaluate(f"{active}.getAttribute('aria-selected')") == "true"
    assert page.inner_text(".picker-about p >> nth=2") != ""  # the definition
    keys(page, "ArrowDown", "Enter")
    assert page.locator("#picker").count() == 0 and now(page, "category") != before
    assert page.evaluate("document.activeElement.id") == "head-category"


def test_the_keys_of_an_input_method_choose_nothing(page: Any) -> None:
    keys(page, "c", "c")
    page.evaluate(
        "document.getElementById('picker-input').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    assert page.locator("#picker").count() == 1
    page.keyboard.insert_text("没有这样的标签")
    keys(page, "Enter")
    assert page.locator("#picker").count() == 1 and "没有找到" in page.inner_text("#picker-list")


# --- skip, comment, undo --------------------------------------------------------------------------


def test_a_comment_goes_along(page: Any, room: Room) -> None:
    first = at_hand(page)
    keys(page, "m")
    page.keyboard.insert_text("已与社区核实，归街道")
    keys(page, "Control+Enter")
    following(page, first)
    saved(page)
    assert {row.comment for row in room.said()[first]} == {"已与社区核实，归街道"}
    assert all(row.seconds >= 0 for row in room.said()[first])


def test_what_is_saved_can_be_undone_and_said_anew(page: Any, room: Room) -> None:
    first = at_hand(page)
    keys(page, "u", "4", "m")
    page.keyboard.insert_text("先写一句")
    keys(page, "Escape", "Enter")
    second = following(page, first)
    saved(page)
    keys(page, "z")
    assert following(page, second) == first
    assert now(page, "urgency") == "特急" and page.input_value("#comment") == "先写一句"
    keys(page, "u", "1", "Enter")
    assert following(page, first) == second  # the one that lay there before comes back
    saved(page)
    assert codes(room, first)["urgency"] == ("changed", "一般")
    kinds = [row.kind for row in room.said(withdrawn=True)[first]]
    assert kinds.count("withdrawn") == HEADS and len(kinds) == 3 * HEADS


def test_a_skip_can_be_undone(page: Any, room: Room) -> None:
    first = at_hand(page)
    keys(page, "s", "Escape")
    assert at_hand(page) == first
    keys(page, "s", "4")
    following(page, first)
    saved(page)
    assert room.happened(first)[-1] == "skipped"
    keys(page, "z")
    shown(page, first)
    saved(page)
    keys(page, "Enter")
    following(page, first)
    saved(page)
    assert set(room.said()) == {first}
    keys(page, "z", "z")
    assert page.inner_text("#said") == "没有可撤销的了。"


# --- personal data --------------------------------------------------------------------------------


def test_words_are_covered_by_keyboard_and_uncovered(page: Any, room: Room) -> None:
    first = at_hand(page)
    text = room.in_store(lambda store: store.appeal(first).text)
    keys(page, "x", "Home", "Shift+ArrowRight")
    picked = page.inner_text("#words .picked")
    assert picked and text.startswith(picked)
    keys(page, "Enter")
    assert at_hand(page) == first and page.locator("#words .covered").count() == 1
    page.wait_for_selector("#covers button:not([disabled])")
    covered = room.in_store(lambda store: store.appeal(first).text)
    assert covered == "█" * len(picked) + text[len(picked) :]
    page.click("#covers button")
    page.wait_for_selector("#covers", state="hidden")
    assert page.locator("#words .covered").count() == 0
    assert room.in_store(lambda store: store.appeal(first).text) == text


def test_what_the_mouse_selects_is_covered(page: Any, room: Room) -> None:
    first = at_hand(page)
    text = room.in_store(lambda store: store.appeal(first).text)
    page.evaluate(
        "() => { const words = document.getElementById('words'); const texts = [];"
        " const walk = document.createTreeWalker(words, NodeFilter.SHOW_TEXT);"
        " while (walk.nextNode()) if (!walk.currentNode.parentElement.closest('.vh'))"
        " texts.push(walk.currentNode);"
        " const last = texts.at(-1); const range = document.createRange();"
        " range.setStart(last, last.length - 3); range.setEnd(last, last.length - 1);"
        " getSelection().removeAllRanges(); getSelection().addRange(range); }"
    )
    keys(page, "x")
    page.wait_for_selector("#covers button:not([disabled])")
    covered = room.in_store(lambda store: store.appeal(first).text)
    assert covered == text[:-3] + "██" + text[-1]


def test_letters_mean_nothing_while_words_are_chosen(page: Any, room: Room) -> None:
    first = at_hand(page)
    keys(page, "x", "a", "s", "u", "4", "Escape")
    assert at_hand(page) == first and page.locator("dialog, .was-changed, .picked").count() == 0
    assert room.said() == {}
