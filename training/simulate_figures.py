"""What a simulation shows: curves by labels spent, and how many labels each strategy needs for the same.

Intervals are percentiles over resamples in which both are drawn anew: the groups of near-duplicates of the
test rows (the same ones for all strategies, so that differences are paired) and the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.isotonic import IsotonicRegression

from evaluation import metrics
from evaluation.bootstrap import SEED, Figure, Resampling, Steps, figure, resampled_macro_f1
from evaluation.labels import Floats
from evaluation.scoring import AUTOMATIC, Scored
from training.simulate import Round, Simulated

__all__ = ["MEASURES", "Curve", "Needed", "Point", "Shown", "figures_of"]

MEASURES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "auto": "share answerable at 95 % accuracy",
}
BASELINE = "random"
_LEVELS = (0.25, 0.5, 0.75, 1.0)  # of what random gains in all; labels needed are asked for these


@dataclass(frozen=True)
class Point:
    """A strategy after so many labels. ``ahead``: of random, paired; ``spread``: least and most by seed."""

    labels: int
    value: Figure
    spread: tuple[float, float]
    ahead: Figure | None


@dataclass(frozen=True)
class Curve:
    """One measure of one head under one strategy."""

    head: str
    measure: str
    strategy: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Needed:
    """Labels that a strategy needs to reach ``level``; None: not within what was spent.

    ``share``: of resamples in which the level was reached; the interval is over these.
    """

    head: str
    measure: str
    strategy: str
    level: float
    labels: Figure | None
    share: float


@dataclass(frozen=True)
class Stored:
    """The start's, and each strategy's last, own threshold on the test rows: share passed, and how many of
    these were right."""

    head: str
    strategy: str
    coverage: float
    accuracy: float


@dataclass(frozen=True)
class Shown:
    """All figures of a simulation."""

    curves: tuple[Curve, ...]
    needed: tuple[Needed, ...]
    stored: tuple[Stored, ...]
    full: tuple[tuple[str, str, str, Figure], ...]  # strategy, head, measure, value
    noticed: Mapping[tuple[str, str], float]  # strategy, head: share of labels that changed an answer

    def curve(self, head: str, measure: str, strategy: str) -> Curve:
        """One curve."""
        asked = (head, measure, strategy)
        return next(one for one in self.curves if (one.head, one.measure, one.strategy) == asked)


Samples = dict[str, list[tuple[Floats, Floats]]]  # strategy → by round: values [seeds], resamples [seeds, b]


def figures_of(made: Simulated, resamples: int = 400) -> Shown:
    """Compute everything. About a second a round for 3,000 test rows."""
    curves: list[Curve] = []
    needed: list[Needed] = []
    draws = np.random.default_rng(SEED).integers(0, made.plan.seeds, (resamples, made.plan.seeds))
    for head in made.heads:
        rows = made.rounds[0].scored[head].rows
        resampling = Resampling([made.groups[row] for row in rows.tolist()], resamples)
        for measure in MEASURES:
            samples = _samples(made, head, partial(_measured, measure, resampling))
            means = {name: [_drawn(one, draws) for _, one in some] for name, some in samples.items()}
            curves += [_curve(made, head, measure, name, samples, means) for name in samples]
            needed += _needs(made, head, measure, samples, means)
    return Shown(tuple(curves), tuple(needed), tuple(_stored(made)), tuple(_full(made)), _noticed(made))


def _measured(measure: str, resampling: Resampling, scored: Scored) -> tuple[float, Floats]:
    """A measure's value and its resamples."""
    if measure == "accuracy":
        return float(scored.correct.mean()), resampling.ratio(scored.correct)
    if measure == "macro_f1":
        value = metrics.macro_f1(scored.gold, scored.predicted)
        return value, resampled_macro_f1(resampling, scored.gold, scored.predicted, scored.classes)
    found = metrics.coverage_at_accuracy(scored.confidence, scored.correct, AUTOMATIC)
    steps = Steps(scored.confidence, scored.correct, resampling)
    return found.coverage, steps.coverage_at_accuracy(AUTOMATIC)


def _samples(made: Simulated, head: str, measured: Callable[[Scored], tuple[float, Floats]]) -> Samples:
    found: Samples = {}
    known: dict[int, tuple[float, Floats]] = {}  # the start is the same under all of them
    for strategy in made.plan.strategies:
        by_round: dict[int, list[tuple[float, Floats]]] = {}
        for one in (some for some in made.rounds if some.strategy == strategy):
            scored = one.scored[head]
            if one.labels == 0 and 0 not in known:
                known[0] = measured(scored)
            by_round.setdefault(one.labels, []).append(known[0] if one.labels == 0 else measured(scored))
        found[strategy] = [
            (np.array([value for value, _ in some]), np.stack([drawn for _, drawn in some]))
            for some in by_round.values()
        ]
    return found


def _drawn(samples: Floats, draws: np.ndarray) -> Floats:
    """[b]: mean over seeds that were drawn anew, of resample b."""
    picked = samples[draws, np.arange(samples.shape[1])[:, None]]
    result: Floats = picked.mean(axis=1)
    return result


def _curve(
    made: Simulated,
    head: str,
    measure: str,
    strategy: str,
    samples: Samples,
    means: Mapping[str, Sequence[Floats]],
) -> Curve:
    points = []
    rounds = zip(_spent(made, strategy), samples[strategy], strict=True)
    for place, (labels, (values, _)) in enumerate(rounds):
        ahead = None
        if BASELINE in samples and strategy != BASELINE:
            gain = float(values.mean() - samples[BASELINE][place][0].mean())
            ahead = figure(gain, means[strategy][place] - means[BASELINE][place])
        spread = float(values.min()), float(values.max())
        value = figure(float(values.mean()), means[strategy][place])
        points.append(Point(labels, value, spread, ahead))
    return Curve(head, measure, strategy, tuple(points))


def _spent(made: Simulated, strategy: str) -> list[int]:
    return sorted({one.labels for one in made.rounds if one.strategy == strategy})


def _needs(
    made: Simulated, head: str, measure: str, samples: Samples, means: Mapping[str, Sequence[Floats]]
) -> list[Needed]:
    """Asked for levels between the start and what random reaches in the end."""
    if BASELINE not in samples:
        return []
    ends = _rising(_spent(made, BASELINE), [float(values.mean()) for values, _ in samples[BASELINE]])
    levels = [ends[0] + share * (ends[-1] - ends[0]) for share in _LEVELS if ends[-1] > ends[0]]
    found = []
    for level in levels:
        for strategy in samples:
            spent = _spent(made, strategy)
            value = _reached(spent, [float(values.mean()) for values, _ in samples[strategy]], level)
            drawn = np.stack(means[strategy], axis=1)
            every = np.array([np.nan if (one := _reached(spent, row, level)) is None else one
                              for row in drawn.tolist()])  # fmt: skip
            labels = None if value is None else figure(value, every)
            found.append(Needed(head, measure, strategy, level, labels, float(np.isfinite(every).mean())))
    return found


def _rising(spent: Sequence[int], values: Sequence[float]) -> Floats:
    """The nearest curve that never falls (isotonic regression): more labels don't make a model worse for
    good, and where a noisy curve crosses a level first says nothing."""
    result: Floats = IsotonicRegression().fit_transform(np.array(spent, float), np.array(values, float))
    return result


def _reached(spent: Sequence[int], values: Sequence[float], level: float) -> float | None:
    """Labels at which the rising curve reaches a level, between rounds on a straight line."""
    if not np.isfinite(values).all():
        return None
    rising = _rising(spent, values)
    place = int(np.searchsorted(rising, level - 1e-9))
    if place == len(rising):
        return None
    if place == 0:
        return float(spent[0])
    low, high = rising[place - 1], rising[place]
    return float(spent[place - 1] + (spent[place] - spent[place - 1]) * (level - low) / (high - low))


def _stored(made: Simulated) -> list[Stored]:
    found = []
    most = {name: max(_spent(made, name)) for name in made.plan.strategies}
    for head in made.heads:
        asked = [("start", [made.rounds[0]])]
        asked += [
            (name, [one for one in made.rounds if one.strategy == name and one.labels == most[name]])
            for name in most
        ]
        for name, rounds in asked:
            passed = [_passed(one, head) for one in rounds]
            coverage, accuracy = (float(np.mean(some)) for some in zip(*passed, strict=True))
            found.append(Stored(head, name, coverage, accuracy))
    return found


def _passed(one: Round, head: str) -> tuple[float, float]:
    scored = one.scored[head]
    passed = scored.leaf_confidence >= one.thresholds[head]
    right = float(scored.leaf_correct[passed].mean()) if passed.any() else float("nan")
    return float(passed.mean()), right


def _full(made: Simulated) -> list[tuple[str, str, str, Figure]]:
    found = []
    for one in made.full:
        for head, scored in one.scored.items():
            resampling = Resampling([made.groups[row] for row in scored.rows.tolist()], 400)
            for measure in MEASURES:
                value, drawn = _measured(measure, resampling, scored)
                found.append((one.strategy or "start", head, measure, figure(value, drawn)))
    return found


def _noticed(made: Simulated) -> dict[tuple[str, str], float]:
    return {
        (strategy, head): float(
            np.mean([one.noticed[head] for one in made.rounds if one.strategy == strategy and one.noticed])
        )
        for strategy in made.plan.strategies
        for head in made.heads
    }
