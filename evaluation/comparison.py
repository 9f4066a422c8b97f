"""Two models on the same rows: by how much they differ, and how sure that is.

The difference gets a paired bootstrap interval (the same resamples for both, whole groups of
near-duplicates drawn) and McNemar's test on the rows where just one is right. Where several heads are
compared, p-values are adjusted by Holm. One model is called better on a head only if the interval of the
difference in accuracy leaves out 0 and the adjusted p is under 0.05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest, chi2

from data.appeals import Row
from data.scheme import Scheme
from evaluation import metrics
from evaluation.bootstrap import RESAMPLES, Figure, Resampling, figure, resampled_macro_f1
from evaluation.errors import NothingToScore, UnknownHead
from evaluation.labels import Bools, Floats
from evaluation.scoring import Answers, Scored, chosen_heads, score_head, urgent_or_rest

__all__ = ["ClassChange", "Comparison", "HeadComparison", "compare", "compare_head", "holm", "mcnemar"]

SIGNIFICANT = 0.05
_EXACT_BELOW = 25  # rows where just one is right, under which the exact test is used
_SHOWN = 5

Better = Literal["A", "B", ""]


@dataclass(frozen=True)
class ClassChange:
    """One label: rows, how many more of them B gets right, F1 of both (None where not defined)."""

    name: str
    title: str
    support: int
    net: int
    f1_a: float | None
    f1_b: float | None


@dataclass(frozen=True)
class HeadComparison:
    """One head. Differences are B − A, 0 to 1; ``p`` is McNemar's, ``p_adjusted`` Holm's over all heads.

    ``b_ahead``: share of resamples in which B's accuracy is higher (ties count half).
    """

    head: str
    n: int
    granularity: str
    accuracy_a: float
    accuracy_b: float
    accuracy: Figure
    macro_f1_a: float | None
    macro_f1_b: float | None
    macro_f1: Figure | None
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    p: float
    p_adjusted: float
    b_ahead: float
    by_group: bool
    losers: tuple[ClassChange, ...]
    winners: tuple[ClassChange, ...]

    @property
    def better(self) -> Better:
        """Which is better beyond doubt, empty if none is."""
        if self.p_adjusted >= SIGNIFICANT:
            return ""
        return _side(self.accuracy)

    @property
    def verdict(self) -> str:
        """One line in plain words."""
        shown = f"{_points(self.accuracy)} accuracy ({_interval(self.accuracy)}, McNemar {_p(self.p)})"
        if self.only_a == self.only_b == 0:
            return f"no difference can be shown on {self.head}: both are right on the same rows of {self.n}"
        if self.better:
            return f"{self.better} is better on {self.head}: {self._by()}"
        return f"no difference can be shown on {self.head}: {shown}{self._despite()}"

    def _by(self) -> str:
        """The gain of the better one, seen from it."""
        seen = self.accuracy if self.better == "B" else _turned(self.accuracy)
        return f"{_points(seen)} accuracy ({_interval(seen)}, McNemar {_p(self.p)}){self._despite()}"

    def _despite(self) -> str:
        """What macro-F1 says where it does not say the same."""
        if self.macro_f1 is None or _side(self.macro_f1) in ("", self.better):
            return ""
        return f"; but macro-F1 of B {_points(self.macro_f1)} ({_interval(self.macro_f1)})"


@dataclass(frozen=True)
class Comparison:
    """All heads of two models."""

    a: str
    b: str
    heads: tuple[HeadComparison, ...]

    @property
    def verdict(self) -> str:
        """One line over all heads: which is better where, and how sure that is."""
        if len(self.heads) == 1:
            return self.heads[0].verdict
        sure = [one for one in self.heads if one.better]
        unsure = [one.head for one in self.heads if not one.better]
        parts = [one.verdict for one in sorted(sure, key=lambda one: (one.better != "B", one.p))]
        if unsure:
            parts.append(f"no difference can be shown on {', '.join(unsure)}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        heads = [{**asdict(one), "better": one.better, "verdict": one.verdict} for one in self.heads]
        return {"a": self.a, "b": self.b, "verdict": self.verdict, "heads": heads}


def compare(
    rows: Sequence[Row],
    a: Answers,
    b: Answers,
    scheme: Scheme,
    heads: Sequence[str] = (),
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two models' answers to the same rows, on the heads that both have.

    ``scheme`` reads the tree of labels. Raises UnknownHead, or NothingToScore if no row has a label of a
    head that both have.
    """
    shared = {name: head for name, head in a.heads.items() if name in b.heads}
    if not shared:
        raise UnknownHead(
            f"expected two models with a head in common, got {', '.join(a.heads)} and {', '.join(b.heads)}"
        )
    found: list[HeadComparison] = []
    for head in chosen_heads(rows, shared, heads):
        scored = score_head(rows, head, a, scheme), score_head(rows, head, b, scheme)
        found.append(compare_head(head, *scored, rows, resamples))
        if head == "urgency" and len(scored[0].space.golds) > 2:
            found += _urgent(rows, a, b, scheme, resamples)
    adjusted = holm([one.p for one in found])
    settled = (replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True))
    return Comparison(_label(a), _label(b), tuple(settled))


def compare_head(head: str, a: Scored, b: Scored, rows: Sequence[Row], resamples: int) -> HeadComparison:
    """Compare on one head; ``a`` and ``b`` must be of the same rows."""
    if not len(a):
        raise NothingToScore(f"head {head}: expected rows with a label, got none")
    resampling = Resampling([rows[i].group for i in a.rows], resamples)
    samples = resampling.ratio(b.correct) - resampling.ratio(a.correct)
    difference = float(b.correct.mean() - a.correct.mean())
    only_a, only_b = int((a.correct & ~b.correct).sum()), int((~a.correct & b.correct).sum())
    p = mcnemar(only_a, only_b)
    changes = _changes(a, b)
    return HeadComparison(
        head=head,
        n=len(a),
        granularity=a.space.granularity,
        accuracy_a=float(a.correct.mean()),
        accuracy_b=float(b.correct.mean()),
        accuracy=figure(difference, samples),
        **_macro_f1(a, b, resampling),
        both_right=int((a.correct & b.correct).sum()),
        only_a=only_a,
        only_b=only_b,
        both_wrong=int((~a.correct & ~b.correct).sum()),
        p=p,
        p_adjusted=p,
        b_ahead=_ahead(samples),
        by_group=resampling.by_group,
        losers=tuple(one for one in changes[:_SHOWN] if one.net < 0),
        winners=tuple(one for one in reversed(changes[-_SHOWN:]) if one.net > 0),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p that a row where just one is right is as likely A's as B's (McNemar 1947).

    Exact binomial under 25 such rows, else chi-squared with Edwards' continuity correction.
    """
    differing = only_a + only_b
    if differing == 0:
        return 1.0
    if differing < _EXACT_BELOW:
        return float(binomtest(only_a, differing, 0.5).pvalue)
    return float(chi2.sf(max(abs(only_a - only_b) - 1, 0) ** 2 / differing, df=1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down rule, in the given order."""
    adjusted, most = [0.0] * len(p_values), 0.0
    for step, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        most = max(most, min(1.0, p_values[i] * (len(p_values) - step)))
        adjusted[i] = most
    return adjusted


def _urgent(
    rows: Sequence[Row], a: Answers, b: Answers, scheme: Scheme, resamples: int
) -> list[HeadComparison]:
    one, other = urgent_or_rest(rows, "urgency", a, scheme), urgent_or_rest(rows, "urgency", b, scheme)
    if one is None or other is None or not np.array_equal(one.rows, other.rows):
        return []
    return [compare_head("urgency (urgent vs rest)", one, other, rows, resamples)]


def _label(answers: Answers) -> str:
    return f"{answers.model}@{answers.part}" if answers.part else answers.model


def _macro_f1(a: Scored, b: Scored, resampling: Resampling) -> dict[str, Any]:
    if a.space.granularity == "admissible":
        return {"macro_f1_a": None, "macro_f1_b": None, "macro_f1": None}
    points = [metrics.macro_f1(one.gold, one.predicted) for one in (a, b)]
    samples = [resampled_macro_f1(resampling, one.gold, one.predicted, one.classes) for one in (a, b)]
    difference = figure(points[1] - points[0], samples[1] - samples[0])
    return {"macro_f1_a": points[0], "macro_f1_b": points[1], "macro_f1": difference}


def _changes(a: Scored, b: Scored) -> list[ClassChange]:
    """Labels from the one where B loses most rows to the one where it wins most."""
    f1_a, f1_b = _f1_by_class(a), _f1_by_class(b)
    found = [
        ClassChange(
            name=a.space.gold_names[i],
            title=a.space.gold_titles[i],
            support=int((a.gold == i).sum()),
            net=_net(a.gold == i, a.correct, b.correct),
            f1_a=f1_a.get(i),
            f1_b=f1_b.get(i),
        )
        for i in range(a.classes)
    ]
    return sorted(found, key=lambda one: one.net)


def _net(own: Bools, a: Bools, b: Bools) -> int:
    return int(b[own].sum()) - int(a[own].sum())


def _f1_by_class(scored: Scored) -> dict[int, float]:
    if scored.space.granularity == "admissible":
        return {}
    return {one.index: one.f1 for one in metrics.per_class(scored.gold, scored.predicted)}


def _ahead(samples: Floats) -> float:
    return float((samples > 0).mean() + 0.5 * (samples == 0).mean())


def _side(difference: Figure) -> Better:
    if difference.low is None or difference.high is None:
        return ""
    return "B" if difference.low > 0 else "A" if difference.high < 0 else ""


def _turned(difference: Figure) -> Figure:
    low, high = difference.low, difference.high
    return Figure(-difference.value, None if high is None else -high, None if low is None else -low)


def _points(difference: Figure) -> str:
    return f"{100 * difference.value:+.1f} points"


def _interval(difference: Figure) -> str:
    if difference.low is None or difference.high is None:
        return "no interval"
    return f"95 % CI {100 * difference.low:+.1f} … {100 * difference.high:+.1f}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"
