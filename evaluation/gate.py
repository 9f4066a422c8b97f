"""The gate: whether a challenger may take over from the champion, and every reason why or why not.

One function per check, and `CHECKS` lists them. A check gives findings, each a sentence with its figures;
the challenger passes if no finding speaks against it. What could not be checked is said, and is no refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from classifier.errors import ModelError
from classifier.predictor import Predictor
from classifier.registry import Registry
from data.cleaning import prepare
from evaluation import metrics
from evaluation.bootstrap import SEED
from evaluation.comparison import HeadComparison
from evaluation.costs import Costs, measure
from evaluation.errors import BadAnswers
from evaluation.labels import Floats
from evaluation.limits import Limits
from evaluation.scoring import Scored, Stage, calibratable, silent
from evaluation.trial import TestSet, Trial, try_out

__all__ = ["CHECKS", "Bout", "Contender", "Finding", "Judgement", "contend", "judge", "keep", "meet"]

_SIMULATED = 200  # calibrated models that are simulated for the noise of a calibration error
_LEVEL = 0.05
_CLASS_P = 0.1


@dataclass(frozen=True)
class Contender:
    """A model, what it costs, and what its known-answer check said (empty: it gave its known answer)."""

    predictor: Predictor
    costs: Costs
    trouble: str = ""


@dataclass(frozen=True)
class Bout:
    """Everything the checks look at."""

    champion: Contender
    challenger: Contender
    trials: tuple[Trial, ...]
    limits: Limits


@dataclass(frozen=True)
class Finding:
    """What one check found. ``passed``: None where it could not be checked."""

    check: str
    passed: bool | None
    reason: str


Check = Callable[[Bout], Iterator[Finding]]


@dataclass(frozen=True)
class Judgement:
    """The gate's verdict on a challenger."""

    champion: str
    challenger: str
    findings: tuple[Finding, ...]
    sets: Mapping[str, Mapping[str, Any]]
    limits: Limits

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the challenger."""
        return all(one.passed is not False for one in self.findings)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was refused; empty if it passed."""
        return tuple(one.reason for one in self.findings if one.passed is False)

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        if self.passed:
            better = [one.reason for one in self.findings if one.check == "overall"]
            return f"{self.challenger} may take over from {self.champion}: {'; '.join(better)}"
        return f"{self.challenger} is refused: {'; '.join(self.reasons)}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "sentence": self.sentence,
            "findings": [asdict(one) for one in self.findings],
            "sets": {name: dict(figures) for name, figures in self.sets.items()},
            "limits": self.limits.model_dump(mode="json"),
        }


# -- the checks ------------------------------------------------------------------------------------


def check_known_answer(bout: Bout) -> Iterator[Finding]:
    """The challenger must give the answer that was stored with it."""
    trouble = bout.challenger.trouble
    yield Finding("known answer", not trouble, trouble or "it gives the answer that was stored with it")


def check_scheme(bout: Bout) -> Iterator[Finding]:
    """Every head and label of the champion is answered still, or its scheme says what became of it."""
    old, new = bout.champion.predictor, bout.challenger.predictor
    lost = []
    for name, head in old.heads.items():
        if name not in new.heads:
            lost.append(f"head {name}")
            continue
        known = new.scheme.labels.get(name, {})
        gone = [code for code in head.codes if code not in new.heads[name].codes]
        lost += [f"{name} {code}" for code in gone if code not in known or known[code].active]
    shown = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
    if lost:
        yield Finding("scheme", False, f"the scheme is not compatible: it no longer answers {shown}")
    else:
        yield Finding("scheme", True, f"it answers all {len(old.heads)} heads and labels of the champion")


def check_overall(bout: Bout) -> Iterator[Finding]:
    """Not worse over all heads: by the paired bootstrap, with the margin where the rows must prove it.

    Where other rows show that it is better, those that must prove need not shut the margin out: an estimate
    within it will do.
    """
    for trial in bout.trials:
        others = [one.overall.low for one in bout.trials if one is not trial]
        gains = any(low is not None and low > 0 for low in others)
        gain, margin = trial.overall, bout.limits.overall_margin
        low = gain.value if gain.low is None else gain.low
        high = gain.value if gain.high is None else gain.high
        shown = (
            f"mean accuracy over {len(trial.heads)} heads {_points(gain.value)} "
            f"(95 % CI {_points(low)} … {_points(high)}) on {len(trial.set.rows)} rows of the {trial.name}"
        )
        if high < 0 and gain.value < -margin:
            yield Finding("overall", False, f"worse: {shown}")
        elif trial.set.proves and (gain.value if gains else low) < -margin:
            yield Finding("overall", False, f"not shown to be no worse (margin {_points(-margin)}): {shown}")
        else:
            yield Finding("overall", True, f"{'better' if low > 0 else 'not worse'}: {shown}")


def check_heads(bout: Bout) -> Iterator[Finding]:
    """No head has lost beyond doubt (paired bootstrap and McNemar, adjusted for the number of heads)."""
    for trial in bout.trials:
        lost = [one for one in trial.comparison.heads if one.better == "A"]
        lost = [one for one in lost if one.accuracy.value < -bout.limits.head_drop]
        for one in lost:
            yield Finding("heads", False, _head_loss(one, trial.name))
        if not lost:
            yield Finding("heads", True, f"no head has lost beyond doubt on the {trial.name}")


def check_classes(bout: Bout) -> Iterator[Finding]:
    """No class under its floor: what the champion's recall may be by chance at that number of rows.

    The floor is the lower Wilson bound of the champion's recall, one-sided at 5 % by Bonferroni over all
    classes looked at, less ``class_slack``. Among a hundred small classes some always fall under theirs by
    one row or two: what counts is a loss that the paired rows bear out (one-sided exact test at 10 %, that
    is four lost and none won, or more).
    """
    for trial in bout.trials:
        every = [one for head in trial.heads for one in _class_pairs(trial, head, bout.limits.class_support)]
        lost = []
        for one in every:
            floor = _floor(one.before, one.support, len(every)) - bout.limits.class_slack
            if one.after / one.support < floor and _exact(one.lost, one.won) < _CLASS_P:
                lost.append((one.after / one.support - floor, _class_loss(one, floor, trial.name)))
        for _, told in sorted(lost):
            yield Finding("classes", False, told)
        if not lost:
            told = f"none of {len(every)} classes is under its floor on the {trial.name}"
            yield Finding("classes", True, told)


def check_urgent(bout: Bout) -> Iterator[Finding]:
    """Recall of urgent is not lower (one-sided exact test on paired rows), and above a hard minimum."""
    for trial in bout.trials:
        pair = trial.urgent
        if pair is None or not len(pair):
            yield Finding("urgent", None, f"recall of urgent: no urgent row in the {trial.name}")
            continue
        before, after = float(pair.champion.mean()), float(pair.challenger.mean())
        lost = int((pair.champion & ~pair.challenger).sum())
        won = int((~pair.champion & pair.challenger).sum())
        p = _exact(lost, won)
        least = max(bout.limits.urgent_recall, before - bout.limits.urgent_drop)
        shown = (
            f"recall of urgent {before:.3f} → {after:.3f} on {len(pair)} urgent rows of the {trial.name} "
            f"({lost} lost, {won} won, one-sided p = {p:.2g})"
        )
        if lost > won and p < bout.limits.urgent_p:
            yield Finding("urgent", False, f"lower {shown}")
        elif len(pair) >= bout.limits.urgent_support and after < least:
            yield Finding("urgent", False, f"{shown}, under the minimum of {least:.3f}")
        else:
            yield Finding("urgent", True, shown)


def check_calibration(bout: Bout) -> Iterator[Finding]:
    """The calibration error is within the limit, or within what a calibrated model shows by chance.

    Only on rows that prove: reviewed rows were picked, often for being uncertain. The noise of the error is
    the 95th percentile over simulated answers that are right as often as their confidence says
    (consistency resampling: Bröcker and Smith 2007, "Increasing the reliability of reliability diagrams").
    """
    for trial in bout.trials:
        if not trial.set.proves:
            continue
        for head, (one, other) in trial.heads.items():
            before, after = calibratable(one), calibratable(other)
            if not len(after):
                yield Finding("calibration", None, f"calibration of {head}: no row with one sure label")
                continue
            yield _calibration(head, before, after, bout.limits, trial.name)


def check_size(bout: Bout) -> Iterator[Finding]:
    """Size on disk within the limits."""
    limits = bout.limits
    yield _cost("size", "MB on disk", "size_mb", bout, limits.size_mb, limits.size_ratio)


def check_memory(bout: Bout) -> Iterator[Finding]:
    """Peak memory of a process that answers within the limits."""
    limits = bout.limits
    yield _cost("memory", "MB of memory", "memory_mb", bout, limits.memory_mb, limits.memory_ratio)


def check_latency(bout: Bout) -> Iterator[Finding]:
    """Median time for one text within a ratio to the champion's, both timed in one run by turns."""
    yield _cost("latency", "ms a text", "latency_ms", bout, float("inf"), bout.limits.latency_ratio)


CHECKS: tuple[Check, ...] = (
    check_known_answer,
    check_scheme,
    check_overall,
    check_heads,
    check_classes,
    check_urgent,
    check_calibration,
    check_size,
    check_memory,
    check_latency,
)


# -- judging ---------------------------------------------------------------------------------------


def judge(bout: Bout) -> Judgement:
    """Run every check."""
    findings = tuple(finding for check in CHECKS for finding in check(bout))
    return Judgement(
        bout.champion.predictor.version,
        bout.challenger.predictor.version,
        findings,
        {trial.name: _figures(trial) for trial in bout.trials},
        bout.limits,
    )


def meet(
    champion: Predictor,
    challenger: Predictor,
    sets: Sequence[TestSet],
    limits: Limits,
    stage: Stage = silent,
    costs: Callable[[Predictor, Predictor, Sequence[str], Stage], tuple[Costs, Costs]] = measure,
) -> Judgement:
    """Let both answer the sets, measure what they cost, and judge.

    A challenger that answers with no probabilities at all is refused, not raised. Raises NothingToScore if
    there are no rows, or a set has no label of a head that both have.
    """
    try:
        trials = tuple(
            try_out(one, champion, challenger, limits.urgent_head, limits.resamples, stage) for one in sets
        )
    except BadAnswers as error:
        broken = Finding("answers", False, str(error))
        return Judgement(champion.version, challenger.version, (broken,), {}, limits)
    texts = [prepare(row.text, row.title).text for one in sets for row in one.rows]
    first, second = costs(champion, challenger, texts, stage)
    return judge(Bout(contend(champion, first), contend(challenger, second), trials, limits))


def contend(predictor: Predictor, costs: Costs) -> Contender:
    """A model with its costs, asked for its known answer."""
    try:
        predictor.check()
    except ModelError as error:
        return Contender(predictor, costs, str(error))
    return Contender(predictor, costs)


def keep(judgement: Judgement, registry: Registry, by: str = "") -> Path:
    """Store the verdict beside the challenger in the registry. Raises RegistryError if it is not there."""
    return registry.judge(
        judgement.challenger,
        judgement.passed,
        judgement.champion,
        judgement.reasons,
        judgement.to_json(),
        by,
    )


# -- inside ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ClassPair:
    head: str
    title: str
    support: int
    before: int
    after: int
    lost: int
    won: int


def _class_pairs(trial: Trial, head: str, least: int) -> list[_ClassPair]:
    one, other = trial.heads[head]
    found = []
    for i, title in enumerate(one.space.gold_titles):
        own = one.gold == i
        if own.sum() >= least:
            old, new = one.correct[own].astype(bool), other.correct[own].astype(bool)
            counts = (len(old), old.sum(), new.sum(), (old & ~new).sum(), (~old & new).sum())
            found.append(_ClassPair(head, title, *map(int, counts)))
    return found


def _exact(lost: int, won: int) -> float:
    """How probable so many losses among the rows that changed are if losses and wins are as likely."""
    return float(binomtest(lost, lost + won, 0.5, alternative="greater").pvalue) if lost + won else 1.0


def _floor(right: int, support: int, classes: int) -> float:
    confidence = 1 - 2 * _LEVEL / max(classes, 1)
    return float(binomtest(right, support).proportion_ci(max(confidence, 0.5), method="wilson").low)


def _class_loss(one: _ClassPair, floor: float, name: str) -> str:
    return (
        f"class {one.title} of {one.head} is under its floor: recall {one.after / one.support:.2f} "
        f"({one.after} of {one.support} rows of the {name}), floor {floor:.2f}, "
        f"champion {one.before / one.support:.2f} ({one.before})"
    )


def _head_loss(one: HeadComparison, name: str) -> str:
    low = one.accuracy.value if one.accuracy.low is None else one.accuracy.low
    high = one.accuracy.value if one.accuracy.high is None else one.accuracy.high
    return (
        f"worse on {one.head}: accuracy {one.accuracy_a:.3f} → {one.accuracy_b:.3f} on {one.n} rows of the "
        f"{name} (95 % CI {_points(low)} … {_points(high)}, McNemar p = {one.p_adjusted:.2g})"
    )


def _calibration(head: str, before: Scored, after: Scored, limits: Limits, name: str) -> Finding:
    old, new = _ece(before), _ece(after)
    noise = _ece_by_chance(after.confidence)
    allowed = max(limits.ece, old + limits.ece_rise, noise)
    shown = (
        f"calibration error (ECE) of {head} {new:.3f} on {len(after)} rows of the {name}, allowed "
        f"{allowed:.3f} (limit {limits.ece:.3f}, champion {old:.3f}, by chance up to {noise:.3f})"
    )
    return Finding("calibration", new <= allowed, shown)


def _ece(scored: Scored) -> float:
    return metrics.expected_calibration_error(metrics.calibration_bins(scored.confidence, scored.correct))


def _ece_by_chance(confidence: Floats) -> float:
    random = np.random.default_rng(SEED)
    drawn = random.random((_SIMULATED, len(confidence))) < confidence
    errors = [
        metrics.expected_calibration_error(metrics.calibration_bins(confidence, right)) for right in drawn
    ]
    return float(np.quantile(errors, 1 - _LEVEL))


def _cost(check: str, unit: str, field: str, bout: Bout, most: float, ratio: float) -> Finding:
    before: float = getattr(bout.champion.costs, field)
    after: float = getattr(bout.challenger.costs, field)
    allowed = min(most, ratio * before)
    bound = f"allowed {allowed:.3g} ({ratio:.2f} times the champion's {before:.3g}"
    bound += ")" if most == float("inf") else f", at most {most:.0f})"
    return Finding(check, after <= allowed, f"{check}: {after:.3g} {unit}, {bound}")


def _figures(trial: Trial) -> dict[str, Any]:
    heads = {
        one.head: {
            "rows": one.n,
            "champion": one.accuracy_a,
            "challenger": one.accuracy_b,
            "low": one.accuracy.low,
            "high": one.accuracy.high,
            "p": one.p_adjusted,
        }
        for one in trial.comparison.heads
    }
    return {"rows": len(trial.set.rows), "proves": trial.set.proves, "heads": heads}


def _points(value: float) -> str:
    return f"{100 * value:+.1f} points"
