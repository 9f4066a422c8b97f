"""The audit log: who did what to what, in a chain of hashes that shows tampering.

Each entry's hash covers its own fields and the hash of the entry before it, so that an entry that was
changed, removed or moved breaks the chain at its place. What a chain alone cannot show is that its end
was cut off, or that all of it was computed anew: for that, `head` is kept outside of the database (an
anchor), or the hashes are keyed with a secret the database never sees (HMAC).

Appends are serialised by the database itself: replicas that share one PostgreSQL write one chain.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from data.access_tables import audit_log
from data.database import Database, alone

__all__ = ["GENESIS", "Anchor", "AuditLog", "Entry", "Verified", "append", "entry_of", "verify"]

GENESIS = "0" * 64
PLAIN, KEYED = "sha256", "hmac-sha256"
PAGE = 1000  # entries read at once


@dataclass(frozen=True)
class Entry:
    """One line of the log. `details` is canonical JSON; `at` is in UTC."""

    number: int
    at: datetime
    actor: str
    action: str
    object: str
    details: str
    algorithm: str
    previous: str
    hash: str = ""

    def line(self) -> dict[str, Any]:
        """The entry as plain JSON values."""
        return {**asdict(self), "at": _moment(self.at)}


@dataclass(frozen=True)
class Anchor:
    """The hash that an entry had at some time, kept where the database's owner cannot change it."""

    number: int
    hash: str


@dataclass(frozen=True)
class Verified:
    """What a look through the whole log found. `problems` names every entry that is not as it was."""

    entries: int
    keyed: int
    head: Anchor
    problems: tuple[str, ...]


class AuditLog:
    """The log in a database; `key` turns its hashes into HMACs."""

    def __init__(self, database: Database, key: bytes | None = None) -> None:
        self._database, self._key = database, key

    def add(self, actor: str, action: str, object: str, details: Mapping[str, Any] | None = None) -> Entry:
        """Append one entry in a transaction of its own; on disk when it returns. Raises StoreError.

        Who: `user:ming`, `key:intake`, `cli:root`. What: `model.promoted`. To what: an id or a name.
        Details hold numbers, codes and names, never a resident's words.
        """
        with self._database.begin() as connection:
            return append(connection, self._key, actor, action, object, details)

    def head(self) -> Anchor:
        """The newest entry's number and hash; (0, GENESIS) of an empty log."""
        with self._database.connect() as connection:
            return _head(connection)

    def entries(self) -> Iterator[Entry]:
        """All entries by number, read page by page."""
        last = 0
        while True:
            with self._database.connect() as connection:
                query = select(audit_log).where(audit_log.c.number > last).order_by(audit_log.c.number)
                page = [Entry(**row) for row in connection.execute(query.limit(PAGE)).mappings()]
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1].number

    def verify(self, anchors: Iterable[Anchor] = ()) -> Verified:
        """Look through the whole log; see `verify`."""
        return verify(self.entries(), self._key, anchors)


def append(
    connection: Connection,
    key: bytes | None,
    actor: str,
    action: str,
    object: str,
    details: Mapping[str, Any] | None = None,
) -> Entry:
    """Append one entry within the caller's transaction: the deed and its entry are both kept, or neither."""
    alone(connection, "audit")
    head = _head(connection)
    entry = Entry(
        number=head.number + 1,
        at=datetime.now(UTC),
        actor=actor,
        action=action,
        object=object,
        details=_canonical(dict(details or {})),
        algorithm=KEYED if key else PLAIN,
        previous=head.hash,
    )
    entry = Entry(**{**_fields(entry), "hash": hash_of(entry, key)})
    connection.execute(insert(audit_log).values(_fields(entry)))
    return entry


def hash_of(entry: Entry, key: bytes | None) -> str:
    """SHA-256 (or HMAC-SHA-256, as the entry says) over the canonical JSON of all fields but the hash."""
    fields = entry.line()
    del fields["hash"]
    body = _canonical(fields).encode()
    if entry.algorithm == KEYED:
        return hmac.new(key or b"", body, hashlib.sha256).hexdigest()
    return hashlib.sha256(body).hexdigest()


def entry_of(line: Mapping[str, Any]) -> Entry:
    """The entry behind an exported line. Raises KeyError, TypeError or ValueError when it is none."""
    return Entry(**{**line, "at": datetime.fromisoformat(line["at"])})


def verify(entries: Iterable[Entry], key: bytes | None = None, anchors: Iterable[Anchor] = ()) -> Verified:
    """Follow the chain from its first entry and name every break; entries come ordered by number.

    Without the key, keyed entries are followed but their hashes cannot be checked, which is told.
    """
    anchored = {anchor.number: anchor.hash for anchor in anchors}
    problems: list[str] = []
    before, keyed, count = Anchor(0, GENESIS), 0, 0
    for entry in entries:
        problems += _breaks(entry, before, keyed, key)
        if anchored.pop(entry.number, entry.hash) != entry.hash:
            problems.append(f"entry {entry.number}: is not the one that was anchored")
        before, keyed, count = Anchor(entry.number, entry.hash), keyed + (entry.algorithm == KEYED), count + 1
    problems += [f"entry {number}: was anchored and is missing" for number in sorted(anchored)]
    if keyed and key is None:
        problems.append(f"{keyed} entries are keyed: set JIESU_AUDIT_KEY to check their hashes")
    if key and count and not keyed:
        problems.append("a key is set but no entry is keyed: the log was written, or rewritten, without it")
    return Verified(count, keyed, before, tuple(problems))


def _breaks(entry: Entry, before: Anchor, keyed: int, key: bytes | None) -> list[str]:
    found = []
    if entry.number != before.number + 1:
        missing = f"{before.number + 1}" + (
            f" to {entry.number - 1}" if entry.number > before.number + 2 else ""
        )
        found.append(f"entry {missing}: is missing")
    elif not hmac.compare_digest(entry.previous, before.hash):
        found.append(f"entry {entry.number}: does not follow entry {before.number}")
    checkable = entry.algorithm == PLAIN or (entry.algorithm == KEYED and key is not None)
    if entry.algorithm not in (PLAIN, KEYED):
        found.append(f"entry {entry.number}: was changed (unknown algorithm)")
    elif keyed and entry.algorithm == PLAIN:
        found.append(f"entry {entry.number}: is not keyed, though an earlier one is")
    elif checkable and not hmac.compare_digest(hash_of(entry, key), entry.hash):
        found.append(f"entry {entry.number}: was changed")
    return found


def _head(connection: Connection) -> Anchor:
    query = select(audit_log.c.number, audit_log.c.hash).order_by(audit_log.c.number.desc()).limit(1)
    row = connection.execute(query).first()
    return Anchor(0, GENESIS) if row is None else Anchor(row.number, row.hash)


def _fields(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in Entry.__dataclass_fields__}


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _canonical(value: object) -> str:
    """One way to write a value: sorted keys, no blanks, characters as they are."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
