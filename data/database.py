"""The database: connections, transactions and migrations, for every store that keeps rows in it.

What `begin` left without an error is on disk: SQLite runs in WAL with synchronous=FULL, PostgreSQL
commits before it answers. A writing transaction on SQLite takes the write lock at its beginning, so
that what it has read stays true until it commits; on PostgreSQL `alone` does the same by name.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, Engine, create_engine, delete, event, exists, insert, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
    StatementError,
)

from data.errors import RowRefused, StoreError
from data.store_tables import METADATA, write_proofs

__all__ = ["Database", "alone"]

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_MS = 5_000  # how long a writer waits for another one before the database counts as away
POOL_SECONDS = 5  # how long a caller waits for a free connection
STATEMENT_MS = 15_000  # PostgreSQL: a statement that takes longer is ended, the database counts as away
PROOF_BYTES = 512 * 1024  # more than the longest appeal with its answer: where this fits, that does
WRITES = "jiesu_writes"
# PostgreSQL: a host that went away without a word is noticed within seconds, not TCP's quarter of an hour.
NOTICED_SOON = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class Database:
    """SQLite or PostgreSQL. Thread-safe. Every method raises StoreError when it is away.

    RowRefused, a StoreError, says that the database works but refused a row (doubled key, wrong value).
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writing = engine.execution_options(**{WRITES: True})

    @classmethod
    def open(cls, url: str) -> Database:
        """A database by its URL; connects on first use. Raises StoreError for a wrong URL."""
        return cls(_engine(_database_url(url)))

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database; None for any other."""
        return _sqlite_file(self.engine.url)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for reading; all it reads on SQLite is of one moment."""
        with _told(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A connection in a transaction: committed, on disk, when the block ends; undone when it raises."""
        with _told(), self._writing.begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Bring the tables to the newest version; nothing to do is fine."""
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        self._make_folder()
        with self.begin() as connection:
            alone(connection, "migrate")
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StoreError(
                    f"expected tables of this version or an older one, got: {error}; "
                    "a newer version has migrated the database: run that one, or restore a backup"
                ) from error

    def check(self) -> None:
        """Raise StoreError unless the database answers and has all our tables. One statement."""
        with self.connect() as connection:
            connection.execute(select(*(exists().select_from(table) for table in METADATA.sorted_tables)))

    def prove(self) -> None:
        """Raise StoreError unless rows can be written: a full disk and a read-only file can be read well."""
        with self.begin() as connection:
            connection.execute(insert(write_proofs).values(body=b"\0" * PROOF_BYTES))
        with self.begin() as connection:
            connection.execute(delete(write_proofs))

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()

    def _make_folder(self) -> None:
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"expected a folder for the database at {self.file}, got: {error}") from error


def alone(connection: Connection, what: str) -> None:
    """Until this transaction ends, hold off other ones that ask for the same name, in any process.

    On SQLite every writing transaction is alone already.
    """
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(f"jiesu {what}".encode()).digest()[:4], "big")
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


@contextmanager
def _told() -> Iterator[None]:
    """Tell what went wrong in the database as a StoreError, without the statement's values."""
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise RowRefused(f"the database refused a row: {_cause(error)}") from error
    except SQLAlchemyError as error:
        if isinstance(error, StatementError) and not isinstance(error, DBAPIError):  # no form for a value
            raise RowRefused(f"a row cannot be written: {_cause(error)}") from error
        raise StoreError(f"the database does not answer as expected: {_cause(error)}") from error


def _cause(error: SQLAlchemyError) -> str:
    # Only the first line: PostgreSQL's second one, DETAIL, shows the row's values.
    return (str(getattr(error, "orig", None) or error).splitlines() or [""])[0][:300]


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


def _sqlite_file(url: URL) -> Path | None:
    if url.get_backend_name() != "sqlite" or not url.database or ":memory:" in url.database:
        return None
    if url.database.startswith("file:"):  # SQLite's own form, with options like mode=ro
        return Path(unquote(urlsplit(url.database).path))
    return Path(url.database)


def _engine(url: URL) -> Engine:
    kind = url.get_backend_name()
    options: dict[str, Any] = {"hide_parameters": True}
    if kind == "postgresql":
        soon = {name: value for name, value in NOTICED_SOON.items() if name not in url.query}
        options |= {"pool_pre_ping": True, "pool_timeout": POOL_SECONDS, "connect_args": soon}
    try:
        engine = create_engine(url, **options)
    except (ModuleNotFoundError, NoSuchModuleError, ArgumentError) as error:
        raise StoreError(
            f"expected the driver for {url.drivername} to be installed, got: {error}; "
            "install it (PostgreSQL: pip install 'jiesu[postgres]')"
        ) from error
    if kind == "sqlite":
        _listen_sqlite(engine)
    elif kind == "postgresql":
        event.listen(engine, "connect", _set_up_postgresql)
    return engine


def _listen_sqlite(engine: Engine) -> None:
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    path = _sqlite_file(engine.url)
    if path:
        file = _SameFile(path)
        event.listen(engine, "do_connect", file.must_be_there)
        event.listen(engine, "connect", file.remember)
        event.listen(engine, "checkout", file.must_be_same)


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """A commit is on disk before it returns (synchronous=FULL); readers never wait (WAL)."""
    connection.isolation_level = None  # the driver would begin by itself, and only at the first change
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_up_postgresql(connection: Any, _record: object) -> None:
    connection.execute(f"SET statement_timeout = {STATEMENT_MS}")
    connection.commit()


class _SameFile:
    """Sees that the file under the path is the one that is open.

    A file that was moved or deleted can still be written to by those who hold it open, and what they
    write is lost; a new empty one in its place would forget every appeal without a word.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._was_there = False

    def must_be_there(self, *_: object) -> None:
        if self._was_there and not self._path.exists():
            raise sqlite3.OperationalError(
                f"the database file {self._path} was there and is gone; "
                "put it back, or restart the service to begin with an empty one"
            )

    def remember(self, _connection: object, record: Any) -> None:
        self._was_there = True
        record.info["file"] = self._identity()

    def must_be_same(self, _connection: object, record: Any, _proxy: object) -> None:
        if record.info["file"] != self._identity():
            raise DisconnectionError("the database file was moved, deleted or replaced")

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
