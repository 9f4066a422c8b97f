"""Stage three of a run: fit temperature and mixture per head, and the thresholds, on the validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from classifier.calibration import Calibration, HeadCalibration
from training.dataset import Targets

__all__ = ["fit_calibration", "fit_head", "threshold_at"]

F32 = npt.NDArray[np.float32]
FEWEST_ROWS = 30


def fit_calibration(
    scores: Mapping[str, Mapping[str, F32]],
    targets: Mapping[str, Targets],
    target: float,
    levels: Mapping[str, Sequence[str]] | None = None,
) -> Calibration:
    """Calibrate every part alone and, where there are two, joined.

    ``scores`` maps part → head → [rows, labels] of the validation rows; ``levels`` the ordered heads to
    their codes, lowest first: they get operating points for "above the lowest level".
    """
    parts: dict[str, dict[str, HeadCalibration]] = {part: {} for part in scores}
    if len(scores) == 2:
        parts["joined"] = {}
    for head, item in targets.items():
        encoder, lexical = (scores.get(part, {}).get(head) for part in ("encoder", "lexical"))
        for part in parts:
            used = (encoder if part != "lexical" else None, lexical if part != "encoder" else None)
            parts[part][head] = fit_head(used[0], used[1], item, target, (levels or {}).get(head, ()))
    return Calibration(target, parts)


def fit_head(
    encoder: F32 | None, lexical: F32 | None, targets: Targets, target: float, levels: Sequence[str] = ()
) -> HeadCalibration:
    """Weights that make the admissible labels most likely (least mean −log p) on the validation rows."""
    rows = np.flatnonzero(targets.labelled)
    if len(rows) < FEWEST_ROWS:
        return HeadCalibration(float(encoder is not None), float(lexical is not None), rows=len(rows))
    kept = [part[rows] if part is not None else None for part in (encoder, lexical)]
    admissible = targets.mask[rows]

    count = 1 if lexical is None else 3 if encoder is None else 4

    def made(parameters: npt.NDArray[np.float64]) -> HeadCalibration:
        return _calibration(parameters, encoder is not None, lexical is not None)

    def loss(parameters: npt.NDArray[np.float64]) -> float:
        probabilities = made(parameters).apply(kept[0], kept[1])
        return float(-np.log(np.maximum((probabilities * admissible).sum(1), 1e-12)).mean())

    simplex = np.concatenate([np.zeros((1, count)), 0.5 * np.eye(count)])  # the default one is tiny at zero
    options = {"xatol": 1e-3, "fatol": 1e-6, "maxiter": 600, "initial_simplex": simplex}
    fitted = made(minimize(loss, np.zeros(count), method="Nelder-Mead", options=options).x)
    probabilities = fitted.apply(kept[0], kept[1])
    threshold, coverage = threshold_at(probabilities, admissible, target)
    cuts = _level_cuts(probabilities, admissible, levels[1]) if len(levels) > 1 else {}
    return replace(fitted, threshold=threshold, coverage=coverage, rows=len(rows), cuts=cuts)


def _calibration(parameters: npt.NDArray[np.float64], encoder: bool, lexical: bool) -> HeadCalibration:
    """From unbounded parameters, zero being a good start: log weights, log slope / 4, offset − 2."""
    left = iter(np.clip(parameters, -6, 6))
    first = float(np.exp(next(left))) if encoder else 0.0
    second = float(np.exp(next(left))) if lexical else 0.0
    if not lexical:
        return HeadCalibration(first, second)
    return HeadCalibration(first, second, 4.0 * float(np.exp(next(left))), 2.0 + 4.0 * float(next(left)))


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


def _level_cuts(probabilities: F32, admissible: npt.NDArray[np.bool_], raised: str) -> dict[str, float]:
    """Least P(above the lowest level): under the level's name where macro-F1 is best, and where precision
    is still 0.5 and 0.8. Rows that may or may not be above the lowest level are left out.
    """
    sure_low = admissible[:, 0] & (admissible.sum(1) == 1)
    sure_high = ~admissible[:, 0]
    rows = sure_low | sure_high
    score, positive = 1 - probabilities[rows, 0], sure_high[rows]
    if positive.sum() < FEWEST_ROWS:
        return {}
    order = np.argsort(-score, kind="stable")
    hits, taken = np.cumsum(positive[order]), np.arange(1, len(order) + 1)
    cuts = {raised: float(score[order[int(_macro_f1(hits, taken, int(positive.sum())).argmax())]])}
    for name, least in (("precision_50", 0.5), ("precision_80", 0.8)):
        reached = np.flatnonzero(hits / taken >= least)
        if len(reached):
            cuts[name] = float(score[order[int(reached[-1])]])
    return cuts


def _macro_f1(
    hits: npt.NDArray[np.int64], taken: npt.NDArray[np.int64], positives: int
) -> npt.NDArray[np.float64]:
    """Macro-F1 of "positive or not" when the first 1, 2, … rows in score order are called positive."""
    total = len(taken)
    high = 2 * hits / (taken + positives)
    rest_right = (total - taken) - (positives - hits)
    low = 2 * rest_right / np.maximum((total - taken) + (total - positives), 1)
    result: npt.NDArray[np.float64] = (high + low) / 2
    return result
