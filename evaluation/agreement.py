"""How far reviewers agree: Krippendorff's alpha per head and per pair of reviewers, with who says what.

Alpha is 1 for full agreement, 0 for what chance gives, below 0 for less. Ordered heads (urgency, tier) are
compared as ordered labels: 一般 against 特急 counts more than 一般 against 较急. Source: Krippendorff (2011),
"Computing Krippendorff's alpha-reliability"; computed by the package `krippendorff`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import krippendorff
import numpy as np

from data.scheme import Scheme
from data.tables import read_table
from evaluation.bootstrap import SEED, Figure, figure
from evaluation.errors import BadJudgements
from evaluation.labels import Floats, Ints

__all__ = ["Confused", "HeadAgreement", "Judged", "PairAgreement", "agreement", "read_judged", "verdict"]

RESAMPLES = 300
GOOD, FAIR = 0.8, 0.667  # Krippendorff's customary limits: reliable, and enough for tentative conclusions
_MOST_CONFUSED = 10
_COLUMNS = ("appeal", "reviewer", "head", "code")


@dataclass(frozen=True)
class Judged:
    """What one reviewer said of one head of one appeal; an empty ``code`` says that it cannot be told."""

    appeal: str
    reviewer: str
    head: str
    code: str


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
    level: Literal["nominal", "ordinal"]
    appeals: int
    reviewers: int
    labels: int
    untold: int
    same: float
    alpha: Figure | None
    pairs: tuple[PairAgreement, ...]
    confused: tuple[Confused, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "verdict": verdict(self)}


def agreement(judged: Iterable[Judged], scheme: Scheme) -> list[HeadAgreement]:
    """Agreement per head, in the scheme's order. The last of a reviewer's labels of an appeal counts.

    Raises BadJudgements when a head or code is not in the scheme, or no appeal has labels of two reviewers.
    """
    last = {(one.head, one.appeal, one.reviewer): one.code for one in judged}
    by_head: dict[str, dict[str, dict[str, str]]] = {}
    for (head, appeal, reviewer), code in last.items():
        by_head.setdefault(head, {}).setdefault(appeal, {})[reviewer] = code
    _check(by_head, scheme)
    found = [_head(head, by_head[head], scheme) for head in scheme.heads if head in by_head]
    compared = [one for one in found if one.appeals]
    if not compared:
        raise BadJudgements(
            f"expected appeals that two reviewers labelled, found none among {len(last)} labels; "
            "ask for double review of a share of the appeals"
        )
    return compared


def read_judged(path: Path) -> list[Judged]:
    """Labels from a table with the columns appeal, reviewer, head, code, in the order of their making.

    Raises BadJudgements where a column is missing, ReadError as the readers do.
    """
    table = read_table(path)
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise BadJudgements(
            f"{path}: expected the columns {', '.join(_COLUMNS)}; missing: {', '.join(missing)}; "
            f"the file has {', '.join(table.columns)}"
        )
    return [Judged(*(record[name].strip() for name in _COLUMNS)) for _, record in table.records()]


def verdict(one: HeadAgreement) -> str:
    """What the figure means and what to do about it, in one sentence."""
    counted = f"{one.appeals} appeals with labels of two or more of {one.reviewers} reviewers"
    if one.alpha is None:
        return f"{one.head}: all of {counted} have the same label, so agreement cannot be told from chance"
    shown = f"{one.head}: alpha {one.alpha.value:.2f} on {counted}"
    if one.alpha.value >= GOOD:
        return f"{shown}: reliable"
    worst = one.confused[0] if one.confused else None
    told = f"; most often {worst.first} against {worst.second} ({worst.appeals})" if worst else ""
    if one.alpha.value >= FAIR:
        return f"{shown}: usable, talk about the disagreements{told}"
    return f"{shown}: too low to train on, sharpen the definitions first{told}"


def _check(by_head: Mapping[str, Mapping[str, Mapping[str, str]]], scheme: Scheme) -> None:
    for head, appeals in by_head.items():
        if head not in scheme.heads:
            raise BadJudgements(f"head: expected one of {', '.join(scheme.heads)}, got {head!r}")
        said = {code for labels in appeals.values() for code in labels.values() if code}
        unknown = sorted(said - set(scheme.labels[head]))
        if unknown:
            raise BadJudgements(
                f"head {head}: expected codes of scheme {scheme.name} {scheme.version}, got "
                f"{', '.join(unknown[:5])}; give the scheme that the labels were made by (--scheme)"
            )


def _head(head: str, appeals: Mapping[str, Mapping[str, str]], scheme: Scheme) -> HeadAgreement:
    told = {id: {who: code for who, code in labels.items() if code} for id, labels in appeals.items()}
    shared = [labels for labels in told.values() if len(labels) > 1]
    codes = _codes(head, shared, scheme)
    counts = _counts(shared, codes)
    ordered = scheme.heads[head].kind == "ordinal"
    level: Literal["nominal", "ordinal"] = "ordinal" if ordered else "nominal"
    return HeadAgreement(
        head=head,
        level=level,
        appeals=len(shared),
        reviewers=len({who for labels in shared for who in labels}),
        labels=int(counts.sum()),
        untold=sum(not code for labels in appeals.values() for code in labels.values()),
        same=_same(counts) if shared else 0.0,
        alpha=_alpha_figure(counts, level),
        pairs=_pairs(shared, codes, level),
        confused=_confused(shared, codes),
    )


def _codes(head: str, shared: Sequence[Mapping[str, str]], scheme: Scheme) -> list[str]:
    """Codes that occur, in the scheme's order: for ordered heads that is the order of the levels."""
    said = {code for labels in shared for code in labels.values()}
    return [code for code in scheme.labels[head] if code in said]


def _counts(shared: Sequence[Mapping[str, str]], codes: Sequence[str]) -> Ints:
    """[appeals, codes]: how many reviewers gave each code."""
    place = {code: i for i, code in enumerate(codes)}
    counts = np.zeros((len(shared), len(codes)), np.int64)
    for row, labels in enumerate(shared):
        for code in labels.values():
            counts[row, place[code]] += 1
    return counts


def _same(counts: Ints) -> float:
    """Share of pairs of labels of one appeal that are equal."""
    total = counts.sum(axis=1)
    equal = (counts * (counts - 1)).sum()
    return float(equal / (total * (total - 1)).sum())


def _alpha(counts: Ints, level: Literal["nominal", "ordinal"]) -> float | None:
    used = counts[:, counts.any(axis=0)]
    if used.shape[1] < 2:
        return None
    return float(krippendorff.alpha(value_counts=used, level_of_measurement=level))


def _alpha_figure(counts: Ints, level: Literal["nominal", "ordinal"]) -> Figure | None:
    """Alpha with the percentile interval of resampled appeals."""
    value = _alpha(counts, level)
    if value is None:
        return None
    random = np.random.default_rng(SEED)
    drawn = [_alpha(counts[random.integers(0, len(counts), len(counts))], level) for _ in range(RESAMPLES)]
    samples: Floats = np.array([one for one in drawn if one is not None])
    return figure(value, samples)


def _pairs(
    shared: Sequence[Mapping[str, str]], codes: Sequence[str], level: Literal["nominal", "ordinal"]
) -> tuple[PairAgreement, ...]:
    people = sorted({who for labels in shared for who in labels})
    found = []
    for pair in combinations(people, 2):
        both = [{who: labels[who] for who in pair} for labels in shared if set(pair) <= set(labels)]
        if both:
            counts = _counts(both, codes)
            found.append(PairAgreement(pair, len(both), _same(counts), _alpha(counts, level)))
    return tuple(sorted(found, key=lambda one: -one.appeals))


def _confused(shared: Sequence[Mapping[str, str]], codes: Sequence[str]) -> tuple[Confused, ...]:
    place = {code: i for i, code in enumerate(codes)}
    counts = Counter(
        pair
        for labels in shared
        for pair in combinations(sorted(set(labels.values()), key=lambda code: place[code]), 2)
    )
    return tuple(Confused(*pair, appeals) for pair, appeals in counts.most_common(_MOST_CONFUSED))
