"""The same rows answered by champion and challenger: what the gate looks at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from classifier.predictor import Predictor
from data.appeals import Row
from data.scheme import Scheme
from evaluation.bootstrap import Figure, Resampling, figure
from evaluation.comparison import Comparison, compare
from evaluation.errors import NothingToScore
from evaluation.labels import Bools, Floats, urgent_codes
from evaluation.scoring import (
    Answers,
    Scored,
    Stage,
    answer,
    chosen_heads,
    score_head,
    silent,
    urgent_or_rest,
)

__all__ = ["TestSet", "Trial", "UrgentPair", "try_out"]


@dataclass(frozen=True)
class TestSet:
    """Rows that neither model was trained on. On rows that ``prove``, a challenger must be shown to be no
    worse; on the others it must not be shown to be worse."""

    __test__ = False  # not a test of pytest's

    name: str
    rows: tuple[Row, ...]
    proves: bool = True


@dataclass(frozen=True)
class UrgentPair:
    """The urgent rows: whether each model raised them, at the probability from which it would in service."""

    champion: Bools
    challenger: Bools

    def __len__(self) -> int:
        return len(self.champion)


@dataclass(frozen=True)
class Trial:
    """A test set with both models' answers; ``heads[name]`` the champion's and the challenger's scores."""

    set: TestSet
    scheme: Scheme
    champion: Answers
    challenger: Answers
    heads: dict[str, tuple[Scored, Scored]]
    cuts: tuple[float | None, float | None]
    urgent_head: str
    resamples: int

    @property
    def name(self) -> str:
        """The set's name."""
        return self.set.name

    @cached_property
    def comparison(self) -> Comparison:
        """Head by head, p-values adjusted for their number."""
        return compare(
            self.set.rows, self.champion, self.challenger, self.scheme, tuple(self.heads), self.resamples
        )

    @cached_property
    def overall(self) -> Figure:
        """Challenger − champion in accuracy, the mean over the heads, with its paired bootstrap interval."""
        resampling = Resampling([row.group for row in self.set.rows], self.resamples)
        points, samples = [], []
        for one, other in self.heads.values():
            gain, labelled = np.zeros(len(self.set.rows)), np.zeros(len(self.set.rows))
            gain[one.rows] = other.correct.astype(float) - one.correct.astype(float)
            labelled[one.rows] = 1.0
            points.append(float(gain.sum() / labelled.sum()))
            samples.append(resampling.ratio(gain, labelled))
        return figure(float(np.mean(points)), _mean_known(np.stack(samples)))

    @cached_property
    def urgent(self) -> UrgentPair | None:
        """Both models on the urgent rows; None where the rows or a model know no urgency."""
        scored = [
            urgent_or_rest(self.set.rows, self.urgent_head, answers, self.scheme)
            for answers in (self.champion, self.challenger)
            if self.urgent_head in answers.heads
        ]
        if len(scored) < 2 or scored[0] is None or scored[1] is None:
            return None
        raised = [_raised(one, cut) for one, cut in zip(scored, self.cuts, strict=True) if one is not None]
        return UrgentPair(*raised) if len(raised[0]) == len(raised[1]) else None


def try_out(
    rows: TestSet,
    champion: Predictor,
    challenger: Predictor,
    urgent_head: str,
    resamples: int,
    stage: Stage = silent,
) -> Trial:
    """Let both answer. Rows' labels are read by the challenger's scheme.

    Raises NothingToScore if no row has a label of a head that both have, BadAnswers as `answer` does.
    """
    advance = stage(f"answering the {rows.name}", 2 * len(rows.rows))
    answers = [answer(one, rows.rows, one.default_part, advance) for one in (champion, challenger)]
    shared = {name: head for name, head in answers[1].heads.items() if name in answers[0].heads}
    if not shared:
        raise NothingToScore(
            f"{rows.name}: expected models with a head in common, got {', '.join(answers[0].heads)} "
            f"and {', '.join(answers[1].heads)}"
        )
    heads = {
        head: (
            score_head(rows.rows, head, answers[0], challenger.scheme),
            score_head(rows.rows, head, answers[1], challenger.scheme),
        )
        for head in chosen_heads(rows.rows, shared, ())
    }
    cuts = _cut(champion, urgent_head), _cut(challenger, urgent_head)
    return Trial(rows, challenger.scheme, answers[0], answers[1], heads, cuts, urgent_head, resamples)


def _cut(predictor: Predictor, head: str) -> float | None:
    """The probability from which the model says urgent: the one stored with it."""
    if head not in predictor.heads:
        return None
    known = predictor.heads[head]
    urgent = urgent_codes(known)
    lowest = next((code for code in known.codes if code in urgent), "")
    return predictor.calibration.of(predictor.default_part, head).cuts.get(lowest)


def _raised(scored: Scored, cut: float | None) -> Bools:
    urgent = scored.space.index[urgent_codes(scored.space.head)]
    score = scored.probabilities[scored.gold == urgent, urgent]
    return np.asarray(score > 0.5 if cut is None else score >= cut)


def _mean_known(samples: Floats) -> Floats:
    """Mean over the first axis, nan left out; nan where all are."""
    known = np.isfinite(samples)
    total = np.where(known, samples, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean
