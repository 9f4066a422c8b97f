"""The page at /, driven in headless Chromium: keyboard, zoom, narrow, dark and light, contrast, print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browsing import CONTRAST, NEEDS_BROWSER, OpenPage, serving
from tests.running import settings

TEXT = (
    "😀小区北门外的污水井盖不见了，电话13912345678，刚才有个老人差点踩空掉进去。"
    "门口烧烤店的油烟也直往楼里灌，投诉过三次了，请马上派人来处理。"
)

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(settings(tmp_path_factory.mktemp("page"))) as found:
        yield found


@pytest.fixture
def open_home(open_page: OpenPage, address: str) -> Callable[..., Any]:
    """Opens the page at /, and waits until it is up."""

    def opened(width: int = 1280, height: int = 720, **given: Any) -> Any:
        page = open_page(address, width=width, height=height, allow=("status of 422",), **given)
        page.wait_for_selector("[data-state=up]")
        return page

    return opened


def ask(page: Any, text: str = TEXT) -> None:
    page.fill("#text", text)
    page.press("#text", "Control+Enter")
    page.wait_for_selector(".decision")


def test_a_pasted_text_is_answered_by_keyboard_alone(open_home: Callable[..., Any]) -> None:
    page = open_home()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(3):  # past the ways to the other pages
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.insert_text(TEXT)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".decision")
    assert page.inner_text(".decision h2") in ("自动派单", "人工复核", "移交 110", "移交 120")
    assert page.evaluate("document.activeElement.id") == "text"  # the writer stays where they write
    assert page.inner_text("#said").startswith("派单决定：")
    assert "市政设施 › 井盖" in page.inner_text(".card.wide").replace("\n", " ")
    assert page.locator(".due [data-until]").count() == 2


def test_triggers_are_marked_in_the_text_as_it_was_pasted(open_home: Callable[..., Any]) -> None:
    page = open_home()
    ask(page)
    parts = page.eval_on_selector(
        "#words", "node => [...node.childNodes].map(n => (n.lastChild ?? n).textContent)"
    )
    assert "".join(parts) == TEXT
    last = "nodes => nodes.map(n => n.lastChild.textContent)"
    marked = page.eval_on_selector_all("#words .trigger", last)
    assert "井盖不见" in marked[0] and not marked[0].startswith("水")  # the emoji before it counts as one
    assert page.get_attribute("#words .trigger[data-tag]", "data-tag") == "1"
    assert page.locator(".legend .rows li").count() == len(marked)
    assert page.eval_on_selector_all("#words .masked", last) == ["13912345678"]


def test_evidence_is_switched_with_the_arrow_keys(open_home: Callable[..., Any]) -> None:
    page = open_home()
    ask(page)
    page.focus("input[value=triggers]")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("input[value=category]")
    assert page.eval_on_selector_all("#words .evidence", "nodes => nodes.map(n => n.textContent)") == ["井盖"]
    assert "支持“井盖”的字词" in page.inner_text(".legend")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#words .evidence").count() == 0


def test_place_and_time_are_sent(open_home: Callable[..., Any]) -> None:
    page = open_home()
    page.click(".more summary")
    page.fill("[name=street]", "柳荫街道")
    page.fill("[name=received_at]", "2025-03-04T09:30")
    with page.expect_request("**/v1/classify") as sent:
        ask(page)
    body = sent.value.post_data_json
    assert body["place"] == {"street": "柳荫街道"} and body["received_at"] == "2025-03-04T09:30"
    assert "2025年3月4日 09:30" in page.inner_text(".due")
    assert "已超过" in page.inner_text(".due")


def test_examples_json_and_copy(open_home: Callable[..., Any]) -> None:
    page = open_home(permissions=["clipboard-read", "clipboard-write"])
    for number in range(page.locator("#examples button").count()):
        page.locator("#examples button").nth(number).click()
        page.wait_for_selector("#result[aria-busy=false]")
        assert page.inner_text("#words")[-8:] == page.input_value("#text")[-8:]
    page.wait_for_selector("#result[aria-busy=false]")
    page.click(".raw summary")
    page.click(".raw button")
    page.wait_for_selector("text=已复制")
    assert page.evaluate("navigator.clipboard.readText()") == page.inner_text(".raw pre")
    page.click("#clear")
    assert page.is_visible("#empty") and page.input_value("#text") == ""


def test_a_refusal_is_told_beside_the_text(open_home: Callable[..., Any]) -> None:
    page = open_home()
    page.fill("#text", "   ")
    page.press("#text", "Control+Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "内容为空" in page.inner_text("#problem")
    assert page.get_attribute("#text", "aria-invalid") is not None
    ask(page)
    assert page.is_hidden("#problem")


def test_markup_in_a_text_stays_text(open_home: Callable[..., Any]) -> None:
    page = open_home()
    text = "<img src=x onerror=document.title='X'><b>井盖</b>不见了，很危险"
    ask(page, text)
    assert page.locator("#words img, #words b").count() == 0
    assert "onerror" in page.inner_text("#words")
    assert page.title() == "接诉 · 诉求分析"


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 360), (360, 740), (320, 568)])
def test_nothing_is_cut_off(open_home: Callable[..., Any], width: int, height: int) -> None:
    page = open_home(width, height)
    ask(page)
    page.click(".raw summary")
    page.click(".more summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        "w => [...document.querySelectorAll('main *')].filter(n => !n.closest('pre, .vh') &&"
        " n.getBoundingClientRect().right > w + 1).map(n => n.className || n.tagName)",
        width,
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(open_home: Callable[..., Any], scheme: str) -> None:
    page = open_home(color_scheme=scheme)
    ask(page)
    page.click(".more summary")
    page.click(".raw summary")
    for layer in ("triggers", "category"):
        page.check(f"input[value={layer}]")
        assert page.evaluate(CONTRAST) == []
    page.evaluate("document.documentElement.style.setProperty('--soft', 'gray')")
    assert len(page.evaluate(CONTRAST)) > 3  # the measure itself sees what is too faint


def test_everything_that_acts_has_a_name_and_a_visible_focus(open_home: Callable[..., Any]) -> None:
    page = open_home()
    ask(page)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, textarea, summary, a')].filter(n =>"
        " !(n.textContent + (n.labels?.[0]?.textContent ?? '')).trim()).length"
    )
    assert unnamed == 0
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            "(() => { const n = document.activeElement; if (n === document.body) return null;"
            " const o = n.matches('[name=layer]') ? n.nextElementSibling : n;"
            " return [n.id || n.value || n.textContent.slice(0, 12), getComputedStyle(o).outlineStyle]; })()"
        )
        if focus is not None:
            assert focus[1] != "none", focus
            seen.add(focus[0])
    assert {"submit", "clear", "triggers"} <= seen


def test_the_page_prints_the_answer_without_the_form(open_home: Callable[..., Any]) -> None:
    page = open_home(color_scheme="dark")
    ask(page)
    page.emulate_media(media="print")
    assert page.is_hidden(".ask") and page.is_visible(".decision")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
