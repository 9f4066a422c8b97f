"""Medians over rounds, ratios between contenders, and what they say about the floors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from evaluation.errors import WeightsDiffer
from evaluation.speed.contenders import BATCHING, OURS, PLAIN, TEACHER, Contender
from evaluation.speed.driving import Stage
from evaluation.speed.trial import Trial

__all__ = ["FEW", "AtRate", "Ratios", "Row", "check_probes", "ratios", "rows", "verdicts"]

FLOOR, AIM = 6.0, 20.0  # times the throughput of the plain way
FEW = 100  # requests below which the 99th percentile is the longest of all
LATE = 0.01  # seconds by which the generator may be late before its figures are doubted


@dataclass(frozen=True)
class AtRate:
    """Times in seconds at one fixed rate in texts a second."""

    rate: float
    requests: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Row:
    """One contender: medians over the rounds; ``resident`` and ``proportional`` (bytes) are the largest.

    ``saturation`` and ``sustained`` are texts a second, CPU is seconds per 1,000 texts at saturation,
    ``cpu_share`` the processors kept busy then. ``errors`` of ``requests`` below saturation count all
    stages at fixed rates that it could keep up with; ``at`` is None where it can't. ``checked`` is the
    saturation by wrk in texts a second, NaN where wrk was not asked.
    """

    name: str
    kind: str
    meaning: str
    layout: str
    rounds: int
    saturation: float
    sustained: float
    at: tuple[AtRate | None, ...]
    cpu_per_1000: float
    generator_per_1000: float
    cpu_share: float
    resident: int
    proportional: int
    requests: int
    errors: int
    late: float
    checked: float = math.nan


@dataclass(frozen=True)
class Ratios:
    """A row's throughput divided by that of the plain way, and by the best batching server; None without."""

    saturation_by_plain: float | None
    checked_by_plain: float | None
    sustained_by_plain: float | None
    saturation_by_batching: float | None
    sustained_by_batching: float | None


def rows(contenders: Sequence[Contender], trials: Sequence[Trial]) -> list[Row]:
    """One row per contender, in their order."""
    by_name = {one.name: [trial for trial in trials if trial.name == one.name] for one in contenders}
    return [_row(one, by_name[one.name]) for one in contenders if by_name[one.name]]


def ratios(row: Row, every: Sequence[Row]) -> Ratios:
    """How a row compares; the best batching server is chosen for each figure by itself."""
    plain = [one for one in every if one.kind == PLAIN]
    batching = [one for one in every if one.kind == BATCHING]
    return Ratios(
        _ratio(row.saturation, [one.saturation for one in plain]),
        _ratio(row.checked, [one.checked for one in plain]),
        _ratio(row.sustained, [one.sustained for one in plain]),
        _ratio(row.saturation, [one.saturation for one in batching]),
        _ratio(row.sustained, [one.sustained for one in batching]),
    )


def check_probes(trials: Sequence[Trial]) -> None:
    """Raises WeightsDiffer unless all servers with the torch model gave the same labels (one may differ:
    a batch pads texts, which moves sums in the last digit)."""
    known = [trial for trial in trials if trial.probes]
    for trial in known[1:]:
        same = sum(a == b for a, b in zip(trial.probes, known[0].probes, strict=True))
        if same < len(trial.probes) - 1:
            raise WeightsDiffer(
                f"{trial.name}: expected the labels of {known[0].name} for {len(trial.probes)} texts, got "
                f"the same for {same} only: they don't run the same model"
            )


def verdicts(every: Sequence[Row]) -> list[str]:
    """The floors in sentences: throughput against both, p99 against the best batching server."""
    said = []
    for row in (row for row in every if row.kind == OURS):
        by = ratios(row, every)
        if by.saturation_by_plain is not None:
            met = "meets" if by.saturation_by_plain >= FLOOR else "misses"
            aim = ", and the aim" if by.saturation_by_plain >= AIM else f" (the aim is {AIM:g})"
            said.append(
                f"{row.name}: {by.saturation_by_plain:.1f} × the plain way's throughput: "
                f"{met} the floor of {FLOOR:g}{aim}"
            )
        if by.checked_by_plain is not None:
            said.append(f"{row.name}: {by.checked_by_plain:.1f} × the plain way's throughput by wrk")
        said += _against_teacher(row, every)
        if by.saturation_by_batching is not None:
            said.append(
                f"{row.name}: {by.saturation_by_batching:.1f} × the best batching server's throughput"
            )
        said += _tails(row, every)
    return said + _doubts(every)


def _against_teacher(row: Row, every: Sequence[Row]) -> list[str]:
    """What distillation brought on top: against the plain way with the weights that were learnt from."""
    by = _ratio(row.saturation, [one.saturation for one in every if one.kind == TEACHER])
    if by is None:
        return []
    return [f"{row.name}: {by:.1f} × the throughput of the plain way with the teacher's weights"]


def _tails(row: Row, every: Sequence[Row]) -> list[str]:
    rivals = [one for one in every if one.kind == BATCHING]
    said = []
    for place, own in enumerate(row.at):
        theirs = [(at.p99, one.name) for one in rivals if (at := one.at[place]) is not None]
        if own is not None and theirs:
            best, name = min(theirs)
            word = "ahead of" if own.p99 < best else "behind"
            said.append(
                f"{row.name}: p99 {1000 * own.p99:.0f} ms at {own.rate:g} texts/s, {word} {name}'s "
                f"{1000 * best:.0f} ms{_few(own)}"
            )
    return said


def _few(at: AtRate) -> str:
    return f" (of {at.requests} requests only: measure longer)" if at.requests < FEW else ""


def _doubts(every: Sequence[Row]) -> list[str]:
    late = [row for row in every if row.late > LATE]
    return [
        f"doubtful: the generator sent {1000 * row.late:.0f} ms late (p99) against {row.name}: it lacks CPU"
        for row in late
    ]


def _row(contender: Contender, trials: Sequence[Trial]) -> Row:
    full = [trial.saturation for trial in trials]
    held = [stage for trial in trials for stage in trial.rates if stage]
    checked = [trial.checked for trial in trials if trial.checked]
    stages = (*full, *held)
    return Row(
        name=contender.name,
        kind=contender.kind,
        meaning=contender.meaning,
        layout=str(trials[0].layout),
        rounds=len(trials),
        saturation=median(stage.throughput for stage in full),
        sustained=median(trial.sustained for trial in trials),
        at=tuple(_at([trial.rates[i] for trial in trials]) for i in range(len(trials[0].rates))),
        cpu_per_1000=median(stage.cpu_per_1000 for stage in full),
        generator_per_1000=median(stage.generator_per_1000 for stage in full),
        cpu_share=median(stage.cpu_share for stage in full),
        resident=max(stage.resident for trial in trials for stage in trial.stages),
        proportional=max(stage.proportional for trial in trials for stage in trial.stages),
        requests=sum(stage.requests for stage in stages) + sum(one.requests for one in checked),
        errors=sum(stage.errors for stage in stages) + sum(one.errors for one in checked),
        late=max((stage.late for stage in held), default=0.0),
        checked=median(one.throughput for one in checked) if checked else math.nan,
    )


def _at(stages: Sequence[Stage | None]) -> AtRate | None:
    """Medians at one rate; None if it could not keep up in half of the rounds or more."""
    held = [stage for stage in stages if stage is not None]
    if 2 * len(held) <= len(stages):
        return None
    assert held[0].rate is not None
    return AtRate(
        held[0].rate,
        sum(stage.requests for stage in held),
        median(stage.p50 for stage in held),
        median(stage.p95 for stage in held),
        median(stage.p99 for stage in held),
    )


def _ratio(value: float, others: Sequence[float]) -> float | None:
    best = max(others, default=0.0)
    return value / best if best > 0 and math.isfinite(value) else None
