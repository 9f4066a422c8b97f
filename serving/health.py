"""What works and what does not, by part: told on /readyz, in the metrics and, when it changes, in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from serving.logs import log
from serving.metrics import Metrics

__all__ = ["NEEDED", "Clock", "Health"]

NEEDED = ("model", "store")  # without one of them no appeal can be taken up
JUMP_SECONDS = 2.0  # a clock that is slewed by NTP stays far below
SOUND_YEARS = range(2000, 2100)  # the same that appeals are accepted from


class Health:
    """`problems` says why a part does not work; empty when all do. Safe to use from any thread.

    Parts: model (one is loaded), store (the database works), champion (the promoted model is the one
    that answers), canary and shadow (as the registry's pointers say), scheme (answers are in the newest
    codes), clock (the machine knows what year it is).
    """

    def __init__(self, metrics: Metrics) -> None:
        self.problems: dict[str, str] = {"model": "not loaded yet", "store": "not opened yet"}
        self._metrics = metrics

    def bad(self, part: str, problem: str) -> None:
        """A part does not work."""
        if self.problems.get(part) != problem:
            log("not_ready", logging.ERROR, part=part, problem=problem[:500])
        self.problems[part] = problem
        self._metrics.ready.labels(part).set(0)

    def good(self, part: str, **facts: Any) -> None:
        """A part works, for the first time or again."""
        if self.problems.pop(part, None) is not None:
            log("ready", part=part, **facts)
        self._metrics.ready.labels(part).set(1)


class Clock:
    """Watches the wall clock against one that only counts up.

    No deadline of ours hangs on the wall clock but those that people read (respond_by); a jump is told
    so that they can judge the answers given around it.
    """

    def __init__(self, health: Health, metrics: Metrics, now: Callable[[], float] = time.time) -> None:
        self._health, self._metrics, self._now = health, metrics, now
        self._offset = now() - time.monotonic()

    def look(self) -> None:
        """Tell a jump since the last look, and a year that cannot be."""
        now = self._now()
        offset = now - time.monotonic()
        if abs(offset - self._offset) > JUMP_SECONDS:
            log("clock_jumped", logging.WARNING, seconds=round(offset - self._offset, 1))
            self._metrics.clock_jumps.inc()
        self._offset = offset
        year = datetime.fromtimestamp(now, UTC).year
        if year in SOUND_YEARS:
            self._health.good("clock")
        else:
            self._health.bad("clock", f"expected a year from 2000 to 2099, the machine's clock says {year}")
