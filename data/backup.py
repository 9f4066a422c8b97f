"""A copy of a SQLite database, taken while the service writes to it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from data.database import Database
from data.disk import to_disk
from data.errors import StoreError
from data.progress import Progress

__all__ = ["Backup", "back_up"]

PAGES = 1024  # copied between two looks at the progress: 4 MiB


@dataclass(frozen=True)
class Backup:
    """What was copied: the file, its size in bytes, and how many appeals are in it."""

    file: Path
    size: int
    appeals: int


def back_up(database: Database, file: Path, told: Progress = lambda what, done, total: None) -> Backup:
    """Copy the database as it is at this moment to a file of its own; checked, on disk, then named.

    Raises StoreError for a database that is not a SQLite file, or is not there, and for a target that is
    there already or cannot be written.
    """
    source = _source(database)
    if file.exists():
        raise StoreError(f"expected a new file for the backup, got {file}, which is there already")
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"expected a folder for the backup at {file}, got: {error}") from error
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # appeals: for its owner alone
        appeals = _copy(source, part, told)
        to_disk(part)
        part.rename(file)
        with suppress(OSError):  # a network folder may not know this; the file itself is on disk
            to_disk(file.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the backup to {file} was not made: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return Backup(file, file.stat().st_size, appeals)


def _source(database: Database) -> Path:
    if database.file is None:
        raise StoreError(_instead(database.engine.url))
    if not database.file.is_file():
        raise StoreError(f"expected a SQLite database at {database.file}, found none; check DATABASE_URL")
    return database.file


def _instead(url: URL) -> str:
    if url.get_backend_name() != "postgresql":
        return f"expected a SQLite file to back up, got {url.render_as_string(hide_password=True)}"
    server = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    return (
        "expected a SQLite database, got PostgreSQL, which brings its own tool; use instead:\n"
        f"  pg_dump --format=custom --file=jiesu.dump '{server.render_as_string()}'"
    )


def _copy(source: Path, target: Path, told: Progress) -> int:
    """Copy all pages of one moment, check them, and count the appeals."""
    read_only = f"{source.absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(read_only, uri=True, isolation_level=None)) as reading,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        # An open snapshot: without it the copy would begin anew at every write of the service.
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        reading.backup(copy, pages=PAGES, progress=lambda _, left, total: told("copy", total - left, total))
        reading.execute("ROLLBACK")
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a -wal beside it
        found = [row[0] for row in copy.execute("PRAGMA integrity_check(3)")]
        if found != ["ok"]:
            raise sqlite3.DatabaseError(f"the copy is damaged: {'; '.join(found)[:300]}")
        return int(copy.execute("SELECT count(*) FROM appeals").fetchone()[0])
