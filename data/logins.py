"""How often a login failed, by subject: an account, an address, or both together.

A subject is stored as a SHA-256 only: what is typed as a name may be a password.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, or_, select, update

from data.access_tables import logins
from data.database import Database, alone

__all__ = ["Failures", "WaitRule", "count_login", "forget_failures"]

ROWS_LAST = timedelta(days=30)  # how long a subject stays known
QUIET = timedelta(days=1)  # failures older than this count no more


@dataclass(frozen=True)
class Failures:
    """Failed logins of one subject. `known`: it has logged in within the last 30 days."""

    count: int = 0
    last_at: datetime | None = None
    known: bool = False


# The failures of each subject, in order, and now → seconds to wait
WaitRule = Callable[[Sequence[Failures], datetime], float]


def count_login(database: Database, subjects: Sequence[str], now: datetime, wait: WaitRule) -> float:
    """Seconds to wait before a login of these subjects may be tried; 0: it may, and is counted.

    It is counted as a failure before the password is looked at: many tries at once get no more tries
    than one after the other. A try that must wait is not counted, so that waiting ends.
    """
    with database.begin() as connection:
        alone(connection, "login")
        found = [_failures(connection, subject, now) for subject in subjects]
        seconds = wait(found, now)
        if seconds <= 0:
            for subject, failures in zip(subjects, found, strict=True):
                _count(connection, subject, failures, now)
    return max(0.0, seconds)


def forget_failures(connection: Connection, pair: str, account: str, address: str, now: datetime) -> None:
    """A login succeeded: its own failures are forgotten, the pair is known from now on.

    Of the address only this try is taken back: its other failures were tries at other accounts.
    """
    own = logins.c.subject_sha256.in_([pair, account])
    connection.execute(update(logins).where(own).values(failures=0))
    known = update(logins).where(logins.c.subject_sha256 == pair)
    connection.execute(known.values(known_until=now + ROWS_LAST))
    taken_back = update(logins).where(logins.c.subject_sha256 == address, logins.c.failures > 0)
    connection.execute(taken_back.values(failures=logins.c.failures - 1))
    over = or_(logins.c.known_until.is_(None), logins.c.known_until < now)
    connection.execute(delete(logins).where(logins.c.failed_at < now - QUIET, over))


def _failures(connection: Connection, subject: str, now: datetime) -> Failures:
    row = connection.execute(select(logins).where(logins.c.subject_sha256 == subject)).first()
    if row is None:
        return Failures()
    count = row.failures if now - row.failed_at < QUIET else 0
    return Failures(count, row.failed_at, row.known_until is not None and now < row.known_until)


def _count(connection: Connection, subject: str, before: Failures, now: datetime) -> None:
    values = {"failures": before.count + 1, "failed_at": now}
    if before.last_at is None:
        connection.execute(insert(logins).values({"subject_sha256": subject, **values}))
    else:
        connection.execute(update(logins).where(logins.c.subject_sha256 == subject).values(values))
