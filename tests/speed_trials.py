"""Tiny servers, stages and trials for the tests of the load harness."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from evaluation.speed.contenders import Contender, Layout, Place
from evaluation.speed.driving import Stage
from evaluation.speed.trial import Trial


def tiny(name: str, kind: str, arguments: Sequence[str] = (), layouts: int = 1) -> Contender:
    def command(place: Place) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-m", "tests.tiny_server", str(place.port), *arguments], {}

    return Contender(
        name,
        kind,
        f"a tiny server called {name}",
        "/",
        "/ready",
        command,
        lambda texts, number: {"text": texts[0], "number": number},
        best=lambda answer: str(answer[0]["label"]),
        layouts=tuple(Layout(workers, 1) for workers in range(1, layouts + 1)),
        needs_torch=False,
    )


def stage(throughput: float = 100.0, p99: float = 0.02, **given: Any) -> Stage:
    plain: dict[str, Any] = {
        "rate": None, "requests": 200, "answered": 200, "failed": {}, "throughput": throughput,
        "p50": p99 / 4, "p95": p99 / 2, "p99": p99, "late": 0.001, "cpu_per_1000": 2.0,
        "generator_per_1000": 0.5, "cpu_share": 1.0, "resident": 50 * 2**20, "proportional": 40 * 2**20,
    }  # fmt: skip
    return Stage(**{**plain, **given})


def trial(name: str, throughput: float, held: float, p99: float | None = 0.02) -> Trial:
    rates = (None if p99 is None else stage(p99=p99, rate=50.0),)
    return Trial(name, Layout(), stage(throughput), rates, held, (), ())
