"""Recorded changes of the label scheme, and what they mean for labels that are stored already."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Connection, func, insert, select

from data.database import Database, alone
from data.errors import Problem, SchemeChangeError
from data.in_force import Reading
from data.review_tables import corrections, scheme_changes
from data.scheme import Scheme
from data.scheme_change import SchemeChange, reading_through

__all__ = ["Remapped", "reading_for", "reading_under", "record_change", "recorded_changes", "remapped"]


@dataclass(frozen=True)
class Remapped:
    """Of one head, the stored corrections under older versions by what they become, counted in rows."""

    same: int = 0
    mapped: int = 0  # to another code
    partial: int = 0  # to one of several
    unmapped: int = 0
    unreachable: int = 0  # under a version from which no change leads here


def recorded_changes(database: Database) -> list[SchemeChange]:
    """All changes in the order they were recorded."""
    with database.connect() as connection:
        return _changes(connection)


def _changes(connection: Connection) -> list[SchemeChange]:
    query = select(scheme_changes.c.body, scheme_changes.c.from_version).order_by(scheme_changes.c.number)
    return [_parsed(row.body, f"change from {row.from_version}") for row in connection.execute(query)]


@lru_cache(maxsize=32)
def _parsed(text: str, name: str) -> SchemeChange:
    """A recorded change never changes, and is asked for with every correction."""
    return SchemeChange.parse(text, name)


def record_change(database: Database, change: SchemeChange, by: str, now: datetime) -> bool:
    """Record a checked change, for every reader; whether it is new.

    Raises SchemeChangeError where another change from that version is recorded: what was read by it
    would silently become something else.
    """
    row = {
        "from_version": change.from_version,
        "to_version": change.to_version,
        "body": change.text,
        "recorded_by": by,
        "created_at": now,
    }
    with database.begin() as connection:
        alone(connection, "scheme changes")
        here = scheme_changes.c.from_version == change.from_version
        earlier = connection.execute(select(scheme_changes.c.body).where(here)).scalar()
        if earlier is None:
            connection.execute(insert(scheme_changes).values(row))
            return True
    if SchemeChange.parse(earlier) != SchemeChange.parse(change.text):
        problem = Problem(
            "the change that is recorded", "another one from the same version", change.file, path="from"
        )
        message = f"a change from version '{change.from_version}' is recorded already and cannot be replaced:"
        raise SchemeChangeError(message, [problem])
    return False


def reading_for(database: Database, scheme: Scheme) -> Reading:
    """How stored labels of every version read under this scheme: what takes a `reading` takes this.

    It raises SchemeChangeError for labels under a version from which no recorded change leads here.
    """
    return reading_through(recorded_changes(database), scheme.version)


def reading_under(connection: Connection, version: str = "") -> Reading:
    """As `reading_for`, but labels that no change leads on are read as they stand; default: the newest."""
    return reading_through(_changes(connection), version, strict=False)


def remapped(database: Database, scheme: Scheme, reading: Reading) -> dict[str, Remapped]:
    """What becomes of the stored corrections under other versions, by head."""
    columns = (corrections.c.head, corrections.c.code, corrections.c.scheme_version)
    query = select(*columns, func.count().label("rows")).where(
        corrections.c.scheme_version != scheme.version, corrections.c.kind != "withdrawn"
    )
    counts: dict[str, Counter[str]] = {}
    with database.connect() as connection:
        for row in connection.execute(query.group_by(*columns)):
            fate = _fate(row.head, row.code, row.scheme_version, reading)
            counts.setdefault(row.head, Counter())[fate] += row.rows
    return {head: Remapped(**found) for head, found in sorted(counts.items())}


def _fate(head: str, code: str, version: str, reading: Reading) -> str:
    try:
        codes = reading(head, code, version)
    except SchemeChangeError:
        return "unreachable"
    if codes is None:
        return "unmapped"
    if len(codes) > 1:
        return "partial"
    return "same" if codes in ({code}, frozenset()) else "mapped"
