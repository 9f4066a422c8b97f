"""How good answers are that nobody looked at, estimated from the audit slice.

Each audited appeal stands for as many as its weight says. A share is estimated as Σ w·y / Σ w (Hájek's
ratio of Horvitz–Thompson totals); its 95 % interval is Wilson's, with Kish's effective number of appeals,
(Σ w)² / Σ w², in place of their number: unlike p ± 1.96·s it stays within [0, 1] and says how little few
appeals tell, also when all or none of them are right. Sources: Hájek (1971); Wilson (1927); Kish (1965).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from data.reviews.figures import AuditRow

__all__ = ["AUTOMATIC", "WHOLE", "Estimate", "Judgement", "estimate", "judgements", "still_needed", "wilson"]

AUTOMATIC = "auto_dispatch"
WHOLE = ""  # in place of a head: every label of the appeal
Z = 1.959963984540054  # two-sided 95 %


@dataclass(frozen=True)
class Judgement:
    """Whether one head (or the `WHOLE`) of an audited appeal was answered right, and its weight.

    `right` is None where nobody can say: disputed, partial, or not to be told from the text.
    """

    appeal_number: int
    received_at: datetime
    weight: float
    head: str
    right: bool | None


@dataclass(frozen=True)
class Estimate:
    """A share with its 95 % interval, from `appeals` that stand for `stands_for`.

    `effective`: Kish's number of appeals; `open`: appeals that nobody could judge, left out.
    """

    value: float
    low: float
    high: float
    appeals: int
    stands_for: float
    effective: float
    open: int = 0

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def judgements(rows: Iterable[AuditRow], action: str = AUTOMATIC) -> list[Judgement]:
    """Per audited appeal that was dispatched so: each head, and the whole.

    The whole is right when every head is that can be told from the text. It needs a label of every head
    that is labelled at all of that model version's answers; an appeal without them is left out.
    """
    by_appeal: dict[int, list[AuditRow]] = {}
    needed: dict[str, set[str]] = {}
    for row in rows:
        needed.setdefault(row.model_version, set()).add(row.head)
        if row.action == action:
            by_appeal.setdefault(row.appeal_number, []).append(row)
    found: list[Judgement] = []
    for some in by_appeal.values():
        found += [_judgement(row, row.head, _right(row)) for row in some]
        if {row.head for row in some} == needed[some[0].model_version]:
            found.append(_judgement(some[0], WHOLE, _all_right(some)))
    return found


def estimate(judged: Sequence[Judgement]) -> Estimate | None:
    """The share that is right among what these stand for; None where nobody could judge any."""
    known = [one for one in judged if one.right is not None]
    if not known:
        return None
    weights = [one.weight for one in known]
    total = math.fsum(weights)
    effective = total**2 / math.fsum(weight**2 for weight in weights)
    value = math.fsum(one.weight for one in known if one.right) / total
    low, high = wilson(value, effective)
    return Estimate(value, low, high, len(known), total, effective, len(judged) - len(known))


def wilson(value: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in n cases (n > 0, not necessarily whole)."""
    middle = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    return max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half))


def still_needed(found: Estimate, half_width: float) -> int:
    """About how many more appeals make the interval this narrow, if what comes is like what came."""
    if found.half_width <= half_width:
        return 0
    likely = (found.low + found.high) / 2  # never 0 or 1, however few there are
    enough = found.effective
    while _half_width(likely, enough) > half_width:
        enough *= 1.05
    return max(1, math.ceil(enough / found.effective * found.appeals) - found.appeals)


def _half_width(value: float, n: float) -> float:
    low, high = wilson(value, n)
    return (high - low) / 2


def _judgement(row: AuditRow, head: str, right: bool | None) -> Judgement:
    return Judgement(row.appeal_number, row.received_at, row.weight, head, right)


def _right(row: AuditRow) -> bool | None:
    return row.suggested == row.label if row.label else None


def _all_right(rows: Sequence[AuditRow]) -> bool | None:
    """One wrong label is enough; else nobody can say while one is disputed."""
    if any(row.label and row.suggested != row.label for row in rows):
        return False
    told = any(row.label for row in rows)
    return True if told and all(row.label is not None for row in rows) else None
