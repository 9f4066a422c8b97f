"""python -m serving backup: a whole copy of one moment, while the service writes."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from data.backup import back_up
from data.database import Database
from data.errors import StoreError
from data.store import Store
from data.store_tables import answers, appeals
from serving.__main__ import cli
from tests.stored import appeal


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.open(f"sqlite:///{tmp_path / 'jiesu.db'}")
    made.migrate()
    yield made
    made.close()


def counts(store: Store) -> tuple[int, int]:
    with store.database.connect() as connection:
        rows = [connection.execute(select(func.count()).select_from(table)) for table in (appeals, answers)]
        return rows[0].scalar_one(), rows[1].scalar_one()


def test_a_backup_taken_while_rows_are_written_is_whole_and_of_one_moment(
    store: Store, tmp_path: Path
) -> None:
    store.add_many([appeal(f"old-{n}", text="路灯不亮" * 500) for n in range(1500)])
    written: list[str] = []
    halfway, done = threading.Event(), threading.Event()

    def write() -> None:
        while not done.is_set():
            store.add(appeal(f"new-{len(written)}", text="井盖不见了" * 200))
            written.append(f"new-{len(written)}")
            halfway.set()

    seen: list[int] = []

    def told(what: str, copied: int, total: int) -> None:
        if not seen:  # rows come in the middle of the copy
            halfway.clear()
            assert halfway.wait(20)
        seen.append(copied)

    writer = threading.Thread(target=write)
    writer.start()
    assert halfway.wait(20)
    before = len(written)
    try:
        made = back_up(store.database, tmp_path / "copies" / "jiesu.db", told)
    finally:
        done.set()
        writer.join()
    copy = Store.open(f"sqlite:///{made.file}")
    rows, whole = counts(copy)
    assert rows == whole == made.appeals
    assert 1500 + before <= rows < 1500 + len(written)
    assert len(copy.find_many([f"old-{n}" for n in range(1500)])) == 1500
    assert set(copy.find_many(written)) == set(written[: rows - 1500])  # the first so many, none left out
    assert seen == sorted(seen)  # it never began anew
    assert len(seen) > 1
    copy.close()


def test_a_backup_can_be_put_in_the_databases_place(store: Store, tmp_path: Path) -> None:
    stored, _ = store.add(appeal("A-1"))
    made = back_up(store.database, tmp_path / "copy.db")
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.glob("*copy*")) == ["copy.db"]
    restored = Store.open(f"sqlite:///{made.file}")
    restored.migrate()
    restored.check()
    assert restored.find("A-1") == stored
    assert restored.add(appeal("A-2"))[1]
    restored.close()


def test_a_file_that_is_there_is_not_replaced(store: Store, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("an earlier one")
    with pytest.raises(StoreError, match="already"):
        back_up(store.database, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "an earlier one"


def test_a_place_that_cannot_be_written_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="expected a folder"):
        back_up(store.database, tmp_path / "file" / "copy.db")


def test_a_damaged_database_makes_no_backup(store: Store, tmp_path: Path) -> None:
    store.add_many([appeal(f"R-{n}", text="路灯不亮" * 500) for n in range(200)])
    store.close()
    file = tmp_path / "jiesu.db"
    content = bytearray(file.read_bytes())
    content[8192 : len(content) - 8192] = b"\xaa" * (len(content) - 16384)
    file.write_bytes(content)
    with pytest.raises(StoreError, match="was not made"):
        back_up(Database.open(f"sqlite:///{file}"), tmp_path / "copy.db")
    assert not list(tmp_path.glob("*copy*"))


def test_a_database_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="found none"):
        back_up(Database.open(f"sqlite:///{tmp_path / 'none.db'}"), tmp_path / "copy.db")
    assert not (tmp_path / "none.db").exists()


def run(url: str, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["backup", *arguments], env={"DATABASE_URL": url})
    return result.exit_code, result.output


def test_the_command_says_what_it_copied(store: Store, tmp_path: Path) -> None:
    store.add(appeal("A-1"))
    code, output = run(f"sqlite:///{tmp_path / 'jiesu.db'}", str(tmp_path / "copy.db"))
    assert (code, "1 appeals" in output, "checked" in output) == (0, True, True)


def test_the_command_names_postgresqls_own_tool_without_the_password(tmp_path: Path) -> None:
    code, output = run("postgresql://jiesu:geheim@db.example:5433/calls", str(tmp_path / "copy.db"))
    assert code == 2
    assert "pg_dump --format=custom --file=jiesu.dump 'postgresql://jiesu@db.example:5433/calls'" in output
    assert "geheim" not in output
