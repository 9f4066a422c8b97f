"""Metrics over arrays: gold and predicted class numbers, confidences, and whether an answer was right.

Nothing here knows labels, models or files. Ties in confidence are always treated as one step, so that no
figure depends on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

from evaluation.labels import Bools, Floats, Ints

__all__ = [
    "Automatic", "Bin", "ClassFigures", "Curve", "Hierarchical", "aurc", "average_precision", "brier",
    "calibration_bins", "confusions", "coverage_at_accuracy", "expected_calibration_error",
    "f1_from_counts", "hierarchical", "macro_f1", "mean_rank_error", "negative_log_likelihood",
    "per_class", "precision_recall_curve", "recall_at_precision", "risk_coverage", "tie_ends", "top_k",
    "weighted_f1",
]  # fmt: skip

BINS = 15


@dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 (0 to 1) of one class and how many gold rows it has."""

    index: int
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram: bounds of confidence, rows, mean confidence, share right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Curve:
    """Points of a curve, one per distinct confidence from the highest down.

    ``x`` and ``y`` are coverage and risk, or recall and precision; ``threshold`` the least confidence.
    """

    x: Floats
    y: Floats
    threshold: Floats

    def thinned(self, points: int = 200) -> Curve:
        """At most that many points, evenly chosen, ends kept."""
        if len(self.x) <= points:
            return self
        keep = np.unique(np.linspace(0, len(self.x) - 1, points).astype(int))
        return Curve(self.x[keep], self.y[keep], self.threshold[keep])


@dataclass(frozen=True)
class Automatic:
    """What a threshold does: share of rows at or above it, and how many of these are right.

    Without any such row ``accuracy`` is nan; ``threshold`` is inf where no threshold does it.
    """

    coverage: float
    accuracy: float
    threshold: float


@dataclass(frozen=True)
class Hierarchical:
    """Hierarchical precision, recall and F1, 0 to 1."""

    precision: float
    recall: float
    f1: float


# -- classes ---------------------------------------------------------------------------------------


def macro_f1(gold: Ints, predicted: Ints) -> float:
    """Mean F1 over the classes that occur in ``gold``; a class never answered counts 0."""
    return float(f1_score(gold, predicted, labels=np.unique(gold), average="macro", zero_division=0.0))


def weighted_f1(gold: Ints, predicted: Ints) -> float:
    """Mean F1 weighted by the classes' gold rows."""
    return float(f1_score(gold, predicted, labels=np.unique(gold), average="weighted", zero_division=0.0))


def per_class(gold: Ints, predicted: Ints) -> list[ClassFigures]:
    """Figures of every class of ``gold``, by its number."""
    classes = np.unique(gold)
    figures = precision_recall_fscore_support(gold, predicted, labels=classes, zero_division=0.0)
    rows = zip(classes, *figures, strict=True)
    return [ClassFigures(int(c), float(p), float(r), float(f), int(s)) for c, p, r, f, s in rows]


def confusions(gold: Ints, predicted: Ints, most: int = 20) -> list[tuple[int, int, int]]:
    """(gold, predicted, rows) of the most frequent wrong answers."""
    wrong = gold != predicted
    pairs, counts = np.unique(np.stack([gold[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], pairs[0], -counts))[:most]
    return [(int(pairs[0, i]), int(pairs[1, i]), int(counts[i])) for i in order]


def top_k(probabilities: Floats, right: Bools, k: int = 3) -> Bools:
    """[n]: whether one of the k likeliest outputs is right; ``right`` is [n, outputs]."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return np.asarray(np.take_along_axis(right, best, axis=1).any(axis=1))


def f1_from_counts(hits: Floats, gold: Floats, predicted: Floats) -> Floats:
    """Macro-F1 from class counts, each [..., classes]; classes without gold are left out (nan if none)."""
    f1 = 2 * hits / np.maximum(gold + predicted, 1e-300)
    present = gold > 0
    total = present.sum(axis=-1)
    mean: Floats = np.where(total > 0, (f1 * present).sum(axis=-1) / np.maximum(total, 1), np.nan)
    return mean


def hierarchical(gold: Sequence[frozenset[str]], predicted: Sequence[frozenset[str]]) -> Hierarchical:
    """Hierarchical precision and recall over sets of a label and its ancestors, the root left out.

    Kiritchenko, Matwin, Nock and Famili (2006), "Learning and evaluation in the presence of class
    hierarchies": micro-averaged overlap of the two sets.
    """
    shared = sum(len(g & p) for g, p in zip(gold, predicted, strict=True))
    precision = shared / max(sum(map(len, predicted)), 1)
    recall = shared / max(sum(map(len, gold)), 1)
    f1 = 2 * precision * recall / (precision + recall) if shared else 0.0
    return Hierarchical(precision, recall, f1)


def mean_rank_error(gold: Ints, predicted: Ints) -> float:
    """Mean distance in ranks of an ordinal head; inputs are ranks."""
    return float(np.abs(gold - predicted).mean())


# -- calibration -----------------------------------------------------------------------------------


def calibration_bins(
    confidence: Floats, correct: Bools, bins: int = BINS, by: Literal["mass", "width"] = "mass"
) -> list[Bin]:
    """Non-empty bins by confidence: of equal numbers of rows (ties stay together) or of equal width."""
    if by == "mass":
        edges = np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf")
        place = np.searchsorted(np.unique(edges), confidence, side="left")
    else:
        place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [_bin(confidence[place == i], correct[place == i]) for i in np.unique(place)]


def _bin(confidence: Floats, correct: Bools) -> Bin:
    low, high = float(confidence.min()), float(confidence.max())
    return Bin(low, high, len(confidence), float(confidence.mean()), float(correct.mean()))


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of confidence and accuracy over bins, weighted by their rows (0 to 1)."""
    rows = sum(one.n for one in bins)
    return sum(one.n * abs(one.confidence - one.accuracy) for one in bins) / rows


def negative_log_likelihood(probability: Floats) -> float:
    """Mean −ln of the right label's probability in nats; probabilities below 1e-12 count as 1e-12."""
    return float(-np.log(np.clip(probability, 1e-12, 1.0)).mean()) + 0.0


def brier(probabilities: Floats, right: Bools) -> float:
    """Mean squared distance of the probabilities [n, outputs] from the right answer (0 to 2)."""
    return float(((probabilities - right) ** 2).sum(axis=1).mean())


# -- answering only when sure ----------------------------------------------------------------------


def tie_ends(ordered: Floats) -> Ints:
    """Last position of every run of equal values in an ordered array."""
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)).astype(np.int64)


def risk_coverage(confidence: Floats, correct: Bools) -> Curve:
    """Share of wrong answers (y) among the surest x of the rows."""
    order = np.argsort(-confidence, kind="stable")
    ends = tie_ends(confidence[order])
    right = np.cumsum(correct[order])[ends]
    return Curve((ends + 1) / len(confidence), 1 - right / (ends + 1), confidence[order][ends])


def aurc(confidence: Floats, correct: Bools) -> float:
    """Area under the risk–coverage curve: mean over k of the risk among the k surest rows.

    Tied rows count with the mean of their run: the expectation over all their orders.
    """
    order = np.argsort(-confidence, kind="stable")
    _, run, size = np.unique(-confidence[order], return_inverse=True, return_counts=True)
    expected = (np.bincount(run, weights=correct[order]) / size)[run]
    answered = np.arange(1, len(confidence) + 1)
    return float((1 - np.cumsum(expected) / answered).mean())


def coverage_at_accuracy(confidence: Floats, correct: Bools, target: float = 0.95) -> Automatic:
    """The largest share of rows that a threshold can pass at ``target`` accuracy, chosen on these rows."""
    curve = risk_coverage(confidence, correct)
    enough = np.flatnonzero(1 - curve.y >= target - 1e-12)
    if not len(enough):
        return Automatic(0.0, float("nan"), float("inf"))
    best = enough[-1]
    return Automatic(float(curve.x[best]), float(1 - curve.y[best]), float(curve.threshold[best]))


# -- two classes -----------------------------------------------------------------------------------


def precision_recall_curve(score: Floats, positive: Bools) -> Curve:
    """Recall (x) and precision (y) at every threshold; ``positive`` must hold at least once."""
    order = np.argsort(-score, kind="stable")
    ends = tie_ends(score[order])
    hits = np.cumsum(positive[order])[ends]
    return Curve(hits / positive.sum(), hits / (ends + 1), score[order][ends])


def average_precision(score: Floats, positive: Bools) -> float:
    """Area under the precision–recall curve, as a step function."""
    return float(average_precision_score(positive, score))


def recall_at_precision(score: Floats, positive: Bools, least: float) -> float:
    """The largest recall that some threshold reaches with at least that precision (0 if none does)."""
    curve = precision_recall_curve(score, positive)
    enough = curve.y >= least - 1e-12
    return float(curve.x[enough].max()) if enough.any() else 0.0
