"""Bootstrap confidence intervals, resampling whole groups of near-duplicates.

Efron's percentile interval. A resample is a count per group; every figure that is a ratio of sums over
rows comes from one matrix product over all resamples. The same seed and groups give the same resamples:
two models scored on the same rows are thereby paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from evaluation.labels import Bools, Floats, Ints
from evaluation.metrics import f1_from_counts, tie_ends

__all__ = ["RESAMPLES", "Figure", "Resampling", "Steps", "class_columns", "figure", "resampled_macro_f1"]

RESAMPLES = 1000
SEED = 12345
LEVEL = 0.95
_CELLS = 4_000_000  # counts held at a time: 32 MB

_Stepwise = Callable[[Floats, Floats], Floats]  # rows drawn and hits at every step, [b, steps] → [b]


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; None where no interval was or can be computed."""

    value: float
    low: float | None = None
    high: float | None = None


def figure(value: float, samples: Floats) -> Figure:
    """The value with the percentile interval of its resamples (nan resamples left out)."""
    known = samples[np.isfinite(samples)]
    if len(known) < 2:
        return Figure(value)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(value, float(low), float(high))


class Resampling:
    """Resamples of n rows by group; a row with the empty group stands alone."""

    def __init__(self, groups: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED) -> None:
        named = [group or f"\0{i}" for i, group in enumerate(groups)]
        units, place = np.unique(np.array(named, dtype=object), return_inverse=True)
        self.unit_of_row: Ints = place.astype(np.int64)
        self.units = len(units)
        self.by_group = self.units < len(named)
        self.resamples = resamples
        self.seed = seed
        self._kept: list[Floats] = []

    def totals(self, columns: Floats | sparse.csr_matrix) -> Floats:
        """[resamples, k]: sums of the rows' columns [n, k] in every resample."""
        n = len(self.unit_of_row)
        unit_rows = sparse.csr_matrix((np.ones(n), (self.unit_of_row, np.arange(n))), (self.units, n))
        sums = sparse.csr_matrix(unit_rows @ columns).T.tocsr()
        parts = [np.asarray((sums @ counts.T).T) for counts in self._counts()]
        return np.concatenate(parts)

    def row_weights(self) -> Iterator[Floats]:
        """Chunks [b, n] of how often each row is drawn, over all resamples."""
        for counts in self._counts():
            yield counts[:, self.unit_of_row]

    def ratio(self, above: Floats | Bools, below: Floats | Bools | None = None) -> Floats:
        """[resamples]: sum of ``above`` by sum of ``below`` (by rows drawn if None); nan where that is 0."""
        under = np.ones(len(above)) if below is None else below
        totals = self.totals(np.stack([above, under], axis=1).astype(np.float64))
        return np.where(totals[:, 1] > 0, totals[:, 0] / np.maximum(totals[:, 1], 1e-300), np.nan)

    def _counts(self) -> Iterable[Floats]:
        """Chunks [b, units] of how often each unit is drawn; kept where they are few enough."""
        if self.resamples * self.units > _CELLS:
            return self._drawn()
        self._kept = self._kept or list(self._drawn())
        return self._kept

    def _drawn(self) -> Iterator[Floats]:
        random = np.random.default_rng(self.seed)
        at_once = max(1, _CELLS // max(self.units, 1))
        for start in range(0, self.resamples, at_once):
            rows = min(at_once, self.resamples - start)
            drawn = random.integers(0, self.units, size=(rows, self.units))
            drawn += np.arange(rows)[:, None] * self.units
            flat = np.bincount(drawn.ravel(), minlength=rows * self.units)
            yield flat.reshape(rows, self.units).astype(np.float64)


def class_columns(gold: Ints, predicted: Ints, classes: int) -> sparse.csr_matrix:
    """[n, 3·classes] of ones: hits, gold and predicted by class; answers outside the classes are left out."""
    rows = np.arange(len(gold))
    right = gold == predicted
    inside = predicted < classes
    row = np.concatenate([rows[right], rows, rows[inside]])
    column = np.concatenate([gold[right], classes + gold, 2 * classes + predicted[inside]])
    return sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(len(gold), 3 * classes))


def resampled_macro_f1(resampling: Resampling, gold: Ints, predicted: Ints, classes: int) -> Floats:
    """[resamples]: macro-F1 over the gold classes 0..classes-1 that are in the resample."""
    totals = resampling.totals(class_columns(gold, predicted, classes))
    hits, golds, answered = totals[:, :classes], totals[:, classes : 2 * classes], totals[:, 2 * classes :]
    return f1_from_counts(hits, golds, answered)


class Steps:
    """Rows in order of falling score, for figures that look at the best-scored part of a resample."""

    def __init__(self, score: Floats, hit: Bools, resampling: Resampling) -> None:
        self._order = np.argsort(-score, kind="stable")
        self._ends = tie_ends(score[self._order])
        self._hit = hit[self._order].astype(np.float64)
        self._resampling = resampling

    def coverage_at_accuracy(self, target: float) -> Floats:
        """[resamples]: largest share of rows above a threshold with that share of hits."""
        return self._each(lambda drawn, hits: _best(drawn, hits, drawn, target))

    def recall_at_precision(self, least: float) -> Floats:
        """[resamples]: largest share of all hits above a threshold with that share of hits."""
        return self._each(lambda drawn, hits: _best(drawn, hits, hits, least))

    def average_precision(self) -> Floats:
        """[resamples]: area under the precision–recall curve."""
        return self._each(_average_precision)

    def _each(self, of: _Stepwise) -> Floats:
        parts = []
        for weights in self._resampling.row_weights():
            ordered = weights[:, self._order]
            drawn = np.cumsum(ordered, axis=1)[:, self._ends]
            hits = np.cumsum(ordered * self._hit, axis=1)[:, self._ends]
            parts.append(of(drawn, hits))
        return np.concatenate(parts)


def _best(drawn: Floats, hits: Floats, gain: Floats, least: float) -> Floats:
    enough = (hits >= least * drawn - 1e-9) & (drawn > 0)
    best = np.where(enough, gain, 0.0).max(axis=1)
    whole = gain[:, -1]
    return np.where(whole > 0, best / np.maximum(whole, 1e-300), np.nan)


def _average_precision(drawn: Floats, hits: Floats) -> Floats:
    precision = hits / np.maximum(drawn, 1e-300)
    steps = np.diff(hits, axis=1, prepend=0.0)
    whole = hits[:, -1]
    return np.where(whole > 0, (steps * precision).sum(axis=1) / np.maximum(whole, 1e-300), np.nan)
