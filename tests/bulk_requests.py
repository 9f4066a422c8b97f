"""Bulk requests to the application, and what they are told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
from fastapi.testclient import TestClient

from tests.fakes import FakePredictor

NDJSON = {"Content-Type": "application/x-ndjson"}
URL = "/v1/appeals:bulk"
URGENT = "快救命！孩子掉进河里了！"


def body(*rows: Any) -> bytes:
    return b"".join(row if isinstance(row, bytes) else orjson.dumps(row) + b"\n" for row in rows)


def told(response: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines of an answer, and its last one."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    *lines, end = [orjson.loads(line) for line in response.content.splitlines()]
    return lines, end


def post(client: TestClient, *rows: Any, **headers: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return told(client.post(URL, content=body(*rows), headers={**NDJSON, **headers}))


def statuses(lines: list[dict[str, Any]]) -> list[int]:
    return [line["status"] for line in lines]


def hold(predictor: FakePredictor) -> None:
    """Let the model wait, and forget what it was asked at the start."""
    predictor.held.clear()
    predictor.batches.clear()


def stored_ids(tmp_path: Path) -> list[str]:
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        return [id for (id,) in plain.execute("SELECT id FROM appeals ORDER BY number")]
