"""Where a model is good and where it is not: the same rows cut by length, class size, month and source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from data.appeals import Row
from evaluation import metrics
from evaluation.labels import Bools, Ints, LabelSet
from evaluation.scoring import Scored

__all__ = ["Slice", "band_of_labels", "slices"]

_QUANTILES = (0.25, 0.5, 0.75, 0.9)
_BANDS = ("frequent", "mid", "rare")
_UP_TO = (0.5, 0.9)  # share of rows that the frequent labels hold, and these and the mid ones together


@dataclass(frozen=True)
class Slice:
    """Some of the rows: accuracy with its Wilson 95 % interval, macro-F1 (None where not defined)."""

    kind: str
    name: str
    n: int
    accuracy: float
    low: float
    high: float
    macro_f1: float | None
    confidence: float


def slices(
    scored: Scored, rows: Sequence[Row], lengths: Ints, support: Mapping[LabelSet, int]
) -> list[Slice]:
    """All slices of a head's rows; a cut that would leave one single slice is left out.

    ``rows`` and ``lengths`` (characters) are those of all rows, ``support`` counts labels in the whole file.
    """
    own = [rows[i] for i in scored.rows]
    bands = band_of_labels(support)
    cuts = {
        "length": _length_names(lengths[scored.rows]),
        "label": [bands[scored.space.golds[i]] for i in scored.gold],
        "month": [row.date[:7] or "no date" for row in own],
        "source": [row.source or "–" for row in own],
    }
    return [one for kind, names in cuts.items() for one in _cut(kind, names, scored)]


def band_of_labels(support: Mapping[LabelSet, int]) -> dict[LabelSet, str]:
    """Each label's band: the most frequent labels up to half of the rows, then up to 90 %, then the rest."""
    total = sum(support.values())
    before, bands = 0, dict[LabelSet, str]()
    for label in sorted(support, key=lambda one: (-support[one], sorted(one))):
        share = before / total
        bands[label] = _BANDS[sum(share >= limit for limit in _UP_TO)]
        before += support[label]
    return bands


def _length_names(lengths: Ints) -> list[str]:
    edges = np.unique(np.quantile(lengths, _QUANTILES, method="inverted_cdf"))
    place = np.searchsorted(edges, lengths, side="left")
    lows = [0, *(edges + 1).tolist()]
    pairs = zip(lows, edges.tolist(), strict=False)
    names = [f"{low}–{high} chars" if low < high else f"{low} chars" for low, high in pairs]
    names.append(f"over {edges[-1]} chars")
    return [names[i] for i in place]


def _cut(kind: str, names: Sequence[str], scored: Scored) -> list[Slice]:
    different = sorted(set(names), key=_order)
    if len(different) < 2:
        return []
    place = np.array(names, dtype=object)
    return [_slice(kind, name, scored, place == name) for name in different]


def _order(name: str) -> tuple[int, float, str]:
    """Bands from frequent to rare, lengths by number, all else by name."""
    if name in _BANDS:
        return _BANDS.index(name), 0, name
    digits = name.removeprefix("over ").split("–")[0].split(" ")[0]
    if name.endswith(" chars"):
        return 0, float(digits) + 0.5 * name.startswith("over "), name
    return 0, 0, name


def _slice(kind: str, name: str, scored: Scored, keep: Bools) -> Slice:
    part = scored.only(keep)
    right, n = int(part.correct.sum()), len(part)
    interval = binomtest(right, n).proportion_ci(method="wilson")
    classes = scored.space.granularity != "admissible"
    return Slice(
        kind=kind,
        name=name,
        n=n,
        accuracy=right / n,
        low=float(interval.low),
        high=float(interval.high),
        macro_f1=metrics.macro_f1(part.gold, part.predicted) if classes else None,
        confidence=float(part.confidence.mean()),
    )
