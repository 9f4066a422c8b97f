"""What the leads' page is told: figures with their intervals, and why where there is none."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import ConfigDict, Field

from serving.messages import Message
from serving.review.figures_examples import FIGURES
from serving.review.words import NamedOut

__all__ = [
    "AgreementOut", "AuditOut", "ConfusedOut", "CorrectionWeek", "DayOut", "EstimateOut", "FiguresOut",
    "HeadCorrections", "HeadQuality", "LabelErrorsOut", "MatrixOut", "PairOut", "QualityWeek",
    "QueueFigures", "ReviewerOut", "SecondsOut", "Spread", "SpreadWeek", "SuspectedHead", "TotalsOut",
]  # fmt: skip


class QueueFigures(Message):
    """One queue: waiting and held now; done and skipped in the period."""

    queue: str
    name: str
    waiting: int
    held: int
    done: int
    skipped: int
    oldest: datetime | None = Field(description="When the longest waiting appeal was received")


class TotalsOut(Message):
    """All reviewers together."""

    appeals: int = Field(description="Different appeals per reviewer and day, summed")
    labels: int
    reviewers: int
    skipped: int


class DayOut(Message):
    """What one reviewer did on one day."""

    day: date
    appeals: int
    labels: int
    confirmed: int
    changed: int
    adjudicated: int
    bulk: int
    skipped: int
    median_seconds: float | None


class ReviewerOut(Message):
    """One reviewer over the period; `median_seconds` over all appeals that they did under a lease."""

    reviewer: str
    appeals: int
    labels: int
    median_seconds: float | None
    days: list[DayOut]


class PairOut(Message):
    """Two reviewers on the appeals that both labelled; `why` says why there is no alpha."""

    reviewers: tuple[str, str]
    appeals: int
    same: float
    alpha: float | None
    why: str


class ConfusedOut(Message):
    """Appeals for which one reviewer said `first` and another `second`."""

    first: NamedOut
    second: NamedOut
    appeals: int


class MatrixOut(Message):
    """Appeals per pair of labels, symmetric; the diagonal: two reviewers said the same.

    The labels that are confused most, in the scheme's order; `left_out`: how many further ones there are.
    """

    labels: list[NamedOut]
    counts: list[list[int]]
    left_out: int


class AgreementOut(Message):
    """How far reviewers agree on one head; `why` says why there is no alpha, `verdict` what it means."""

    head: str
    name: str
    ordered: bool
    alpha: float | None
    low: float | None
    high: float | None
    why: str
    verdict: str
    appeals: int
    reviewers: int
    labels: int
    untold: int
    same: float | None
    pairs: list[PairOut]
    confused: list[ConfusedOut]
    matrix: MatrixOut


class EstimateOut(Message):
    """A share with its 95 % interval; all None where no appeal tells. `stands_for`: appeals it speaks of."""

    value: float | None
    low: float | None
    high: float | None
    appeals: int
    open: int
    stands_for: float


class HeadQuality(EstimateOut):
    """The share of one head's labels that are right."""

    head: str
    name: str


class QualityWeek(Message):
    """The week that begins on this Monday."""

    week: date
    whole: EstimateOut
    heads: list[HeadQuality]


class AuditOut(Message):
    """The quality of automatic dispatch, estimated from the audit slice."""

    share: float = Field(description="Which share of appeals is audited now")
    target: float = Field(description="Which share of labels must be right where it is dispatched by itself")
    members: int
    answered: int
    used: int
    automatic: int = Field(description="Of those used, the appeals that were dispatched automatically")
    whole: EstimateOut
    heads: list[HeadQuality]
    weeks: list[QualityWeek]
    words: list[str]


class CorrectionWeek(Message):
    """One week: labels that people looked at, and the share they changed, with its 95 % interval."""

    week: date
    labels: int
    changed: int
    rate: float
    low: float
    high: float


class HeadCorrections(Message):
    """The correction rate of one head, over the period and by week."""

    head: str
    name: str
    labels: int
    changed: int
    rate: float | None
    weeks: list[CorrectionWeek]


class Spread(Message):
    """Seconds per appeal: the median and the quarters around it; None without any."""

    appeals: int
    low: float | None
    median: float | None
    high: float | None


class SpreadWeek(Spread):
    """The week that begins on this Monday."""

    week: date


class SecondsOut(Spread):
    """The same by week."""

    weeks: list[SpreadWeek]


class SuspectedHead(Message):
    """Labels of one head that a program held for wrong, and what people made of them."""

    head: str
    name: str
    suspected: int
    looked_at: int
    wrong: int
    right: int
    as_proposed: int = Field(description="Of the wrong ones, those that got the label the program proposed")


class LabelErrorsOut(Message):
    """Suspected label errors that came up in the period."""

    suspected: int
    looked_at: int
    wrong: int
    right: int
    as_proposed: int
    heads: list[SuspectedHead]
    words: str


class FiguresOut(Message):
    """What the leads' page draws."""

    model_config = ConfigDict(json_schema_extra={"examples": [FIGURES]})

    since: datetime
    until: datetime
    days: int
    queues: list[QueueFigures]
    totals: TotalsOut
    reviewers: list[ReviewerOut]
    seconds: SecondsOut
    agreement: list[AgreementOut]
    audit: AuditOut
    corrections: list[HeadCorrections]
    label_errors: LabelErrorsOut
