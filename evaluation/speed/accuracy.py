"""What speed costs in accuracy: our model as it serves against the same weights as 32-bit floats."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classifier.predictor import Predictor
from data.cleaning import prepare
from evaluation.labels import Floats
from evaluation.rows import LabelledRows
from evaluation.scoring import Answers, Stage, answer, chosen_heads, score_head
from evaluation.speed.processes import run_module

__all__ = ["Cost", "accuracy_costs"]

REFERENCE = "encoder, 32-bit floats"
STEP = 64
CHUNK = 2048  # rows between two steps of the progress bar; each loads torch anew


@dataclass(frozen=True)
class Cost:
    """Accuracy of one head between 0 and 1, by what answers; ``rows`` have a label of it.

    ``lost``: points (hundredths) by which what is served is below the reference; negative is a gain.
    ``lost_by_encoder``: the same for the 8-bit encoder alone; ``lost_by_rounding``: what is served
    against the same joined with the float encoder.
    """

    head: str
    rows: int
    accuracy: Mapping[str, float]
    lost: float
    lost_by_encoder: float
    lost_by_rounding: float


def accuracy_costs(
    predictor: Predictor, labelled: LabelledRows, torch_folder: Path, stage: Stage
) -> list[Cost]:
    """Answer the rows with all forms of the model. Raises NothingToScore as a report does."""
    heads = chosen_heads(labelled.rows, predictor.heads, ())
    served = predictor.default_part
    raw = _raw_scores(predictor, labelled, stage)
    floats = raw | {"encoder": _float_logits(predictor, labelled, torch_folder, stage)}
    asked = answer(predictor, labelled.rows, served, stage("answering as served", len(labelled.rows)))
    answers = {
        served: asked,
        "encoder": _calibrated(predictor, asked, "encoder", raw),
        REFERENCE: _calibrated(predictor, asked, "encoder", floats),
        f"{served}, 32-bit floats": _calibrated(predictor, asked, served, floats),
    }
    return [_cost(head, served, answers, labelled, predictor) for head in heads]


def _cost(
    head: str, served: str, answers: Mapping[str, Answers], labelled: LabelledRows, predictor: Predictor
) -> Cost:
    scored = {
        part: score_head(labelled.rows, head, one, predictor.scheme).correct for part, one in answers.items()
    }
    accuracy = {part: float(correct.mean()) for part, correct in scored.items()}
    return Cost(
        head,
        len(scored[REFERENCE]),
        accuracy,
        lost=100 * (accuracy[REFERENCE] - accuracy[served]),
        lost_by_encoder=100 * (accuracy[REFERENCE] - accuracy["encoder"]),
        lost_by_rounding=100 * (accuracy[f"{served}, 32-bit floats"] - accuracy[served]),
    )


def _raw_scores(predictor: Predictor, labelled: LabelledRows, stage: Stage) -> dict[str, Floats]:
    """[rows, outputs] of each part in 8 bits, before calibration."""
    texts = _texts(labelled)
    advance = stage("answering in 8 bits", len(texts))
    found: dict[str, list[Floats]] = {}
    for start in range(0, len(texts), STEP):
        for part, scores in predictor.raw_scores(texts[start : start + STEP]).items():
            found.setdefault(part, []).append(np.asarray(scores, np.float64))
        advance(len(texts[start : start + STEP]))
    return {part: np.concatenate(pieces) for part, pieces in found.items()}


def _float_logits(predictor: Predictor, labelled: LabelledRows, torch_folder: Path, stage: Stage) -> Floats:
    """[rows, outputs] from the torch model, with the windows and calibration that the service uses."""
    texts = _texts(labelled)
    advance = stage("answering in 32-bit floats", len(texts))
    found = []
    for start in range(0, len(texts), CHUNK):
        found.append(_asked(predictor.folder.path, torch_folder, texts[start : start + CHUNK]))
        advance(len(found[-1]))
    return np.concatenate(found)


def _texts(labelled: LabelledRows) -> list[str]:
    return [prepare(row.text, row.title).text for row in labelled.rows]


def _asked(model: Path, torch_folder: Path, texts: Sequence[str]) -> Floats:
    with tempfile.TemporaryDirectory(prefix="jiesu-speed-") as scratch:
        asked, answered = Path(scratch) / "texts.json", Path(scratch) / "logits.npy"
        asked.write_text(json.dumps(list(texts)), encoding="utf-8")
        files = (str(asked), str(answered))
        run_module("evaluation.speed.torch_weights", "answer", str(model), str(torch_folder), *files)
        logits: Floats = np.load(answered)
    return logits


def _calibrated(predictor: Predictor, like: Answers, part: str, scores: Mapping[str, Floats]) -> Answers:
    """What a part would answer with these scores: ``joined`` takes both, ``encoder`` its own."""
    probabilities: dict[str, Floats] = {}
    for head in predictor.heads:
        piece = predictor.slice_of(head)
        taken = {name: np.asarray(value[:, piece], np.float32) for name, value in scores.items()}
        lexical = taken.get("lexical") if part == "joined" else None
        given = predictor.calibration.of(part, head).apply(taken["encoder"], lexical)
        probabilities[head] = np.asarray(given, np.float64)
    return replace(like, part=part, probabilities=probabilities)
