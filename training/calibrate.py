"""Stage three of a run: fit temperature and mixture per head, and the thresholds, on the validation rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from classifier.calibration import Calibration, HeadCalibration, softmax
from training.dataset import Targets

__all__ = ["fit_calibration", "fit_head", "threshold_at"]

F32 = npt.NDArray[np.float32]
FEWEST_ROWS = 30


def fit_calibration(
    scores: Mapping[str, Mapping[str, F32]],
    targets: Mapping[str, Targets],
    target: float,
    scored_by: Mapping[str, F32] | None = None,
) -> Calibration:
    """Calibrate every part alone and, where there are two, joined.

    ``scores`` maps part → head → [rows, labels] of the validation rows.
    """
    parts: dict[str, dict[str, HeadCalibration]] = {part: {} for part in scores}
    if len(scores) == 2:
        parts["joined"] = {}
    for head, item in targets.items():
        encoder, lexical = (scores.get(part, {}).get(head) for part in ("encoder", "lexical"))
        for part in parts:
            used = (encoder if part != "lexical" else None, lexical if part != "encoder" else None)
            parts[part][head] = fit_head(used[0], used[1], item, target)
    return Calibration(target, parts)


def fit_head(encoder: F32 | None, lexical: F32 | None, targets: Targets, target: float) -> HeadCalibration:
    """Weights that make the admissible labels most likely (least mean −log p) on the validation rows."""
    rows = np.flatnonzero(targets.labelled)
    if len(rows) < FEWEST_ROWS:
        return HeadCalibration(float(encoder is not None), float(lexical is not None), rows=len(rows))
    kept = [part[rows] if part is not None else None for part in (encoder, lexical)]
    admissible = targets.mask[rows]

    def loss(log_weights: npt.NDArray[np.float64]) -> float:
        total = np.zeros(admissible.shape, np.float32)
        for weight, part in zip(_spread(log_weights, kept), kept, strict=True):
            if part is not None:
                total = total + np.float32(weight) * part
        return float(-np.log(np.maximum((softmax(total) * admissible).sum(1), 1e-12)).mean())

    count = sum(part is not None for part in kept)
    found = minimize(loss, np.zeros(count), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6})
    weights = _spread(found.x, kept)
    made = HeadCalibration(weights[0], weights[1])
    probabilities = made.apply(kept[0], kept[1])
    threshold, coverage = threshold_at(probabilities, admissible, target)
    cuts = _level_cuts(probabilities, admissible, target)
    return HeadCalibration(weights[0], weights[1], threshold, coverage, len(rows), cuts)


def _spread(log_weights: npt.NDArray[np.float64], parts: list[F32 | None]) -> tuple[float, float]:
    """exp of the weights, put where a part is present; 0 elsewhere."""
    left = iter(np.exp(np.clip(log_weights, -6, 6)))
    first, second = (float(next(left)) if part is not None else 0.0 for part in parts)
    return first, second


def threshold_at(probabilities: F32, admissible: npt.NDArray[np.bool_], target: float) -> tuple[float, float]:
    """Least probability above which the best answers were right at ``target`` accuracy, and their share.

    (1.01, 0.0) where no threshold reaches it.
    """
    best = probabilities.argmax(1)
    confidence = probabilities[np.arange(len(best)), best]
    right = admissible[np.arange(len(best)), best]
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    reached = np.flatnonzero(accuracy >= target)
    if not len(reached):
        return 1.01, 0.0
    last = int(reached[-1])
    return float(confidence[order[last]]), (last + 1) / len(order)


def _level_cuts(probabilities: F32, admissible: npt.NDArray[np.bool_], target: float) -> dict[str, float]:
    """For an ordered head: least P(not the first level) that keeps precision at 0.5 and at 0.8."""
    sure_low = admissible[:, 0] & (admissible.sum(1) == 1)
    sure_high = ~admissible[:, 0]
    rows = sure_low | sure_high
    score, positive = 1 - probabilities[rows, 0], sure_high[rows]
    if positive.sum() < FEWEST_ROWS:
        return {}
    order = np.argsort(-score, kind="stable")
    precision = np.cumsum(positive[order]) / np.arange(1, len(order) + 1)
    cuts = {}
    for name, least in (("raised_at_50", 0.5), ("raised_at_80", 0.8)):
        reached = np.flatnonzero(precision >= least)
        if len(reached):
            cuts[name] = float(score[order[int(reached[-1])]])
    return cuts
