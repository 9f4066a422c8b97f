"""python -m serving bulk survives being killed anywhere, and goes on where it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from serving.bulk import run as bulk
from serving.bulk.journal import Journal
from tests.bulk_histories import ROOT, history, read, run, stored, write
from tests.fakes import FakePredictor


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def outcome(tmp_path: Path) -> tuple[Any, bytes, bytes]:
    """What a run leaves: database, answers, rejects."""
    rejects = tmp_path / "history.csv.rejects.ndjson"
    return stored(tmp_path), (tmp_path / "out.ndjson").read_bytes(), rejects.read_bytes()


@pytest.mark.parametrize("step", ["stored", "half a line", "written", "noted"])
@pytest.mark.parametrize("group", [0, 1, 2])
def test_a_kill_at_any_step_of_a_group_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, group: int
) -> None:
    monkeypatch.setattr(bulk, "GROUP_ROWS", 20)
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    for folder in (clean, killed):
        folder.mkdir()
    run(clean, history(clean, 70, bad=(5, 30, 69)), out=clean / "out.ndjson")
    file, note, calls = history(killed, 70, bad=(5, 30, 69)), Journal.note, []

    def dying(journal: Journal, done: Any, answers: Sequence[bytes], rejects: Sequence[bytes]) -> None:
        calls.append(1)
        if len(calls) <= group:
            note(journal, done, answers, rejects)
            return
        if step == "half a line":
            with (killed / "out.ndjson").open("ab") as out:
                out.write(b"".join(answers)[:-50])
        if step == "written":
            for path, lines in (("out.ndjson", answers), ("history.csv.rejects.ndjson", rejects)):
                with (killed / path).open("ab") as out:
                    out.write(b"".join(lines))
        if step == "noted":
            note(journal, done, answers, rejects)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Journal, "note", dying)
        run(killed, file, out=killed / "out.ndjson")
    predictor = FakePredictor()
    report = run(killed, file, predictor, out=killed / "out.ndjson")
    assert outcome(killed) == outcome(clean)
    assert (report.done.rows, report.done.answered, report.done.rejected) == (70, 67, 3)
    stored_before = min(70, 20 * (group + 1))
    assert sum(map(len, predictor.batches)) == 67 - sum(n not in (5, 30) for n in range(stored_before))


def stop_after(monkeypatch: pytest.MonkeyPatch, groups: int) -> None:
    note, calls = Journal.note, []

    def dying(journal: Journal, *given: Any) -> None:
        note(journal, *given)
        calls.append(1)
        if len(calls) == groups:
            raise Killed

    monkeypatch.setattr(bulk, "GROUP_ROWS", 10)
    monkeypatch.setattr(Journal, "note", dying)


@pytest.mark.parametrize("what", ["database", "file", "answers"])
def test_what_changed_since_the_kill_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    file, out = history(tmp_path, 50), tmp_path / "out.ndjson"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_after(patch, 3)
        run(tmp_path, file, out=out)
    if what == "database":
        for path in tmp_path.glob("jiesu.db*"):
            path.unlink()
    elif what == "file":
        file = history(tmp_path, 60)
    else:
        out.write_bytes(out.read_bytes()[:-100])
    report = run(tmp_path, file, out=out)
    rows = 60 if what == "file" else 50
    assert report.done.rows == report.done.answered == rows == len(stored(tmp_path))
    assert [line["id"] for line in read(out)] == [f"h-{n}" for n in range(rows)]


def test_rows_without_ids_keep_them_over_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, ["text", *(f"路灯坏了{n % 7}" for n in range(60))])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_after(patch, 2)
        run(tmp_path, file)
    assert run(tmp_path, file).done.answered == 60
    assert len(stored(tmp_path)) == 60


def program(folder: Path, *options: str, **changes: str) -> subprocess.Popen[bytes]:
    """The command with a fake model, in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JIESU_")}
    given = {**kept, "PYTHONPATH": str(ROOT), "DATABASE_URL": "sqlite:///jiesu.db", **changes}
    command = [sys.executable, "-m", "tests.bulk_program", "bulk", "history.csv", "--out", "out.ndjson"]
    return subprocess.Popen(
        [*command, *options], cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def lines_of(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not holds() and process.poll() is None:
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


def test_killed_at_random_moments_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    for folder in (clean, killed):
        folder.mkdir()
        history(folder, 900, bad=(10, 499, 722))
    run(clean, clean / "history.csv", out=clean / "out.ndjson")
    chance, kills = random.Random(7), 0
    slow = {"BATCH_SECONDS": "0.02", "COUNTED": "counted"}
    for _ in range(5):
        process = program(killed, **slow)
        reached = lines_of(killed / "counted") + chance.randrange(1, 16)
        wait_for(lambda reached=reached: lines_of(killed / "counted") >= reached, process)  # type: ignore[misc]
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    last = program(killed, **slow)
    printed, _ = last.communicate(timeout=120)
    assert last.returncode == 1, "three rows are refused"
    assert b"900 rows" in printed
    assert kills >= 4
    assert outcome(killed) == outcome(clean)
    classified = sum(map(int, (killed / "counted").read_text().split()))
    assert classified <= 897 + kills * 2 * 40, "only the groups in hand are classified again"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    history(tmp_path, 400)
    process = program(tmp_path, BATCH_SECONDS="0.05")
    wait_for(lambda: lines_of(tmp_path / "out.ndjson") >= 80, process)
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"the same command goes on" in printed and b"Traceback" not in errors
    done = lines_of(tmp_path / "out.ndjson")
    assert 80 <= done == len(stored(tmp_path)) < 400
    again = program(tmp_path)
    _, told = again.communicate(timeout=120)
    assert again.returncode == 0
    assert f"going on after {done:,} rows".encode() in told
    assert [line["id"] for line in read(tmp_path / "out.ndjson")] == [f"h-{n}" for n in range(400)]
    assert len(stored(tmp_path)) == 400
