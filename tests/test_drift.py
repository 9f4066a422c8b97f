"""The drift report: what moved, whether it matters, and the plain sentence of what to do."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from classifier.predictor import Prediction, Predictor
from data.appeals import Row
from evaluation.__main__ import app
from evaluation.drift import Drift, DriftLimits, drift
from evaluation.drift_observed import apartness
from evaluation.drift_writing import write_drift
from evaluation.errors import NothingToScore, ReportError
from tests.fake_predictor import ScriptedPredictor
from tests.models import PLACES, TEXTS, toy_model, toy_rows


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def model(toy: Path) -> Predictor:
    return Predictor.load(toy)


def weeks(rows: Sequence[Row]) -> list[Row]:
    """The same rows over three weeks of May 2031."""
    return [replace(row, date=f"2031-05-{5 + 7 * (i % 3):02d}") for i, row in enumerate(rows)]


def of_unit(unit: str, count: int) -> list[Row]:
    return [
        Row(
            f"{unit}-{i}",
            TEXTS[unit][i % 4].format(PLACES[i % 12]),
            labels={"unit": frozenset([unit])},
            date="2031-06-02",
        )
        for i in range(count)
    ]


def sized(made: Drift, kind: str) -> list[Any]:
    return [one for one in made.shifts if one.kind == kind]


def test_the_same_appeals_need_nothing(model: Predictor) -> None:
    made = drift(model, toy_rows(), weeks(toy_rows()))
    assert made.advice == "nothing" and made.mattering == ()
    assert made.sentence == ("nothing to do: 144 recent appeals look like the 144 they were compared with")
    assert [one.distance for one in made.heads] == [pytest.approx(0.0, abs=1e-6)] * len(made.heads)
    assert {one.name: one.rows for one in made.weeks} == {"2031-W19": 48, "2031-W20": 48, "2031-W21": 48}


def test_a_label_that_grew_sends_people_to_the_queue(model: Predictor) -> None:
    recent = [*toy_rows(), *of_unit("water", 200)]
    made = drift(model, toy_rows(), recent)
    assert made.advice == "review"
    grown = [one for one in made.mattering if one.kind == "share" and one.after > one.before]
    assert {one.head for one in grown} >= {"unit"}
    assert "label share of 供水公司 (unit) rose from 33.3 % to" in made.sentence
    assert made.sentence.endswith(": review the queue")


def test_errors_of_the_answers_ask_for_retraining(model: Predictor) -> None:
    wrong = {"water": "police", "police": "city", "city": "water"}
    recent = [
        replace(row, labels={"unit": frozenset([wrong[next(iter(row.labels["unit"]))]])}) if i % 2 else row
        for i, row in enumerate(toy_rows())
    ]
    made = drift(model, toy_rows(), recent)
    assert made.advice == "retrain"
    assert made.sentence.startswith("retrain: correction rate of unit rose from ")
    assert " of 144 reviewed)" in made.sentence
    assert any("compared with the base file" in note for note in made.notes)
    assert all(week.corrected is not None for week in drift(model, toy_rows(), weeks(recent)).weeks)


def test_without_labels_the_correction_rate_is_said_not_to_be_known(model: Predictor) -> None:
    recent = [replace(row, labels={}) for row in toy_rows()]
    made = drift(model, toy_rows(), recent)
    assert sized(made, "corrections") == []
    assert made.notes == ("No recent appeal carries a label: the correction rate is not known.",)


def test_stored_scores_are_what_corrections_are_held_against(model: Predictor) -> None:
    class Measured(ScriptedPredictor):
        @property
        def card(self) -> dict[str, Any]:
            item = {"head": "unit", "part": "joined", "rows": 1000, "accuracy": 0.95}
            return {"version": "m", "scores": {"heads": [item]}}

    rows = [replace(row, labels={"unit": row.labels["unit"]}) for row in toy_rows()]
    made = drift(Measured(rows, {"joined": 0.5}, scheme=model.scheme), rows, rows)
    (found,) = sized(made, "corrections")
    assert found.before == pytest.approx(0.05) and found.after > 0.2 and found.matters


def test_words_never_seen_before_ask_for_retraining(model: Predictor) -> None:
    strange = [Row(f"s{i}", f"充电桩跳枪第{i}次蓝牙锁失灵") for i in range(80)]
    made = drift(model, toy_rows(), strange)
    (found,) = sized(made, "vocabulary")
    assert found.matters and found.after > found.before + 0.2
    assert made.advice == "retrain"
    assert "share of characters and pairs that the model does not know rose" in made.sentence


class Embedded(ScriptedPredictor):
    """Embeds a text at random; those that hold 雨 a little to one side."""

    def predict(
        self, texts: Sequence[str], evidence: bool = True, part: str = "", tokens: object = None
    ) -> list[Prediction]:
        answers = super().predict(texts, evidence, part, tokens)
        return [replace(one, embedding=self._vector(text)) for one, text in zip(answers, texts, strict=True)]

    def _vector(self, text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        seed = np.random.default_rng(list(text.encode()))
        return (seed.normal(size=12) + (1.0 if "雨" in text else 0.0)).astype(np.float32)


def test_a_shift_of_the_embedding_asks_for_retraining(model: Predictor) -> None:
    base = [Row(f"b{i}", f"第{i}号楼路灯不亮") for i in range(300)]
    like = [Row(f"c{i}", f"第{i}号楼电梯停了") for i in range(300)]
    rain = [Row(f"d{i}", f"第{i}号楼下雨漏水") for i in range(300)]
    predictor = Embedded([], {"joined": 1.0}, scheme=model.scheme)
    (same,) = sized(drift(predictor, base, like), "embedding")
    assert not same.matters and same.after < 0.6
    made = drift(predictor, base, rain)
    (found,) = sized(made, "embedding")
    assert found.matters and found.after > 0.8
    assert made.sentence.startswith("retrain: recent appeals can be told from base ones by their embedding")


def test_apartness_is_half_by_chance() -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(400, 8)).astype(np.float32)
    auc, p = apartness(vectors[:200], vectors[200:])
    assert 0.38 < auc < 0.62 and p > 0.001
    assert apartness(vectors[:200], vectors[200:] + 2)[0] > 0.95


def test_limits_say_what_matters(model: Predictor) -> None:
    recent = [*toy_rows(), *of_unit("water", 200)]
    lenient = DriftLimits(share=0.9, confidence=0.9, corrections=0.9, vocabulary=0.9, auc=0.99)
    assert drift(model, toy_rows(), recent, lenient).advice == "nothing"


def test_large_files_are_drawn_from_and_small_ones_refused(model: Predictor) -> None:
    made = drift(model, toy_rows(), toy_rows() + of_unit("city", 40), DriftLimits(most=60))
    assert made.recent_rows == 184
    assert sum(week.rows for week in made.weeks) <= 60
    with pytest.raises(NothingToScore, match="recent: expected at least 50 appeals"):
        drift(model, toy_rows(), toy_rows()[:20])


def test_the_report_is_written_and_holds_no_text(model: Predictor, tmp_path: Path) -> None:
    made = drift(model, toy_rows(), weeks([*toy_rows(), *of_unit("water", 90)]))
    files = write_drift(made, tmp_path / "out")
    html, markdown = (files[kind].read_text(encoding="utf-8") for kind in ("html", "md"))
    assert made.sentence in markdown and "供水公司" in html
    assert html.count("data:image/png;base64,") == len(made.heads) + 1
    stored = json.loads(files["json"].read_text(encoding="utf-8"))
    assert stored["advice"] == "review" and stored["sentence"] == made.sentence
    assert not any(row.text in html + markdown + json.dumps(stored, ensure_ascii=False) for row in toy_rows())
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="expected a folder that can be written to"):
        write_drift(made, tmp_path / "file")


def test_the_command_prints_what_to_do(toy: Path, tmp_path: Path) -> None:
    for name, rows in (("base", weeks(toy_rows())), ("recent", [*weeks(toy_rows()), *of_unit("water", 200)])):
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text", "date", "unit"])
            writer.writerows([row.id, row.text, row.date, *row.labels["unit"]] for row in rows)
    files = [str(tmp_path / "base.csv"), str(tmp_path / "recent.csv")]
    done = CliRunner().invoke(app, ["drift", str(toy), *files, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith("review the queue")
    late = ["drift", str(toy), *files, "--out", str(tmp_path / "out"), "--since", "2031-07-01"]
    refused = CliRunner().invoke(app, late)
    assert refused.exit_code == 2
    assert "recent.csv: expected at least 50 appeals to see a change by, got 0" in refused.output
