"""python -m serving bulk: what it reads, what it refuses, and that it survives being killed anywhere."""

from __future__ import annotations

import csv
import gzip
import io
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from data.errors import ReadError, StoreError
from data.store import NewAppeal, Store
from serving import models
from serving.__main__ import cli
from serving.bulk import run as bulk
from serving.bulk.files import LONGEST_LINE, Rows, look_at
from serving.bulk.journal import Journal
from serving.bulk.rows import Row
from serving.bulk.run import Files, Report
from serving.errors import ModelFailed, ServingError, StartError
from serving.messages import AppealIn
from tests.fakes import FakePredictor, furnish
from tests.running import appeal, loads, settings

ROOT = Path(__file__).parent.parent
HEADER = "id,text,received_at,city"


def write(tmp_path: Path, lines: Sequence[str], name: str = "history.csv", encoding: str = "utf-8") -> Path:
    file = tmp_path / name
    file.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return file


def history(tmp_path: Path, rows: int, bad: Sequence[int] = ()) -> Path:
    """A file of appeals; those numbered in `bad` have no text."""
    texts = ["" if n in bad else f"小区第{n}盏路灯坏了" + "，请来修" * (n % 40) for n in range(rows)]
    lines = [f"h-{n},{text},2031-05-{n % 28 + 1:02} 08:30,江城" for n, text in enumerate(texts)]
    return write(tmp_path, [HEADER, *lines])


def run(tmp_path: Path, file: Path, predictor: FakePredictor | None = None, **given: Any) -> Report:
    files = Files(file, given.pop("out", None), None, given.pop("format", None), given.pop("mapping", None))
    patience = given.pop("patience", 0.0)
    return bulk.run(files, settings(tmp_path, **given), loads(predictor or FakePredictor()), patience)


def read(file: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def stored(tmp_path: Path, name: str = "jiesu.db") -> dict[str, tuple[str, str]]:
    """id → (text, answer) of what the database holds; fails on a double."""
    query = "SELECT id, text, body FROM appeals LEFT JOIN answers ON appeal_number = appeals.number"
    with closing(sqlite3.connect(tmp_path / name)) as plain:
        rows = plain.execute(query).fetchall()
    assert len(rows) == len({id for id, _, _ in rows})
    assert all(body for _, _, body in rows)
    return {id: (text, body) for id, text, body in rows}


def parsed(file: Path, mapping: Any = None) -> tuple[list[AppealIn], list[Row]]:
    """The appeals of a file, and its refused rows."""
    rows = list(Rows(look_at(file), mapping))
    return [row.appeal for row in rows if row.appeal], [row for row in rows if row.error]


def field(row: Row) -> str:
    assert row.error is not None
    return row.error.fault.field


# --- files --------------------------------------------------------------------------------------


def test_a_csv_file_is_read_with_all_columns(tmp_path: Path) -> None:
    columns = "id,text,title,received_at,channel,city,district,street,community,grid,declared_type"
    file = write(
        tmp_path,
        [
            columns,
            'a,"井盖,丢了\n在路口",井盖,2031/5/4 8:30,电话,江城,南区,河街,梧桐,一格,投诉',
            "b,路灯坏了" + "," * 9,
        ],
    )
    (first, second), bad = parsed(file)
    assert bad == []
    assert (first.text, first.title, first.channel) == ("井盖,丢了\n在路口", "井盖", "电话")
    assert first.received_at is not None and first.received_at.isoformat() == "2031-05-04T08:30:00"
    place = first.place
    assert (place.city, place.district, place.street, place.community, place.grid) == (
        "江城", "南区", "河街", "梧桐", "一格",
    )  # fmt: skip
    assert first.declared_type == "投诉"
    assert second == AppealIn(id="b", text="路灯坏了")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("name", ["h.csv", "h.ndjson"])
def test_encodings_are_found_out(tmp_path: Path, encoding: str, name: str) -> None:
    words = ["路灯坏了", "井盖丢了，𠮷祥里小区", "è€ 与全角"]
    if name.endswith("csv"):
        lines = ["id,text", *(f"{n},{word}" for n, word in enumerate(words))]
    else:
        lines = [orjson.dumps(appeal(str(n), word)).decode() for n, word in enumerate(words)]
    found, bad = parsed(write(tmp_path, lines, name, encoding))
    assert ([one.text for one in found], bad) == (words, [])


def test_bytes_of_another_encoding_are_refused_by_line(tmp_path: Path) -> None:
    for encoding, other in (("utf-8", "gb18030"), ("gb18030", "utf-8")):
        rows = [f"{n},第{n}盏路灯坏了".encode(encoding) for n in range(20)]
        rows[7] = "7,这一行的编码不同啊".encode(other)
        file = tmp_path / f"{encoding}.csv"
        file.write_bytes(b"\n".join([b"id,text", *rows]))
        found, bad = parsed(file)
        assert [row.line for row in bad] == [9]
        assert [one.id for one in found] == [str(n) for n in range(20) if n != 7]


def test_a_zipped_file_is_read_and_a_broken_one_told(tmp_path: Path) -> None:
    data = "\n".join(["id,text", *(f"{n},路灯坏了{random.random()}" for n in range(5000))]).encode()
    file = tmp_path / "h.csv.gz"
    file.write_bytes(gzip.compress(data))
    assert len(parsed(file)[0]) == 5000
    file.write_bytes(gzip.compress(data)[:-3000])
    with pytest.raises(ReadError, match="broken"):
        parsed(file)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("id,words", "'text' is missing"),
        ("id,text,titel", "did you mean 'title'"),
        ("id,text,text", "twice"),
        ("", "header line"),
        ('id,"te"xt', "header line"),
    ],
)
def test_a_wrong_header_is_told(tmp_path: Path, header: str, told: str) -> None:
    with pytest.raises(ReadError, match=told):
        parsed(write(tmp_path, [header, "1,a"]))


def test_a_wrong_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"--format"):
        look_at(tmp_path / "history.xlsx")
    with pytest.raises(ReadError, match="nothing there"):
        look_at(tmp_path / "history.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ReadError, match="a folder"):
        look_at(tmp_path / "folder.csv")
    assert look_at(write(tmp_path, ["{}"], "export"), "ndjson").format == "ndjson"


def test_bad_csv_rows_are_refused_with_their_lines(tmp_path: Path) -> None:
    rows = [
        "id,text",
        "a,好的一行",
        "b,太多,列",
        "c",
        "",
        'd,"引号"错了',
        "e,",
        f"f,{'长' * (LONGEST_LINE + 5)}",
        "不 行,文字",
        'g,"两行\n的文字"',
        f"h,{'长' * 100_001}",
        "i,最后",
    ]
    found, bad = parsed(write(tmp_path, rows))
    assert [one.id for one in found] == ["a", "g", "i"]
    assert [(row.line, field(row)) for row in bad] == [
        (3, "body"), (4, "body"), (6, "body"), (7, "text"), (8, "body"), (9, "id"), (12, "text"),
    ]  # fmt: skip
    assert bad[3].id == "e" and bad[5].id is None


def test_a_quote_that_is_never_closed_costs_some_rows_but_not_in_silence(tmp_path: Path) -> None:
    rows = [f"{n},第{n}盏路灯坏了" + "。" * 40 for n in range(9000)]
    rows[10] = '10,"引号没有闭合'
    found, bad = parsed(write(tmp_path, ["id,text", *rows]))
    assert len(bad) == 1 and bad[0].line == 12 and bad[0].error is not None
    last = int(bad[0].error.fault.got.split(" 至 ")[1].split()[0])
    assert [one.id for one in found] == [str(n) for n in [*range(10), *range(last - 1, 9000)]]


def test_ndjson_lines_are_those_of_the_api(tmp_path: Path) -> None:
    lines = ['{"id": "a", "text": "路灯"}', "", "{", "[]", '{"text": "井盖"}', '{"id": 7, "text": "x"}\r']
    found, bad = parsed(write(tmp_path, lines, "h.ndjson"))
    assert found[0] == AppealIn(id="a", text="路灯") and found[1].id.startswith("history-")
    assert [row.line for row in bad] == [3, 4, 6]


def test_a_row_without_an_id_keeps_the_one_of_its_content(tmp_path: Path) -> None:
    rows = ["路灯坏了,江城", "井盖丢了,江城", "路灯坏了,江城", "路灯坏了,河城"]
    first = [one.id for one in parsed(write(tmp_path, ["text,city", *rows]))[0]]
    turned = [one.id for one in parsed(write(tmp_path, ["text,city", "新的一行,", *rows[1:], rows[0]]))[0]]
    assert len(set(first)) == 4, "two calls with the same words are two appeals"
    assert set(first) < set(turned)
    assert first[2] == first[0] + "-2"


def test_a_mapping_brings_other_columns(tmp_path: Path) -> None:
    mapping = tmp_path / "mine.yaml"
    mapping.write_text(
        "id: 工单\ntext: {columns: [标题, 内容]}\ndate: 时间\ndrop_when: [{类型: [测试]}]\n", encoding="utf-8"
    )
    file = write(
        tmp_path,
        [
            "工单,标题,内容,时间,类型,city,其他",
            "1,路灯,坏了,2031年5月4日,,江城,x",
            "2,无,无,,测试,,",
            "3,,井盖,,,,",
        ],
    )
    report = run(tmp_path, file, mapping=str(mapping))
    assert (report.done.rows, report.done.answered, report.left_out) == (2, 2, 1)
    assert {id: text for id, (text, _) in stored(tmp_path).items()} == {"1": "路灯。坏了", "3": "井盖"}
    with pytest.raises(ReadError, match="NDJSON"):
        run(tmp_path, write(tmp_path, ["{}"], "x.ndjson"), mapping=str(mapping))


# --- runs ---------------------------------------------------------------------------------------


def test_all_rows_are_stored_and_told(tmp_path: Path) -> None:
    file, out = history(tmp_path, 700, bad=(3, 400)), tmp_path / "answers.ndjson"
    predictor = FakePredictor()
    report = run(tmp_path, file, predictor, out=out)
    assert (report.done.rows, report.done.answered, report.done.rejected, report.exit_status) == (
        700,
        698,
        2,
        1,
    )
    rows, found = stored(tmp_path), read(out)
    assert len(rows) == 698
    assert [line["line"] for line in found] == [n + 2 for n in range(700) if n not in (3, 400)]
    assert all(orjson.dumps(line["answer"]).decode() == rows[line["id"]][1] for line in found)
    refused = read(file.with_name("history.csv.rejects.ndjson"))
    assert [(one["line"], one["id"], one["status"]) for one in refused] == [
        (5, "h-3", 422),
        (402, "h-400", 422),
    ]
    assert refused[0]["error"]["field"] == "text"
    assert max(len(batch) for batch in predictor.batches) > 8
    assert not list(tmp_path.glob("*.progress*"))


def test_batches_hold_texts_of_like_length(tmp_path: Path) -> None:
    predictor = FakePredictor()
    run(tmp_path, history(tmp_path, 256), predictor, batch_texts=16, batch_tokens=1600)
    lengths = [[len(text) for text in batch] for batch in predictor.batches]
    assert all(len(batch) <= 16 and max(batch) * len(batch) <= 1600 for batch in lengths)
    assert [max(batch) for batch in lengths] == sorted(max(batch) for batch in lengths)


def test_a_second_run_finds_everything_and_classifies_nothing(tmp_path: Path) -> None:
    file = history(tmp_path, 300)
    run(tmp_path, file)
    before, predictor = stored(tmp_path), FakePredictor(version="fake-2")
    report = run(tmp_path, file, predictor, out=tmp_path / "again.ndjson")
    assert (report.done.answered, report.done.known, predictor.batches) == (300, 300, [])
    assert stored(tmp_path) == before
    assert len(read(tmp_path / "again.ndjson")) == 300
    with pytest.raises(StartError, match="--out"):
        run(tmp_path, file, out=tmp_path / "again.ndjson")


def test_a_corrected_file_stores_what_was_refused(tmp_path: Path) -> None:
    assert run(tmp_path, history(tmp_path, 50, bad=(7,))).exit_status == 1
    predictor = FakePredictor()
    report = run(tmp_path, history(tmp_path, 50), predictor)
    assert (report.done.known, report.exit_status, sum(map(len, predictor.batches))) == (49, 0, 1)
    assert not list(tmp_path.glob("*.rejects.ndjson"))


def test_doubles_and_conflicts_within_a_file(tmp_path: Path) -> None:
    file = write(tmp_path, ["id,text", "a,路灯", "b,井盖", "a,路灯", "a,别的"])
    report = run(tmp_path, file, out=tmp_path / "out.ndjson")
    assert (report.done.answered, report.done.known, report.done.rejected) == (3, 1, 1)
    assert [line["id"] for line in read(tmp_path / "out.ndjson")] == ["a", "b", "a"]
    [refused] = read(tmp_path / "history.csv.rejects.ndjson")
    assert (refused["line"], refused["status"], refused["error"]["code"]) == (5, 409, "appeal_conflict")


def test_one_text_the_model_fails_on_harms_no_other(tmp_path: Path) -> None:
    file = write(tmp_path, ["id,text", "a,路灯", "b,毒", "c,井盖"])
    report = run(tmp_path, file, FakePredictor(fail_on="毒"))
    assert (report.done.answered, report.done.rejected) == (2, 1)
    [refused] = read(tmp_path / "history.csv.rejects.ndjson")
    assert (refused["id"], refused["status"], refused["error"]["code"]) == ("b", 503, "model_failed")
    with pytest.raises(ModelFailed, match="every row"):
        run(tmp_path, write(tmp_path, ["text", "毒一", "毒二"], "all.csv"), FakePredictor(fail_on="毒"))


def test_personal_data_is_in_no_file_but_the_input(tmp_path: Path) -> None:
    secret = "13912345678"
    file = write(
        tmp_path, ["id,text", f"a,打{secret}找我，井盖丢了", f"{secret} 号,{secret}", f"c,{secret},x"]
    )
    run(tmp_path, file, out=tmp_path / "out.ndjson")
    written = [path for path in tmp_path.iterdir() if path != file]
    assert len(written) >= 3
    assert not [path for path in written if secret.encode() in path.read_bytes()]


def test_files_of_others_are_not_written_over(tmp_path: Path) -> None:
    file, other = history(tmp_path, 3), tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(StartError, match="--out"):
        run(tmp_path, file, out=other)
    with pytest.raises(StartError, match="--rejects"):
        bulk.run(Files(file, None, other), settings(tmp_path), loads(FakePredictor()))
    with pytest.raises(StartError, match="expected to write"):
        run(tmp_path, file, out=tmp_path / "nowhere" / "out.ndjson")
    assert other.read_text() == "mine"


def test_two_runs_do_not_work_on_one_file(tmp_path: Path) -> None:
    file = history(tmp_path, 3)
    held = Journal(None, tmp_path / "history.csv.rejects.ndjson")
    with pytest.raises(StartError, match="another run"):
        run(tmp_path, file)
    held.close()
    assert run(tmp_path, file).done.answered == 3


def test_a_database_that_is_away_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = [StoreError("the database is away")] * 2
    add_many = Store.add_many

    def sometimes(store: Store, new: Sequence[NewAppeal]) -> Any:
        if away:
            raise away.pop()
        return add_many(store, new)

    monkeypatch.setattr(Store, "add_many", sometimes)
    monkeypatch.setattr(bulk, "PAUSES", (0.01,))
    assert run(tmp_path, history(tmp_path, 10), patience=10).done.answered == 10
    away += [StoreError("the database is away")] * 2
    with pytest.raises(StoreError, match="is away"):
        run(tmp_path, write(tmp_path, ["text", "新的"], "new.csv"), patience=0)


# --- going on -----------------------------------------------------------------------------------


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


def test_the_command_tells_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "load_model", lambda _: furnish(FakePredictor()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///jiesu.db")
    shown = CliRunner().invoke(cli, ["bulk", "--help"], env={"COLUMNS": "200"})
    assert "python -m serving bulk" in shown.stdout
    write(tmp_path, ["id,text,colour", "a,路灯坏了,red"])
    done = CliRunner().invoke(cli, ["bulk", "history.csv"])
    assert done.exit_code == 0
    assert "1 rows at" in done.stdout and "1 stored" in done.stdout
    assert "colour" in done.stderr
    wrong = CliRunner().invoke(cli, ["bulk", "nothing.csv"])
    assert (wrong.exit_code, wrong.stderr.count("error:")) == (2, 1)
    odd = CliRunner().invoke(cli, ["bulk", "history.csv", "--format", "xml"])
    assert odd.exit_code == 2 and "--format" in odd.stderr


def test_a_csv_written_by_a_library_comes_back_as_it_was(tmp_path: Path) -> None:
    words = ['他说"井盖"丢了', "一行\r\n两行", "逗号,分号;", " 空格 ", "=SUM(1)"]
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerows([["id", "text"], *([str(n), word] for n, word in enumerate(words))])
    file = tmp_path / "h.csv"
    file.write_bytes(buffer.getvalue().encode())
    found, bad = parsed(file)
    assert ([one.text for one in found], bad) == (words, [])
    assert not any(isinstance(one, ServingError) for one in found)
