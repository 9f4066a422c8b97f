"""Stored appeals to review, in a small label scheme of their own, and reviewers who work on them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from data.appeals import Place
from data.review_tables import queue_keys
from data.reviews import Done, Filters, InForce, Leased, ReviewStore
from data.scheme import Scheme
from data.store import NewAppeal, Store

__all__ = [
    "ANN", "BOB", "CEN", "LEAD", "NOON", "SCHEME", "Desk", "answer_body", "any_stores", "appeal", "later",
    "opened", "order", "queue_rows", "reviewing", "sqlite_stores",
]  # fmt: skip

ANN, BOB, CEN = "user:ann", "user:bob", "user:cen"
LEAD = "user:lead"
NOON = datetime(2025, 3, 4, 12, 0, tzinfo=UTC)

SCHEME = Scheme.parse(
    """
name: small
version: "1"
categories:
- code: "01"
  name: 市容
  children:
  - {code: "0101", name: 垃圾}
  - {code: "0102", name: 占道, aliases: [摊贩]}
  - {code: "0103", name: 马路市场, active: false, replaced_by: "0102"}
- code: "02"
  name: 噪音
  children:
  - {code: "0201", name: 施工噪音}
  - {code: "0202", name: 社会噪音}
urgency_levels: [一般, 较急, 紧急, 特急]
units: [{code: cg, name: 城管局}, {code: hb, name: 环保局}]
"""
)


def later(minutes: float = 0, **more: float) -> datetime:
    """Noon and then some."""
    return NOON + timedelta(minutes=minutes, **more)


def answer_body(
    heads: Mapping[str, tuple[str, float]] | None = None,
    *,
    level: str = "一般",
    at_once: bool = False,
    **more: Any,
) -> str:
    """An answer's JSON as the service gives it: head → (code, probability)."""
    told = {"category": ("0101", 0.9), "unit": ("cg", 0.9), **(heads or {})}
    body: dict[str, Any] = {
        head: {"code": code, "probability": share, "alternatives": [{"code": "x", "probability": 1 - share}]}
        for head, (code, share) in told.items()
        if head != "unit"
    }
    code, share = told["unit"]
    body["unit"] = {"lead": {"code": code, "name": code}, "probability": share, "alternatives": []}
    body["urgency"] = {"level": level, "probability": 0.95, "model": None}
    return json.dumps({**body, "decision": {"action": "review", "at_once": at_once}, **more})


def appeal(id: str = "A-1", **changes: Any) -> NewAppeal:
    """A new appeal; `answer` may be told by its parts (`heads`, `level`, `at_once`)."""
    parts = {name: changes.pop(name) for name in ("heads", "level", "at_once") if name in changes}
    made = NewAppeal(
        id=id,
        body_sha256="0" * 64,
        text=f"楼下夜市油烟大，垃圾没人收，{id}",
        place=Place(city="江城", district="东区", street="柳荫街道"),
        channel="电话",
        declared_type="",
        received_at=NOON,
        answered_at=NOON,
        answer=answer_body(**parts),
        action="review",
        urgency=parts.get("level", "一般"),
        model_version="m1",
        scheme_version="1",
    )
    return replace(made, **changes)


def opened(url: str) -> tuple[Store, ReviewStore]:
    """Both stores of a new database."""
    store = Store.open(url)
    store.migrate()
    return store, ReviewStore(store.database)


def reviewing(url: str, *ids: str, **changes: Any) -> tuple[Store, ReviewStore]:
    """Both stores, with these appeals stored a minute apart."""
    store, reviews = opened(url)
    store.add_many([appeal(id, received_at=later(n), **changes) for n, id in enumerate(ids)])
    return store, reviews


@pytest.fixture
def any_stores(migrated_url: str) -> Iterator[tuple[Store, ReviewStore]]:
    """Stores in a database of each kind in turn."""
    store = Store.open(migrated_url)
    yield store, ReviewStore(store.database)
    store.close()


@pytest.fixture
def sqlite_stores(migrated_sqlite_url: str) -> Iterator[tuple[Store, ReviewStore]]:
    """Stores in an SQLite database."""
    store = Store.open(migrated_sqlite_url)
    yield store, ReviewStore(store.database)
    store.close()


class Desk:
    """A reviewer at work: takes, answers, and counts the minutes."""

    def __init__(self, reviews: ReviewStore) -> None:
        self.reviews, self.minute, self.requests = reviews, 0.0, 0

    def now(self) -> datetime:
        self.minute += 1
        return later(self.minute)

    def token(self) -> str:
        self.requests += 1
        return f"t{self.requests}"

    def take(self, who: str = ANN, queue: str = "uncertain", **more: Any) -> Leased:
        taken = self.reviews.take(queue, who, now=self.now(), **more)
        assert taken is not None
        return taken

    def say(self, lease: int, who: str = ANN, code: str = "0102", shown: str = "0101", **more: Any) -> Done:
        asked: dict[str, Any] = {
            "labels": {"category": code},
            "shown": {"category": shown},
            "token": self.token(),
            **more,
        }
        return self.reviews.correct(lease, who, scheme=SCHEME, **{"now": self.now(), **asked})

    def label(self, id: str, who: str = ANN, code: str = "0102", **more: Any) -> Done:
        taken = self.reviews.take_appeal(id, who, now=self.now())
        return self.say(taken.lease, who, code, **more)

    def decide(self, id: str, code: str, **more: Any) -> Done:
        asked: dict[str, Any] = {"scheme": SCHEME, "token": self.token(), "now": self.now(), **more}
        return self.reviews.adjudicate(id, LEAD, {"category": code}, **asked)

    def category(self, id: str) -> InForce:
        number = self.reviews.appeal(id).number
        return self.reviews.labels_of([number])[number]["category"]


def order(reviews: ReviewStore, queue: str, who: str = ANN, **filters: Any) -> list[str]:
    """The whole queue as this reviewer would get it, without doing any."""
    held: list[int] = []
    ids = []
    while taken := reviews.take(queue, who, now=NOON, holding=held, filters=Filters(**filters)):
        held.append(taken.lease)
        ids.append(taken.appeal.id)
    reviews.release_all(who, now=NOON)
    return ids


def queue_rows(store: Store) -> list[Any]:
    """All that the table of queues holds, in order."""
    with store.database.connect() as connection:
        rows = connection.execute(select(queue_keys).order_by(queue_keys.c.queue, queue_keys.c.appeal_number))
        return [tuple(row) for row in rows]
