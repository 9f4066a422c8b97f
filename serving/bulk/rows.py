"""One row of many: read from a line, and what became of it as a line of the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from data.errors import RowRefused
from data.store import NewAppeal, Store, StoredAnswer
from serving.bulk.ndjson import Line
from serving.errors import (
    AppealConflict,
    BodyTooLarge,
    Fault,
    InvalidInput,
    ServingError,
    problem_body,
    status_of,
)
from serving.faults import faults_of
from serving.messages import ID_PATTERN, AppealIn
from serving.security.roles import may_see

__all__ = ["Outcome", "Row", "Settled", "outcomes", "read_appeal", "read_line", "row_refused", "store_all"]

SAFE_ID = re.compile(ID_PATTERN)
Settled = Mapping[str, "tuple[StoredAnswer, bool] | ServingError"]  # id → what is stored and whether anew


@dataclass(frozen=True)
class Row:
    """A line of the input: an appeal with its hash, or why it is none."""

    line: int
    appeal: AppealIn | None = None
    sha256: str = ""
    error: ServingError | None = None
    id: str | None = None  # of a row that is refused, where it can be told


@dataclass(frozen=True)
class Outcome:
    """What became of a row: the status that a single request would have had, and its answer or error."""

    line: int
    id: str | None
    status: int
    answer: str = ""
    error: ServingError | None = None

    def told(self) -> bytes:
        """The outcome as a line; a stored answer goes out byte for byte."""
        if self.error is None:
            rest: dict[str, Any] = {"answer": orjson.Fragment(self.answer)}
        else:
            rest = problem_body(self.error)
        head = {"line": self.line, "id": self.id, "status": self.status}
        return orjson.dumps({**head, **rest}, option=orjson.OPT_APPEND_NEWLINE)


def read_line(line: Line, limit: int) -> Row:
    """A line of the API's NDJSON as a row."""
    if line.body is None:
        return Row(line.number, error=BodyTooLarge(limit, f"{line.size} 字节"))
    try:
        body = orjson.loads(line.body)
    except orjson.JSONDecodeError as error:
        got = f"第 {error.pos} 个字符处：{error.msg}"
        fault = Fault("body", "这一行不是有效的 JSON", "一行一个 UTF-8 编码的 JSON 对象", got)
        return Row(line.number, error=InvalidInput([fault]))
    return read_appeal(line.number, body)


def read_appeal(line: int, body: Any) -> Row:
    """A parsed body as a row; its faults are told as those of a single request."""
    try:
        appeal = AppealIn.model_validate(body)
    except ValidationError as error:
        faults = faults_of(error.errors(include_url=False))
        return Row(line, error=InvalidInput(faults), id=_safe_id(body))
    return Row(line, appeal, appeal.sha256(), id=appeal.id)


def _safe_id(body: Any) -> str | None:
    """The id of a refused row, if it is one: anything else may be a resident's words."""
    id = body.get("id") if isinstance(body, dict) else None
    return id if isinstance(id, str) and len(id) <= 128 and SAFE_ID.fullmatch(id) else None


def outcomes(rows: Sequence[Row], settled: Settled) -> list[Outcome]:
    """What became of each row. Of rows with one id the first one counts as the one that was stored."""
    first: dict[str, int] = {}
    for row in rows:
        if row.appeal is not None:
            first.setdefault(row.appeal.id, row.line)
    return [_outcome(row, settled, first) for row in rows]


def _outcome(row: Row, settled: Settled, first: Mapping[str, int]) -> Outcome:
    found = settled[row.appeal.id] if row.appeal is not None else row.error
    assert found is not None
    if isinstance(found, ServingError):
        return Outcome(row.line, row.id, status_of(found), error=found)
    stored, created = found
    if stored.body_sha256 != row.sha256 or not may_see(stored.taken_by):
        conflict = AppealConflict()
        return Outcome(row.line, row.id, status_of(conflict), error=conflict)
    anew = created and first[stored.id] == row.line
    return Outcome(row.line, row.id, 201 if anew else 200, stored.answer)


def store_all(store: Store, new: Sequence[NewAppeal]) -> dict[str, tuple[StoredAnswer, bool] | ServingError]:
    """Store in one transaction; when the database refuses one row, one by one, to find out which."""
    try:
        return {stored.id: (stored, created) for stored, created in store.add_many(new)}
    except RowRefused:
        return {appeal.id: _store_one(store, appeal) for appeal in new}


def _store_one(store: Store, appeal: NewAppeal) -> tuple[StoredAnswer, bool] | ServingError:
    try:
        return store.add(appeal)
    except RowRefused as error:
        return row_refused(error)


def row_refused(error: RowRefused) -> InvalidInput:
    """A row that is a valid appeal but that the database does not take."""
    return InvalidInput([Fault("body", "数据库拒绝了这一行", "可以入库的内容", str(error)[:200])])
