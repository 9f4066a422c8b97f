"""The login page in a real browser: by keyboard, refused and let in, the banner, signing out, contrast."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.browsing import CONTRAST, NEEDS_BROWSER, OpenPage, serving, sign_in
from tests.guarded import CHEAP, PASSWORD, new_key, opened, production
from tests.running import settings

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("login")
    with opened(folder) as access:
        new_key(access, "intake", "intake")
        access.add_user("ming", CHEAP.hash(PASSWORD), "reviewer", "cli:test", datetime.now(UTC))
    with serving(production(folder)) as found:
        yield found


def test_a_person_signs_in_by_keyboard_asks_and_signs_out(open_page: OpenPage, address: str) -> None:
    page = open_page(address, allow=("status of 401",))
    assert page.url == f"{address}login" and page.evaluate("document.activeElement.id") == "name"
    assert page.is_hidden("#development")
    page.keyboard.insert_text("ming")
    page.keyboard.press("Tab")
    page.keyboard.insert_text("falsch-falsch-falsch")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "用户名或密码不正确" in page.inner_text("#problem")
    page.keyboard.insert_text(PASSWORD)  # the wrong one is selected
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-state=up]")
    assert "ming" in page.inner_text("#who")
    assert "jiesu" not in page.evaluate("document.cookie")
    page.fill("#text", "小区门口的井盖不见了")
    page.press("#text", "Control+Enter")
    page.wait_for_selector(".decision")
    page.click("#leave")
    page.wait_for_url(f"{address}login")
    page.goto(address)
    assert page.url == f"{address}login"


def test_a_session_that_ended_is_told_and_the_text_stays(open_page: OpenPage, address: str) -> None:
    page = open_page(f"{address}login", allow=("status of 401",))
    sign_in(page, address, "ming")
    page.context.clear_cookies()
    page.fill("#text", "小区门口的井盖不见了")
    page.press("#text", "Control+Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "/login" in page.inner_text("#problem")
    assert page.input_value("#text") == "小区门口的井盖不见了"


def test_a_password_can_be_shown(open_page: OpenPage, address: str) -> None:
    page = open_page(f"{address}login")
    page.fill("#password", "geheim")
    page.click("#show")
    assert page.get_attribute("#password", "type") == "text" and page.inner_text("#show") == "隐藏"
    page.click("#show")
    assert page.get_attribute("#password", "type") == "password"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_the_login_page_can_be_read(open_page: OpenPage, address: str, scheme: str, width: int) -> None:
    page = open_page(f"{address}login", color_scheme=scheme, width=width, height=568)
    page.evaluate("document.getElementById('caps').hidden = false")
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_development_is_told_on_every_page(open_page: OpenPage, tmp_path: Path, scheme: str) -> None:
    with serving(settings(tmp_path)) as own:
        for path in ("", "login"):
            page = open_page(own + path, color_scheme=scheme, width=320, height=568)
            page.wait_for_selector("#development:not([hidden])")
            assert "开发环境" in page.inner_text("#development")
            assert page.evaluate(CONTRAST) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
