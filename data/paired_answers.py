"""Appeals that two model versions answered: what callers were told, and what a challenger said unseen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, and_, or_, select

from data.database import Database
from data.in_force import InForce, Reading, in_force, read_as
from data.queues import latest_rules
from data.reviews.corrections import said
from data.scheme_history import reading_under
from data.store_tables import answers, appeals
from data.suggestions import Suggestion, read_answer

__all__ = ["Pair", "Said", "pairs", "urgency_levels"]

AT_ONCE = 500  # appeals


@dataclass(frozen=True)
class Said:
    """One version's answer, its labels by head in today's codes; `timed`: milliseconds for a text.

    Heads that the correction memory moved are left out: two models are compared, and it is neither's word.
    """

    model_version: str
    action: str
    urgency: str
    heads: Mapping[str, Suggestion]
    answered_at: datetime
    timed: Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """An appeal with the answer its caller got, the challenger's, and what people have said since."""

    id: str
    received_at: datetime
    told: Said
    challenger: Said
    labels: Mapping[str, InForce]


def urgency_levels(database: Database) -> tuple[str, ...]:
    """The levels by which queues are ordered, the lowest first."""
    with database.connect() as connection:
        return latest_rules(connection).urgency_levels


def pairs(
    database: Database, challenger: str, since: datetime, until: datetime, limit: int
) -> Iterator[Pair]:
    """Pairs of appeals received in [since, until), the newest first, at most `limit`; memory does not grow.

    Appeals that the challenger itself was the first to answer are left out.
    """
    last: Row[Any] | None = None
    given = 0
    while given < limit:
        with database.connect() as connection:
            page = _page(connection, challenger, since, until, last)
            found = _pairs(connection, challenger, page) if page else []
        if not page:
            return
        yield from found[: limit - given]
        given, last = given + len(found), page[-1]


def _page(
    connection: Connection, challenger: str, since: datetime, until: datetime, last: Row[Any] | None
) -> Sequence[Row[Any]]:
    theirs = and_(answers.c.appeal_number == appeals.c.number, answers.c.model_version == challenger)
    query = (
        select(appeals.c.number, appeals.c.id, appeals.c.received_at)
        .join_from(appeals, answers, theirs)
        .where(appeals.c.received_at >= since, appeals.c.received_at < until)
    )
    if last is not None:
        same = and_(appeals.c.received_at == last.received_at, appeals.c.number < last.number)
        query = query.where(or_(appeals.c.received_at < last.received_at, same))
    newest_first = query.order_by(appeals.c.received_at.desc(), appeals.c.number.desc())
    rows: Sequence[Row[Any]] = list(connection.execute(newest_first.limit(AT_ONCE)))
    return rows


def _pairs(connection: Connection, challenger: str, page: Sequence[Row[Any]]) -> list[Pair]:
    numbers = [row.number for row in page]
    query = select(answers).where(answers.c.appeal_number.in_(numbers)).order_by(answers.c.number)
    given: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(query):
        given.setdefault(row.appeal_number, []).append(row)
    words, reading = said(connection, numbers), reading_under(connection)
    found = []
    for row in page:
        first, *others = given[row.number]
        theirs = next((one for one in others if one.model_version == challenger), None)
        if theirs is not None:
            labels = in_force(words.get(row.number, []), reading)
            told, unseen = _said(first, reading), _said(theirs, reading)
            found.append(Pair(row.id, row.received_at, told, unseen, labels))
    return found


def _said(row: Row[Any], reading: Reading) -> Said:
    answer = read_answer(row.body)
    heads = {
        head: replace(one, code=read_as(reading, head, one.code, row.scheme_version))
        for head, one in answer.heads.items()
        if head not in answer.moved
    }
    return Said(row.model_version, row.action, row.urgency, heads, row.answered_at, _timed(row.body))


def _timed(body: str) -> dict[str, float]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    timed = found.get("timed") if isinstance(found, dict) else None
    known = timed.items() if isinstance(timed, dict) else ()
    return {name: float(value) for name, value in known if isinstance(value, int | float)}
