"""Labelled appeals that go out to other tools, and come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.labels.exchange import FORMATS
from data.labels.imports import Imported, import_labels
from data.labels.records import Selection, records
from data.reviews import ReviewStore
from data.scheme_history import reading_for
from data.store import Store
from tests.reviewing import ANN, BOB, LEAD, NOON, SCHEME, appeal, later, opened

IDS = ("A", "B", "C", "D", "E")


def fresh(tmp_path: Path, name: str) -> tuple[Store, ReviewStore]:
    store, reviews = opened(f"sqlite:///{tmp_path / name}.db")
    store.add_many([appeal(id, text=f"第{n}件：\n路口的垃圾没人收") for n, id in enumerate(IDS)])
    return store, reviews


@pytest.fixture
def labelled_stores(tmp_path: Path) -> Iterator[tuple[Store, ReviewStore]]:
    """A store in which people labelled A (two agree), B (disputed), C (decided) and D (cannot be told)."""
    store, reviews = fresh(tmp_path, "jiesu")
    for id, who, code in [
        ("A", ANN, "0102"),
        ("A", BOB, "0102"),
        ("B", ANN, "0101"),
        ("B", BOB, "0201"),
        ("C", ANN, "0101"),
        ("D", ANN, ""),
    ]:
        taken = reviews.take_appeal(id, who, now=NOON)
        labels = {"category": code, "urgency": "紧急"} if id == "A" else {"category": code}
        asked: dict[str, Any] = {"scheme": SCHEME, "token": f"{id}{who}", "now": later(1), "seconds": 12.5}
        reviews.correct(taken.lease, who, labels, {"category": "0101"}, comment=f"看过{id}", **asked)
    decided: dict[str, Any] = {"scheme": SCHEME, "token": "d", "now": later(2)}
    reviews.adjudicate("C", LEAD, {"category": "0202"}, **decided)
    yield store, reviews
    store.close()


def exported(store: Store, path: Path, format: str, include: Any = "labelled") -> Path:
    found = records(store.database, reading_for(store.database, SCHEME), Selection(include))
    with path.open("w", encoding="utf-8") as stream:
        FORMATS[format].write(found, stream, SCHEME)
    return path


def brought(store: Store, path: Path, format: str, **more: Any) -> Imported:
    return import_labels(store.database, path, format, SCHEME, now=later(9), **more)


def state(reviews: ReviewStore) -> dict[tuple[str, str], str | None]:
    ids = {appeal.number: appeal.id for appeal in reviews.appeals(range(1, 9))}
    return {
        (ids[labels.appeal_number], head): label.code
        for labels in reviews.labels_in_force()
        for head, label in labels.heads.items()
    }


def task(id: str = "A", *results: Any, **annotation: Any) -> dict[str, Any]:
    made = {"id": 7, "result": list(results), "was_cancelled": False, "completed_by": 3, **annotation}
    return {"id": 1, "data": {"id": id}, "annotations": [made], "predictions": []}


def chosen(head: str, *labels: Any) -> dict[str, Any]:
    kind = "taxonomy" if labels and isinstance(labels[0], list) else "choices"
    return {"id": "x", "from_name": head, "to_name": "text", "type": kind, "value": {kind: list(labels)}}


def dumped(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "in.json"
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return path
