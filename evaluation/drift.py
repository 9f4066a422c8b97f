"""Whether recent appeals still look like those a model was trained on, and what to do if not.

Both files are answered by the same model, so that shares and confidence are measured by one instrument:
label shares (chi-squared per label, adjusted by Holm; Jensen–Shannon distance per head), confidence
(Kolmogorov–Smirnov), how often reviewers corrected the answer, n-grams that the model does not know, and
the embedding: how well a classifier tells recent from base appeals (Lopez-Paz and Oquab 2017, "Revisiting
classifier two-sample tests"). Statistics by scipy and scikit-learn. Only figures are kept, never a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp

from classifier.predictor import Predictor
from data.appeals import Row
from evaluation.bootstrap import SEED
from evaluation.comparison import holm
from evaluation.drift_observed import Observed, apartness, observe
from evaluation.errors import NothingToScore
from evaluation.labels import Floats
from evaluation.scoring import Stage, silent

__all__ = ["Advice", "Drift", "DriftLimits", "HeadDrift", "LabelShare", "Shift", "Week", "drift"]

Advice = Literal["nothing", "review", "retrain"]
Kind = Literal["share", "confidence", "corrections", "vocabulary", "embedding"]

FEWEST_ROWS = 50
_URGE: Mapping[Kind, Advice] = {
    "share": "review", "confidence": "review", "corrections": "retrain", "vocabulary": "retrain",
    "embedding": "retrain",
}  # fmt: skip


class DriftLimits(BaseModel):
    """From when a change matters; all are shares from 0 to 1, and it must be significant at ``p``, too.

    ``auc``: area under the ROC curve of the classifier that tells recent from base appeals (0.5: it cannot).
    ``most``: rows of each file that are looked at, drawn at random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    p: float = Field(0.01, gt=0, lt=1)
    share: float = Field(0.03, gt=0, lt=1)
    confidence: float = Field(0.03, gt=0, lt=1)
    corrections: float = Field(0.03, gt=0, lt=1)
    vocabulary: float = Field(0.03, gt=0, lt=1)
    auc: float = Field(0.65, gt=0.5, lt=1)
    most: int = Field(3000, ge=FEWEST_ROWS)


@dataclass(frozen=True)
class Shift:
    """One figure before (base) and after (recent). ``p``: adjusted where several are tested.

    ``matters``: over the limit and significant. ``told``: a sentence with the figures.
    """

    kind: Kind
    head: str
    before: float
    after: float
    p: float
    matters: bool
    told: str

    @property
    def size(self) -> float:
        """How large the change is, for the order in which changes are told."""
        return abs(self.after - self.before)


@dataclass(frozen=True)
class LabelShare:
    """Share of appeals that the model gives a label, in both files."""

    head: str
    code: str
    title: str
    before: float
    after: float
    p: float


@dataclass(frozen=True)
class HeadDrift:
    """One head: Jensen–Shannon distance of the label shares (0 to 1), and mean confidence in both files."""

    head: str
    distance: float
    confidence_before: float
    confidence_after: float
    shares: tuple[LabelShare, ...]


@dataclass(frozen=True)
class Week:
    """One ISO week of the recent file; ``corrected`` is None without reviewed appeals."""

    name: str
    rows: int
    confidence: float
    corrected: float | None
    unknown: float | None


@dataclass(frozen=True)
class Drift:
    """The report: what changed, what matters, and what to do."""

    model: str
    base: str
    recent: str
    base_rows: int
    recent_rows: int
    created: str
    heads: tuple[HeadDrift, ...]
    shifts: tuple[Shift, ...]
    weeks: tuple[Week, ...]
    notes: tuple[str, ...]
    limits: DriftLimits

    @property
    def mattering(self) -> tuple[Shift, ...]:
        """What matters, the more urgent advice first, then the larger change."""
        found = [one for one in self.shifts if one.matters]
        return tuple(sorted(found, key=lambda one: (_URGE[one.kind] != "retrain", -one.size)))

    @property
    def advice(self) -> Advice:
        """What to do."""
        return _URGE[self.mattering[0].kind] if self.mattering else "nothing"

    @property
    def sentence(self) -> str:
        """What to do and why, in one line."""
        if not self.mattering:
            return (
                f"nothing to do: {self.recent_rows} recent appeals look like the {self.base_rows} "
                "they were compared with"
            )
        told = "; ".join(one.told for one in self.mattering[:3])
        more = len(self.mattering) - 3
        told += f"; and {more} more" if more > 0 else ""
        return f"retrain: {told}" if self.advice == "retrain" else f"{told}: review the queue"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        content = asdict(self)
        content["limits"] = self.limits.model_dump(mode="json")
        return {"advice": self.advice, "sentence": self.sentence, **content}


def drift(
    predictor: Predictor,
    base: Sequence[Row],
    recent: Sequence[Row],
    limits: DriftLimits | None = None,
    stage: Stage = silent,
    names: tuple[str, str] = ("base", "recent"),
) -> Drift:
    """Compare recent appeals with base ones, both answered by the model.

    Raises NothingToScore for fewer than `FEWEST_ROWS` rows in either.
    """
    limits = limits or DriftLimits()
    for name, rows in zip(names, (base, recent), strict=True):
        if len(rows) < FEWEST_ROWS:
            raise NothingToScore(
                f"{name}: expected at least {FEWEST_ROWS} appeals to see a change by, got {len(rows)}"
            )
    old = observe(predictor, _drawn(base, limits.most), stage, names[0])
    new = observe(predictor, _drawn(recent, limits.most), stage, names[1])
    heads = tuple(_head_drift(name, old, new, predictor) for name in predictor.heads)
    heads = _adjusted(heads)
    corrections, note = _corrections(predictor, old, new, limits)
    shifts = [
        *_share_shifts(heads, limits),
        *(_confidence_shift(name, old, new, limits) for name in predictor.heads),
        *corrections,
        *_vocabulary_shift(old, new, limits),
        *_embedding_shift(old, new, limits),
    ]
    return Drift(
        model=predictor.version,
        base=names[0],
        recent=names[1],
        base_rows=len(base),
        recent_rows=len(recent),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        heads=heads,
        shifts=tuple(shifts),
        weeks=_weeks(new),
        notes=note,
        limits=limits,
    )


def _drawn(rows: Sequence[Row], most: int) -> list[Row]:
    if len(rows) <= most:
        return list(rows)
    places = np.random.default_rng(SEED).choice(len(rows), most, replace=False)
    return [rows[i] for i in np.sort(places)]


# -- label shares ----------------------------------------------------------------------------------


def _head_drift(name: str, old: Observed, new: Observed, predictor: Predictor) -> HeadDrift:
    head = predictor.heads[name]
    counts = [np.bincount(one.best[name], minlength=len(head.codes)) for one in (old, new)]
    before, after = (each / each.sum() for each in counts)
    shares = [
        LabelShare(
            name, code, head.names.get(code, code), float(before[i]), float(after[i]),
            _two_shares(int(counts[0][i]), len(old.rows), int(counts[1][i]), len(new.rows)),
        )
        for i, code in enumerate(head.codes)
        if counts[0][i] or counts[1][i]
    ]  # fmt: skip
    return HeadDrift(
        head=name,
        distance=float(jensenshannon(before, after, base=2)),
        confidence_before=float(old.confidence[name].mean()),
        confidence_after=float(new.confidence[name].mean()),
        shares=tuple(sorted(shares, key=lambda one: -abs(one.after - one.before))),
    )


def _two_shares(hits: int, rows: int, other_hits: int, other_rows: int) -> float:
    """Two-sided p that two shares are one: chi-squared with Yates' correction."""
    if hits + other_hits in (0, rows + other_rows):
        return 1.0
    table = [[hits, rows - hits], [other_hits, other_rows - other_hits]]
    return float(chi2_contingency(table).pvalue)


def _adjusted(heads: Sequence[HeadDrift]) -> tuple[HeadDrift, ...]:
    """p-values adjusted for the number of labels of all heads."""
    p_values = iter(holm([share.p for head in heads for share in head.shares]))
    return tuple(
        HeadDrift(
            head.head,
            head.distance,
            head.confidence_before,
            head.confidence_after,
            tuple(LabelShare(**{**asdict(share), "p": next(p_values)}) for share in head.shares),
        )
        for head in heads
    )


def _share_shifts(heads: Sequence[HeadDrift], limits: DriftLimits) -> list[Shift]:
    return [
        Shift(
            "share", one.head, one.before, one.after, one.p,
            abs(one.after - one.before) >= limits.share and one.p < limits.p,
            f"label share of {one.title} ({one.head}) {_moved(one.before, one.after)}",
        )
        for head in heads
        for one in head.shares
    ]  # fmt: skip


# -- confidence, corrections, vocabulary, embedding ------------------------------------------------


def _confidence_shift(name: str, old: Observed, new: Observed, limits: DriftLimits) -> Shift:
    before, after = float(old.confidence[name].mean()), float(new.confidence[name].mean())
    p = float(ks_2samp(old.confidence[name], new.confidence[name]).pvalue)
    fell = before - after >= limits.confidence and p < limits.p
    told = f"mean confidence of {name} {_moved(before, after)}"
    return Shift("confidence", name, before, after, p, fell, told)


def _corrections(
    predictor: Predictor, old: Observed, new: Observed, limits: DriftLimits
) -> tuple[list[Shift], tuple[str, ...]]:
    """How often a reviewer's label differs from the answer, against what the model was measured at."""
    shifts, against_base = [], False
    for name in predictor.heads:
        wrong, rows = _wrong(new, name)
        expected = _measured(predictor, name)
        if expected is None:
            expected, against_base = _wrong(old, name), True
        if not rows or not expected[1]:
            continue
        p = _two_shares(expected[0], expected[1], wrong, rows)
        before, after = expected[0] / expected[1], wrong / rows
        matters = after - before >= limits.corrections and p < limits.p
        told = f"correction rate of {name} {_moved(before, after)} ({wrong} of {rows} reviewed)"
        shifts.append(Shift("corrections", name, before, after, p, matters, told))
    if not shifts:
        return [], ("No recent appeal carries a label: the correction rate is not known.",)
    note = (
        "Appeals that were picked for being uncertain are corrected more often than others: give the audit "
        "slice for a rate without that bias."
    )
    against = "The model carries no measured scores, so corrections are compared with the base file."
    return shifts, (note, against) if against_base else (note,)


def _wrong(observed: Observed, head: str) -> tuple[int, int]:
    """Wrong answers, and rows that have a label of the head."""
    known = observed.correct[head][np.isfinite(observed.correct[head])]
    return int((known == 0).sum()), len(known)


def _measured(predictor: Predictor, head: str) -> tuple[int, int] | None:
    """Wrong answers and rows on the held-out rows that the model's own scores tell of."""
    for item in predictor.card.get("scores", {}).get("heads", []):
        if item["head"] == head and item["part"] == predictor.default_part and "accuracy" in item:
            return round((1 - item["accuracy"]) * item["rows"]), int(item["rows"])
    return None


def _vocabulary_shift(old: Observed, new: Observed, limits: DriftLimits) -> list[Shift]:
    if old.unknown is None or new.unknown is None:
        return []
    before, after = float(old.unknown.mean()), float(new.unknown.mean())
    p = float(ks_2samp(old.unknown, new.unknown).pvalue)
    matters = after - before >= limits.vocabulary and p < limits.p
    told = f"share of characters and pairs that the model does not know {_moved(before, after)}"
    return [Shift("vocabulary", "", before, after, p, matters, told)]


def _embedding_shift(old: Observed, new: Observed, limits: DriftLimits) -> list[Shift]:
    if old.embeddings.shape[1] == 0:
        return []
    auc, p = apartness(old.embeddings, new.embeddings)
    matters = auc >= limits.auc and p < limits.p
    told = f"recent appeals can be told from base ones by their embedding (AUC {auc:.2f}; 0.50 is by chance)"
    return [Shift("embedding", "", 0.5, auc, p, matters, told)]


def _moved(before: float, after: float) -> str:
    verb = "rose" if after > before else "fell"
    return f"{verb} from {100 * before:.1f} % to {100 * after:.1f} %"


# -- weeks -----------------------------------------------------------------------------------------


def _weeks(new: Observed) -> tuple[Week, ...]:
    names = np.array([_week(row.date) for row in new.rows], dtype=object)
    return tuple(_one_week(name, new, names == name) for name in sorted({*names.tolist()} - {""}))


def _week(moment: str) -> str:
    if not moment:
        return ""
    year, week, _ = date.fromisoformat(moment[:10]).isocalendar()
    return f"{year}-W{week:02d}"


def _one_week(name: str, new: Observed, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> Week:
    confidence = np.mean([values[keep].mean() for values in new.confidence.values()])
    judged: Floats = np.concatenate([values[keep] for values in new.correct.values()])
    known = judged[np.isfinite(judged)]
    return Week(
        name,
        int(keep.sum()),
        float(confidence),
        float(1 - known.mean()) if len(known) else None,
        None if new.unknown is None else float(new.unknown[keep].mean()),
    )
