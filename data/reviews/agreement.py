"""How far reviewers agree: Krippendorff's alpha per head and per pair of reviewers, with who says what.

Alpha is 1 for full agreement, 0 for what chance gives, below 0 for less. Ordered heads (urgency, tier) are
compared as ordered labels: 一般 against 特急 counts more than 一般 against 较急. Source: Krippendorff (2011),
"Computing Krippendorff's alpha-reliability", sections C and D; the interval is Efron's percentile interval
over resampled appeals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FAIR", "GOOD", "Alpha", "Confused", "HeadAgreement", "Level", "PairAgreement", "alpha", "head_agreement",
    "label_pairs", "shared_labels",
]  # fmt: skip

Level: TypeAlias = Literal["nominal", "ordinal"]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

GOOD, FAIR = 0.8, 0.667  # Krippendorff's customary limits: reliable, and enough for tentative conclusions
RESAMPLES = 300
SEED = 12345
LEVEL = 0.95
MOST_CONFUSED = 10


@dataclass(frozen=True)
class Alpha:
    """Alpha with its 95 % interval; None where too few resamples have one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Confused:
    """Appeals that one reviewer labelled ``first`` and another ``second`` (codes in the scheme's order)."""

    first: str
    second: str
    appeals: int


@dataclass(frozen=True)
class PairAgreement:
    """Two reviewers on the ``appeals`` that both labelled. ``alpha``: None where all have one label."""

    reviewers: tuple[str, str]
    appeals: int
    same: float
    alpha: float | None


@dataclass(frozen=True)
class HeadAgreement:
    """All reviewers on one head, over the appeals that two or more labelled.

    ``same``: share of pairs of labels of one appeal that are equal. ``alpha``: None where there is only
    one label, so that chance cannot be told from agreement. ``untold``: labels that say it cannot be told;
    they are left out.
    """

    head: str
    level: Level
    appeals: int
    reviewers: int
    labels: int
    untold: int
    same: float
    alpha: Alpha | None
    pairs: tuple[PairAgreement, ...]
    confused: tuple[Confused, ...]


def head_agreement(
    head: str, level: Level, order: Sequence[str], appeals: Mapping[Any, Mapping[str, str]]
) -> HeadAgreement:
    """Agreement on one head; ``appeals``: appeal → reviewer → code ("": cannot be told from the text).

    ``order``: all codes of the head, those of an ordered head from the lowest; other codes raise KeyError.
    """
    shared = shared_labels(appeals)
    place = _places(shared, order)
    counts = _counts(shared, place)
    return HeadAgreement(
        head=head,
        level=level,
        appeals=len(shared),
        reviewers=len({who for labels in shared for who in labels}),
        labels=int(counts.sum()),
        untold=sum(not code for labels in appeals.values() for code in labels.values()),
        same=_same(counts) if shared else 0.0,
        alpha=_with_interval(counts, level) if shared else None,
        pairs=_pairs(shared, place, level),
        confused=_confused(shared, place),
    )


def shared_labels(appeals: Mapping[Any, Mapping[str, str]]) -> list[dict[str, str]]:
    """Reviewer → code of each appeal that two or more labelled; what cannot be told is left out."""
    told = [{who: code for who, code in labels.items() if code} for labels in appeals.values()]
    return [labels for labels in told if len(labels) > 1]


def label_pairs(shared: Sequence[Mapping[str, str]]) -> Counter[tuple[str, str]]:
    """Appeals per pair of codes that two reviewers gave; (a, a): two or more said a. Pairs are sorted."""
    counts: Counter[tuple[str, str]] = Counter()
    for labels in shared:
        given = Counter(labels.values())
        counts.update((code, code) for code, times in given.items() if times > 1)
        counts.update(combinations(sorted(given), 2))
    return counts


def _places(shared: Sequence[Mapping[str, str]], order: Sequence[str]) -> dict[str, int]:
    """A column for each code that occurs, in the order given; raises KeyError for any other code."""
    used = {code for labels in shared for code in labels.values()}
    if unknown := sorted(used - set(order)):
        raise KeyError(", ".join(unknown))
    return {code: column for column, code in enumerate(code for code in order if code in used)}


def _counts(shared: Sequence[Mapping[str, str]], place: Mapping[str, int]) -> Ints:
    """[appeals, codes]: how many reviewers gave each code."""
    counts = np.zeros((len(shared), len(place)), np.int64)
    for row, labels in enumerate(shared):
        for code in labels.values():
            counts[row, place[code]] += 1
    return counts


def _same(counts: Ints) -> float:
    """Share of pairs of labels of one appeal that are equal."""
    total = counts.sum(axis=1)
    equal = (counts * (counts - 1)).sum()
    return float(equal / (total * (total - 1)).sum())


# --- alpha ----------------------------------------------------------------------------------------


def alpha(counts: Ints, level: Level) -> float | None:
    """Alpha of [units, labels] counts, each row with two or more; None where one label is all there is."""
    return _alpha(np.ones(len(counts)), counts.astype(np.float64), _pairs_within(counts, level), level)


def _pairs_within(counts: Ints, level: Level) -> Floats:
    """Of each unit the ordered pairs of two people's labels, worth as much as the unit has labels.

    nominal: [units], those of different labels only (there may be hundreds of labels); ordinal: [units,
    labels, labels].
    """
    given = counts.astype(np.float64)
    others = given.sum(axis=1) - 1
    if level == "nominal":
        different: Floats = ((others + 1) ** 2 - (given**2).sum(axis=1)) / others
        return different
    pairs = given[:, :, None] * given[:, None, :]
    each = np.arange(given.shape[1])
    pairs[:, each, each] -= given
    weighted: Floats = pairs / others[:, None, None]
    return weighted


def _alpha(weights: Floats, counts: Floats, pairs: Floats, level: Level) -> float | None:
    """Alpha with each unit counted `weights` times: 1 − (n − 1) Σ o·δ² / Σ n·n·δ²."""
    totals: Floats = weights @ counts
    n = float(totals.sum())
    if level == "nominal":
        expected, observed = n**2 - float(totals @ totals), float(weights @ pairs)
    else:
        distance = _distance(totals)
        expected = float(totals @ distance @ totals)
        observed = float((np.tensordot(weights, pairs, axes=1) * distance).sum())
    return 1.0 - (n - 1.0) * observed / expected if expected > 0 else None


def _distance(totals: Floats) -> Floats:
    """δ² between ordered labels: by how many labels lie between them (Krippendorff, section D)."""
    middle = np.cumsum(totals) - totals / 2
    gaps: Floats = (middle[:, None] - middle[None, :]) ** 2
    return gaps


def _with_interval(counts: Ints, level: Level) -> Alpha | None:
    """Alpha with the percentile interval of resampled appeals."""
    value = alpha(counts, level)
    if value is None:
        return None
    random, units = np.random.default_rng(SEED), len(counts)
    given, pairs = counts.astype(np.float64), _pairs_within(counts, level)
    drawn: list[float] = []
    for _ in range(RESAMPLES):
        weights = np.bincount(random.integers(0, units, units), minlength=units).astype(np.float64)
        resampled = _alpha(weights, given, pairs, level)
        drawn += [] if resampled is None else [resampled]
    if len(drawn) < RESAMPLES / 2:  # nearly all have one label: what remains would not be a fair choice
        return Alpha(value)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Alpha(value, float(low), float(high))


# --- who and what ---------------------------------------------------------------------------------


def _pairs(
    shared: Sequence[Mapping[str, str]], place: Mapping[str, int], level: Level
) -> tuple[PairAgreement, ...]:
    together: dict[tuple[str, str], list[dict[str, str]]] = {}
    for labels in shared:
        for first, second in combinations(sorted(labels), 2):
            both = {first: labels[first], second: labels[second]}
            together.setdefault((first, second), []).append(both)
    found = []
    for people, both_said in sorted(together.items()):
        counts = _counts(both_said, place)
        found.append(PairAgreement(people, len(both_said), _same(counts), alpha(counts, level)))
    return tuple(sorted(found, key=lambda one: -one.appeals))


def _confused(shared: Sequence[Mapping[str, str]], place: Mapping[str, int]) -> tuple[Confused, ...]:
    counts = {tuple(sorted(pair, key=place.__getitem__)): n for pair, n in label_pairs(shared).items()}
    apart = [Confused(first, second, n) for (first, second), n in counts.items() if first != second]
    apart.sort(key=lambda one: (-one.appeals, place[one.first], place[one.second]))
    return tuple(apart[:MOST_CONFUSED])
