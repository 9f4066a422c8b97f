"""Appeals and the answers they got: stored together or not at all, once per id.

An appeal's id is unique in the database itself, so that two callers (or two replicas) that send the
same appeal at once get one row and one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from data.access_tables import appeal_originals
from data.appeals import Place
from data.database import Database
from data.embeddings import add_embeddings
from data.errors import StoreError
from data.originals import Sealed
from data.queues import Entering, enter
from data.store_tables import answers, appeals
from data.suggestions import read_answer

__all__ = ["NewAppeal", "Store", "StoredAnswer"]

IDS_AT_ONCE = 1000  # values in one IN (…)


@dataclass(frozen=True)
class NewAppeal:
    """An appeal to be stored together with its first answer. `text` is prepared: masked."""

    id: str
    body_sha256: str
    text: str
    place: Place
    channel: str
    declared_type: str
    received_at: datetime
    answered_at: datetime
    answer: str
    action: str
    urgency: str
    model_version: str
    scheme_version: str
    taken_by: str = ""  # the client whose key sent it
    original: Sealed | None = None
    embedding: bytes = b""  # float16, as the model computed it; empty where it computes none


@dataclass(frozen=True)
class StoredAnswer:
    """What is stored under an id: the hash of the body it came with, the first answer's JSON, whose it is."""

    id: str
    body_sha256: str
    answer: str
    taken_by: str = ""


class Store:
    """Appeals and answers in a database. Thread-safe. Raises StoreError when the database is away."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(cls, url: str) -> Store:
        """A store at a database URL; connects on first use. Raises StoreError for a wrong URL."""
        return cls(Database.open(url))

    def migrate(self) -> None:
        """Bring the tables to the newest version; nothing to do is fine."""
        self.database.migrate()

    def check(self) -> None:
        """Raise StoreError unless the database answers and has our tables."""
        self.database.check()

    def find(self, id: str) -> StoredAnswer | None:
        """The first answer stored under an id."""
        return self.find_many([id]).get(id)

    def find_many(self, ids: Sequence[str]) -> dict[str, StoredAnswer]:
        """The first answers stored under the ids; an id without one is left out."""
        with self.database.connect() as connection:
            return _find(connection, ids)

    def numbers(self, ids: Sequence[str]) -> dict[str, int]:
        """The numbers of stored appeals by id; an id that is not there is left out."""
        found: dict[str, int] = {}
        with self.database.connect() as connection:
            for start in range(0, len(ids), IDS_AT_ONCE):
                query = select(appeals.c.id, appeals.c.number)
                here = query.where(appeals.c.id.in_(ids[start : start + IDS_AT_ONCE]))
                found.update((row.id, row.number) for row in connection.execute(here))
        return found

    def add(self, appeal: NewAppeal) -> tuple[StoredAnswer, bool]:
        """Store an appeal with its answer, both or neither; (what is stored, whether we stored it).

        When the id is taken, what was stored first is returned: the caller compares the hashes.
        """
        [result] = self.add_many([appeal])
        return result

    def add_many(self, new: Sequence[NewAppeal]) -> list[tuple[StoredAnswer, bool]]:
        """Store appeals with their answers in one transaction; per appeal what `add` returns, in order.

        All new ones are stored, or none when it raises; of appeals with the same id the first is
        stored. Raises RowRefused when the database refuses one of them.
        """
        if not new:
            return []
        firsts: dict[str, NewAppeal] = {}
        for appeal in new:
            firsts.setdefault(appeal.id, appeal)
        with self.database.begin() as connection:
            numbers = _insert_appeals(connection, firsts)
            _insert_answers(connection, firsts, numbers)
            _insert_originals(connection, firsts, numbers)
            _enter_queues(connection, firsts, numbers)
            earlier = _find(connection, [id for id in firsts if id not in numbers])
        return [_result(appeal, firsts, numbers, earlier) for appeal in new]

    def close(self) -> None:
        """Give back all connections."""
        self.database.close()


def _insert_appeals(connection: Connection, firsts: dict[str, NewAppeal]) -> dict[str, int]:
    """Numbers of those whose id was free. Sorted: two replicas take row locks in the same order."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(appeals).on_conflict_do_nothing(index_elements=[appeals.c.id])
    rows = [_appeal_row(firsts[id]) for id in sorted(firsts)]
    made = connection.execute(statement.returning(appeals.c.id, appeals.c.number), rows)
    return {row.id: row.number for row in made}


def _insert_answers(connection: Connection, firsts: dict[str, NewAppeal], numbers: dict[str, int]) -> None:
    if numbers:
        rows = [_answer_row(number, firsts[id]) for id, number in numbers.items()]
        connection.execute(insert(answers), rows)


def _insert_originals(connection: Connection, firsts: dict[str, NewAppeal], numbers: dict[str, int]) -> None:
    sealed = [(number, original) for id, number in numbers.items() if (original := firsts[id].original)]
    if sealed:
        rows = [
            {"appeal_number": number, "key_id": original.key_id, "sealed": original.body}
            for number, original in sealed
        ]
        connection.execute(insert(appeal_originals), rows)


def _enter_queues(connection: Connection, firsts: dict[str, NewAppeal], numbers: dict[str, int]) -> None:
    new = [(number, firsts[id]) for id, number in numbers.items()]
    enter(connection, [_entering(number, appeal) for number, appeal in new])
    vectors: dict[str, dict[int, bytes]] = {}
    for number, appeal in new:
        if appeal.embedding:
            vectors.setdefault(appeal.model_version, {})[number] = appeal.embedding
    for model_version, found in vectors.items():
        add_embeddings(connection, model_version, found)


def _entering(number: int, appeal: NewAppeal) -> Entering:
    return Entering(
        number=number,
        id=appeal.id,
        place=appeal.place,
        received_at=appeal.received_at,
        stored_at=appeal.answered_at,
        action=appeal.action,
        urgency=appeal.urgency,
        answers=(read_answer(appeal.answer),),
    )


def _result(
    appeal: NewAppeal,
    firsts: dict[str, NewAppeal],
    numbers: dict[str, int],
    earlier: dict[str, StoredAnswer],
) -> tuple[StoredAnswer, bool]:
    if appeal.id in numbers:
        first = firsts[appeal.id]
        return StoredAnswer(first.id, first.body_sha256, first.answer, first.taken_by), appeal is first
    if appeal.id not in earlier:  # the other writer's row must be there: the constraint saw it
        raise StoreError(f"appeal {appeal.id!r} was refused as a double but cannot be read")
    return earlier[appeal.id], False


def _appeal_row(appeal: NewAppeal) -> dict[str, Any]:
    return {
        "id": appeal.id,
        "body_sha256": appeal.body_sha256,
        "text": appeal.text,
        **asdict(appeal.place),
        "taken_by": appeal.taken_by,
        "channel": appeal.channel,
        "declared_type": appeal.declared_type,
        "received_at": appeal.received_at,
        "stored_at": appeal.answered_at,
    }


def _answer_row(number: int, appeal: NewAppeal) -> dict[str, Any]:
    return {
        "appeal_number": number,
        "model_version": appeal.model_version,
        "scheme_version": appeal.scheme_version,
        "action": appeal.action,
        "urgency": appeal.urgency,
        "body": appeal.answer,
        "answered_at": appeal.answered_at,
    }


def _find(connection: Connection, ids: Sequence[str]) -> dict[str, StoredAnswer]:
    query = (
        select(appeals.c.id, appeals.c.body_sha256, appeals.c.taken_by, answers.c.body)
        .join_from(appeals, answers)
        .order_by(answers.c.number.desc())  # of several answers, the first one is kept last
    )
    found: dict[str, StoredAnswer] = {}
    for start in range(0, len(ids), IDS_AT_ONCE):
        some = ids[start : start + IDS_AT_ONCE]
        for row in connection.execute(query.where(appeals.c.id.in_(some))):
            found[row.id] = StoredAnswer(row.id, row.body_sha256, row.body, row.taken_by)
    return found
