"""The page at / tells that corrected look-alikes were followed; looked at in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.browsing import CONTRAST, NEEDS_BROWSER, OpenPage, serving
from tests.remembering import QUICK, UNSURE, classify, correct, take_up
from tests.reviewers import Alike
from tests.running import settings, until

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service in which one appeal was corrected."""
    with serving(settings(tmp_path_factory.mktemp("memory"), **QUICK), Alike()) as found:
        with httpx.Client(base_url=found) as client:
            talk: Any = client
            take_up(talk, "A-1")
            correct(talk, "A-1", category="0604")
            until(lambda: classify(talk)["memory"])
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_says_which_look_alikes_it_followed(
    open_page: OpenPage, address: str, scheme: str
) -> None:
    page = open_page(address, color_scheme=scheme)
    page.wait_for_selector("[data-state=up]")
    page.fill("#text", UNSURE)
    page.press("#text", "Control+Enter")
    page.wait_for_selector(".remembered")
    assert page.inner_text(".remembered summary") == "参考了 1 条已复核的相似诉求"
    page.click(".remembered summary")
    told = page.inner_text(".remembered")
    assert "事项分类：复核为" in told and "模型单独判为" in told and "A-1" in told
    assert page.evaluate(CONTRAST) == []


def test_without_look_alikes_the_page_says_nothing_of_them(open_page: OpenPage, address: str) -> None:
    page = open_page(address)
    page.wait_for_selector("[data-state=up]")
    page.fill("#text", "图书馆自习室周末不开门，孩子们没有地方看书，盼着能早些开放。")
    page.press("#text", "Control+Enter")
    page.wait_for_selector(".decision")
    assert page.locator(".remembered").count() == 0
