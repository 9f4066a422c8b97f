"""The database: the one module that writes SQL.

What `add` returned is on disk: SQLite runs in WAL with synchronous=FULL, PostgreSQL commits before
it answers. An appeal's id is unique in the database itself, so that two callers (or two replicas)
that send the same appeal at once get one row and one answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, create_engine, event, insert, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from data.appeals import Place
from data.errors import StoreError
from data.store_tables import answers, appeals

__all__ = ["NewAppeal", "Store", "StoredAnswer"]

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_MS = 5_000  # how long a writer waits for another one before the database counts as away


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


@dataclass(frozen=True)
class StoredAnswer:
    """What is stored under an id: the hash of the body it came with, and the first answer's JSON."""

    id: str
    body_sha256: str
    answer: str


class Store:
    """Appeals and answers in SQLite or PostgreSQL. Thread-safe. Raises StoreError when it is away."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Store:
        """A store at a database URL; connects on first use. Raises StoreError for a wrong URL."""
        return cls(_engine(_database_url(url)))

    def migrate(self) -> None:
        """Bring the tables to the newest version; nothing to do is fine."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        self._make_folder()
        with _told(), self._engine.begin() as connection:
            _alone(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def check(self) -> None:
        """Raise StoreError unless the database answers and has our tables."""
        with _told(), self._engine.connect() as connection:
            connection.execute(select(appeals.c.number).limit(1))

    def find(self, id: str) -> StoredAnswer | None:
        """The first answer stored under an id."""
        with _told(), self._engine.connect() as connection:
            return _find(connection, id)

    def add(self, appeal: NewAppeal) -> tuple[StoredAnswer, bool]:
        """Store an appeal with its answer, both or neither; (what is stored, whether we stored it).

        When the id is taken, what was stored first is returned: the caller compares the hashes.
        """
        try:
            with _told(), self._engine.begin() as connection:
                _insert(connection, appeal)
        except _IdTaken:
            stored = self.find(appeal.id)
            if stored is None:  # the other writer's row must be there: the constraint saw it
                raise StoreError(f"appeal {appeal.id!r} was refused as a double but cannot be read") from None
            return stored, False
        return StoredAnswer(appeal.id, appeal.body_sha256, appeal.answer), True

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def _make_folder(self) -> None:
        path = self._engine.url.database
        if self._engine.url.get_backend_name() == "sqlite" and path and path != ":memory:":
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"expected a folder for the database at {path}, got: {error}") from error


class _IdTaken(Exception):
    """The unique constraint on the appeal's id refused a row."""


def _insert(connection: Connection, appeal: NewAppeal) -> None:
    row = {
        "id": appeal.id,
        "body_sha256": appeal.body_sha256,
        "text": appeal.text,
        **asdict(appeal.place),
        "channel": appeal.channel,
        "declared_type": appeal.declared_type,
        "received_at": appeal.received_at,
        "stored_at": appeal.answered_at,
    }
    try:
        number = connection.execute(insert(appeals).values(row).returning(appeals.c.number)).scalar_one()
    except IntegrityError as error:
        raise _IdTaken from error
    connection.execute(insert(answers).values(_answer_row(number, appeal)))


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


def _find(connection: Connection, id: str) -> StoredAnswer | None:
    query = (
        select(appeals.c.id, appeals.c.body_sha256, answers.c.body)
        .join_from(appeals, answers)
        .where(appeals.c.id == id)
        .order_by(answers.c.number)
        .limit(1)
    )
    row: RowMapping | None = connection.execute(query).mappings().first()
    return None if row is None else StoredAnswer(row["id"], row["body_sha256"], row["body"])


@contextmanager
def _told() -> Iterator[None]:
    """Tell what went wrong in the database as a StoreError, without the statement's values."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise StoreError(f"the database does not answer as expected: {cause[:300]}") from error


def _database_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(
            "expected a database URL like sqlite:///var/jiesu.db or postgresql://user:password@host/name, "
            "got one that cannot be read"
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _engine(url: URL) -> Engine:
    try:
        engine = create_engine(url, pool_pre_ping=url.get_backend_name() != "sqlite", hide_parameters=True)
    except (ModuleNotFoundError, NoSuchModuleError, ArgumentError) as error:
        raise StoreError(
            f"expected the driver for {url.drivername} to be installed, got: {error}; "
            "install it (PostgreSQL: pip install 'psycopg[binary]')"
        ) from error
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """A commit is on disk before it returns (synchronous=FULL); readers never wait (WAL)."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _alone(connection: Connection) -> None:
    """Hold off other processes that migrate at the same moment."""
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(b"jiesu migrate").digest()[:4], "big")
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
