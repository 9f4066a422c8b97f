"""python -m serving bulk: all rows are stored and told, nothing twice, nothing of others written over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from data.errors import StoreError
from data.store import NewAppeal, Store
from serving import models
from serving.__main__ import cli
from serving.bulk import run as bulk
from serving.bulk.journal import Journal
from serving.bulk.run import Files
from serving.errors import ModelFailed, StartError
from tests.bulk_histories import history, read, run, stored, write
from tests.fakes import FakePredictor, furnish
from tests.running import loads, settings


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
