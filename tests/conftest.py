"""What tests share: databases of both kinds, a browser, a run of training, whether the long versions run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from data.database import Database
from tests.browsing import browser, open_page
from tests.databases import POSTGRES_MISSING, Postgres, postgres_folder, started_postgres
from tests.exchanging import labelled_stores
from tests.guarded import closed_app
from tests.reviewing import any_stores, sqlite_stores
from tests.scheme_versions import new_scheme, old_scheme, scheme_change

if TYPE_CHECKING:
    from tests.tiny_runs import TinyRun

__all__ = [
    "any_stores", "browser", "closed_app", "database_url", "each_database",
    "labelled_stores", "migrated_file", "migrated_postgres", "migrated_sqlite_url", "migrated_url",
    "new_scheme", "old_scheme", "open_page", "postgres", "scheme_change",
    "shipped_run", "soak", "sqlite_database", "sqlite_stores", "tiny_run",
]  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long versions (make soak)")


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the long versions run."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL; without its programs the test is skipped, but not in CI."""
    programs = postgres_folder()
    if programs is None:
        if os.environ.get("CI") == "true":
            pytest.fail(POSTGRES_MISSING)
        pytest.skip(POSTGRES_MISSING)
    with started_postgres(programs) as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'deep' / 'jiesu.db'}"
        return
    cluster: Postgres = request.getfixturevalue("postgres")
    url = cluster.fresh()
    yield url
    cluster.drop(url)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with all tables and no rows, to be copied: that is quicker than to migrate."""
    file = tmp_path_factory.mktemp("migrated") / "jiesu.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> str:
    """A PostgreSQL database with all tables and no rows, to be copied."""
    url = postgres.fresh()
    _migrate(url)
    return url


@pytest.fixture
def migrated_sqlite_url(tmp_path: Path, migrated_file: Path) -> str:
    """The URL of an SQLite database with all tables and no rows."""
    shutil.copy(migrated_file, tmp_path / "jiesu.db")
    return f"sqlite:///{tmp_path / 'jiesu.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database with all tables and no rows, of each kind in turn."""
    if request.param == "sqlite":
        yield request.getfixturevalue("migrated_sqlite_url")
        return
    cluster: Postgres = request.getfixturevalue("postgres")
    url = cluster.fresh(like=request.getfixturevalue("migrated_postgres"))
    yield url
    cluster.drop(url)


@pytest.fixture
def each_database(migrated_url: str) -> Iterator[Database]:
    """A migrated database of each kind in turn."""
    made = Database.open(migrated_url)
    yield made
    made.close()


@pytest.fixture
def sqlite_database(migrated_sqlite_url: str) -> Iterator[Database]:
    """A migrated SQLite database."""
    made = Database.open(migrated_sqlite_url)
    yield made
    made.close()


def _migrate(url: str) -> None:
    made = Database.open(url)
    made.migrate()
    made.close()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A run of training in small. Imported here, for torch takes its time."""
    from tests.tiny_runs import tiny

    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def shipped_run(tiny_run: TinyRun) -> Path:
    """The tiny run's model, trained on all folds."""
    from tests.tiny_runs import shipped

    return shipped(tiny_run)
