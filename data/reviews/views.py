"""One appeal as people look at it: with its answers, its flags, and everything that happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, select, update

from data.appeals import Place
from data.errors import AppealUnknown, LabelsRefused, Problem
from data.review_tables import flags, leases, suspicions
from data.reviews.corrections import AT_ONCE, said
from data.reviews.records import Answered, Event, Flag, ReviewAppeal, mask_flagged
from data.store_tables import answers, appeals

__all__ = ["add_flags", "appeal_by_id", "appeals_by_number", "erase_flagged", "history", "remove_flag"]

PERSONAL_DATA = "personal_data"


def appeal_by_id(connection: Connection, id: str) -> ReviewAppeal:
    """An appeal by its id. Raises AppealUnknown."""
    number = connection.execute(select(appeals.c.number).where(appeals.c.id == id)).scalar()
    if number is None:
        raise AppealUnknown("no such appeal:", [Problem("the id of a stored appeal", f"'{id}'")])
    return appeals_by_number(connection, [number])[0]


def appeals_by_number(connection: Connection, numbers: Sequence[int]) -> list[ReviewAppeal]:
    """Appeals in the order of the numbers; numbers without one are left out."""
    rows = {row.number: row for row in _rows(connection, appeals, "number", numbers)}
    told = _grouped(_rows(connection, answers, "appeal_number", numbers))
    marked = flags_of(connection, numbers)
    return [
        _appeal(rows[number], told.get(number, []), marked.get(number, []))
        for number in numbers
        if number in rows
    ]


def flags_of(connection: Connection, numbers: Sequence[int]) -> dict[int, list[Flag]]:
    """Flags that were not withdrawn, by appeal number."""
    rows = _rows(connection, flags, "appeal_number", numbers)
    withdrawn = {row.withdraws for row in rows}
    standing = [row for row in rows if row.kind != "withdrawn" and row.number not in withdrawn]
    return {number: [_flag(row) for row in some] for number, some in _grouped(standing).items()}


def _appeal(row: Row[Any], told: Sequence[Row[Any]], marked: Sequence[Flag]) -> ReviewAppeal:
    return ReviewAppeal(
        number=row.number,
        id=row.id,
        text=mask_flagged(row.text, marked),
        place=Place(row.city, row.district, row.street, row.community, row.grid),
        channel=row.channel,
        declared_type=row.declared_type,
        received_at=row.received_at,
        answers=tuple(
            Answered(
                one.model_version, one.scheme_version, one.action, one.urgency, one.body, one.answered_at
            )
            for one in told
        ),
        flags=tuple(marked),
    )


def _flag(row: Row[Any]) -> Flag:
    return Flag(row.number, row.appeal_number, row.kind, row.start, row.end, row.reviewer, row.created_at)


def _rows(connection: Connection, table: Table, column: str, numbers: Sequence[int]) -> list[Row[Any]]:
    found: list[Row[Any]] = []
    for start in range(0, len(numbers), AT_ONCE):
        some = table.c[column].in_(numbers[start : start + AT_ONCE])
        found += connection.execute(select(table).where(some).order_by(table.c.number)).all()
    return found


def _grouped(rows: Sequence[Row[Any]]) -> dict[int, list[Row[Any]]]:
    groups: dict[int, list[Row[Any]]] = {}
    for row in rows:
        groups.setdefault(row.appeal_number, []).append(row)
    return groups


# --- flags ----------------------------------------------------------------------------------------


def add_flags(
    connection: Connection, id: str, reviewer: str, spans: Sequence[tuple[int, int]], now: datetime
) -> tuple[Flag, ...]:
    """Flag characters as personal data; those flagged already stay. Raises AppealUnknown, LabelsRefused."""
    appeal = appeal_by_id(connection, id)
    wrong = [
        Problem(f"[start, end) within the text of {len(appeal.text)} characters", f"[{start}, {end})")
        for start, end in spans
        if not 0 <= start < end <= len(appeal.text)
    ]
    if wrong:
        raise LabelsRefused("spans that do not fit the text:", wrong)
    there = {(flag.start, flag.end) for flag in appeal.flags}
    shared = {"appeal_number": appeal.number, "kind": PERSONAL_DATA, "reviewer": reviewer, "created_at": now}
    new = [
        {**shared, "start": start, "end": end}
        for start, end in dict.fromkeys(spans)
        if (start, end) not in there
    ]
    if new:
        connection.execute(insert(flags), new)
    return tuple(flags_of(connection, [appeal.number]).get(appeal.number, ()))


def remove_flag(connection: Connection, number: int, reviewer: str, now: datetime) -> None:
    """Take a flag back by a new row; one that was taken back already is fine. Raises LabelsRefused."""
    row = connection.execute(select(flags).where(flags.c.number == number)).first()
    if row is None or row.kind == "withdrawn":
        raise LabelsRefused("no such flag:", [Problem("the number of a flag", f"{number}")])
    if number not in {
        flag.number for flag in flags_of(connection, [row.appeal_number]).get(row.appeal_number, [])
    }:
        return
    taken_back = {
        **asdict(_flag(row)),
        "kind": "withdrawn",
        "reviewer": reviewer,
        "created_at": now,
        "withdraws": number,
    }
    del taken_back["number"]
    connection.execute(insert(flags).values(taken_back))


def erase_flagged(connection: Connection, before: datetime) -> int:
    """Cover what was flagged before a moment in the stored texts themselves, for good; how many texts."""
    numbers = list(
        connection.execute(
            select(flags.c.appeal_number).where(flags.c.created_at < before).distinct()
        ).scalars()
    )
    texts = {row.number: row.text for row in _rows(connection, appeals, "number", numbers)}
    erased = 0
    for number, marked in flags_of(connection, numbers).items():
        covered = mask_flagged(texts[number], [flag for flag in marked if flag.created_at < before])
        if covered != texts[number]:
            connection.execute(update(appeals).where(appeals.c.number == number).values(text=covered))
            erased += 1
    return erased


# --- history --------------------------------------------------------------------------------------


def history(connection: Connection, id: str) -> tuple[Event, ...]:
    """Everything that happened to an appeal, in order. Raises AppealUnknown."""
    number = appeal_by_id(connection, id).number
    events = [
        *_answer_events(connection, number),
        *_lease_events(connection, number),
        *_correction_events(connection, number),
        *_flag_events(connection, number),
        *_suspicion_events(connection, number),
    ]
    return tuple(sorted(events, key=lambda event: event.at))


def _answer_events(connection: Connection, number: int) -> Iterator[Event]:
    for row in _rows(connection, answers, "appeal_number", [number]):
        yield Event(
            row.answered_at,
            "answered",
            row.number,
            after=row.action,
            model_version=row.model_version,
            scheme_version=row.scheme_version,
        )


def _lease_events(connection: Connection, number: int) -> Iterator[Event]:
    for row in _rows(connection, leases, "appeal_number", [number]):
        told: Mapping[str, object] = {"queue": row.queue}
        yield Event(row.taken_at, "taken", row.number, who=row.reviewer, details=told)
        if row.ended_at is not None and row.outcome != "done":  # what was done are its corrections
            yield Event(
                row.ended_at,
                row.outcome,
                row.number,
                who=row.reviewer,
                why=row.reason,
                seconds=row.seconds,
                details=told,
            )


def _correction_events(connection: Connection, number: int) -> Iterator[Event]:
    for row in said(connection, [number]).get(number, []):
        taken_back: Mapping[str, object] = {"withdraws": row.withdraws} if row.withdraws is not None else {}
        yield Event(
            at=row.created_at,
            what=row.kind,
            number=row.number,
            who=row.reviewer,
            head=row.head,
            before=row.code if taken_back else row.shown,
            after="" if taken_back else row.code,
            why=row.comment,
            model_version=row.model_version,
            scheme_version=row.scheme_version,
            seconds=row.seconds,
            details={"source": row.source, **taken_back},
        )


def _flag_events(connection: Connection, number: int) -> Iterator[Event]:
    for row in _rows(connection, flags, "appeal_number", [number]):
        what = "flag_withdrawn" if row.kind == "withdrawn" else "flagged"
        yield Event(
            row.created_at, what, row.number, who=row.reviewer, details={"start": row.start, "end": row.end}
        )


def _suspicion_events(connection: Connection, number: int) -> Iterator[Event]:
    for row in _rows(connection, suspicions, "appeal_number", [number]):
        yield Event(
            row.created_at,
            row.queue,
            row.number,
            head=row.head,
            after=row.code,
            why=row.source,
            details={"score": row.score},
        )
