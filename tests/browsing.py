"""Pages in a real browser: a service on a port of its own, and pages whose errors fail the test.

The fixtures `browser` and `open_page` are there for every test (tests/conftest.py):

    pytestmark = browsing.NEEDS_BROWSER

    def test_it(open_page: OpenPage, address: str) -> None:
        page = open_page(f"{address}login", width=320, color_scheme="dark")
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvicorn

from serving.app import create_app
from serving.settings import Settings
from tests.fakes import FakePredictor
from tests.guarded import PASSWORD, cheaply
from tests.running import loads

__all__ = ["CONTRAST", "NEEDS_BROWSER", "OpenPage", "browser", "open_page", "serving", "sign_in"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in BROWSERS if (found := shutil.which(name))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NEEDS_BROWSER = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true",
    reason="no Chromium found; to run these: apt-get install chromium",
)
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
SLOW_START = 60.0  # seconds; a machine that does much else at once


class OpenPage(Protocol):
    """Opens an address in a context of its own; see the fixture `open_page`."""

    def __call__(
        self, url: str, *, width: int = 1280, height: int = 720, allow: tuple[str, ...] = (), **given: Any
    ) -> Any: ...


@contextmanager
def serving(given: Settings, predictor: FakePredictor | None = None) -> Iterator[str]:
    """A running service with the fake model and cheap password checks; its address, with a slash at the end.

    Browsers take Secure cookies from localhost without TLS, as they would behind the proxy.
    """
    app = create_app(given, loads(predictor or FakePredictor()))
    cheaply(app)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        end = time.monotonic() + SLOW_START
        while not server.started and time.monotonic() < end:
            time.sleep(0.02)
        try:
            yield f"http://localhost:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. Not longer than a module: while it is there, asyncio.run refuses to work in this thread."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "CI must have Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=120_000)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Opens pages in contexts of their own; every message of a console fails the test.

    `allow`: parts of messages that are meant, such as "status of 422". What else is given goes to the
    browser's context (color_scheme, permissions, timezone_id, …).
    """
    said: list[str] = []
    allowed: set[str] = set()
    contexts: list[Any] = []

    def opened(
        url: str, *, width: int = 1280, height: int = 720, allow: tuple[str, ...] = (), **given: Any
    ) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, locale="zh-CN", **given)
        contexts.append(context)
        context.set_default_timeout(60_000)
        allowed.update(allow)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for line in said if not any(part in line for part in allowed)] == []


def sign_in(page: Any, address: str, name: str, password: str = PASSWORD) -> None:
    """Sign in on the login page, and wait for the page that follows."""
    page.goto(f"{address}login")
    page.fill("#name", name)
    page.fill("#password", password)
    page.press("#password", "Enter")
    page.wait_for_selector("[data-state=up]")
