"""`python -m data` as a person types it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from data.__main__ import app
from data.scheme import DEFAULT_SCHEME

ROWS = [
    ("1", "路灯坏了一个多月，夜里走路看不清，摔了两个人", "一般", "shizheng"),
    ("2", "路灯坏了一个多月，夜里走路看不清，摔了两个人！", "较急", "shizheng"),
    ("3", "打电话13800138000，我叫王小明，地下车库进水", "紧急", "qita"),
    ("4", "税务局的窗口下午没人上班", "一般", "shuishou"),
    ("5", "路灯坏了一个多月，夜里走路看不清，摔了三个人", "一般", ""),
]


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("id", "text", "urgency", "unit"), *ROWS])
    return path


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


def test_check_reports_without_showing_a_text(orders: Path, tmp_path: Path) -> None:
    result = call("check", orders, "--json", tmp_path / "report.json")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["total"], report["good"], report["bad"]) == (5, 5, [])
    assert report["exact"] == {"groups": 1, "rows": 2, "largest": 2}
    assert report["near"] == {"groups": 1, "rows": 3, "largest": 3}
    assert report["personal"] == {"手机号": 1, "姓名": 1}
    assert report["personal_rows"] == 1
    urgency, unit = report["heads"]["urgency"], report["heads"]["unit"]
    assert urgency["labels"] == {"一般": 3, "较急": 1, "紧急": 1}
    assert (urgency["identical"], urgency["conflicting"]) == (1, 1)
    assert (unit["missing"], unit["leaking"]) == (1, 1)
    assert "手机号" in result.output
    for secret in ("王小明", "13800138000", "车库"):
        assert secret not in result.output
        assert secret not in json.dumps(report, ensure_ascii=False)


def test_check_names_bad_rows_and_exits_2(orders: Path) -> None:
    with orders.open("a", encoding="utf-8") as stream:
        stream.write("6,,一般,\n7,停水了,火急[red],\n")
    result = call("check", orders)
    assert result.exit_code == 2
    assert "orders.csv:7" in result.output
    assert "orders.csv:8" in result.output
    assert "火急[red]" in result.output
    assert call("check", orders, "--scheme", "none").exit_code == 2  # the text is still missing


@pytest.mark.parametrize(
    "words",
    [
        ("check", "none.csv"),
        ("check", "{orders}", "--mapping", "atlantis"),
        ("check", "{orders}", "--mapping", "haikou"),
        ("check", "{orders}", "--scheme", "none.yaml"),
        ("check", "{orders}", "--json", "{tmp}/no/where.json"),
        ("split", "{orders}", "--out", "{tmp}/a.csv", "--test-folds", "x"),
        ("split", "{orders}", "--out", "{tmp}/a.csv", "--test-folds", "6", "--validation-folds", "6"),
        ("split", "{orders}", "--out", "{tmp}/no/where.csv"),
        ("groups", "none.csv"),
        ("coverage", "atlantis", "{orders}"),
        ("coverage", "haikou_native", "{orders}"),
        ("schemes", "validate", "none.yaml"),
        ("schemes", "validate", "{orders}"),
    ],
)
def test_errors_are_messages_and_exit_2(words: tuple[str, ...], orders: Path, tmp_path: Path) -> None:
    result = call(*(word.format(orders=orders, tmp=tmp_path) for word in words))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_split_writes_sides_that_keep_groups_together(orders: Path, tmp_path: Path) -> None:
    out = tmp_path / "sides.csv"
    assert (
        call("split", orders, "--out", out, "--test-folds", "0,1,2,3", "--validation-folds", "").exit_code
        == 0
    )
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["id", "line", "group", "fold", "side"]
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert len({(row["group"], row["fold"], row["side"]) for row in rows if row["id"] in "125"}) == 1
    assert all(row["side"] == ("test" if int(row["fold"]) < 4 else "train") for row in rows)


def test_split_by_time(tmp_path: Path) -> None:
    path, out = tmp_path / "a.csv", tmp_path / "sides.csv"
    path.write_text(
        "id,text,date\n1,停水了,2024-01-01\n2,停电了,2024-06-01\n3,停水了,2024-06-02\n", encoding="utf-8"
    )
    assert call("split", path, "--out", out, "--by-time", "2024-05-01").exit_code == 0
    with out.open(encoding="utf-8", newline="") as stream:
        assert [row["side"] for row in csv.DictReader(stream)] == ["train", "test", "left_out"]


def test_groups_counts_and_writes(orders: Path, tmp_path: Path) -> None:
    result = call("groups", orders, "--out", tmp_path / "groups.csv")
    assert result.exit_code == 0
    lines = (tmp_path / "groups.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,line,group,fold"
    assert len(lines) == 6


def test_coverage_counts_rows_of_each_crosswalk(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "source,label,codes,note\ntown,甲,01,\ntown,乙,0301,\ntown,丙,,\n", encoding="utf-8"
    )
    (tmp_path / "town.yaml").write_text(
        "text: t\nheads: {category: {columns: c, crosswalk: mine.csv}}\n", encoding="utf-8"
    )
    (tmp_path / "a.csv").write_text("t,c\n停水了,甲\n停电了,乙\n垃圾,丙\n路灯,丁\n井盖,\n", encoding="utf-8")
    result = call("coverage", tmp_path / "town.yaml", tmp_path / "a.csv")
    assert result.exit_code == 0, result.output
    assert "4 rows, 2 covered (50.0%), 1 by one leaf (25.0%)" in result.output
    assert "unknown: 丁 (1 rows)" in result.output


def test_schemes_validate() -> None:
    result = call("schemes", "validate", DEFAULT_SCHEME)
    assert result.exit_code == 0
    assert "category (tree): 110 labels" in result.output


@pytest.mark.parametrize(
    "words", [("check",), ("split",), ("groups",), ("coverage",), ("schemes", "validate")]
)
def test_help_shows_an_example(words: tuple[str, ...]) -> None:
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert f"python -m data {' '.join(words)} " in result.output


def test_module_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "data", "--help"], capture_output=True, text=True, check=True
    )
    assert "check" in done.stdout
