"""Labels out and in by command."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from data.__main__ import app
from data.reviews import ReviewStore
from data.store import Store
from tests.exchanging import chosen, dumped, task
from tests.reviewing import ANN, BOB, LEAD, SCHEME, later


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


def test_out_and_in_by_command(labelled_stores: tuple[Store, ReviewStore], tmp_path: Path) -> None:
    scheme, out = tmp_path / "scheme.yaml", tmp_path / "tasks.json"
    SCHEME.dump(scheme)
    shared = (
        "--database",
        f"sqlite:///{tmp_path / 'jiesu.db'}",
        "--scheme",
        scheme,
        "--format",
        "label-studio",
    )
    done = call("export", *shared, "--include", "waiting", "--out", out)
    assert done.exit_code == 0, done.output
    assert "1 appeals" in done.output and (tmp_path / "tasks.config.xml").exists()
    assert call("export", *shared, "--out", out).exit_code == 2  # never replaces a file
    tasks = json.loads(out.read_text(encoding="utf-8"))
    tasks[0]["annotations"] = task("E", chosen("category", ["01", "0102"]))["annotations"]
    back = dumped(tmp_path, tasks)
    done = call("import", back, *shared)
    assert "1 labels of 1 appeals written" in done.output
    assert "1 stood already" in call("import", back, *shared).output
    back.write_text('[{"data": {"id": "nobody"}, "annotations": [{"result": []}]}]')
    wrong = call("import", back, *shared)
    assert (wrong.exit_code, "in.json:1 id" in wrong.output) == (2, True)


def test_opinions_are_written_for_the_agreement(
    labelled_stores: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    scheme, out = tmp_path / "scheme.yaml", tmp_path / "labels.csv"
    SCHEME.dump(scheme)
    url = f"sqlite:///{tmp_path / 'jiesu.db'}"
    done = call("export", "--database", url, "--scheme", scheme, "--format", "opinions", "--out", out)
    assert done.exit_code == 0, done.output
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines[:3] == ["appeal,reviewer,head,code", f"A,{ANN},category,0102", f"A,{ANN},urgency,紧急"]
    assert f"B,{BOB},category,0201" in lines and f"D,{ANN},category," in lines
    assert not any(LEAD in line for line in lines)


def test_suspects_are_taken_up_from_a_file(
    labelled_stores: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    _, reviews = labelled_stores
    url, path = f"sqlite:///{tmp_path / 'jiesu.db'}", tmp_path / "suspects.csv"
    header = "id,head,given,given_probability,said,said_probability\n"
    path.write_text(
        header + "A,category,0102,0.3,0101,0.6\nC,category,0202,0.1,0101,0.8\nA,unit,cg,0.9,hb,0.1\n"
    )
    done = call("queues", "suspect", path, "--database", url)
    assert "2 appeals wait" in done.output
    taken = reviews.take("suspected", "user:cen", now=later(9))
    assert taken is not None and taken.appeal.id == "C"
    told = [event for event in reviews.history("A") if event.what == "suspected"]
    assert [(event.head, event.after, event.details["score"]) for event in told] == [
        ("category", "0101", 0.7)
    ]
    path.write_text(header + "X,category,0102,0.3,0101,0.6\nC,category,0202,often,0101,0.8\n")
    wrong = call("queues", "suspect", path, "--database", url)
    assert wrong.exit_code == 2 and "suspects.csv:2 id" in wrong.output and "suspects.csv:3" in wrong.output
    path.write_text("id,head\nA,category\n")
    assert "missing: said, given_probability" in call("queues", "suspect", path, "--database", url).output
