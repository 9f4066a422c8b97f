"""The audit log: what is changed, removed, moved or cut off is seen, and replicas write one chain."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from data.audit import GENESIS, Anchor, AuditLog, Entry, entry_of, hash_of, verify
from data.database import Database
from data.errors import StoreError
from serving.__main__ import cli

ROOT = Path(__file__).parent.parent
KEY = b"0123456789abcdef0123456789abcdef"


def filled(sqlite_database: Database, key: bytes | None = None, count: int = 6) -> list[Entry]:
    log = AuditLog(sqlite_database, key)
    return [log.add("user:ming", "appeal.read", f"A-{n}", {"次": n, "a": [1, None]}) for n in range(count)]


def tampered(tmp_path: Path, *statements: str) -> None:
    """As somebody who owns the database would: the triggers go first."""
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain, plain:
        plain.execute("DROP TRIGGER IF EXISTS audit_log_no_update")
        plain.execute("DROP TRIGGER IF EXISTS audit_log_no_delete")
        for statement in statements:
            plain.execute(statement)


def test_an_untouched_log_verifies(each_database: Database) -> None:
    log = AuditLog(each_database)
    assert log.verify().head == Anchor(0, GENESIS)
    entries = filled(each_database)
    found = log.verify([Anchor(entries[2].number, entries[2].hash)])
    assert (found.entries, found.keyed, found.problems) == (6, 0, ())
    assert found.head == log.head() == Anchor(6, entries[-1].hash)
    assert list(log.entries()) == entries


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize(
    ("column", "value"),
    [("actor", "user:hong"), ("action", "x"), ("object", "A-9"), ("details", "{}"), ("at", "2031-05-04"),
     ("hash", "0" * 64), ("previous", "1" * 64), ("algorithm", "none")],
)  # fmt: skip
def test_a_changed_entry_is_named(
    sqlite_database: Database, tmp_path: Path, key: bytes | None, column: str, value: str
) -> None:
    filled(sqlite_database, key)
    if column == "at":
        value += " 00:00:00.000000"
    tampered(tmp_path, f"UPDATE audit_log SET {column} = '{value}' WHERE number = 3")
    problems = AuditLog(sqlite_database, key).verify().problems
    assert problems and problems[0].startswith("entry 3:")
    assert not [problem for problem in problems if not problem.startswith(("entry 3:", "entry 4: does not"))]


def test_a_removed_entry_is_named(sqlite_database: Database, tmp_path: Path) -> None:
    filled(sqlite_database)
    tampered(tmp_path, "DELETE FROM audit_log WHERE number IN (2, 3)")
    assert AuditLog(sqlite_database).verify().problems == ("entry 2 to 3: is missing",)


def test_a_removed_entry_is_seen_though_the_others_were_renumbered(
    sqlite_database: Database, tmp_path: Path
) -> None:
    filled(sqlite_database)
    tampered(
        tmp_path,
        "DELETE FROM audit_log WHERE number = 2",
        "UPDATE audit_log SET number = number - 1 WHERE number = 3",
        "UPDATE audit_log SET number = number - 1 WHERE number = 4",
    )
    assert AuditLog(sqlite_database).verify().problems[0] == "entry 2: does not follow entry 1"


def test_entries_that_changed_places_are_named(sqlite_database: Database, tmp_path: Path) -> None:
    filled(sqlite_database)
    moves = [
        f"UPDATE audit_log SET number = {to} WHERE number = {at}" for at, to in ((2, 99), (4, 2), (99, 4))
    ]
    tampered(tmp_path, *moves)
    problems = AuditLog(sqlite_database).verify().problems
    assert {"entry 2: does not follow entry 1", "entry 4: does not follow entry 3"} <= set(problems)


def test_a_cut_end_and_a_rewritten_log_are_seen_by_an_anchor(
    sqlite_database: Database, tmp_path: Path
) -> None:
    entries = filled(sqlite_database)
    anchors = [Anchor(5, entries[4].hash)]
    tampered(tmp_path, "DELETE FROM audit_log WHERE number > 4")
    assert AuditLog(sqlite_database).verify().problems == ()
    assert AuditLog(sqlite_database).verify(anchors).problems == ("entry 5: was anchored and is missing",)
    filled(sqlite_database, count=2)  # somebody goes on writing: the chain is sound, and another one
    assert AuditLog(sqlite_database).verify(anchors).problems == (
        "entry 5: is not the one that was anchored",
    )


def rewritten(entries: list[Entry], change: Callable[[Entry], Entry]) -> list[Entry]:
    """The whole chain computed anew, without the key, as only the database's owner can."""
    made, previous = [], GENESIS
    for entry in entries:
        plain = replace(change(entry), algorithm="sha256", previous=previous)
        previous = hash_of(plain, None)
        made.append(replace(plain, hash=previous))
    return made


def test_a_key_makes_rewriting_impossible_without_it(sqlite_database: Database) -> None:
    entries = filled(sqlite_database, KEY)
    forged = rewritten(entries, lambda entry: replace(entry, actor="user:nobody"))
    assert verify(forged).problems == ()
    assert "no entry is keyed" in verify(forged, KEY).problems[0]
    mixed = [*entries[:3], *rewritten(entries[3:], lambda entry: entry)]
    assert any(problem.startswith("entry 4:") for problem in verify(mixed, KEY).problems)
    assert verify(entries, KEY).problems == ()
    assert [problem for problem in verify(entries, KEY[::-1]).problems if "was changed" in problem]
    assert "JIESU_AUDIT_KEY" in verify(entries).problems[0]


def test_the_database_refuses_to_change_or_delete_entries(each_database: Database) -> None:
    filled(each_database)
    for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log WHERE number = 6"):
        with pytest.raises(StoreError, match="append-only"), each_database.begin() as connection:
            connection.exec_driver_sql(statement)
    assert AuditLog(each_database).verify().entries == 6


def test_many_writers_make_one_chain(migrated_url: str, each_database: Database) -> None:
    others = [Database.open(migrated_url) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: AuditLog(others[n % 4]).add("cli:x", "tried", str(n)), range(80)))
    for other in others:
        other.close()
    found = AuditLog(each_database).verify()
    assert (found.entries, found.problems) == (80, ())
    assert {entry.object for entry in AuditLog(each_database).entries()} == {str(n) for n in range(80)}


def test_two_processes_make_one_chain(tmp_path: Path, sqlite_database: Database) -> None:
    code = (
        "from data.audit import AuditLog; from data.database import Database\n"
        f"log = AuditLog(Database.open('sqlite:///{tmp_path}/jiesu.db'))\n"
        "[log.add('cli:x', 'tried', str(n)) for n in range(30)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    found = AuditLog(sqlite_database).verify()
    assert (found.entries, found.problems) == (60, ())


def test_commands_verify_export_and_anchor(
    tmp_path: Path, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'jiesu.db'}")
    filled(sqlite_database)
    run = CliRunner()
    anchor = run.invoke(cli, ["audit", "anchor"])
    (tmp_path / "anchors").write_text(anchor.stdout)
    exported = run.invoke(cli, ["audit", "export"])
    (tmp_path / "export").write_text(exported.stdout)
    lines = [entry_of(orjson.loads(line)) for line in exported.stdout.splitlines()]
    assert [entry.number for entry in lines] == [*range(1, 8)] and verify(lines).problems == ()
    good = run.invoke(cli, ["audit", "verify", "--anchors", str(tmp_path / "anchors")])
    assert good.exit_code == 0 and "7 entries" in good.stdout
    tampered(tmp_path, "UPDATE audit_log SET object = 'A-9' WHERE number = 4")
    bad = run.invoke(cli, ["audit", "verify"])
    assert bad.exit_code == 1 and "entry 4: was changed" in bad.stderr
    outside = run.invoke(cli, ["audit", "verify", "--file", str(tmp_path / "export")])
    assert outside.exit_code == 0
    (tmp_path / "export").write_text('{"number": 1}\n')
    wrong = run.invoke(cli, ["audit", "verify", "--file", str(tmp_path / "export")])
    assert wrong.exit_code == 2 and "error: " in wrong.stderr
