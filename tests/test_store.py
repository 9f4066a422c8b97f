"""The store: what it says it stored is there, once, under every race and fault we can make."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, select

from data.appeals import Place
from data.errors import StoreError
from data.store import NewAppeal, Store
from data.store_tables import METADATA, appeals

ROOT = Path(__file__).parent.parent
NOON = datetime(2025, 3, 4, 12, 0, tzinfo=timezone(timedelta(hours=8)))


def appeal(id: str = "A-1", sha: str = "0" * 64, **changes: object) -> NewAppeal:
    made = NewAppeal(
        id=id,
        body_sha256=sha,
        text="楼下烧烤摊每晚冒烟，电话[手机号]",
        place=Place(city="江城", street="柳荫街道"),
        channel="电话",
        declared_type="",
        received_at=NOON,
        answered_at=NOON,
        answer=f'{{"id":"{id}"}}',
        action="review",
        urgency="一般",
        model_version="m1",
        scheme_version="s1",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'deep' / 'jiesu.db'}"


@pytest.fixture
def store(url: str) -> Store:
    made = Store.open(url)
    made.migrate()
    return made


def test_what_was_added_is_found_after_reopening(store: Store, url: str) -> None:
    stored, created = store.add(appeal())
    assert created
    store.close()
    assert Store.open(url).find("A-1") == stored
    assert Store.open(url).find("a-1") is None  # ids are compared as written


def test_the_first_body_stays_when_the_id_comes_again(store: Store) -> None:
    store.add(appeal(sha="1" * 64))
    stored, created = store.add(appeal(sha="2" * 64, answer="{}"))
    assert (stored.body_sha256, stored.answer, created) == ("1" * 64, '{"id":"A-1"}', False)


def test_forty_writers_of_one_id_make_one_row(store: Store) -> None:
    gate = threading.Barrier(8)

    def write(number: int) -> tuple[str, bool]:
        gate.wait()
        stored, created = store.add(appeal(f"R-{number // 8}", sha=f"{number:064d}"))
        return stored.body_sha256, created

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(write, range(40)))
    for start in range(0, 40, 8):
        group = done[start : start + 8]
        assert sum(created for _, created in group) == 1
        assert len({sha for sha, _ in group}) == 1  # everyone is told the winner's body


def test_an_appeal_without_its_answer_is_never_left(store: Store, url: str) -> None:
    with pytest.raises(StoreError):
        store.add(appeal(answer=None))
    assert store.find("A-1") is None
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as plain:
        assert plain.execute("SELECT count(*) FROM appeals").fetchone() == (0,)


def test_moments_keep_their_zone(store: Store, url: str) -> None:
    store.add(appeal())
    with create_engine(url).connect() as connection:
        assert connection.execute(select(appeals.c.received_at)).scalar_one() == NOON.astimezone(UTC)


def test_sqlite_commits_to_disk_and_readers_do_not_wait(store: Store) -> None:
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def test_migrating_twice_and_at_once_is_fine(url: str) -> None:
    code = "import sys; from data.store import Store; Store.open(sys.argv[1]).migrate()"
    started = [subprocess.Popen([sys.executable, "-c", code, url], cwd=ROOT) for _ in range(3)]
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]
    store = Store.open(url)
    store.migrate()
    store.check()


def test_migrations_make_the_tables_the_code_expects(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store._engine.connect() as connection:
        found = set(inspect(connection).get_table_names())
        assert found == set(METADATA.tables) | {"alembic_version"}
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    assert differences == []


def test_a_database_without_tables_is_not_ready(url: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with pytest.raises(StoreError, match="no such table"):
        Store.open(url).check()


def test_a_damaged_file_is_told(url: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "jiesu.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(url).migrate()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="expected a folder"):
        Store.open(f"sqlite:///{tmp_path}/file/jiesu.db").migrate()


@pytest.mark.parametrize("url", ["", "nonsense", "oracle9://x/y"])
def test_a_wrong_url_is_told_and_its_password_is_not(url: str) -> None:
    with pytest.raises(StoreError, match="expected"):
        Store.open(url)
    with pytest.raises(StoreError) as told:
        Store.open("strange://user:geheim@host/name")
    assert "geheim" not in str(told.value)
