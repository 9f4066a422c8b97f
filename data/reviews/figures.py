"""Figures for leads, as rows: progress, throughput, opinions to compare, and the audit slice.

The audit slice says how good answers are without bias, because who is in it was decided by a keyed
hash, and because within a day it is worked off in the order of that hash: of a day only the part below
its first unanswered hash is used, whoever answered it, so that appeals which other queues brought
forward do not count twice. A row's weight is how many appeals of its day it stands for
(Horvitz–Thompson: 1 / share).
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, exists, func, select

from data.in_force import Correction, InForce, Reading, in_force, live, read_as
from data.queues import DAY, QUEUES
from data.review_tables import audit_members, corrections, leases, queue_keys
from data.reviews.corrections import AT_ONCE, said
from data.store_tables import answers, appeals
from data.suggestions import read_answer

__all__ = [
    "AuditRow", "AuditSlice", "Corrected", "Opinion", "QueueProgress", "Seconds", "Throughput", "audit_slice",
    "corrected", "opinions", "progress", "seconds_per_appeal", "throughput", "week_of",
]  # fmt: skip

Member = Row[Any]  # of audit_members, with the appeal's id

ENOUGH_SKIPS = 2  # an appeal that so many people could not answer is out of the audit, not in its way


@dataclass(frozen=True)
class QueueProgress:
    """One queue: appeals that wait now and those before somebody; leases done and skipped in the period.

    `oldest`: when the longest waiting appeal was received; None without any.
    """

    queue: str
    waiting: int
    held: int
    done: int
    skipped: int
    oldest: datetime | None = None


@dataclass(frozen=True)
class Throughput:
    """What one reviewer did on one day of the zone asked for; `median_seconds` of appeals with a lease."""

    reviewer: str
    day: date
    appeals: int
    skipped: int
    confirmed: int  # labels
    changed: int
    adjudicated: int
    bulk: int
    median_seconds: float | None


@dataclass(frozen=True)
class Corrected:
    """What people did in one week (its Monday) with the suggestions of one head, in labels."""

    week: date
    head: str
    confirmed: int
    changed: int


@dataclass(frozen=True)
class Opinion:
    """What one reviewer last said of one head of one appeal, and did not withdraw."""

    appeal_number: int
    head: str
    reviewer: str
    code: str
    adjudicated: bool
    scheme_version: str


@dataclass(frozen=True)
class Seconds:
    """How long one appeal took one reviewer."""

    reviewer: str
    queue: str
    seconds: float
    ended_at: datetime


@dataclass(frozen=True)
class AuditRow:
    """One head of one audited appeal: the first answer against the label in force.

    `label` is "" where it cannot be told from the text, None where it is disputed or partial.
    """

    appeal_number: int
    id: str
    received_at: datetime
    weight: float
    action: str
    model_version: str
    head: str
    suggested: str
    probability: float
    label: str | None


@dataclass(frozen=True)
class AuditSlice:
    """Rows to estimate from; `members` fell into the slice, `answered` of them have a label, `used` count."""

    rows: tuple[AuditRow, ...]
    members: int
    answered: int
    used: int


# --- progress and throughput ----------------------------------------------------------------------


def progress(connection: Connection, since: datetime, until: datetime) -> tuple[QueueProgress, ...]:
    """Every queue; done and skipped leases ended in [since, until)."""
    columns = (queue_keys.c.queue, func.count(), func.min(queue_keys.c.received_at))
    waiting = {row[0]: row[1:] for row in connection.execute(select(*columns).group_by(queue_keys.c.queue))}
    open_ones = (
        select(leases.c.queue, func.count()).where(leases.c.ended_at.is_(None)).group_by(leases.c.queue)
    )
    held = {row[0]: row[1] for row in connection.execute(open_ones)}
    ended = Counter((row.queue, row.outcome) for row in _ended(connection, since, until))
    return tuple(
        QueueProgress(
            queue=queue,
            waiting=waiting.get(queue, (0, None))[0],
            held=held.get(queue, 0),
            done=ended[queue, "done"],
            skipped=ended[queue, "skipped"],
            oldest=waiting.get(queue, (0, None))[1],
        )
        for queue in QUEUES
    )


def throughput(
    connection: Connection, since: datetime, until: datetime, zone: ZoneInfo
) -> tuple[Throughput, ...]:
    """A row per reviewer and day in [since, until), by name and day."""
    ended: dict[tuple[str, date], list[Row[Any]]] = {}
    for lease in _ended(connection, since, until):
        ended.setdefault((lease.reviewer, lease.ended_at.astimezone(zone).date()), []).append(lease)
    labelled: dict[tuple[str, date], list[Any]] = {}
    within = (corrections.c.created_at >= since, corrections.c.created_at < until)
    columns = select(
        corrections.c.reviewer, corrections.c.created_at, corrections.c.kind, corrections.c.appeal_number
    )
    for row in connection.execute(columns.where(*within)):
        labelled.setdefault((row.reviewer, row.created_at.astimezone(zone).date()), []).append(row)
    keys = sorted(ended.keys() | labelled.keys())
    return tuple(_throughput(*key, ended.get(key, []), labelled.get(key, [])) for key in keys)


def _throughput(reviewer: str, day: date, ended: Sequence[Row[Any]], labelled: Sequence[Any]) -> Throughput:
    kinds = Counter(row.kind for row in labelled)
    seconds = [lease.seconds for lease in ended if lease.outcome == "done" and lease.seconds > 0]
    return Throughput(
        reviewer=reviewer,
        day=day,
        appeals=len({row.appeal_number for row in labelled if row.kind != "withdrawn"}),
        skipped=sum(lease.outcome == "skipped" for lease in ended),
        confirmed=kinds["confirmed"],
        changed=kinds["changed"],
        adjudicated=kinds["adjudicated"],
        bulk=kinds["bulk"],
        median_seconds=statistics.median(seconds) if seconds else None,
    )


def seconds_per_appeal(connection: Connection, since: datetime, until: datetime) -> tuple[Seconds, ...]:
    """Every appeal that was done under a lease that ended in [since, until)."""
    done = [lease for lease in _ended(connection, since, until) if lease.outcome == "done"]
    return tuple(Seconds(lease.reviewer, lease.queue, lease.seconds, lease.ended_at) for lease in done)


def corrected(
    connection: Connection, since: datetime, until: datetime, zone: ZoneInfo
) -> tuple[Corrected, ...]:
    """By week of the zone and head: suggestions confirmed and changed in [since, until), by week and head.

    What was withdrawn, decided by a lead or labelled in bulk is left out, and so is what nothing was
    suggested for: there was nothing to confirm.
    """
    later = corrections.alias()
    rules = (
        corrections.c.created_at >= since,
        corrections.c.created_at < until,
        corrections.c.kind.in_(("confirmed", "changed")),
        corrections.c.shown != "",
        ~exists().where(later.c.withdraws == corrections.c.number),
    )
    columns = (corrections.c.created_at, corrections.c.head, corrections.c.kind)
    counts: Counter[tuple[date, str, str]] = Counter()
    for row in connection.execute(select(*columns).where(*rules)):
        counts[week_of(row.created_at, zone), row.head, row.kind] += 1
    return tuple(
        Corrected(week, head, counts[week, head, "confirmed"], counts[week, head, "changed"])
        for week, head in sorted({(week, head) for week, head, _ in counts})
    )


def week_of(moment: datetime, zone: ZoneInfo) -> date:
    """The Monday of a moment's week in the zone."""
    day = moment.astimezone(zone).date()
    return day - timedelta(days=day.weekday())


def _ended(connection: Connection, since: datetime, until: datetime) -> list[Row[Any]]:
    within = (leases.c.ended_at >= since, leases.c.ended_at < until)
    return list(connection.execute(select(leases).where(*within).order_by(leases.c.number)))


# --- agreement ------------------------------------------------------------------------------------


def opinions(connection: Connection, since: datetime, until: datetime) -> Iterator[Opinion]:
    """Per appeal that somebody labelled in [since, until), head and reviewer the last word that stands."""
    within = (corrections.c.created_at >= since, corrections.c.created_at < until)
    numbers = list(
        connection.execute(select(corrections.c.appeal_number).where(*within).distinct()).scalars()
    )
    numbers.sort()
    for start in range(0, len(numbers), AT_ONCE):
        for words in said(connection, numbers[start : start + AT_ONCE]).values():
            yield from _last_words(words)


def _last_words(words: Sequence[Correction]) -> Iterator[Opinion]:
    last = {(word.head, word.reviewer): word for word in live(words)}
    for word in last.values():
        adjudicated = word.kind == "adjudicated"
        yield Opinion(
            word.appeal_number, word.head, word.reviewer, word.code, adjudicated, word.scheme_version
        )


# --- audit ----------------------------------------------------------------------------------------


def audit_slice(connection: Connection, since: datetime, until: datetime, reading: Reading) -> AuditSlice:
    """The audit slice of the appeals received in [since, until)."""
    within = (audit_members.c.received_at >= since, audit_members.c.received_at < until)
    query = select(audit_members, appeals.c.id).join(appeals).where(*within)
    days: dict[int, list[Member]] = {}
    for member in connection.execute(query.order_by(audit_members.c.slot)):
        days.setdefault(int(member.received_at.timestamp() // DAY), []).append(member)
    numbers = [member.appeal_number for members in days.values() for member in members]
    words = said(connection, numbers)
    labels = {number: found for number in numbers if (found := in_force(words.get(number, []), reading))}
    passed = labels.keys() | _given_up(connection, numbers)
    used = {
        member.appeal_number: (weight, member)
        for members in days.values()
        for weight, member in _usable(members, passed)
        if member.appeal_number in labels
    }
    rows = tuple(_audit_rows(connection, used, labels, reading))
    return AuditSlice(rows, len(numbers), len(labels), len(used))


def _given_up(connection: Connection, numbers: Sequence[int]) -> set[int]:
    found: set[int] = set()
    for start in range(0, len(numbers), AT_ONCE):
        here = (leases.c.appeal_number.in_(numbers[start : start + AT_ONCE]), leases.c.outcome == "skipped")
        people = func.count(leases.c.reviewer.distinct())
        query = select(leases.c.appeal_number).where(*here).group_by(leases.c.appeal_number)
        found |= set(connection.execute(query.having(people >= ENOUGH_SKIPS)).scalars())
    return found


def _usable(members: Sequence[Member], passed: Set[int]) -> Iterator[tuple[float, Member]]:
    """Of one day, in the order of the hash: all below the first that still waits, with their weight."""
    waiting = next((member.slot for member in members if member.appeal_number not in passed), 1.0)
    for member in members:
        if member.slot < waiting:
            yield 1.0 / min(member.share, waiting), member


def _audit_rows(
    connection: Connection,
    used: Mapping[int, tuple[float, Member]],
    labels: Mapping[int, Mapping[str, InForce]],
    reading: Reading,
) -> Iterator[AuditRow]:
    numbers, told = sorted(used), dict[int, Row[Any]]()
    for start in range(0, len(numbers), AT_ONCE):
        some = answers.c.appeal_number.in_(numbers[start : start + AT_ONCE])
        for answer in connection.execute(select(answers).where(some).order_by(answers.c.number)):
            told.setdefault(answer.appeal_number, answer)  # the first one is what was decided by
    for number, answer in told.items():
        weight, row = used[number]
        suggested = read_answer(answer.body).heads
        for head, label in labels[number].items():
            if head in suggested:
                yield AuditRow(
                    appeal_number=number,
                    id=row.id,
                    received_at=row.received_at,
                    weight=weight,
                    action=answer.action,
                    model_version=answer.model_version,
                    head=head,
                    suggested=read_as(reading, head, suggested[head].code, answer.scheme_version),
                    probability=suggested[head].probability,
                    label=label.code,
                )
