"""People at the review page, as far as the API sees them."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from classifier.predictor import Prediction
from tests.fakes import FakePredictor
from tests.guarded import Closed
from tests.running import appeal

__all__ = ["TEXTS", "Alike", "Person", "people", "rows", "take_up"]

TEXTS = (
    "梧桐里小区3号楼门口的污水井盖不见了，请尽快派人处理。",
    "楼下烧烤店油烟大，天天开到半夜，投诉多次没人管。",
    "请问灵活就业的医保怎么缴费，需要带什么材料？",
    "工资拖了三个月，老板一直说下个月给。",
    "小区燃气管道有股怪味，希望来人看看。",
)
TOKENS = itertools.count(1)  # no two the same, whoever sends them


class Alike(FakePredictor):
    """Its vectors count characters, so that texts with the same words are near to each other."""

    def _one(self, text: str) -> Prediction:
        vector = np.zeros(64, np.float32)
        for character in text:
            vector[ord(character) % 64] += 1
        return replace(super()._one(text), embedding=vector)


@dataclass
class Person:
    """Somebody with the page open; `headers` where they come with a key."""

    client: TestClient
    headers: Mapping[str, str] = field(default_factory=dict)

    def post(self, path: str, body: Any = None) -> Any:
        return self.client.post(f"/v1/review/{path}", json={} if body is None else body, headers=self.headers)

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(f"/v1/review/{path}", headers=self.headers, **more)

    def take(self, queue: str = "uncertain", holding: Collection[int] = (), **filters: Any) -> Any:
        """The next task; None where nothing waits."""
        answer = self.post("take", {"queue": queue, "holding": list(holding), "filters": filters})
        assert answer.status_code == 200, answer.text
        return answer.json()["task"]

    def token(self) -> str:
        return f"t-{next(TOKENS)}"

    def body(self, task: Mapping[str, Any], **changes: str) -> dict[str, Any]:
        """What the page sends when everything is accepted but for some heads."""
        labels = {head["head"]: head["code"] for head in task["heads"]} | changes
        shown = task["shown_version"]
        return {"labels": labels, "token": self.token(), "shown_version": shown, "seconds": 2.5}

    def say(self, task: Mapping[str, Any], **changes: str) -> Any:
        """Accept all of a task but for some heads; what was done."""
        answer = self.post(f"leases/{task['lease']['number']}/labels", self.body(task, **changes))
        assert answer.status_code == 200, answer.text
        return answer.json()["done"]


def take_up(client: TestClient, count: int = 3, headers: Mapping[str, str] | None = None) -> list[str]:
    """Appeals A-1, A-2 …, taken up; their ids."""
    ids = [f"A-{number}" for number in range(1, count + 1)]
    for id, text in zip(ids, itertools.cycle(TEXTS), strict=False):
        answer = client.post("/v1/appeals", json=appeal(id, text), headers=headers)
        assert answer.status_code == 201, answer.text
    return ids


def people(it: Closed) -> tuple[Person, Person]:
    """Two reviewers: one with a session, and one behind a key."""
    return Person(it.signed_in("reviewer")), Person(it.client, it.key("review"))


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "jiesu.db")) as database:
        return database.execute(query).fetchall()
