"""The login page in a real browser: by keyboard, refused and let in, the banner, signing out, contrast."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from serving.app import create_app
from serving.security.passwords import Passwords
from serving.settings import Settings
from tests.fakes import FakePredictor
from tests.guarded import CHEAP, PASSWORD, new_key, opened, production
from tests.running import loads, settings
from tests.test_page import CHROMIUM, FLAGS, IN_CI

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not IN_CI, reason="no Chromium found; to run these: apt-get install chromium"
)


@contextmanager
def serving(given: Settings) -> Iterator[str]:
    """A running service with the fake model; its address."""
    app = create_app(given, loads(FakePredictor()))
    app.state.gate.passwords = Passwords(CHEAP, CHEAP.hash("nobody has this one"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        end = time.monotonic() + 60
        while not server.started and time.monotonic() < end:
            time.sleep(0.02)
        try:
            yield f"http://localhost:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("login")
    with opened(folder) as access:
        new_key(access, "intake", "intake")
        access.add_user("ming", CHEAP.hash(PASSWORD), "reviewer", "cli:test", datetime.now(UTC))
    # Browsers take Secure cookies from localhost without TLS, as they would behind the proxy.
    with serving(production(folder)) as found:
        yield found


@pytest.fixture
def pages() -> Iterator[Any]:
    """Opens pages in contexts of their own; an error that a page's script throws fails the test."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "CI must have Chromium: apt-get install chromium"
    broken: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=120_000)

        def opened_page(url: str, **given: Any) -> Any:
            page = browser.new_context(locale="zh-CN", **given).new_page()
            page.set_default_timeout(60_000)
            page.on("pageerror", lambda error: broken.append(str(error)))
            page.on(
                "console", lambda told: broken.append(told.text) if "Security Policy" in told.text else None
            )
            page.goto(url)
            return page

        yield opened_page
        browser.close()
    assert broken == []


def test_a_person_signs_in_by_keyboard_asks_and_signs_out(pages: Any, address: str) -> None:
    page = pages(address)
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


def test_a_session_that_ended_is_told_and_the_text_stays(pages: Any, address: str) -> None:
    page = pages(f"{address}login")
    page.fill("#name", "ming")
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    page.wait_for_selector("[data-state=up]")
    page.context.clear_cookies()
    page.fill("#text", "小区门口的井盖不见了")
    page.press("#text", "Control+Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "/login" in page.inner_text("#problem")
    assert page.input_value("#text") == "小区门口的井盖不见了"


def test_a_password_can_be_shown(pages: Any, address: str) -> None:
    page = pages(f"{address}login")
    page.fill("#password", "geheim")
    page.click("#show")
    assert page.get_attribute("#password", "type") == "text" and page.inner_text("#show") == "隐藏"
    page.click("#show")
    assert page.get_attribute("#password", "type") == "password"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_the_login_page_can_be_read(pages: Any, address: str, scheme: str, width: int) -> None:
    contrast = (Path(__file__).parent / "contrast.js").read_text("utf-8")
    page = pages(f"{address}login", color_scheme=scheme, viewport={"width": width, "height": 568})
    page.evaluate("document.getElementById('caps').hidden = false")
    assert page.evaluate(contrast) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_development_is_told_on_every_page(pages: Any, tmp_path: Path, scheme: str) -> None:
    contrast = (Path(__file__).parent / "contrast.js").read_text("utf-8")
    with serving(settings(tmp_path)) as own:
        for path in ("", "login"):
            page = pages(own + path, color_scheme=scheme, viewport={"width": 320, "height": 568})
            page.wait_for_selector("#development:not([hidden])")
            assert "开发环境" in page.inner_text("#development")
            assert page.evaluate(contrast) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
