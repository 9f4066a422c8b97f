"""`python -m evaluation memory-effect`: the order of time, what is counted, and the command itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from classifier.neighbours import Rule
from classifier.predictor import Prediction
from data.appeals import Row
from evaluation import scoring
from evaluation.__main__ import app
from evaluation.errors import NothingToScore
from evaluation.look_alikes import HeadEffect, memory_effect
from evaluation.rows import LabelledRows
from tests.fakes import FakePredictor
from tests.reviewers import Alike

TEXTS = ("巷口修鞋摊的凉棚被风吹歪了", "图书馆自习室周末不开门", "请问医保怎么缴费")


def row(number: int, text: str, date: str = "", **labels: str) -> Row:
    given: Mapping[str, frozenset[str]] = {head: frozenset([code]) for head, code in labels.items()}
    return Row(f"r{number}", text, date=date, labels=given, line=number)


def of(head: str, rows: Sequence[Row], predictor: FakePredictor | None = None, **more: object) -> HeadEffect:
    made = memory_effect(predictor or Alike(), LabelledRows.of(rows), [head], resamples=10, **more)  # type: ignore[arg-type]
    [found] = made.heads
    return found


def test_only_what_came_before_is_remembered() -> None:
    later = row(1, TEXTS[0], "2031-02-01", category="0604")
    earlier = row(2, TEXTS[0], "2031-01-01", category="0604")
    made = memory_effect(Alike(), LabelledRows.of([later, earlier]), ["category"], resamples=10)
    [compared] = made.comparison.heads
    [found] = made.heads
    assert (compared.only_a, compared.only_b, compared.both_wrong) == (0, 1, 1)
    assert (found.moved, found.changed, made.corrected) == (1, 1, 2)
    assert [(part.least, part.without, part.together) for part in found.phases] == [(0, 0, 0), (1, 0, 1)]


def test_what_goes_out_is_held_back_but_never_added() -> None:
    rows = [row(n, TEXTS[2], unit="renshe") for n in range(3)]
    found = of("unit", rows)
    alone, together = found.automatic
    assert (alone.passed, alone.wrong) == (3, 3)
    assert (together.passed, together.wrong) == (1, 1)
    assert (found.held_back.passed, found.held_back.wrong) == (2, 2)


def test_a_share_that_is_corrected_and_rules_of_ones_own() -> None:
    rows = [row(n, TEXTS[0], category="0604") for n in range(40)]
    half = memory_effect(Alike(), LabelledRows.of(rows), ["category"], resamples=10, share=0.5)
    assert 5 < half.corrected < 35
    assert of("category", rows, rule=Rule(bound=0.0)).moved == 0
    assert of("category", rows).moved == 39


def test_labels_of_several_codes_do_not_vote() -> None:
    partial = Row("p", TEXTS[0], labels={"category": frozenset(["0604", "0202"])})
    assert of("category", [partial, row(1, TEXTS[0], category="0604")]).moved == 0


def test_a_model_without_embeddings_is_told_so() -> None:
    with pytest.raises(NothingToScore, match="without an encoder"):
        of("category", [row(1, TEXTS[0], category="0604")], FakePredictor())


def test_the_command_prints_tables_or_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "load_model", lambda name: Alike())
    file = tmp_path / "appeals.csv"
    lines = [f"{n},{TEXTS[n % 2]},0604,chengguan" for n in range(12)]
    file.write_text("\n".join(["id,text,category,unit", *lines]), encoding="utf-8")
    called = ["memory-effect", "shipped", str(file), "--resamples", "10"]
    shown = CliRunner().invoke(app, called)
    assert shown.exit_code == 0, shown.output
    for word in ("righted", "held back", "would be lifted", "part 4"):
        assert word in shown.output
    told = json.loads(CliRunner().invoke(app, [*called, "--json"]).stdout)
    assert told["rows"] == told["corrected"] == 12
    assert {one["head"] for one in told["heads"]} == {"category", "unit"}
    assert told["rule"]["threshold"] == Rule.threshold


def test_the_walk_leaves_the_models_own_answers_alone() -> None:
    before = [one.probabilities["category"].copy() for one in Alike().predict(list(TEXTS))]
    kept = list[Prediction]()

    class Watched(Alike):
        def predict(self, *given: object, **more: object) -> list[Prediction]:
            found = super().predict(*given, **more)  # type: ignore[arg-type]
            kept.extend(found)
            return found

    of("category", [row(n, text, category="0604") for n, text in enumerate(TEXTS)], Watched())
    after = {one.probabilities["category"].tobytes() for one in kept}
    assert after == {one.tobytes() for one in before}
    assert all(np.isfinite(one.embedding).all() for one in kept)
