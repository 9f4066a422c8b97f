"""Retention: appeals older than a moment are deleted with all that hangs on them.

An appeal is old when it was received, or stored, before the moment: a caller's wrong clock must not
keep a resident's words for ever. Every table with a foreign key to `appeals` loses its rows first.
Corrections go as well: a label without its text teaches nothing. The audit log stays: it holds no text,
and a log that forgets is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, func, or_, select

from data import access_tables, review_tables  # noqa: F401  their tables hang on appeals
from data.audit import append
from data.database import Database
from data.store_tables import METADATA, appeals

__all__ = ["purge"]

BATCH = 500  # appeals in one transaction: intake waits behind a batch for milliseconds, not for the whole


def purge(
    database: Database,
    before: datetime,
    actor: str,
    *,
    audit_key: bytes | None = None,
    dry_run: bool = False,
    on_batch: Callable[[int], None] = lambda appeals: None,
) -> Mapping[str, int]:
    """Delete in batches; rows deleted by table. With `dry_run` nothing is deleted, only counted.

    `on_batch` is told how many appeals are gone so far. Audited: its beginning, and its end with the
    counts, so that one that was cut short is seen. Raises StoreError.
    """
    if dry_run:
        return _counts(database, before)
    told = {"before": before.isoformat()}
    _note(database, audit_key, actor, "purge.started", told)
    counts = dict.fromkeys((table.name for table, _ in (*_dependents(), (appeals, None))), 0)
    while True:
        with database.begin() as connection:
            _overwrite_what_is_deleted(connection)
            gone = _delete_batch(connection, before)
        if not gone["appeals"]:
            break
        counts = {table: counts[table] + number for table, number in gone.items()}
        on_batch(counts["appeals"])
    _note(database, audit_key, actor, "purge.done", {**told, **counts})
    return counts


def _delete_batch(connection: Connection, before: datetime) -> dict[str, int]:
    old = select(appeals.c.number).where(_is_old(before)).order_by(appeals.c.number).limit(BATCH)
    numbers = list(connection.execute(old).scalars())
    gone = {}
    for table, column in _dependents():
        gone[table.name] = connection.execute(delete(table).where(column.in_(numbers))).rowcount
    gone["appeals"] = connection.execute(delete(appeals).where(appeals.c.number.in_(numbers))).rowcount
    return gone


def _counts(database: Database, before: datetime) -> dict[str, int]:
    old = select(appeals.c.number).where(_is_old(before))
    counts = {}
    with database.connect() as connection:
        for table, column in _dependents():
            rows = select(func.count()).select_from(table).where(column.in_(old))
            counts[table.name] = connection.execute(rows).scalar_one()
        rows = select(func.count()).select_from(appeals).where(_is_old(before))
        counts["appeals"] = connection.execute(rows).scalar_one()
    return counts


def _is_old(before: datetime) -> ColumnElement[bool]:
    return or_(appeals.c.received_at < before, appeals.c.stored_at < before)


def _dependents() -> list[tuple[Table, Column[int]]]:
    """Every table that points at an appeal, with the column that does; those that point at others first."""
    return [
        (table, key.parent)
        for table in reversed(METADATA.sorted_tables)
        for key in table.foreign_keys
        if key.column.table is appeals
    ]


def _overwrite_what_is_deleted(connection: Connection) -> None:
    """SQLite leaves deleted text readable in the file unless told; PostgreSQL's vacuum frees it later."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")


def _note(
    database: Database, key: bytes | None, actor: str, action: str, details: Mapping[str, object]
) -> None:
    with database.begin() as connection:
        append(connection, key, actor, action, "appeals", details)
