"""The leads' page in a real browser: adjudication by keyboard, plots and their tables, WCAG by axe, print."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from data.reviews import ReviewStore
from data.scheme import default_scheme
from tests.browsing import CONTRAST, NEEDS_BROWSER, OpenPage, serving
from tests.guarded import CHEAP, PASSWORD, new_key, opened, production
from tests.review_page import Room, open_room
from tests.reviewers import Alike

pytestmark = NEEDS_BROWSER

APPEALS = 14
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
SHOWN = {"category": "0202", "appeal_type": "投诉", "urgency": "一般", "tier": "区", "unit": "shizheng"}


def reviewed(store: ReviewStore, *, disputes: int) -> None:
    """Ming and hua label all appeals; of the last `disputes` ones they say different units and categories."""
    ids = [f"A-{n:02}" for n in range(1, APPEALS + 1)]
    now = datetime.now(UTC) - timedelta(minutes=30)
    for number, id in enumerate(ids):
        for who in ("user:ming", "user:hua"):
            now += timedelta(seconds=20)
            lease = store.take_appeal(id, who, now=now, queue="audit").lease
            apart = who == "user:hua" and number >= len(ids) - disputes
            labels = {**SHOWN, "tier": "街道" if number % 3 else "区"}
            labels |= {"category": "0203", "unit": "chengguan"} if apart else {}
            labels = {
                head: code for head, code in labels.items() if code in default_scheme().heads[head].codes
            }
            store.correct(
                lease, who, labels, SHOWN, scheme=default_scheme(), token=f"{who}{id}", now=now, seconds=12,
                comment="<b>看路灯</b>" if apart else "",
            )  # fmt: skip


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """As in production: ming and hua have reviewed all appeals, lan leads."""
    with opened(tmp_path) as access:
        key = new_key(access, "intake", "intake")
        for name, role in (("ming", "reviewer"), ("hua", "reviewer"), ("lan", "lead")):
            access.add_user(name, CHEAP.hash(PASSWORD), role, "cli:test", datetime.now(UTC))
    given = production(tmp_path, address_requests_burst=10_000, address_requests_per_second=1000.0)
    with serving(given, Alike()) as address:
        found = Room(address, tmp_path, key)
        found.in_store(lambda store: store.set_rules("cli:test", now=datetime.now(UTC), audit_share=1.0))
        found.in_store(lambda store: store.set_rules("cli:test", now=datetime.now(UTC), double_share=1.0))
        found.take_up(APPEALS)
        found.in_store(lambda store: reviewed(store, disputes=3))
        yield found


def entered(page: Any, room: Room, name: str = "lan", where: str = "leads?days=7") -> Any:
    """The leads' page with its figures on it."""
    signed = page.request.post(
        f"{room.address}v1/session",
        data={"name": name, "password": PASSWORD},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert signed.status == 201, signed.text()
    page.goto(f"{room.address}{where}")
    settled(page)
    return page


def settled(page: Any) -> None:
    page.wait_for_selector("#board[aria-busy=false]")


def waiting(page: Any, count: int) -> None:
    page.wait_for_function("count => document.querySelectorAll('.case').length === count", arg=count)


def in_force(room: Room, id: str) -> dict[str, tuple[str | None, bool]]:
    """head → (code, decided by a lead)."""
    number = room.in_store(lambda store: store.appeal(id)).number
    labels = room.in_store(lambda store: store.labels_of([number]))[number]
    return {head: (label.code, label.adjudicated) for head, label in labels.items()}


# --- adjudication ---------------------------------------------------------------------------------


def test_a_lead_adjudicates_by_keyboard_alone(open_page: OpenPage, room: Room) -> None:
    page = entered(open_page(f"{room.address}login"), room)
    waiting(page, 3)
    page.focus(".skip")
    page.keyboard.press("Enter")  # to the disputes
    assert page.evaluate("document.activeElement.id") == "disputes"
    first = page.inner_text(".bench-about .code")
    page.keyboard.press("1")
    assert page.evaluate("document.activeElement.dataset.head") == "unit"
    page.keyboard.press("2")
    page.keyboard.press("m")
    page.keyboard.insert_text("以城管为准 z 1")
    page.keyboard.press("Enter")
    waiting(page, 2)
    assert in_force(room, first)["category"] == ("0202", True)
    assert in_force(room, first)["unit"] == ("chengguan", True)
    said = room.said()[first][-1]
    assert (said.reviewer, said.kind, said.comment) == ("user:lan", "adjudicated", "以城管为准 z 1")
    assert said.seconds > 0 and said.model_version == ""
    page.keyboard.press("j")
    page.keyboard.press("k")
    second = page.inner_text(".bench-about .code")
    page.keyboard.press("0")
    page.keyboard.press("/")
    page.wait_for_selector("dialog[open] [role=option]")
    page.keyboard.insert_text("环卫")
    page.wait_for_function("document.querySelectorAll('[role=option]').length < 10")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'decide'")
    page.keyboard.press("Enter")
    waiting(page, 1)
    assert in_force(room, second)["category"] == ("", True)
    assert in_force(room, second)["unit"] == ("huanwei", True)
    page.keyboard.press("z")
    waiting(page, 2)
    assert page.inner_text(".bench-about .code") == second
    assert in_force(room, second)["unit"] == (None, False)


def test_the_last_dispute_leaves_an_empty_court(open_page: OpenPage, room: Room) -> None:
    page = entered(open_page(f"{room.address}login"), room)
    for left in (2, 1, 0):
        page.focus("#disputes")
        for key in ("1", "1", "Enter"):
            page.keyboard.press(key)
        waiting(page, left)
    page.wait_for_selector("text=没有等待裁定的分歧")
    assert page.inner_text(".tile >> nth=0").split() == ["等待裁定", "0", "件", "没有分歧"]
    assert "还有 0 件" in page.inner_text("#said")


def test_an_expired_session_keeps_what_was_chosen(open_page: OpenPage, room: Room) -> None:
    page = entered(open_page(f"{room.address}login", allow=("status of 401",)), room)
    page.focus("#disputes")
    page.keyboard.press("1")
    page.fill("#bench-comment", "理由")
    page.context.clear_cookies()
    page.click("#decide")
    page.wait_for_selector("#bench-problem:not([hidden])")
    assert "登录已过期" in page.inner_text("#bench-problem")
    assert page.is_checked("input[name=side-category] >> nth=0")
    assert page.input_value("#bench-comment") == "理由"
    assert in_force(room, page.inner_text(".bench-about .code"))["category"] == (None, False)


def test_what_reviewers_wrote_stays_text(open_page: OpenPage, room: Room) -> None:
    page = entered(open_page(f"{room.address}login"), room)
    assert "<b>看路灯</b>" in page.inner_text("#bench") and page.locator("q b").count() == 0
    assert "ming" in page.inner_text(".side >> nth=0") and "hua" in page.inner_text(".side >> nth=1")
    page.wait_for_selector("text=模型建议")


def test_nothing_chosen_is_said(open_page: OpenPage, room: Room) -> None:
    page = entered(open_page(f"{room.address}login"), room)
    page.click("#decide")
    page.wait_for_selector("#bench-problem:not([hidden])")
    assert "还没有选" in page.inner_text("#bench-problem")
    assert page.locator(".case").count() == 3


# --- figures --------------------------------------------------------------------------------------


def test_every_plot_has_its_numbers_beside_it(open_page: OpenPage, room: Room) -> None:
    page = entered(open_page(f"{room.address}login", accept_downloads=True), room)
    for drawing in page.locator("svg.drawing").all():
        assert drawing.get_attribute("role") == "img" and len(drawing.get_attribute("aria-label") or "") > 8
    for plot in page.locator("figure.plot").all():
        plot.locator("summary").click()
        assert plot.locator("table tbody tr").count() > 0
        assert plot.locator("h3").inner_text() in plot.locator(".scroll").get_attribute("aria-label")
    alpha = page.locator("#agreement-heads tbody tr", has_text="承办单位").inner_text().split("\t")
    assert alpha[4:7] == ["14", "2", "28"] and -1 <= float(alpha[1]) < 1
    with page.expect_download() as loaded:
        page.click("#agreement-heads .numbers button")
    assert loaded.value.suggested_filename == "一致性.csv"
    text = Path(loaded.value.path()).read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
    assert text.startswith("\ufeff") and rows[0][:2] == ["分类头", "α"] and len(rows) == 7
    assert page.inner_text("#quality .lead-line").startswith(("自动派单的诉求里", "已看的"))


def test_the_head_chosen_shows_its_confusions(open_page: OpenPage, room: Room) -> None:
    page = entered(open_page(f"{room.address}login"), room)
    page.check("#agreement input[value=category]", force=True)
    assert "井盖 ⇄ 路灯" in page.inner_text(".most").replace("\n", "")
    assert page.locator(".matrix td.same").all_inner_texts()[0] == "11"
    page.check("#agreement input[value=tier]", force=True)
    page.wait_for_selector("text=没有人意见不同")


def test_the_period_is_chosen_and_kept(open_page: OpenPage, room: Room) -> None:
    page = entered(open_page(f"{room.address}login"), room)
    with page.expect_response("**/v1/review/figures?days=90"):
        page.check("#period input[value='90']", force=True)
    settled(page)
    page.reload()
    settled(page)
    assert page.is_checked("#period input[value='90']") and page.url.endswith("?days=90")


def test_shares_are_set_here(open_page: OpenPage, room: Room) -> None:
    page = entered(open_page(f"{room.address}login"), room)
    page.fill("#audit-share", "2.5")
    page.click("#set-rules")
    page.wait_for_selector("#set-rules:text-is('已保存')")
    held = room.in_store(lambda store: store.rules())
    assert (held.audit_share, held.double_share, held.set_by) == (0.025, 1.0, "user:lan")


def test_an_empty_service_says_what_to_do(open_page: OpenPage, tmp_path: Path) -> None:
    with open_room(tmp_path) as empty:
        page = open_page(f"{empty.address}leads")
        settled(page)
        text = page.inner_text("main")
        for part in ("没有等待裁定的分歧", "还没有抽中的", "双人复核", "还没有人复核", "label-errors"):
            assert part in text
        assert page.locator("svg.drawing").count() == 0


def test_reviewers_do_not_get_in(open_page: OpenPage, room: Room) -> None:
    page = open_page(f"{room.address}login", allow=("status of 4",))
    signed = page.request.post(
        f"{room.address}v1/session",
        data={"name": "ming", "password": PASSWORD},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert signed.status == 201
    assert page.goto(f"{room.address}leads").status == 403
    page.wait_for_selector("#who:not([hidden])")
    assert page.inner_text("h1") == "无权查看此页" and "ming" in page.inner_text("#who")
    assert page.request.get(f"{room.address}v1/review/figures").status == 403
    page.click("text=去复核")
    page.wait_for_url("**/review")
    page.goto(f"{room.address}leads")
    page.click("#leave")
    page.wait_for_url("**/login")


# --- for everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_wcag_is_met(open_page: OpenPage, room: Room, scheme: str) -> None:
    # The page's policy refuses inline scripts, and so the tool: it is brought in from outside the page.
    page = entered(open_page(f"{room.address}login", color_scheme=scheme, bypass_csp=True), room)
    page.wait_for_selector("text=模型建议")
    for summary in page.locator("main summary").all():
        summary.click()
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 360), (320, 568)])
def test_nothing_is_cut_off(open_page: OpenPage, room: Room, width: int, height: int) -> None:
    page = entered(open_page(f"{room.address}login", width=width, height=height), room)
    page.wait_for_selector("text=模型建议")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        "w => [...document.querySelectorAll('main *')].filter(n => !n.closest('.scroll, .vh') &&"
        " n.getBoundingClientRect().right > w + 1).map(n => n.outerHTML.slice(0, 80))",
        width,
    )
    assert outside == []


def test_the_figures_are_printed_without_the_appeals(open_page: OpenPage, room: Room) -> None:
    page = entered(open_page(f"{room.address}login", color_scheme="dark"), room)
    page.emulate_media(media="print")
    assert page.is_hidden("#disputes") and page.is_hidden(".top") and page.is_visible("#quality")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
