"""The store: what it says it stored is there, once, under every race and fault we can make."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC
from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import Table, func, inspect, select

from data.backup import back_up
from data.errors import RowRefused, StoreError
from data.store import Store
from data.store_tables import METADATA, answers, appeals, write_proofs
from tests.stored import NOON, appeal

ROOT = Path(__file__).parent.parent


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'deep' / 'jiesu.db'}"


@pytest.fixture
def store(migrated_url: str) -> Iterator[Store]:
    """A store in a database of each kind in turn."""
    made = Store.open(migrated_url)
    yield made
    made.close()


@pytest.fixture
def sqlite_store(migrated_sqlite_url: str) -> Iterator[Store]:
    made = Store.open(migrated_sqlite_url)
    yield made
    made.close()


def count(store: Store, table: Table) -> int:
    with store.database.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_what_was_added_is_found_after_reopening(store: Store, migrated_url: str) -> None:
    stored, created = store.add(appeal())
    assert created
    store.close()
    again = Store.open(migrated_url)
    assert again.find("A-1") == stored
    assert again.find("a-1") is None  # ids are compared as written
    again.close()


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


def test_an_appeal_without_its_answer_is_never_left(store: Store) -> None:
    with pytest.raises(RowRefused, match="refused a row"):
        store.add(appeal(answer=None))
    assert store.find("A-1") is None
    assert count(store, appeals) == 0


def test_many_are_stored_at_once_and_doubles_get_the_first_answer(store: Store) -> None:
    earlier, _ = store.add(appeal("R-3", sha="3" * 64))
    new = [appeal(f"R-{n}", sha=f"{n:064d}") for n in (5, 3, 1, 5, 4)]
    new[3] = replace(new[3], body_sha256="f" * 64)
    results = store.add_many(new)
    assert [created for _, created in results] == [True, False, True, False, True]
    assert results[1][0] == earlier
    assert results[3][0] == results[0][0]  # twice in one group: the first of both
    assert store.find_many(["R-1", "R-3", "nobody", "R-5"]) == {
        "R-1": results[2][0],
        "R-3": earlier,
        "R-5": results[0][0],
    }
    assert count(store, appeals) == count(store, answers) == 4
    assert store.add_many([]) == []
    assert store.find_many([]) == {}


def test_of_many_all_are_stored_or_none(store: Store) -> None:
    with pytest.raises(RowRefused):
        store.add_many([appeal("R-1"), appeal("R-2", answer=None), appeal("R-3")])
    assert count(store, appeals) == count(store, answers) == 0


def test_more_than_one_statement_takes_is_stored_and_found(store: Store) -> None:
    ids = [f"R-{n}" for n in range(2500)]
    assert all(created for _, created in store.add_many([appeal(id) for id in ids]))
    assert set(store.find_many(ids)) == set(ids)
    assert not any(created for _, created in store.add_many([appeal(id) for id in reversed(ids)]))


def test_groups_of_the_same_ids_in_other_orders_make_each_row_once(store: Store) -> None:
    ids = [f"R-{n}" for n in range(50)]
    gate = threading.Barrier(6)

    def write(number: int) -> list[tuple[str, bool]]:
        mine = random.Random(number).sample(ids, len(ids))
        gate.wait()
        done = store.add_many([appeal(id, sha=f"{number:064d}") for id in mine])
        return [(stored.id + stored.body_sha256, created) for stored, created in done]

    with ThreadPoolExecutor(6) as pool:
        done = [result for results in pool.map(write, range(6)) for result in results]
    assert sum(created for _, created in done) == len(ids)
    assert len({told for told, _ in done}) == len(ids)  # everyone is told the winner's body
    assert count(store, appeals) == count(store, answers) == len(ids)


def test_moments_keep_their_zone(store: Store) -> None:
    store.add(appeal())
    with store.database.connect() as connection:
        assert connection.execute(select(appeals.c.received_at)).scalar_one() == NOON.astimezone(UTC)


@pytest.mark.parametrize("year", [2000, 2099])
def test_moments_at_the_ends_of_what_is_accepted_are_kept(store: Store, year: int) -> None:
    edge = NOON.replace(year=year, month=1, day=1, hour=0)
    store.add(appeal(received_at=edge))
    with store.database.connect() as connection:
        assert connection.execute(select(appeals.c.received_at)).scalar_one() == edge


def test_reading_sqlite_sees_one_moment(sqlite_store: Store) -> None:
    sqlite_store.add(appeal("A-1"))
    with sqlite_store.database.connect() as reading:
        before = reading.execute(select(appeals.c.id)).all()
        sqlite_store.add(appeal("A-2"))  # writers do not wait for readers
        assert reading.execute(select(appeals.c.id)).all() == before


def test_proving_leaves_nothing_behind(store: Store) -> None:
    store.database.prove()
    assert count(store, write_proofs) == 0


def test_a_commit_waits_for_the_disk(store: Store) -> None:
    with store.database.connect() as connection:
        if connection.dialect.name == "postgresql":
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
        else:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL


def test_sqlite_commits_to_disk_and_readers_do_not_wait(sqlite_store: Store) -> None:
    with sqlite_store.database.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def test_migrating_twice_and_at_once_is_fine(database_url: str) -> None:
    code = "import sys; from data.store import Store; Store.open(sys.argv[1]).migrate()"
    started = [subprocess.Popen([sys.executable, "-c", code, database_url], cwd=ROOT) for _ in range(3)]
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]
    store = Store.open(database_url)
    store.migrate()
    store.check()
    store.close()


def test_tables_of_a_newer_version_are_told(store: Store) -> None:
    with store.database.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer version"):
        store.migrate()


def test_a_missing_table_is_told(store: Store) -> None:
    with store.database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE answers RENAME TO gone")
    with pytest.raises(StoreError, match="answers"):
        store.check()


def test_migrations_make_the_tables_the_code_expects(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    for module in (ROOT / "data").glob("*_tables.py"):
        import_module(f"data.{module.stem}")
    with store.database.connect() as connection:
        found = set(inspect(connection).get_table_names())
        assert found == set(METADATA.tables) | {"alembic_version"}
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    assert differences == []


def test_a_file_that_vanished_is_never_replaced_by_an_empty_one(sqlite_store: Store, tmp_path: Path) -> None:
    sqlite_store.add(appeal("A-1"))
    file = tmp_path / "jiesu.db"
    file.rename(tmp_path / "moved.db")
    for work in (sqlite_store.check, sqlite_store.migrate, lambda: sqlite_store.add(appeal("A-2"))):
        with pytest.raises(StoreError, match="was there and is gone"):
            work()
    assert not file.exists()
    (tmp_path / "moved.db").rename(file)
    assert sqlite_store.find("A-1") is not None
    assert sqlite_store.add(appeal("A-2"))[1]


def test_a_file_that_was_replaced_is_the_one_that_counts(sqlite_store: Store, tmp_path: Path) -> None:
    sqlite_store.add(appeal("A-1"))
    copy = back_up(sqlite_store.database, tmp_path / "copy.db")
    sqlite_store.add(appeal("A-2"))
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"jiesu.db{suffix}").unlink()
    copy.file.rename(tmp_path / "jiesu.db")
    assert sqlite_store.find("A-1") is not None
    assert sqlite_store.add(appeal("A-2"))[1]  # not written to the deleted file
    plain = sqlite3.connect(tmp_path / "jiesu.db")
    assert plain.execute("SELECT count(*) FROM appeals").fetchone() == (2,)
    plain.close()


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
