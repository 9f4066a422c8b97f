"""The report on one model and one labelled file: figures, tables and plots, and how they are written.

Of the rows it holds labels, counts and scores; never a text, a title or an id.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from classifier.predictor import Predictor
from evaluation import metrics
from evaluation.bootstrap import RESAMPLES, Figure, Resampling
from evaluation.labels import Bools, urgent_codes
from evaluation.metrics import Bin, Curve
from evaluation.rows import LabelledRows
from evaluation.scoring import (
    Answers,
    Progress,
    Scored,
    Stage,
    Threshold,
    answer,
    calibratable,
    chosen_heads,
    figures,
    score_head,
    silent,
    urgent_figures,
    urgent_or_rest,
)
from evaluation.slices import Slice, slices

__all__ = ["ClassLine", "Confusion", "HeadReport", "Report", "build_report", "parts_of"]

_MOST_UNKNOWN = 20


@dataclass(frozen=True)
class ClassLine:
    """One label. Precision and F1 are None where labels overlap and classes are not defined."""

    name: str
    title: str
    support: int
    recall: float
    precision: float | None
    f1: float | None
    known: bool


@dataclass(frozen=True)
class Confusion:
    """Rows of one label that were answered with another; ``share`` of the label's rows."""

    gold: str
    gold_title: str
    answered: str
    answered_title: str
    n: int
    share: float


@dataclass(frozen=True)
class HeadReport:
    """One head answered by one part of the model.

    ``frequent``: the same figures on rows whose label has at least ``min_support`` rows in the file.
    ``urgent``: figures of urgent against the rest. ``curve``: risk (y) over coverage (x).
    """

    head: str
    title: str
    part: str
    granularity: str
    n: int
    labels: int
    by_group: bool
    figures: Mapping[str, Figure]
    classes: tuple[ClassLine, ...]
    confusions: tuple[Confusion, ...]
    bins: tuple[Bin, ...]
    curve: Curve
    slices: tuple[Slice, ...]
    unknown: Mapping[str, int] = field(default_factory=dict)
    unknown_rows: int = 0
    frequent_n: int = 0
    frequent_labels: int = 0
    frequent: Mapping[str, Figure] = field(default_factory=dict)
    urgent_n: int = 0
    urgent: Mapping[str, Figure] = field(default_factory=dict)
    urgent_curve: Curve | None = None
    threshold: float | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know to read the figures right."""
        return tuple(
            note for note in (_granularity_note(self), _unknown_note(self), _size_note(self)) if note
        )


@dataclass(frozen=True)
class Report:
    """All heads, each by every part that was asked for (the default part first)."""

    model: str
    scheme: str
    file: str
    sha256: str
    total: int
    rows: int
    folds: tuple[str, ...]
    parts: tuple[str, ...]
    created: str
    min_support: int
    resamples: int
    heads: tuple[HeadReport, ...]

    @property
    def main(self) -> tuple[HeadReport, ...]:
        """The heads as answered by the first part."""
        return tuple(one for one in self.heads if one.part == self.parts[0])

    def of(self, head: str) -> tuple[HeadReport, ...]:
        """One head by every part."""
        return tuple(one for one in self.heads if one.head == head)

    def to_json(self) -> str:
        """Everything but the plots, as JSON; figures as {value, low, high}, curves of at most 200 points."""
        content = asdict(self)
        for head, one in zip(content["heads"], self.heads, strict=True):
            head["notes"] = list(one.notes)
            head["curve"] = _curve_json(one.curve)
            head["urgent_curve"] = _curve_json(one.urgent_curve)
        return json.dumps(_finite(content), ensure_ascii=False, indent=1) + "\n"


def parts_of(predictor: Predictor, asked: str) -> tuple[str, ...]:
    """Parts to score: the default one if empty, all that the model has for ``all``, else that one."""
    if asked == "all":
        return predictor.parts
    return (asked or predictor.default_part,)


def build_report(
    predictor: Predictor,
    labelled: LabelledRows,
    heads: Sequence[str] = (),
    parts: Sequence[str] = (),
    min_support: int = 50,
    stage: Stage = silent,
    resamples: int = RESAMPLES,
) -> Report:
    """Answer all rows with every part and score every head.

    ``stage`` is told of answering (rows × parts) and scoring (heads × parts). Raises EvaluationError,
    ModelError.
    """
    chosen = chosen_heads(labelled.rows, predictor.heads, heads)
    parts = tuple(parts) or (predictor.default_part,)
    progress = stage("answering", len(labelled.rows) * len(parts))
    answered = [answer(predictor, labelled.rows, part, progress) for part in parts]
    progress = stage("scoring", len(chosen) * len(parts))
    scored = [
        _told(_head_report(predictor, labelled, head, answers, min_support, resamples), progress)
        for head in chosen
        for answers in answered
    ]
    return Report(
        model=predictor.version,
        scheme=f"{predictor.scheme.name} {predictor.scheme.version}",
        file=labelled.file,
        sha256=labelled.sha256,
        total=labelled.total,
        rows=len(labelled.rows),
        folds=labelled.folds,
        parts=parts,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        min_support=min_support,
        resamples=resamples,
        heads=tuple(scored),
    )


def _told(made: HeadReport, progress: Progress) -> HeadReport:
    progress(1)
    return made


def _head_report(
    predictor: Predictor, labelled: LabelledRows, head: str, answers: Answers, least: int, resamples: int
) -> HeadReport:
    scored = score_head(labelled.rows, head, answers, predictor.scheme)
    resampling = _resampling(scored, labelled, resamples)
    threshold = _threshold(predictor, answers.part, head)
    unknown = _unknown(scored)
    return HeadReport(
        head=head,
        title=predictor.heads[head].title,
        part=answers.part,
        granularity=scored.space.granularity,
        n=len(scored),
        labels=scored.classes,
        by_group=resampling.by_group,
        figures=figures(scored, predictor.scheme, resampling, threshold),
        classes=tuple(_class_lines(scored)),
        confusions=tuple(_confusions(scored)),
        bins=_bins(scored),
        curve=metrics.risk_coverage(scored.confidence, scored.correct),
        slices=tuple(slices(scored, labelled.rows, answers.lengths, labelled.support[head])),
        unknown=dict(list(unknown.items())[:_MOST_UNKNOWN]),
        unknown_rows=sum(unknown.values()),
        threshold=threshold.least if threshold else None,
        **_frequent(predictor, labelled, scored, threshold, least, resamples),
        **(_urgent(predictor, labelled, answers, resamples) if head == "urgency" else {}),
    )


def _bins(scored: Scored) -> tuple[Bin, ...]:
    kept = calibratable(scored)
    return tuple(metrics.calibration_bins(kept.confidence, kept.correct)) if len(kept) else ()


def _resampling(scored: Scored, labelled: LabelledRows, resamples: int) -> Resampling:
    return Resampling([labelled.rows[i].group for i in scored.rows], resamples)


def _threshold(predictor: Predictor, part: str, head: str) -> Threshold | None:
    """The model folder's own operating point for this part, if it was calibrated."""
    known = predictor.calibration.heads.get(part, {})
    return Threshold(known[head].threshold, predictor.target_accuracy) if head in known else None


def _unknown(scored: Scored) -> dict[str, int]:
    """Labels that the model cannot answer → their rows, most frequent first."""
    return {scored.space.gold_names[i]: int((scored.gold == i).sum()) for i in scored.space.unknown}


def _frequent(
    predictor: Predictor,
    labelled: LabelledRows,
    scored: Scored,
    threshold: Threshold | None,
    least: int,
    resamples: int,
) -> dict[str, Any]:
    """Figures on labels with enough rows; nothing if that is all of them or none."""
    support = labelled.support[scored.space.head.name]
    enough = np.array([support[gold] >= least for gold in scored.space.golds])
    keep: Bools = enough[scored.gold]
    if keep.all() or not keep.any():
        return {}
    part = scored.only(keep)
    found = figures(part, predictor.scheme, _resampling(part, labelled, resamples), threshold)
    return {"frequent_n": len(part), "frequent_labels": len(np.unique(part.gold)), "frequent": found}


def _urgent(predictor: Predictor, labelled: LabelledRows, answers: Answers, resamples: int) -> dict[str, Any]:
    scored = urgent_or_rest(labelled.rows, "urgency", answers, predictor.scheme)
    if scored is None:
        return {}
    codes = urgent_codes(scored.space.head)
    known = predictor.calibration.heads.get(answers.part, {}).get("urgency")
    lowest = next(code for code in scored.space.head.codes if code in codes)
    cut = known.cuts.get(lowest) if known else None
    place = scored.space.index[codes]
    curve = metrics.precision_recall_curve(scored.probabilities[:, place], scored.gold == place)
    found = urgent_figures(scored, _resampling(scored, labelled, resamples), cut)
    return {"urgent_n": len(scored), "urgent": found, "urgent_curve": curve}


def _class_lines(scored: Scored) -> list[ClassLine]:
    space = scored.space
    unknown = set(space.unknown)
    by_class = {}
    if space.granularity != "admissible":
        by_class = {one.index: one for one in metrics.per_class(scored.gold, scored.predicted)}
    lines = []
    for i in np.unique(scored.gold):
        own, given = scored.gold == i, by_class.get(int(i))
        lines.append(
            ClassLine(
                name=space.gold_names[i],
                title=space.gold_titles[i],
                support=int(own.sum()),
                recall=float(scored.correct[own].mean()),
                precision=given.precision if given else None,
                f1=given.f1 if given else None,
                known=int(i) not in unknown,
            )
        )
    return sorted(lines, key=lambda line: -line.support)


def _confusions(scored: Scored) -> list[Confusion]:
    space = scored.space
    if space.granularity == "admissible":
        return []
    return [
        Confusion(
            gold=space.output_names[gold],
            gold_title=space.output_titles[gold],
            answered=space.output_names[answered],
            answered_title=space.output_titles[answered],
            n=n,
            share=n / int((scored.gold == gold).sum()),
        )
        for gold, answered, n in metrics.confusions(scored.gold, scored.predicted)
    ]


def _granularity_note(one: HeadReport) -> str:
    if one.granularity == "groups":
        return (
            f"The labels are {one.labels} sets of leaves without overlap and are scored as classes; "
            "the answer is the class with the most summed probability."
        )
    if one.granularity == "admissible":
        return (
            "The labels are overlapping sets of leaves: an answer counts as right if it is in the row's set. "
            "F1 is not defined, and accuracy cannot be compared with that of sure labels."
        )
    return ""


def _unknown_note(one: HeadReport) -> str:
    if not one.unknown_rows:
        return ""
    return (
        f"{one.unknown_rows} of {one.n} rows have a label that this model does not know and count as errors: "
        + ", ".join(f"{name} ({n})" for name, n in one.unknown.items())
    )


def _size_note(one: HeadReport) -> str:
    return "" if one.n >= 200 else f"Only {one.n} rows: read the intervals, not the figures."


def _curve_json(curve: Curve | None) -> dict[str, list[float]] | None:
    if curve is None:
        return None
    thin = curve.thinned()
    return {"x": thin.x.tolist(), "y": thin.y.tolist(), "threshold": thin.threshold.tolist()}


def _finite(value: Any) -> Any:
    """JSON has no nan or infinity: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
