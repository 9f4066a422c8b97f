"""Files of past appeals, runs of them by `python -m serving bulk`, and what a run leaves."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from serving.bulk import run as bulk
from serving.bulk.files import Rows, look_at
from serving.bulk.rows import Row
from serving.bulk.run import Files, Report
from serving.messages import AppealIn
from tests.fakes import FakePredictor
from tests.running import loads, settings

ROOT = Path(__file__).parent.parent
HEADER = "id,text,received_at,city"


def write(tmp_path: Path, lines: Sequence[str], name: str = "history.csv", encoding: str = "utf-8") -> Path:
    file = tmp_path / name
    file.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return file


def history(tmp_path: Path, rows: int, bad: Sequence[int] = ()) -> Path:
    """A file of appeals; those numbered in `bad` have no text."""
    texts = ["" if n in bad else f"小区第{n}盏路灯坏了" + "，请来修" * (n % 40) for n in range(rows)]
    lines = [f"h-{n},{text},2031-05-{n % 28 + 1:02} 08:30,江城" for n, text in enumerate(texts)]
    return write(tmp_path, [HEADER, *lines])


def run(tmp_path: Path, file: Path, predictor: FakePredictor | None = None, **given: Any) -> Report:
    files = Files(file, given.pop("out", None), None, given.pop("format", None), given.pop("mapping", None))
    patience = given.pop("patience", 0.0)
    return bulk.run(files, settings(tmp_path, **given), loads(predictor or FakePredictor()), patience)


def read(file: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def stored(tmp_path: Path, name: str = "jiesu.db") -> dict[str, tuple[str, str]]:
    """id → (text, answer) of what the database holds; fails on a double."""
    query = "SELECT id, text, body FROM appeals LEFT JOIN answers ON appeal_number = appeals.number"
    with closing(sqlite3.connect(tmp_path / name)) as plain:
        rows = plain.execute(query).fetchall()
    assert len(rows) == len({id for id, _, _ in rows})
    assert all(body for _, _, body in rows)
    return {id: (text, body) for id, text, body in rows}


def parsed(file: Path, mapping: Any = None) -> tuple[list[AppealIn], list[Row]]:
    """The appeals of a file, and its refused rows."""
    rows = list(Rows(look_at(file), mapping))
    return [row.appeal for row in rows if row.appeal], [row for row in rows if row.error]


def field(row: Row) -> str:
    assert row.error is not None
    return row.error.fault.field
