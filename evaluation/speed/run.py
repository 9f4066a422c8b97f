"""The whole comparison, in order: weights, accuracy, limits, layouts and rates, rounds."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from classifier.folder import open_folder
from classifier.predictor import Predictor
from evaluation.errors import SpeedError
from evaluation.rows import LabelledRows
from evaluation.scoring import Progress, Stage, silent
from evaluation.speed.accuracy import Cost, accuracy_costs
from evaluation.speed.contenders import (
    BATCHING,
    OURS,
    PLAIN,
    Contender,
    Layout,
    chosen,
    contenders,
    cores,
    taught_by,
)
from evaluation.speed.figures import Row, check_probes, rows
from evaluation.speed.limits import Limits, measure_limits
from evaluation.speed.needs import require_others
from evaluation.speed.processes import ended_in_order, run_module
from evaluation.speed.texts import MIXES, TextList
from evaluation.speed.trial import Bench, Effort, Trial, throughput_of, try_out
from evaluation.speed.wrk import installed

__all__ = ["Plan", "Result", "commas", "measure", "plan", "shortened"]

SEED = 12345
QUICK_ROWS = 64
SCOUTED = 2  # short trials of each layout
WORK_TEXTS = 400  # texts of the mix that the mean number of tokens is taken over


@dataclass(frozen=True)
class Plan:
    """What to measure. ``rates``: texts a second at which all are timed; empty: chosen by a short trial.

    ``teacher``: a model folder whose weights the plain way is measured with as well.
    """

    contenders: tuple[Contender, ...] = field(default_factory=lambda: tuple(contenders()))
    mix: str = "hotline"
    effort: Effort = field(default_factory=Effort)
    rounds: int = 1
    rates: tuple[float, ...] = ()
    limits: bool = True
    teacher: Path | None = None


@dataclass(frozen=True)
class Result:
    """Everything that was found. ``circumstances``: what a reader must know to judge it."""

    model: str
    circumstances: tuple[str, ...]
    effort: Effort
    rates: tuple[float, ...]
    rows: tuple[Row, ...]
    limits: Limits | None
    costs: tuple[Cost, ...]
    data: str
    trials: tuple[Trial, ...]


def plan(
    only: Sequence[str],
    mix: str,
    effort: Effort,
    rounds: int,
    rates: Sequence[str],
    quick: bool,
    teacher: Path | None = None,
) -> Plan:
    """The plan that a caller's words mean. ``quick`` shortens every stage to show that all runs.

    Saturation is measured by wrk as well where it is installed.
    Raises SpeedError for a server, a mix or a rate that isn't one.
    """
    if mix not in MIXES:
        raise SpeedError(f"--mix: expected one of {', '.join(MIXES)}, got {mix!r}")
    try:
        numbers = tuple(sorted(float(rate) for rate in rates))
    except ValueError as error:
        raise SpeedError(f"--rates: expected numbers of texts a second such as 20,100: {error}") from error
    if any(not 0 < rate < 1e6 for rate in numbers):
        raise SpeedError(f"--rates: expected numbers above 0, got {', '.join(rates)}")
    effort = replace(effort, checked=installed())
    if quick:
        effort = replace(effort, seconds=1.0, warm=0.5, steps=1)
    return Plan(tuple(chosen(only, contenders())), mix, effort, rounds, numbers, teacher=teacher)


def shortened(labelled: LabelledRows) -> LabelledRows:
    """A few of the rows: enough to show that accuracy is compared."""
    return replace(labelled, rows=labelled.rows[:QUICK_ROWS])


def commas(given: Sequence[str] | None) -> list[str]:
    """Words that were given repeatedly, or separated by commas, or both."""
    return [word.strip() for one in given or () for word in one.split(",") if word.strip()]


def measure(predictor: Predictor, plan: Plan, labelled: LabelledRows | None, stage: Stage = silent) -> Result:
    """Measure all contenders, each alone on the machine; ``labelled`` rows for the cost in accuracy.

    Raises SpeedError when a package is missing, a server fails or the weights differ.
    """
    compares = labelled is not None or plan.teacher or any(one.needs_torch for one in plan.contenders)
    if compares:
        require_others()
    model = predictor.folder.path.resolve()
    with (
        ended_in_order(),
        _torch_folder(model, bool(compares), stage) as torch_folder,
        _with_teacher(plan, stage) as plan,
    ):
        costs = accuracy_costs(predictor, labelled, torch_folder, stage) if labelled else []
        limits = _limits(predictor, plan, stage)
        shared = TextList(MIXES[plan.mix], SEED)  # drawn once, read from its start by every server
        bench = Bench(model, torch_folder, lambda: shared, plan.effort)
        layouts, full = _scout(plan, bench, stage)
        rates = plan.rates or _common_rates(plan.contenders, full)
        trials = _rounds(plan, bench, layouts, rates, stage)
    check_probes(trials)
    data = f"{labelled.file} ({len(labelled.rows)} rows)" if labelled else ""
    made = tuple(rows(plan.contenders, trials))
    told = _circumstances(plan)
    return Result(
        predictor.version, told, plan.effort, rates, made, limits, tuple(costs), data, tuple(trials)
    )


@contextmanager
def _with_teacher(plan: Plan, stage: Stage) -> Iterator[Plan]:
    """The plan with the plain way of the teacher's weights at its end, where there is a teacher."""
    if plan.teacher is None:
        yield plan
        return
    version = open_folder(plan.teacher).manifest.version
    with _torch_folder(plan.teacher.resolve(), True, stage) as torch_folder:
        yield replace(plan, contenders=(*plan.contenders, taught_by(torch_folder, version)))


@contextmanager
def _torch_folder(model: Path, needed: bool, stage: Stage) -> Iterator[Path]:
    """A temporary folder with the same weights for torch, checked; an empty one when none is needed."""
    with tempfile.TemporaryDirectory(prefix="jiesu-speed-") as scratch:
        if needed:
            done = stage("rebuilding the weights for torch, and checking them", 1)
            run_module("evaluation.speed.torch_weights", "build", str(model), scratch)
            done(1)
        yield Path(scratch)


def _limits(predictor: Predictor, plan: Plan, stage: Stage) -> Limits | None:
    encoder = predictor.encoder
    if not plan.limits or encoder is None:
        return None
    done = stage("measuring matrix products", 1)
    texts = TextList(MIXES[plan.mix], SEED).take(0, WORK_TEXTS)
    found = measure_limits(predictor.folder.path, encoder.window, encoder.tokenizer, texts)
    done(1)
    return found


def _scout(plan: Plan, bench: Bench, stage: Stage) -> tuple[dict[str, Layout], dict[str, float]]:
    """The best layout of each contender, and its throughput then, where it had to be tried.

    Each is tried as often as `SCOUTED`, in turns: what a slow spell of the machine decided was not a choice.
    """
    short = replace(plan.effort, seconds=max(1.0, plan.effort.seconds / 2), steps=0, checked=False)
    brief = replace(bench, effort=short)
    tried = [one for one in plan.contenders if len(one.layouts) > 1 or _sets_rates(one, plan)]
    advance = stage("choosing layouts and rates", SCOUTED * sum(len(one.layouts) for one in tried))
    layouts = {one.name: one.layouts[0] for one in plan.contenders}
    full: dict[str, float] = {}
    for one in tried:
        found = dict.fromkeys(one.layouts, 0.0)
        for layout in one.layouts * SCOUTED:
            found[layout] = max(found[layout], throughput_of(one, layout, brief))
            advance(1)
        layouts[one.name] = max(found, key=lambda layout: found[layout])
        full[one.name] = found[layouts[one.name]]
    return layouts, full


def _sets_rates(contender: Contender, plan: Plan) -> bool:
    others = any(one.kind != OURS for one in plan.contenders)
    return not plan.rates and (contender.kind != OURS or not others)


def _common_rates(contenders: Sequence[Contender], full: dict[str, float]) -> tuple[float, ...]:
    """Half of what the plain way can do, and 0.8 of what the best batching server can."""
    kinds = {one.name: one.kind for one in contenders}
    plain = max((rate for name, rate in full.items() if kinds[name] == PLAIN), default=0.0)
    batching = max((rate for name, rate in full.items() if kinds[name] == BATCHING), default=0.0)
    ours = max((rate for name, rate in full.items() if kinds[name] == OURS), default=0.0)
    wanted = [rate for rate in (0.5 * plain, 0.8 * batching, 0.5 * ours) if rate > 0]
    return tuple(sorted({float(f"{rate:.2g}") for rate in wanted}))


def _rounds(
    plan: Plan, bench: Bench, layouts: dict[str, Layout], rates: Sequence[float], stage: Stage
) -> list[Trial]:
    """Every contender once a round, each round beginning with another one: slow spells hit all alike."""
    per_trial = 1 + len(rates) + plan.effort.steps
    advance = stage("measuring", plan.rounds * len(plan.contenders) * per_trial)
    trials = []
    for number in range(plan.rounds):
        turn = number % len(plan.contenders)
        for one in (*plan.contenders[turn:], *plan.contenders[:turn]):
            counted = _Counted(advance)
            trials.append(try_out(one, layouts[one.name], bench, rates, counted))
            advance(per_trial - counted.done)  # rates that it can't keep up with take no time
    return trials


class _Counted:
    def __init__(self, advance: Progress) -> None:
        self.advance, self.done = advance, 0

    def __call__(self, stages: int) -> None:
        self.done += stages
        self.advance(stages)


def _circumstances(plan: Plan) -> tuple[str, ...]:
    effort, mix = plan.effort, MIXES[plan.mix]
    ours = {name: value for name, value in os.environ.items() if name.startswith("JIESU_")}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{platform.system()} {platform.machine()}, {_processor()}, {cores()} of {psutil.cpu_count()} "
        f"processors, {psutil.virtual_memory().total / 2**30:.0f} GiB; load average at the end {load:.1f}",
        "the load generator runs on the same machine and takes its share of the processors (its own column)",
        f"texts: {plan.mix} ({mix.meaning}): median {mix.median} characters, a tenth at or above "
        f"{mix.tenth}; no two equal; the same list for every server",
        f"{plan.rounds} round{'s' if plan.rounds > 1 else ''}, {effort.seconds:g} s a stage after "
        f"{effort.warm:g} s of warm-up; saturation with {effort.in_flight} texts under way; "
        f"{_check(effort)}; fixed rates in open loop with {effort.arrivals} arrivals, timed from when a "
        "request was due",
        f"our service with its defaults{f' and {ours}' if ours else ''}; SQLite in a temporary folder",
    )


def _check(effort: Effort) -> str:
    return "and by wrk in a closed loop" if effort.checked else "no check by wrk, which is not installed"


def _processor() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
