"""Comparing models: the test and the interval by hand, and verdicts that promise no more than they know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from typer.testing import CliRunner

from data.appeals import Row
from data.scheme import default_scheme
from evaluation import scoring
from evaluation.__main__ import app
from evaluation.comparison import Comparison, compare, holm, mcnemar
from evaluation.errors import NothingToScore, UnknownHead
from evaluation.scoring import Answers, answer
from tests.fake_predictor import ScriptedPredictor, labelled_rows, rows_of_three_heads, write_csv

UNITS = ("gongan", "shuiwu", "chengguan")
RUNNER = CliRunner()


def answers(rows: Sequence[Row], skill: float, seed: int = 0, version: str = "m") -> Answers:
    model = ScriptedPredictor(rows, {"joined": skill}, seed=seed, version=version)
    return answer(model, rows, "joined", lambda done: None)


def compared(rows: Sequence[Row], a: Answers, b: Answers, **options: object) -> Comparison:
    return compare(rows, a, b, default_scheme(), resamples=200, **options)  # type: ignore[arg-type]


def one_hot(rows: Sequence[Row], right: Sequence[bool]) -> Answers:
    """Answers to unit labels that are right where told, else another label."""
    heads = default_scheme().heads
    codes = heads["unit"].codes
    matrix = np.zeros((len(rows), len(codes)))
    for i, (row, is_right) in enumerate(zip(rows, right, strict=True)):
        place = codes.index(min(row.labels["unit"]))
        matrix[i, place if is_right else (place + 1) % len(codes)] = 1
    return Answers("m", "", {"unit": heads["unit"]}, {"unit": matrix}, np.full(len(rows), 9))


# -- the test --------------------------------------------------------------------------------------


def test_mcnemar_exact_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 9) == pytest.approx(2 * binom.cdf(1, 10, 0.5))
    assert mcnemar(5, 5) == pytest.approx(1.0)


def test_mcnemar_chi_squared_by_hand() -> None:
    # (|10 − 30| − 1)² / 40 = 9.025, whose upper tail at one degree of freedom is 0.002663
    assert mcnemar(10, 30) == pytest.approx(0.002663, abs=1e-6)


@pytest.mark.parametrize(("a", "b"), [(0, 7), (3, 20), (12, 13), (40, 90), (200, 210)])
def test_mcnemar_is_symmetric_and_a_probability(a: int, b: int) -> None:
    assert mcnemar(a, b) == mcnemar(b, a)
    assert 0 < mcnemar(a, b) <= 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02] and holm([]) == []


# -- counts and differences ------------------------------------------------------------------------


def test_counts_and_differences_by_hand() -> None:
    rows = labelled_rows(10, "unit", UNITS)
    a = one_hot(rows, [True] * 6 + [False] * 4)
    b = one_hot(rows, [True] * 5 + [False] + [True] * 3 + [False])
    found = compared(rows, a, b).heads[0]
    assert (found.both_right, found.only_a, found.only_b, found.both_wrong) == (5, 1, 3, 1)
    assert (found.accuracy_a, found.accuracy_b) == (0.6, 0.8)
    assert found.accuracy.value == pytest.approx(0.2)
    assert found.p == pytest.approx(mcnemar(1, 3))
    assert sum(one.net for one in (*found.winners, *found.losers)) == 2


def test_winners_and_losers_are_labels() -> None:
    rows = labelled_rows(60, "unit", UNITS)
    gongan = [row.labels["unit"] == {"gongan"} for row in rows]
    a, b = one_hot(rows, gongan), one_hot(rows, [not one for one in gongan])
    found = compared(rows, a, b).heads[0]
    assert [one.name for one in found.losers] == ["gongan"]
    assert {one.name for one in found.winners} == {"shuiwu", "chengguan"}
    assert found.losers[0].net == -sum(gongan) and found.losers[0].f1_a == 1.0 and found.losers[0].f1_b == 0.0


def test_turning_models_round_turns_the_result_round() -> None:
    rows = labelled_rows(300, "unit", UNITS)
    a, b = answers(rows, 0.6), answers(rows, 0.9, seed=1)
    there, back = compared(rows, a, b).heads[0], compared(rows, b, a).heads[0]
    assert there.accuracy.value == pytest.approx(-back.accuracy.value)
    assert there.accuracy.low is not None and back.accuracy.high is not None
    assert there.accuracy.low == pytest.approx(-back.accuracy.high)
    assert (there.better, back.better) == ("B", "A")
    assert there.verdict.split(":")[1] == back.verdict.split(":")[1]  # the gain is told as the winner sees it
    assert there.b_ahead == pytest.approx(1 - back.b_ahead)


# -- verdicts --------------------------------------------------------------------------------------


def test_a_clearly_better_model_is_called_so() -> None:
    rows = labelled_rows(400, "unit", UNITS)
    found = compared(rows, answers(rows, 0.7), answers(rows, 0.9, seed=1))
    assert found.verdict.startswith("B is better on unit: +")
    assert "95 % CI +" in found.verdict and "McNemar p < 0.001" in found.verdict
    assert "\n" not in found.verdict


def test_the_same_model_is_not_better_than_itself() -> None:
    rows = labelled_rows(100, "unit", UNITS)
    same = answers(rows, 0.8)
    found = compared(rows, same, same).heads[0]
    assert (found.better, found.p, found.b_ahead) == ("", 1.0, 0.5)
    assert "no difference can be shown on unit" in found.verdict


@pytest.mark.parametrize("seed", range(20))
def test_a_model_that_errs_elsewhere_as_often_is_not_called_better(seed: int) -> None:
    """Which rows are wrong is shuffled, how many are is not."""
    rows = labelled_rows(300, "unit", UNITS, seed)
    right = np.arange(300) < 240
    a = one_hot(rows, right.tolist())
    b = one_hot(rows, np.random.default_rng(seed).permutation(right).tolist())
    found = compared(rows, a, b)
    assert found.heads[0].better == ""
    assert found.verdict.startswith("no difference can be shown on unit")


def test_shuffled_answers_are_called_worse_never_better() -> None:
    rows = labelled_rows(300, "unit", UNITS)
    good = answers(rows, 0.9)
    order = np.random.default_rng(0).permutation(300)
    shuffled = replace(
        good, probabilities={head: matrix[order] for head, matrix in good.probabilities.items()}
    )
    assert compared(rows, good, shuffled).heads[0].better == "A"
    assert compared(rows, shuffled, good).heads[0].better == "B"


def test_models_of_equal_skill_are_seldom_called_different() -> None:
    called = 0
    for seed in range(40):
        rows = labelled_rows(120, "unit", UNITS, seed)
        a, b = answers(rows, 0.8, seed=2 * seed), answers(rows, 0.8, seed=2 * seed + 1)
        called += compared(rows, a, b).heads[0].better != ""
    assert called <= 5  # 5 % of 40 is 2; 6 or more have a chance under 2 %


def test_a_difference_inside_one_group_of_duplicates_is_not_enough() -> None:
    rows = labelled_rows(60, "unit", UNITS)
    right = [True] * 60
    wrong_in_one = [False] * 20 + [True] * 40
    together = [replace(row, group="one" if i < 20 else row.group) for i, row in enumerate(rows)]
    apart = [replace(row, group=f"g{i}") for i, row in enumerate(rows)]
    assert compared(apart, one_hot(apart, wrong_in_one), one_hot(apart, right)).heads[0].better == "B"
    found = compared(together, one_hot(together, wrong_in_one), one_hot(together, right)).heads[0]
    assert found.by_group and found.better == ""


def test_several_heads_share_one_line_and_one_error_rate() -> None:
    rows = rows_of_three_heads(200)
    found = compared(rows, answers(rows, 0.6), answers(rows, 0.9, seed=1))
    assert [one.head for one in found.heads] == ["category", "urgency", "urgency (urgent vs rest)", "unit"]
    assert all(one.p_adjusted >= one.p for one in found.heads)
    assert "\n" not in found.verdict and "B is better on unit" in found.verdict


def test_macro_f1_that_says_otherwise_is_told() -> None:
    # B is right on more rows, by giving up the two rare labels.
    rows = labelled_rows(400, "unit", UNITS)
    gongan = np.array([row.labels["unit"] == {"gongan"} for row in rows])
    random = np.random.default_rng(5)
    a = one_hot(rows, (~gongan | (random.random(400) < 0.3)).tolist())
    b = one_hot(rows, (gongan | (random.random(400) < 0.42)).tolist())
    found = compared(rows, a, b).heads[0]
    assert found.macro_f1 is not None and found.macro_f1.value < 0 < found.accuracy.value
    assert "but macro-F1 of B -" in found.verdict


def test_overlapping_labels_are_compared_by_accuracy_only() -> None:
    rows = [
        replace(row, labels={"unit": frozenset({"gongan", ("shuiwu", "renshe")[i % 2]})})
        for i, row in enumerate(labelled_rows(80, "unit", UNITS))
    ]
    found = compared(rows, answers(rows, 0.3), answers(rows, 0.95, seed=1)).heads[0]
    assert found.granularity == "admissible" and found.macro_f1 is None
    assert found.better == "B"


def test_models_without_a_head_in_common() -> None:
    rows = labelled_rows(10, "unit", UNITS)
    a, b = answers(rows, 0.5), answers(rows, 0.5)
    heads = default_scheme().heads
    a, b = replace(a, heads={"unit": heads["unit"]}), replace(b, heads={"tier": heads["tier"]})
    with pytest.raises(UnknownHead, match="in common"):
        compared(rows, a, b)
    with pytest.raises(NothingToScore):
        compared(rows, b, b)


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = labelled_rows(300, "unit", UNITS)
    model = ScriptedPredictor(rows, {"joined": 0.9, "lexical": 0.6})
    monkeypatch.setattr(scoring, "load_model", lambda name: model)
    return write_csv(tmp_path / "mini.csv", rows, ["unit"])


def test_compare_command_takes_parts_of_one_folder(data: Path) -> None:
    result = RUNNER.invoke(app, ["compare", "shipped@lexical", "shipped", str(data), "--resamples", "100"])
    assert result.exit_code == 0, result.output
    assert "A = scripted-1@lexical, B = scripted-1@joined" in result.stdout
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("B is better on unit: +") and last.endswith("McNemar p < 0.001)")


def test_compare_as_json(data: Path) -> None:
    result = RUNNER.invoke(
        app, ["compare", "shipped", "shipped@lexical", str(data), "--json", "--folds", "0,1,2,3"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["heads"][0]["better"] == "A" and found["verdict"] == found["heads"][0]["verdict"]
    assert found["heads"][0]["n"] == 152


def test_a_part_that_the_model_lacks(data: Path) -> None:
    result = RUNNER.invoke(app, ["compare", "shipped@wings", "shipped", str(data)])
    assert result.exit_code == 2 and "wings" in result.stderr
