"""What became of labels that a program held for wrong: looked at or not, and were they."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from data.in_force import Correction, Reading, in_force, live, read_as
from data.review_tables import suspicions
from data.reviews.corrections import AT_ONCE, said
from data.store_tables import answers
from data.suggestions import read_answer

__all__ = ["Suspected", "suspected"]


@dataclass(frozen=True)
class Suspected:
    """One label that was held for wrong, and what people made of it.

    `before` is the label that stood then (a person's, else the first answer's), `after` the one in force
    now; both None where that is not one code. `proposed`: what the program would put there ("": unknown).
    """

    appeal_number: int
    head: str
    at: datetime
    proposed: str
    before: str | None
    after: str | None
    looked_at: bool

    @property
    def wrong(self) -> bool | None:
        """Whether it was an error; None while nobody has looked, or the label is disputed or partial."""
        if not self.looked_at or self.before is None or self.after is None:
            return None
        return self.before != self.after


def suspected(
    connection: Connection, since: datetime, until: datetime, reading: Reading
) -> tuple[Suspected, ...]:
    """The suspicions found in [since, until), the newest one of each appeal and head."""
    newest = (
        select(func.max(suspicions.c.number))
        .where(
            suspicions.c.queue == "suspected",
            suspicions.c.created_at >= since,
            suspicions.c.created_at < until,
        )
        .group_by(suspicions.c.appeal_number, suspicions.c.head)
    )
    query = select(suspicions).where(suspicions.c.number.in_(newest)).order_by(suspicions.c.appeal_number)
    found = connection.execute(query).all()
    numbers = sorted({row.appeal_number for row in found})
    words, told = said(connection, numbers), _first_answers(connection, numbers)
    return tuple(
        _suspected(row, words.get(row.appeal_number, []), told.get(row.appeal_number), reading)
        for row in found
    )


def _first_answers(connection: Connection, numbers: Sequence[int]) -> dict[int, tuple[str, str]]:
    """(body, scheme version) by appeal number."""
    found: dict[int, tuple[str, str]] = {}
    columns = (answers.c.appeal_number, answers.c.body, answers.c.scheme_version)
    for start in range(0, len(numbers), AT_ONCE):
        some = answers.c.appeal_number.in_(numbers[start : start + AT_ONCE])
        for row in connection.execute(select(*columns).where(some).order_by(answers.c.number)):
            found.setdefault(row.appeal_number, (row.body, row.scheme_version))
    return found


def _suspected(
    row: Row[Any], words: Sequence[Correction], answer: tuple[str, str] | None, reading: Reading
) -> Suspected:
    earlier = in_force([word for word in words if word.created_at <= row.created_at], reading)
    now = in_force(words, reading)
    before = earlier[row.head].code if row.head in earlier else _suggested(row.head, answer, reading)
    # As in data.queues: a suspicion is settled by a word that is newer, of whatever head.
    looked_at = any(word.created_at > row.created_at for word in live(words))
    after = now[row.head].code if row.head in now else before
    return Suspected(row.appeal_number, row.head, row.created_at, row.code, before, after, looked_at)


def _suggested(head: str, answer: tuple[str, str] | None, reading: Reading) -> str | None:
    if answer is None:
        return None
    body, scheme_version = answer
    code = read_answer(body).code(head)
    return read_as(reading, head, code, scheme_version) if code else None
