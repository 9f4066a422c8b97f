"""What tests share: databases of both kinds, and whether the long versions run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import POSTGRES_MISSING, Postgres, postgres_folder, started_postgres


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
