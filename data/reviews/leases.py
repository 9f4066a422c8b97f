"""Who has which appeal before them: the next one of a queue, for one reviewer alone, for some minutes.

Of an appeal at most as many leases are open as reviewers are still missing: one, or two where double
review is asked for, and never two of the same reviewer. All who take go through one lock.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    and_,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
    update,
)

from data.errors import LeaseLost, ReviewError
from data.queues import DAY, QUEUES
from data.review_tables import corrections, leases, queue_keys
from data.reviews.records import Filters

__all__ = ["end_lease", "extend", "hold", "lease_of", "next_appeal", "release_all", "take_next"]

BUCKETS = 400  # categories asked for one by one; SQLite joins at most 500 SELECTs
FEW_DAYS = timedelta(days=3)  # the appeals of so many are looked through within milliseconds
LONGEST_MINUTES = 24 * 60

Lease = Row[Any]  # of the table leases


# --- the next one ---------------------------------------------------------------------------------


def next_appeal(queue: str, reviewer: str, filters: Filters, now: datetime) -> Select[Any]:
    """The query for the appeal whose turn it is for this reviewer; expired leases must be ended before.

    One index is walked until an appeal is free: that of the days if they are few, else of the categories,
    the street, the district, the days, and without a filter that of the turns. Of several categories or
    days each gives its first one, and the earliest turn wins: no narrow filter walks a long queue.
    """
    walked = _walked(filters, now)
    first = _first(queue, reviewer, filters, walked)
    values = _values(queue, filters, walked)
    if values is None:
        return first
    first = first.where(queue_keys.c[walked] == values.c.value).correlate(values)
    each = select(first.scalar_subquery().label("appeal_number")).select_from(values)
    winners = each.cte("winners").prefix_with("MATERIALIZED")  # else SQLite looks for each one three times
    keys = queue_keys.alias("keys")
    here = (keys.c.queue == queue, keys.c.appeal_number == winners.c.appeal_number)
    turn = select(keys.c.turn).where(*here).correlate(winners).scalar_subquery()
    found = select(winners.c.appeal_number).where(winners.c.appeal_number.is_not(None))
    return found.order_by(turn, winners.c.appeal_number).limit(1)


def _walked(filters: Filters, now: datetime) -> str:
    """The column whose index is walked; `turn` without a filter."""
    if filters.since is not None and (filters.until or now) - filters.since <= FEW_DAYS:
        return "day"
    if 0 < len(filters.categories) <= BUCKETS:
        return "category"
    timed = filters.since is not None or filters.until is not None
    return "street" if filters.street else "district" if filters.district else "day" if timed else "turn"


def _first(queue: str, reviewer: str, filters: Filters, walked: str) -> Select[Any]:
    return (
        select(queue_keys.c.appeal_number)
        .where(queue_keys.c.queue == queue, *_asked_for(filters, walked), *_free(reviewer))
        .order_by(queue_keys.c.turn, queue_keys.c.appeal_number)
        .limit(1)
    )


def _asked_for(filters: Filters, walked: str) -> list[ColumnElement[bool]]:
    keys, rules = queue_keys.c, list[ColumnElement[bool]]()
    for part in ("district", "street", "community"):
        if value := getattr(filters, part):
            # Joined to an empty text no index fits: SQLite would choose among them without knowing better.
            rules.append((keys[part] if part == walked else keys[part].concat("")) == value)
    if filters.categories and walked != "category":
        rules.append(keys.category.concat("").in_(filters.categories))
    if filters.since is not None:
        rules.append(keys.received_at >= filters.since)
    if filters.until is not None:
        rules.append(keys.received_at < filters.until)
    return rules


def _free(reviewer: str) -> list[ColumnElement[bool]]:
    """Neither skipped by this reviewer nor before them now nor done by them, and a place is left."""
    of_appeal = leases.c.appeal_number == queue_keys.c.appeal_number
    skipped = and_(leases.c.outcome == "skipped", leases.c.taken_at >= queue_keys.c.opened_at)
    mine = exists().where(of_appeal, leases.c.reviewer == reviewer, or_(skipped, leases.c.ended_at.is_(None)))
    taken = select(func.count()).where(of_appeal, leases.c.ended_at.is_(None)).correlate(queue_keys)
    return [
        ~mine,
        queue_keys.c.missing > taken.scalar_subquery(),
        or_(queue_keys.c.wanted == 1, ~_said_by(reviewer)),
    ]


def _said_by(reviewer: str) -> ColumnElement[bool]:
    taken_back = corrections.alias("taken_back")
    return exists().where(
        corrections.c.appeal_number == queue_keys.c.appeal_number,
        corrections.c.reviewer == reviewer,
        corrections.c.kind != "withdrawn",
        ~exists().where(taken_back.c.withdraws == corrections.c.number),
    )


def _values(queue: str, filters: Filters, walked: str) -> FromClause | None:
    """The categories or days to be looked at one by one; None where one walk is enough."""
    if walked == "day":
        return _days(queue, filters)
    if walked != "category":
        return None
    codes = [select(literal(code).label("value")) for code in dict.fromkeys(filters.categories)]
    return (union_all(*codes) if len(codes) > 1 else codes[0]).cte("buckets")


def _days(queue: str, filters: Filters) -> FromClause:
    """The days of the time filter on which something waits, hopping from one to the next by the index."""
    here = [queue_keys.c.queue == queue]
    if filters.until is not None:
        here.append(queue_keys.c.day <= _day(filters.until))
    since = [queue_keys.c.day >= _day(filters.since)] if filters.since is not None else []
    first = select(func.min(queue_keys.c.day).label("value")).where(*here, *since)
    days = first.cte("buckets", recursive=True)
    following = select(func.min(queue_keys.c.day)).where(*here, queue_keys.c.day > days.c.value)
    after = following.correlate(days).scalar_subquery()
    return days.union_all(select(after).where(days.c.value.is_not(None)))


def _day(moment: datetime) -> int:
    return int(moment.timestamp() // DAY)


# --- taking ---------------------------------------------------------------------------------------


def take_next(
    connection: Connection,
    queue: str,
    reviewer: str,
    filters: Filters,
    holding: Collection[int],
    minutes: float,
    now: datetime,
) -> Lease | None:
    """An open lease of this reviewer and queue they do not hold yet, else a new one, if one waits."""
    if queue not in QUEUES:
        raise ReviewError(f"expected one of the queues {', '.join(QUEUES)}, got '{queue}'")
    _end_expired(connection, now)
    open_ones = select(leases).where(
        leases.c.ended_at.is_(None), leases.c.reviewer == reviewer, leases.c.queue == queue
    )
    for lease in connection.execute(open_ones.order_by(leases.c.number)):
        if lease.number not in holding:
            return extend(connection, lease, minutes, now)
    number = connection.execute(next_appeal(queue, reviewer, filters, now)).scalar()
    return None if number is None else _open(connection, number, queue, reviewer, minutes, now)


def hold(
    connection: Connection, appeal_number: int, queue: str, reviewer: str, minutes: float, now: datetime
) -> Lease:
    """A lease of this very appeal, whatever its turn. Raises LeaseLost while others have all its places."""
    _end_expired(connection, now)
    here = leases.c.appeal_number == appeal_number
    rows = connection.execute(select(leases).where(here, leases.c.ended_at.is_(None))).all()
    mine = next((row for row in rows if row.reviewer == reviewer), None)
    if mine is not None:
        return extend(connection, mine, minutes, now)
    places = select(func.max(queue_keys.c.missing)).where(queue_keys.c.appeal_number == appeal_number)
    if len(rows) >= (connection.execute(places).scalar() or 1):
        raise LeaseLost(
            f"expected an appeal that nobody has before them, got one that {rows[0].reviewer} holds "
            f"until {rows[0].expires_at:%H:%M} UTC; try again then"
        )
    return _open(connection, appeal_number, queue, reviewer, minutes, now)


def extend(connection: Connection, lease: Lease, minutes: float, now: datetime) -> Lease:
    """An open lease, from now on for `minutes`, but never shortened."""
    until = max(lease.expires_at, _end(now, minutes))
    changed = update(leases).where(leases.c.number == lease.number).values(expires_at=until)
    return connection.execute(changed.returning(*leases.c)).one()


def lease_of(connection: Connection, number: int, reviewer: str) -> Lease:
    """A lease of this reviewer, open or ended. Raises LeaseLost."""
    lease = connection.execute(select(leases).where(leases.c.number == number)).first()
    if lease is None or lease.reviewer != reviewer:
        raise LeaseLost(
            f"expected a lease of {reviewer}, got number {number}, which is none; take the appeal again"
        )
    return lease


def end_lease(
    connection: Connection,
    lease: Lease,
    outcome: str,
    now: datetime,
    *,
    reason: str = "",
    seconds: float = 0.0,
) -> None:
    """Write how a lease ended; what was done after it expired counts as done."""
    ended = {"ended_at": now, "outcome": outcome, "reason": reason, "seconds": max(0.0, seconds)}
    connection.execute(update(leases).where(leases.c.number == lease.number).values(ended))


def release_all(connection: Connection, reviewer: str, now: datetime) -> int:
    """Give back whatever this reviewer holds; how many leases that were."""
    mine = and_(leases.c.ended_at.is_(None), leases.c.reviewer == reviewer)
    ended = update(leases).where(mine).values(ended_at=now, outcome="released")
    return connection.execute(ended).rowcount


def _open(
    connection: Connection, appeal_number: int, queue: str, reviewer: str, minutes: float, now: datetime
) -> Lease:
    row = {
        "appeal_number": appeal_number,
        "reviewer": reviewer,
        "queue": queue,
        "taken_at": now,
        "expires_at": _end(now, minutes),
        "outcome": "",
        "reason": "",
        "seconds": 0.0,
    }
    return connection.execute(insert(leases).values(row).returning(*leases.c)).one()


def _end_expired(connection: Connection, now: datetime) -> None:
    over = and_(leases.c.ended_at.is_(None), leases.c.expires_at <= now)
    connection.execute(update(leases).where(over).values(ended_at=leases.c.expires_at, outcome="expired"))


def _end(now: datetime, minutes: float) -> datetime:
    if not 0 < minutes <= LONGEST_MINUTES:
        raise ReviewError(
            f"expected a lease of more than 0 and at most {LONGEST_MINUTES} minutes, got {minutes}"
        )
    return now + timedelta(minutes=minutes)
