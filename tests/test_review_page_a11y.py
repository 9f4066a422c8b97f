"""The review page for everybody: WCAG 2.1 AA by axe, zoom, large type, dark and light, screen readers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browsing import CONTRAST, NEEDS_BROWSER, OpenPage
from tests.review_page import Room, at_hand, enter, following, keys, open_room

pytestmark = NEEDS_BROWSER

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
LONG = "小区门口的井盖不见了，请马上处理。" * 60


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """Nothing is said in these tests, so they share one; leases are handed out again."""
    with open_room(tmp_path_factory.mktemp("a11y"), 6) as found:
        yield found


def violations(page: Any) -> list[str]:
    """What axe finds against WCAG 2.1 A and AA."""
    found = Axe().run(page, options=WCAG).response["violations"]
    nodes = [(one["id"], node) for one in found for node in one["nodes"]]
    return [f"{id}: {node['target']} {node['failureSummary']}" for id, node in nodes]


def look(page: Any, what: str) -> None:
    """Bring the page into a state that people meet."""
    if what == "page":
        page.wait_for_selector("#aside .similar li")
    elif what == "changed":
        keys(page, "u", "1", "m")
        page.keyboard.insert_text("备注")
        keys(page, "Escape", "t")
    elif what == "picker":
        keys(page, "c", "c")
        page.keyboard.insert_text("l")
    elif what == "help":
        keys(page, "?")
    elif what == "skip":
        keys(page, "s")
    elif what == "bulk":
        keys(page, "b")
        page.wait_for_selector(".bulk-list input")
    elif what == "preview":
        keys(page, "u", "1", "b")
        page.wait_for_selector(".bulk-list input")
        page.click("text=全选")
        page.click("text=预览变化")
        page.wait_for_selector(".bulk-table tbody tr")
    elif what == "history":
        keys(page, "h")
        page.wait_for_selector(".history li")
    elif what == "words":
        keys(page, "x", "ArrowRight")
    elif what == "empty":
        keys(page, "g", "4")
        page.wait_for_selector("#nothing:not([hidden]) .hint")
    elif what == "filters":
        page.click(".filters summary")


STATES = (
    "page", "changed", "picker", "help", "skip", "bulk", "preview", "history", "words", "empty", "filters",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_against_wcag_2_1_aa(room: Room, open_page: OpenPage, scheme: str) -> None:
    page = open_page(f"{room.address}login", color_scheme=scheme, reduced_motion="reduce")
    found: dict[str, list[str]] = {}
    for state in STATES:
        enter(page, room, where="#queue=urgent")
        page.evaluate("() => localStorage.removeItem('jiesu.review.developer.drafts')")
        page.reload()
        page.wait_for_selector("#heads .head")
        look(page, state)
        problems = violations(page) + page.evaluate(CONTRAST)
        if problems:
            found[state] = problems
        if state == "empty":  # the queue is remembered
            keys(page, "g", "1")
            page.wait_for_selector("#paper:not([hidden])")
    assert found == {}
    page.evaluate("() => document.getElementById('said').remove()")
    page.evaluate("() => document.querySelector('#layers input').labels[0].remove()")
    page.evaluate("() => document.getElementById('words').setAttribute('role', 'list')")
    assert violations(page)  # the measure itself sees what is wrong


@pytest.mark.parametrize("size", [0, 4])
def test_the_page_does_not_scroll_at_1280_by_720(room: Room, open_page: OpenPage, size: int) -> None:
    page = enter(open_page(f"{room.address}login"), room)
    keys(page, *["+"] * size)
    page.wait_for_selector("#aside .similar li")
    page.evaluate(f"() => document.getElementById('words').append('{LONG}')")
    keys(page, "m")
    root = "document.documentElement"
    assert page.evaluate(f"() => [{root}.scrollHeight, {root}.scrollWidth]") == [720, 1280]
    inside = (
        "n => { const b = document.querySelector(n).getBoundingClientRect();"
        " return b.top >= 0 && b.bottom <= innerHeight && b.left >= 0 && b.right <= innerWidth"
        " && b.height > 20; }"
    )
    for part in ("#paper", ".heads-pane", ".aside-pane", "#actions", ".side", "[data-act=accept]"):
        assert page.evaluate(inside, part), part
    if size == 0:  # everything that is to be judged is in view without scrolling any pane
        for head in page.eval_on_selector_all(".head", "nodes => nodes.map(n => '#' + n.id)"):
            assert page.evaluate(inside, head), head


@pytest.mark.parametrize(("width", "height"), [(640, 360), (400, 740), (320, 568)])
def test_panes_stack_at_200_percent_and_on_narrow_screens(
    room: Room, open_page: OpenPage, width: int, height: int
) -> None:
    page = enter(open_page(f"{room.address}login", width=width, height=height), room)
    page.wait_for_selector("#aside .similar li")
    for state in ("page", "changed", "filters"):
        look(page, state)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    tops = [page.evaluate(f"() => document.querySelector('{part}').getBoundingClientRect().top")
            for part in (".side", "#paper", ".heads-pane", ".aside-pane")]  # fmt: skip
    assert tops == sorted(tops)
    for state in ("picker", "help", "bulk"):
        page.reload()
        page.wait_for_selector("#heads .head")
        look(page, state)
        box = page.locator("dialog").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
    assert violations(page) == []


def test_the_text_is_the_first_thing_in_view_at_200_percent(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login", width=640, height=360), room)
    page.wait_for_function("() => document.getElementById('words').getBoundingClientRect().top < 200")
    keys(page, "g")
    assert page.locator(".queue:visible").count() == page.locator(".queue").count()


def test_type_and_colours_are_chosen_and_kept(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login", color_scheme="light"), room)
    size = "() => parseFloat(getComputedStyle(document.getElementById('words')).fontSize)"
    paper = "() => getComputedStyle(document.body).backgroundColor"
    before, light = page.evaluate(size), page.evaluate(paper)
    keys(page, "+", "+")
    assert page.evaluate(size) == pytest.approx(before * 1.25)
    page.click("#theme")
    assert page.inner_text("#theme").endswith("浅色") and page.evaluate(paper) == light
    page.click("#theme")
    dark = page.evaluate(paper)
    assert page.inner_text("#theme").endswith("深色") and dark != light
    page.reload()
    page.wait_for_selector("#heads .head")
    assert page.evaluate(size) == pytest.approx(before * 1.25) and page.evaluate(paper) == dark
    page.emulate_media(color_scheme="dark")
    page.click("#theme")
    assert page.inner_text("#theme").endswith("跟随系统") and page.evaluate(paper) == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(paper) == light
    keys(page, "-", "-", "-")
    assert page.evaluate(size) == pytest.approx(before)


def test_what_happens_is_said_and_landmarks_lead_the_way(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login"), room)
    first = at_hand(page)
    assert page.get_by_role("main").count() == 1 and page.get_by_role("banner").count() == 1
    assert page.get_by_role("navigation", name="队列").count() == 1
    assert page.get_by_role("article", name=first).count() == 1
    assert page.get_by_role("heading", level=1).inner_text().strip().endswith(first)
    assert page.get_by_role("region", name="判定").count() == 1
    keys(page, "t")
    assert page.evaluate("() => document.activeElement.id") == "head-appeal_type"
    group = page.get_by_role("group", name="诉求性质")
    assert group.get_by_role("button", pressed=True).count() == 1
    assert page.inner_text("[role=status]#said").startswith("诉求性质，")
    keys(page, "s")
    assert page.get_by_role("dialog", name="跳过这一条：原因是什么？").count() == 1
    keys(page, *["Tab"] * 9)
    assert page.evaluate("() => Boolean(document.activeElement.closest('dialog, body:not(:has(:focus))'))")
    keys(page, "Escape")
    assert page.evaluate("() => document.activeElement.id") == "head-appeal_type"  # back where it was


def test_everything_can_be_done_with_tab_and_enter_alone(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login"), room)
    seen: set[str] = set()
    for _ in range(140):
        keys(page, "Tab")
        name, outline, shadow = page.evaluate(
            "() => { const n = document.activeElement;"
            " const s = getComputedStyle(n.matches('[name=layer]') ? n.nextElementSibling : n);"
            " return [n.dataset.act ?? n.id ?? '', s.outlineStyle, s.boxShadow]; }"
        )
        if page.evaluate("() => document.activeElement === document.body"):
            continue
        assert outline != "none" or shadow != "none", name
        seen.add(name)
    acts = {"accept", "skip", "undo", "flag", "comment", "bulk", "help"}
    assert acts | {"theme", "words", "tab-similar"} <= seen
    first = at_hand(page)
    page.focus("#head-appeal_type .option >> nth=5")
    keys(page, "Enter")
    assert page.inner_text("#head-appeal_type-now b") == "表扬"
    assert page.evaluate("() => document.activeElement.textContent") == "6表扬"  # the focus is not lost
    page.focus("[data-act=comment]")
    keys(page, "Enter")
    assert page.evaluate("() => document.activeElement.id") == "comment"
    keys(page, "Escape")
    page.focus("[data-act=accept]")
    keys(page, "Enter")
    following(page, first)


def test_forced_colours_and_print_keep_what_matters(room: Room, open_page: OpenPage) -> None:
    page = enter(open_page(f"{room.address}login", forced_colors="active"), room)
    keys(page, "u")
    pressed = "#head-urgency [aria-pressed=true]"
    other = "#head-urgency [aria-pressed=false]"
    ground = "n => getComputedStyle(document.querySelector(n)).backgroundColor"
    assert page.evaluate(ground, pressed) != page.evaluate(ground, other)
    page.emulate_media(media="print")
    assert page.is_visible("#words") and page.is_hidden("#actions")
