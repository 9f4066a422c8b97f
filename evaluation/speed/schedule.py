"""When requests are due in an open loop, and percentiles of how long they took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

__all__ = ["Arrivals", "due_times", "percentile"]

Arrivals = Literal["poisson", "constant"]


def due_times(rate: float, seconds: float, arrivals: Arrivals, seed: int) -> list[float]:
    """Seconds after the start at which requests are due, at ``rate`` a second, none after ``seconds``.

    The schedule is fixed before the first request: no answer, late or early, moves a later request.
    ``poisson`` arrivals are independent, as callers are; ``constant`` ones are evenly spaced.
    """
    if rate <= 0 or seconds <= 0:
        raise ValueError(f"rate and seconds: expected numbers above 0, got {rate} and {seconds}")
    if arrivals == "constant":
        return [i / rate for i in range(math.ceil(rate * seconds - 1e-9))]
    random = np.random.default_rng(seed)
    times: list[float] = []
    now = float(random.exponential(1 / rate))
    while now < seconds:
        times.append(now)
        now += float(random.exponential(1 / rate))
    return times


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of all are at or below (nearest rank); NaN for none.

    No interpolation: a percentile is a time that some request really took.
    """
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
