"""The review page in a browser: a service with appeals in it, and what its store holds afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from data.database import Database
from data.in_force import Correction, live
from data.reviews import ReviewStore
from serving.settings import Settings
from tests.browsing import serving
from tests.guarded import CHEAP, PASSWORD, bearer, new_key, opened, production
from tests.reviewers import Alike
from tests.running import appeal, settings

__all__ = [
    "TEXTS", "Room", "at_hand", "closed_room", "enter", "fetched_ahead", "following", "keys", "open_room",
    "saved", "shown",
]  # fmt: skip

T = TypeVar("T")
TEXTS = (
    "梧桐里小区3号楼门口的污水井盖不见了，晚上没有路灯，刚才有个老人差点踩空，请马上派人来处理。",
    "柳荫路拐角的烧烤店开到凌晨两点，油烟直往楼里灌，投诉过一次，好了三天又照旧。",
    "请问灵活就业人员的医保关系怎么转，今年的费用在哪里缴？",
    "工地上四十多个工人三个月没发工资，项目部天天推，希望尽快解决。",
    "桂花巷13号楼燃气味很重，开窗也散不掉，家里有老人和孩子。",
)


@dataclass(frozen=True)
class Room:
    """A running service; `key` is one of the intake system's, empty in development."""

    address: str
    folder: Path
    key: str = ""

    @property
    def page(self) -> str:
        """Address of the review page."""
        return f"{self.address}review"

    def take_up(self, count: int, text: Callable[[int], str] | None = None) -> None:
        """Appeals A-01, A-02 …; every fifth says the same with another ending."""
        headers = bearer(self.key) if self.key else {}
        with httpx.Client(base_url=self.address, headers=headers) as client:
            for number in range(1, count + 1):
                said = text(number) if text else f"{TEXTS[number % 5]}这是第{number}件。"
                place = {"city": "江城", "district": "东区" if number % 2 else "西区", "street": "柳荫街道"}
                body = appeal(f"A-{number:02}", said, channel="电话", place=place)
                answer = client.post("v1/appeals", json=body)
                assert answer.status_code == 201, answer.text

    def in_store(self, work: Callable[[ReviewStore], T]) -> T:
        """Do something with what the service has stored."""
        database = Database.open(f"sqlite:///{self.folder / 'jiesu.db'}")
        try:
            return work(ReviewStore(database))
        finally:
            database.close()

    def said(self, *, withdrawn: bool = False) -> dict[str, list[Correction]]:
        """What stands of what people said, by appeal; with `withdrawn` all rows ever written."""

        def read(store: ReviewStore) -> dict[str, list[Correction]]:
            rows = store.corrections_after(0, limit=10_000)
            ids = {one.number: one.id for one in store.appeals([row.appeal_number for row in rows])}
            found: dict[str, list[Correction]] = {}
            for row in rows if withdrawn else live(rows):
                found.setdefault(ids[row.appeal_number], []).append(row)
            return found

        return self.in_store(read)

    def happened(self, id: str) -> list[str]:
        """What happened to an appeal, in words of the history."""
        return self.in_store(lambda store: [event.what for event in store.history(id)])


@contextmanager
def open_room(folder: Path, count: int = 0, **given: Any) -> Iterator[Room]:
    """In development: everybody is the same reviewer, and a lead."""
    with serving(settings(folder, **given), Alike()) as address:
        room = Room(address, folder)
        room.take_up(count)
        yield room


@contextmanager
def closed_room(folder: Path, count: int = 0, *, double: float = 0.0, **given: Any) -> Iterator[Room]:
    """As in production: ming and hua review, lan leads; `double`: share of double review."""
    with opened(folder) as access:
        key = new_key(access, "intake", "intake")
        for name, role in (("ming", "reviewer"), ("hua", "reviewer"), ("lan", "lead")):
            access.add_user(name, CHEAP.hash(PASSWORD), role, "cli:test", datetime.now(UTC))
    own: Settings = production(folder, **given)
    with serving(own, Alike()) as address:
        room = Room(address, folder, key)
        room.in_store(lambda store: store.set_rules("cli:test", now=datetime.now(UTC), double_share=double))
        room.take_up(count)
        yield room


def enter(page: Any, room: Room, name: str = "", where: str = "") -> Any:
    """The review page with an appeal on it; in a closed room as this person."""
    if name:
        csrf = page.request.post(
            f"{room.address}v1/session",
            data={"name": name, "password": PASSWORD},
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        assert csrf.status == 201, csrf.text()
    page.goto(f"{room.page}{where}")
    page.wait_for_selector("#paper:not([hidden])")
    page.wait_for_function("document.querySelectorAll('#heads .head').length > 0")
    return page


def at_hand(page: Any) -> str:
    """The id of the appeal before the reviewer."""
    return str(page.inner_text("#appeal-id"))


def following(page: Any, id: str) -> str:
    """Wait for the next appeal; its id."""
    page.wait_for_function(
        "id => !document.getElementById('paper').hidden &&"
        " document.getElementById('appeal-id').textContent !== id",
        arg=id,
    )
    return at_hand(page)


def shown(page: Any, id: str) -> None:
    """Wait until this appeal is before the reviewer."""
    page.wait_for_function("id => document.getElementById('appeal-id').textContent === id", arg=id)


def fetched_ahead(page: Any) -> None:
    """Wait until the second appeal has come, which nobody has asked for yet."""
    page.wait_for_function(
        "() => performance.getEntriesByName(location.origin + '/v1/review/take').length >= 2"
    )


def keys(page: Any, *pressed: str) -> None:
    """Press keys, one after the other."""
    for key in pressed:
        page.keyboard.press(key)


def saved(page: Any) -> None:
    """Wait until nothing is on its way."""
    page.wait_for_selector("#saved:text-is('已全部保存')")
