"""Makes the pictures of docs/images anew, from the running service with weeks of invented reviewing.

    python -m tests.screenshots            all pictures into docs/images (a minute or two)
    python -m tests.screenshots FOLDER     into another folder

The appeals are those of the sample corpus; reviewers and what they say are invented (tests.review_weeks).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from PIL import Image
from playwright.sync_api import sync_playwright

from classifier.predictor import Predictor
from classifier.registry import shipped_model
from data.database import Database
from serving.models import load_model
from serving.settings import Settings
from tests.browsing import CHROMIUM, FLAGS, serving
from tests.guarded import CHEAP, PASSWORD, new_key, opened, production
from tests.review_weeks import Weeks, work_through

FOLDER = Path("docs/images")
SIZE = {"width": 1280, "height": 720}
COLOURS = 96  # enough for flat pages; keeps a picture below 150 kB
DAYS = 58


def main(folder: Path) -> None:
    """Make every picture."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        furnish_weeks(Path(place))
        predictor = cast(Any, Predictor.load(shipped_model()))
        with serving(production(Path(place)), predictor) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for name, (scheme, take) in PICTURES.items():
                given: dict[str, Any] = {
                    "viewport": SIZE,
                    "locale": "zh-CN",
                    "timezone_id": "Asia/Shanghai",
                    "color_scheme": scheme,
                }
                page = browser.new_context(**given).new_page()
                sign_in(page, address)
                take(page, address)
                file = folder / f"{name}.png"
                page.screenshot(path=file)
                shrink(file)
                print(f"{file}: {file.stat().st_size // 1024} kB")
                page.context.close()
            browser.close()


def shrink(file: Path) -> None:
    """Fewer colours, for a file that is small enough to be kept."""
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def furnish_weeks(place: Path) -> None:
    """A lead who can sign in, and the weeks behind them."""
    now = datetime.now(UTC)
    with opened(place) as access:
        new_key(access, "intake", "intake")  # a service without keys does not start
        access.add_user("lead", CHEAP.hash(PASSWORD), "lead", "cli:screenshots", now)
    database = Database.open(f"sqlite:///{place / 'jiesu.db'}")
    local = now + timedelta(hours=8)
    morning = datetime(local.year, local.month, local.day, 1, tzinfo=UTC) - timedelta(hours=8)
    weeks = Weeks(database, load_model(Settings()), morning, DAYS)
    work_through(weeks, lambda day: print(f"\rday {day + 1} of {DAYS}", end="", file=sys.stderr))
    print(file=sys.stderr)
    database.close()


def sign_in(page: Any, address: str) -> None:
    """As the lead, who sees both pages."""
    headers = {"Sec-Fetch-Site": "same-origin"}
    answer = page.request.post(
        f"{address}v1/session", data={"name": "lead", "password": PASSWORD}, headers=headers
    )
    assert answer.status == 201, answer.text()


# --- pictures -------------------------------------------------------------------------------------


def review(page: Any, address: str) -> None:
    """The review page with an appeal on it."""
    page.goto(f"{address}review")
    page.wait_for_selector("#paper:not([hidden])")
    page.wait_for_selector("#heads .head")
    page.click("[data-queue=uncertain]")  # the queue of a quiet hour
    page.wait_for_timeout(2500)  # evidence and look-alikes come after the appeal


def picker(page: Any, address: str) -> None:
    """Looking for a category by pinyin initials."""
    review(page, address)
    page.keyboard.press("c")
    page.keyboard.press("c")
    page.wait_for_selector("#picker-input")
    page.keyboard.insert_text("zs")
    page.wait_for_timeout(500)


def leads(page: Any, address: str) -> None:
    """The leads' page from the quality of automatic dispatch downwards."""
    adjudication(page, address)
    page.evaluate("document.getElementById('quality').scrollIntoView()")
    page.wait_for_timeout(300)


def agreement(page: Any, address: str) -> None:
    """Agreement, confusions and the matrix of the units."""
    adjudication(page, address)
    page.check("#agreement input[value=unit]", force=True)
    page.evaluate("document.getElementById('agreement').scrollIntoView()")
    page.wait_for_timeout(300)


def adjudication(page: Any, address: str) -> None:
    """The main points, and a dispute with one head chosen."""
    page.goto(f"{address}leads?days=90")
    page.wait_for_selector("#board[aria-busy=false]")
    page.wait_for_selector("text=模型建议")
    page.focus("#disputes")
    page.keyboard.press("j")
    page.wait_for_timeout(1000)
    page.keyboard.press("1")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)


PICTURES: dict[str, tuple[str, Callable[[Any, str], None]]] = {
    "review": ("light", review),
    "picker": ("light", picker),
    "adjudication": ("light", adjudication),
    "quality": ("light", leads),
    "agreement": ("dark", agreement),
}

if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
