"""Sealed originals: what a resident wrote, encrypted, beside the masked text.

This module moves sealed bytes only; the key lives with whoever seals (serving.security.sealing).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update

from data.access_tables import appeal_originals
from data.audit import append
from data.database import Database
from data.store_tables import appeals

__all__ = ["Originals", "Sealed"]

BATCH = 200


@dataclass(frozen=True)
class Sealed:
    """An encrypted original and the id of the key that opens it."""

    key_id: str
    body: bytes


class Originals:
    """The sealed originals of a database. Raises StoreError when it is away."""

    def __init__(self, database: Database, audit_key: bytes | None = None) -> None:
        self._database, self._audit_key = database, audit_key

    def read(self, appeal_id: str, actor: str) -> Sealed | None:
        """The sealed original of an appeal; the audit log says who asked before this returns."""
        query = (
            select(appeal_originals.c.key_id, appeal_originals.c.sealed)
            .join_from(appeal_originals, appeals)
            .where(appeals.c.id == appeal_id)
        )
        with self._database.begin() as connection:
            row = connection.execute(query).first()
            if row is None:
                return None
            append(connection, self._audit_key, actor, "original.read", appeal_id)
        return Sealed(row.key_id, row.sealed)

    def count(self, but: str = "") -> Mapping[str, int]:
        """How many originals each key sealed, by key id; those of key `but` are left out."""
        query = (
            select(appeal_originals.c.key_id, func.count().label("originals"))
            .where(appeal_originals.c.key_id != but)
            .group_by(appeal_originals.c.key_id)
        )
        with self._database.connect() as connection:
            return {row.key_id: row.originals for row in connection.execute(query)}

    def reseal(self, key_id: str, renew: Callable[[str, Sealed], Sealed], actor: str) -> int:
        """Seal one batch of those not sealed with `key_id` anew; how many, 0 when none is left.

        `renew` gets the appeal's id and the old seal. Audited, batch by batch.
        """
        query = (
            select(appeals.c.number, appeals.c.id, appeal_originals.c.key_id, appeal_originals.c.sealed)
            .join_from(appeal_originals, appeals)
            .where(appeal_originals.c.key_id != key_id)
            .limit(BATCH)
        )
        with self._database.begin() as connection:
            rows = connection.execute(query).all()
            for row in rows:
                fresh = renew(row.id, Sealed(row.key_id, row.sealed))
                where = appeal_originals.c.appeal_number == row.number
                connection.execute(update(appeal_originals).where(where).values(_columns(fresh)))
            if rows:
                details = {"originals": len(rows), "key_id": key_id}
                append(connection, self._audit_key, actor, "originals.resealed", "originals", details)
        return len(rows)


def _columns(sealed: Sealed) -> dict[str, Any]:
    return {"key_id": sealed.key_id, "sealed": sealed.body}
