"""The report: from a file to tables, plots and JSON, through the command people type."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from classifier.errors import ModelError
from data.appeals import Row
from data.errors import BadRows
from data.scheme import default_scheme
from evaluation import plots, scoring
from evaluation.__main__ import app
from evaluation.bootstrap import Figure
from evaluation.errors import NothingToScore, ReportError
from evaluation.metrics import ClassFigures, calibration_bins
from evaluation.report import Report, build_report, parts_of
from evaluation.rows import LabelledRows, load_rows, select_folds
from evaluation.writing import percent, render_html, render_markdown, write_report
from tests.fake_predictor import ScriptedPredictor, rows_of_three_heads, write_csv

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return rows_of_three_heads()


@pytest.fixture(scope="module")
def report(rows: list[Row]) -> Report:
    model = ScriptedPredictor(rows)
    labelled = LabelledRows.of(rows, "mini.csv", "0" * 64)
    return build_report(model, labelled, parts=model.parts, min_support=30, resamples=100)


# -- building --------------------------------------------------------------------------------------


def test_every_head_is_scored_by_every_part(report: Report) -> None:
    assert {(one.head, one.part) for one in report.heads} == {
        (head, part) for head in ("category", "unit", "urgency") for part in ("joined", "encoder", "lexical")
    }
    assert [one.part for one in report.main] == ["joined"] * 3


def test_the_better_part_has_the_better_figures(report: Report) -> None:
    joined, encoder, lexical = (one.figures["accuracy"].value for one in report.of("unit"))
    assert joined > encoder > lexical


def test_class_table_covers_all_rows(report: Report) -> None:
    for one in report.heads:
        assert sum(line.support for line in one.classes) == one.n
        right = sum(line.support * line.recall for line in one.classes)
        assert right == pytest.approx(one.n * one.figures["accuracy"].value)
        assert [line.support for line in one.classes] == sorted(
            (c.support for c in one.classes), reverse=True
        )


def test_confusions_name_labels(report: Report) -> None:
    found = report.main[0].confusions
    assert found and all(one.gold != one.answered and 0 < one.share <= 1 for one in found)
    assert all(one.gold_title and not one.gold_title.isascii() for one in found)


def test_labels_with_enough_rows_are_scored_apart(report: Report) -> None:
    unit = report.of("unit")[0]
    enough = [line for line in unit.classes if line.support >= 30]
    assert 0 < len(enough) < len(unit.classes)
    assert unit.frequent_labels == len(enough)
    assert unit.frequent_n == sum(line.support for line in enough)
    recalled = sum(line.support * line.recall for line in enough) / unit.frequent_n
    assert unit.frequent["accuracy"].value == pytest.approx(recalled)


def test_support_is_counted_before_folds(rows: list[Row]) -> None:
    labelled = select_folds(LabelledRows.of(rows, "mini.csv"), ["7"])
    made = build_report(ScriptedPredictor(rows), labelled, ["unit"], min_support=30, resamples=10)
    whole = sum(row.labels["unit"] == {"gongan"} for row in rows)
    assert made.rows < 30 < whole
    assert made.main[0].frequent_n > 0


def test_urgency_also_yields_urgent_against_rest(report: Report) -> None:
    urgency = report.of("urgency")[0]
    assert urgency.labels == 3 and urgency.urgent_n == urgency.n
    wanted = {"macro_f1", "precision", "recall", "pr_auc", "recall_at_precision_50", "recall_at_precision_80"}
    assert wanted <= set(urgency.urgent)
    assert urgency.urgent["macro_f1"].value > urgency.figures["macro_f1"].value
    assert "stored_cut_macro_f1" in urgency.urgent
    assert not report.of("unit")[0].urgent


def test_a_coarser_scheme_is_scored_at_its_own_level(rows: list[Row]) -> None:
    urgent = frozenset({"较急", "紧急", "特急"})
    coarse = [
        Row(
            **{
                **vars(row),
                "labels": {"urgency": row.labels["urgency"] if row.labels["urgency"] == {"一般"} else urgent},
            }
        )
        for row in rows
    ]
    made = build_report(ScriptedPredictor(rows), LabelledRows.of(coarse), resamples=10).main[0]
    assert (made.granularity, made.labels) == ("groups", 2)
    assert made.figures["macro_f1"].value == pytest.approx(made.urgent["macro_f1"].value)
    assert "top3" not in made.figures
    assert any("summed probability" in note for note in made.notes)


def test_overlapping_labels_yield_only_admissible_accuracy(rows: list[Row]) -> None:
    first, second = frozenset({"gongan", "shuiwu"}), frozenset({"shuiwu", "renshe"})
    wide = [Row(**{**vars(row), "labels": {"unit": (first, second)[i % 2]}}) for i, row in enumerate(rows)]
    made = build_report(ScriptedPredictor(rows), LabelledRows.of(wide), resamples=10).main[0]
    assert made.granularity == "admissible"
    assert "macro_f1" not in made.figures and not made.confusions
    assert all(line.f1 is None and line.precision is None for line in made.classes)
    assert any("overlapping" in note for note in made.notes)


def test_unknown_labels_are_reported(rows: list[Row]) -> None:
    odd = [Row(**{**vars(rows[0]), "labels": {"unit": frozenset({"月球分局"})}}), *rows[1:]]
    made = build_report(ScriptedPredictor(rows), LabelledRows.of(odd), ["unit"], resamples=10).main[0]
    assert made.unknown == {"月球分局": 1} and made.unknown_rows == 1
    assert any("does not know" in note and "月球分局 (1)" in note for note in made.notes)
    assert [line.known for line in made.classes if line.name == "月球分局"] == [False]


def test_parts_asked_for(rows: list[Row]) -> None:
    model = ScriptedPredictor(rows)
    assert parts_of(model, "") == ("joined",)
    assert parts_of(model, "all") == ("joined", "encoder", "lexical")
    assert parts_of(model, "lexical") == ("lexical",)


# -- reading ---------------------------------------------------------------------------------------


def test_a_plain_file_is_read_by_the_models_scheme(tmp_path: Path, rows: list[Row]) -> None:
    path = write_csv(tmp_path / "plain.csv", rows, ["unit", "urgency"])
    found = load_rows(path, None, default_scheme(), ["1", "2"])
    assert {row.fold for row in found.rows} == {"1", "2"}
    assert found.total == len(rows) and len(found.sha256) == 64
    assert sum(found.support["unit"].values()) == len(rows)


def test_a_label_no_scheme_knows_stays_on_its_row(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(
        "text,unit,category\n楼下井盖没了,月球分局,0202\n对面井盖也没了,水利局,市容环卫\n", encoding="utf-8"
    )
    first, second = load_rows(path, None, default_scheme()).rows
    assert first.labels == {"unit": {"月球分局"}, "category": {"0202"}}
    assert second.labels["unit"] == {"shuiwu"}
    assert second.labels["category"] == default_scheme().leaves("category", "01")


def test_rows_without_text_are_still_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("text,unit\n,月球分局\n井盖没了,月球分局\n", encoding="utf-8")
    with pytest.raises(BadRows, match=r"empty\.csv:2"):
        load_rows(path, None, default_scheme())


def test_a_fold_that_no_row_has(rows: list[Row]) -> None:
    with pytest.raises(NothingToScore, match=r"fold 99.*0, 1, 2"):
        select_folds(LabelledRows.of(rows, "mini.csv"), ["99"])


# -- writing ---------------------------------------------------------------------------------------


def test_files_hold_everything_and_no_text(report: Report, rows: list[Row], tmp_path: Path) -> None:
    files = write_report(report, tmp_path / "deep" / "out")
    html, markdown = files["html"].read_text("utf-8"), files["markdown"].read_text("utf-8")
    scores = json.loads(files["scores"].read_text("utf-8"))
    for written in (html, markdown, json.dumps(scores, ensure_ascii=False)):
        assert not any(row.text[:8] in written or row.text in written for row in rows)
    assert "<script" not in html and not re.search(r'(?:src|href)="(?!data:|#)', html)
    pictures = re.findall(r"!\[[^]]*]\((plots/[^)]+\.png)\)", markdown)
    assert len(pictures) == len(set(pictures)) == html.count("data:image/png;base64,") >= 12
    assert all((tmp_path / "deep" / "out" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert scores["heads"][0]["figures"]["accuracy"]["value"] == report.heads[0].figures["accuracy"].value
    assert scores["file"] == "mini.csv" and scores["model"] == "scripted-1"


def test_markdown_tables_have_equal_columns(report: Report) -> None:
    markdown = render_markdown(report, {one.head: [] for one in report.main})
    tables = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(tables) >= 12
    for table in tables:
        lines = table.strip().split("\n")
        assert len(lines) >= 3 and set(lines[1]) <= set("|-:")
        assert len({line.count("|") for line in lines}) == 1, table


def test_html_escapes_what_files_call_their_labels(rows: list[Row]) -> None:
    odd = [Row(**{**vars(row), "labels": {"unit": frozenset({"<b>&|"})}}) for row in rows[:9]]
    made = build_report(ScriptedPredictor(rows), LabelledRows.of(odd, "a&b.csv"), ["unit"], resamples=5)
    html = render_html(made, {"unit": []})
    assert "<b>&" not in html and "&lt;b&gt;&amp;|" in html and "a&amp;b.csv" in html


def test_scores_without_a_number_are_null(rows: list[Row]) -> None:
    # One row that is wrong: no threshold reaches 95 %, nothing can be resampled.
    made = build_report(
        ScriptedPredictor(rows, {"joined": 0.0}), LabelledRows.of(rows[:1]), ["unit"], resamples=5
    )
    text = made.to_json()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["heads"][0]["n"] == 1


def test_a_folder_that_cannot_be_written(report: Report, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(ReportError, match="--out"):
        write_report(report, tmp_path / "taken")


def test_percent() -> None:
    assert percent(Figure(0.8765, 0.85, 0.9), "accuracy") == "87.6 [85.0–90.0]"
    assert percent(Figure(0.0312), "ece") == "0.031"
    assert percent(None) == "–"


# -- plots -----------------------------------------------------------------------------------------


def test_labels_are_numbers_where_no_font_has_their_glyphs() -> None:
    assert plots.plot_labels(["公安局", "0101"], "") == ["#1", "0101"]
    assert plots.plot_labels(["公安局", "x" * 40], "Some CJK") == ["公安局", "x" * 15 + "…"]


@pytest.mark.parametrize("font", ["", "installed"])
def test_no_glyph_is_missing_in_a_plot(font: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # matplotlib warns of a missing glyph, and a warning is an error here.
    if font and not plots.cjk_font():
        pytest.skip("no font with Chinese glyphs is installed")
    if not font:
        monkeypatch.setattr(plots, "cjk_font", lambda: "")
    classes = [ClassFigures(i, 0.5, 0.5, 0.5, 9) for i in range(30)]
    assert plots.class_plot(classes, ["自然资源和规划局"] * 30, "unit").startswith(b"\x89PNG")


def test_the_same_figures_give_the_same_picture() -> None:
    bins = calibration_bins(np.array([0.5, 0.9]), np.array([True, False]))
    assert plots.reliability_plot(bins, "x") == plots.reliability_plot(bins, "x")


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def shipped(rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"shipped": ScriptedPredictor(rows)}

    def load(name: str) -> ScriptedPredictor:
        if name not in models:
            raise ModelError(f"{name}: expected a model folder")
        return models[name]

    monkeypatch.setattr(scoring, "load_model", load)


@pytest.mark.usefixtures("shipped")
def test_report_command(tmp_path: Path, rows: list[Row]) -> None:
    path = write_csv(tmp_path / "mini.csv", rows, ["unit", "urgency", "category"])
    out = tmp_path / "out"
    arguments = [
        "report",
        "shipped",
        str(path),
        "--folds",
        "1,2",
        "--folds",
        "3",
        "--part",
        "all",
        "--out",
        str(out),
    ]
    result = RUNNER.invoke(app, [*arguments, "--resamples", "50", "--head", "unit", "--head", "urgency"])
    assert result.exit_code == 0, result.output
    assert "accuracy" in result.output and "urgent against the rest" in result.output
    scores = json.loads((out / "scores.json").read_text("utf-8"))
    assert scores["folds"] == ["1", "2", "3"] and scores["parts"] == ["joined", "encoder", "lexical"]
    assert {one["head"] for one in scores["heads"]} == {"unit", "urgency"}


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing", "{data}"], "expected a model folder"),
        (["shipped", "nowhere.csv"], "nothing there"),
        (["shipped", "{data}", "--folds", "42"], "expected rows of fold 42"),
        (["shipped", "{data}", "--head", "colour"], "colour"),
        (["shipped", "{data}", "--mapping", "nosuch"], "nosuch"),
        (["shipped", "{data}", "--scheme", "nosuch.yaml"], "nosuch.yaml"),
    ],
)
def test_what_is_wrong_is_told_without_a_traceback(
    arguments: list[str], told: str, tmp_path: Path, rows: list[Row]
) -> None:
    path = write_csv(tmp_path / "mini.csv", rows[:20], ["unit"])
    result = RUNNER.invoke(app, ["report", *(one.format(data=path) for one in arguments)])
    assert result.exit_code == 2
    assert told in result.stderr and "Traceback" not in result.stderr


def test_help_shows_an_example() -> None:
    for command in ("report", "compare"):
        result = RUNNER.invoke(app, [command, "--help"])
        assert result.exit_code == 0 and f"python -m evaluation {command}" in result.output
