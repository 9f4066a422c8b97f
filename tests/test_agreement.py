"""Agreement of reviewers, and label errors found by confident learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from data.appeals import Row
from data.scheme import Scheme
from evaluation.__main__ import app
from evaluation.agreement import Judged, agreement, read_judged, verdict
from evaluation.errors import BadJudgements, NothingToScore, UnknownHead
from evaluation.label_errors import suspects
from evaluation.scoring import Answers

SCHEME = Scheme.parse(
    """
name: toy
version: '1'
units: [{code: a, name: 甲}, {code: b, name: 乙}, {code: c, name: 丙}, {code: d, name: 丁},
  {code: e, name: 戊}]
urgency_levels: [{code: '1', name: 一}, {code: '2', name: 二}, {code: '3', name: 三}, {code: '4', name: 四},
  {code: '5', name: 五}]
"""
)
# The example of Krippendorff (2011), sections C and D: four observers, twelve units, missing labels.
EXAMPLE = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


def example(head: str, code: dict[str, str]) -> list[Judged]:
    return [
        Judged(f"u{u}", f"r{r}", head, code[value])
        for r, line in enumerate(EXAMPLE)
        for u, value in enumerate(line.split())
        if value != "."
    ]


def same(value: str) -> dict[str, str]:
    return dict(zip("12345", value, strict=True))


def test_alpha_is_that_of_the_published_example() -> None:
    (nominal,) = agreement(example("unit", same("abcde")), SCHEME)
    (ordinal,) = agreement(example("urgency", same("12345")), SCHEME)
    assert nominal.alpha is not None and ordinal.alpha is not None
    assert nominal.alpha.value == pytest.approx(0.743, abs=5e-4)
    assert ordinal.alpha.value == pytest.approx(0.815, abs=5e-4)
    assert (nominal.level, ordinal.level) == ("nominal", "ordinal")
    assert nominal.appeals == 11  # the twelfth unit has one label
    assert nominal.alpha.low is not None and nominal.alpha.high is not None
    assert nominal.alpha.low < nominal.alpha.value < nominal.alpha.high


def test_pairs_and_confusions_say_who_and_what() -> None:
    judged = [
        Judged(f"a{i}", who, "unit", code)
        for i in range(20)
        for who, code in (("mei", "ab"[i % 2]), ("li", "ab"[i % 2]), ("wang", "ac"[i % 2]))
    ]
    (found,) = agreement(judged, SCHEME)
    pairs = {one.reviewers: (one.appeals, one.same) for one in found.pairs}
    assert pairs == {("li", "mei"): (20, 1.0), ("li", "wang"): (20, 0.5), ("mei", "wang"): (20, 0.5)}
    alphas = {one.reviewers: one.alpha for one in found.pairs}
    assert alphas["li", "mei"] == pytest.approx(1.0)
    assert (alphas["li", "wang"] or 0) < 0.5
    assert [(one.first, one.second, one.appeals) for one in found.confused] == [("b", "c", 10)]
    assert found.same == pytest.approx(2 / 3)
    assert "most often b against c (10)" in verdict(found)


def test_the_last_label_counts_and_what_cannot_be_told_is_left_out() -> None:
    judged = [
        Judged("x", "mei", "unit", "a"),
        Judged("x", "li", "unit", "b"),
        Judged("x", "li", "unit", "a"),
        Judged("y", "mei", "unit", "b"),
        Judged("y", "li", "unit", ""),
        Judged("z", "mei", "unit", "b"),
        Judged("z", "li", "unit", "b"),
    ]
    (found,) = agreement(judged, SCHEME)
    assert (found.appeals, found.untold, found.same) == (2, 1, 1.0)
    assert found.alpha is not None and found.alpha.value == pytest.approx(1.0)
    assert "reliable" in verdict(found)


def test_one_label_only_says_nothing() -> None:
    judged = [Judged(f"a{i}", who, "unit", "a") for i in range(5) for who in ("mei", "li")]
    (found,) = agreement(judged, SCHEME)
    assert found.alpha is None and found.same == 1.0
    assert "cannot be told from chance" in verdict(found)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(BadJudgements, match="ask for double review"):
        agreement([Judged("x", "mei", "unit", "a"), Judged("y", "li", "unit", "a")], SCHEME)
    with pytest.raises(BadJudgements, match="got zz; give the scheme"):
        agreement([Judged("x", "mei", "unit", "zz")], SCHEME)
    with pytest.raises(BadJudgements, match="head: expected one of"):
        agreement([Judged("x", "mei", "colour", "a")], SCHEME)


def test_the_command_reads_a_table_and_prints_a_sentence_per_head(tmp_path: Path) -> None:
    (tmp_path / "scheme.yaml").write_text(SCHEME.to_yaml(), encoding="utf-8")
    file = tmp_path / "labels.csv"
    lines = [f"{one.appeal},{one.reviewer},{one.head},{one.code}" for one in example("unit", same("abcde"))]
    file.write_text("\n".join(["appeal,reviewer,head,code", *lines]), encoding="utf-8")
    assert len(read_judged(file)) == 41
    done = CliRunner().invoke(app, ["agreement", str(file), "--scheme", str(tmp_path / "scheme.yaml")])
    assert done.exit_code == 0, done.output
    assert "unit: alpha 0.74 on 11 appeals" in done.output
    as_json = CliRunner().invoke(
        app, ["agreement", str(file), "--scheme", str(tmp_path / "scheme.yaml"), "--json"]
    )
    assert '"reviewers": [' in as_json.output and as_json.exit_code == 0
    file.write_text("id,head\nx,unit\n", encoding="utf-8")
    refused = CliRunner().invoke(app, ["agreement", str(file)])
    assert refused.exit_code == 2
    assert "missing: appeal, reviewer, code" in refused.output


# -- label errors ----------------------------------------------------------------------------------


def answered(flipped: set[int]) -> tuple[list[Row], Answers]:
    """300 rows of three labels that a model knows well; the flipped ones carry a wrong label."""
    random = np.random.default_rng(5)
    truth = random.integers(0, 3, 300)
    probabilities = np.full((300, 5), 0.02)
    probabilities[np.arange(300), truth] = 0.92
    weak = random.random(300) < 0.1
    probabilities[weak] = [0.3, 0.3, 0.3, 0.05, 0.05]
    given = [(int(code) + 1) % 3 if i in flipped else int(code) for i, code in enumerate(truth)]
    rows = [Row(f"r{i}", "文本", labels={"unit": frozenset(["abcde"[code]])}) for i, code in enumerate(given)]
    heads = {"unit": SCHEME.heads["unit"]}
    scaled = probabilities / probabilities.sum(1, keepdims=True)
    return rows, Answers("m", "joined", heads, {"unit": scaled}, np.full(300, 2))


def test_flipped_labels_are_found_and_named() -> None:
    flipped = {3, 50, 120, 121, 290}
    rows, answers = answered(flipped)
    weak = {i for i in range(300) if answers.probabilities["unit"][i].max() < 0.5}
    found = suspects(rows, answers, "unit")
    assert {one.row for one in found} - weak == flipped - weak
    assert flipped - weak
    sure = [one for one in found if one.row in flipped - weak]
    assert all(one.given in rows[one.row].labels["unit"] and one.said != one.given for one in sure)
    assert all(one.said_probability > 0.9 > 0.1 > one.given_probability for one in sure)
    assert found == sorted(found, key=lambda one: one.given_probability)
    assert suspects(rows, answers, "unit", most=2) == found[:2]


def test_clean_labels_raise_no_suspicion() -> None:
    rows, answers = answered(set())
    weak = {i for i in range(300) if answers.probabilities["unit"][i].max() < 0.5}
    assert {one.row for one in suspects(rows, answers, "unit")} <= weak


def test_too_few_rows_or_an_unknown_head_are_refused() -> None:
    rows, answers = answered(set())
    few = Answers("m", "joined", answers.heads, {"unit": answers.probabilities["unit"][:20]}, np.full(20, 2))
    with pytest.raises(NothingToScore, match="expected 50 rows with one label"):
        suspects(rows[:20], few, "unit")
    with pytest.raises(UnknownHead):
        suspects(rows, answers, "urgency")
