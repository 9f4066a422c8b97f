"""How generated cases are run: the same ones at each `make test`, many more and new ones at `make soak`."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

__all__ = ["MOMENTS", "QUIET", "SOAK", "fuzz", "limits"]

SOAK = 20  # times as many cases
# The settings of an application where nothing is broken, so that nothing has to heal.
QUIET: dict[str, Any] = {"log_level": "error", "heal_seconds": 60.0}

# Moments near those that can be: of all years that RFC 3339 knows, the service takes a hundred.
ZONES = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1999, 12, 30), datetime(2100, 1, 2), timezones=st.just(UTC) | ZONES)


def limits(config: pytest.Config, cases: int, **more: Any) -> settings:
    """Settings for so many cases: none that time a case, and none that remember an earlier run."""
    soak = bool(config.getoption("--soak"))
    return settings(
        max_examples=cases * SOAK if soak else cases,
        derandomize=not soak,
        database=None,
        deadline=None,
        suppress_health_check=tuple(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        **more,
    )


def fuzz(
    config: pytest.Config, strategy: SearchStrategy[Any], check: Callable[[Any], None], cases: int
) -> int:
    """Check so many cases (with --soak SOAK times as many, of a seed that is printed); how many there were.

    Fails when there were fewer: a strategy that runs dry must not go unseen.
    """
    tried = 0

    def counted(case: Any) -> None:
        nonlocal tried
        tried += 1
        check(case)

    wanted = limits(config, cases)
    test = given(strategy)(counted)
    if not wanted.derandomize:
        number = _seed(config)
        print(f"\nto see these cases again: --soak --hypothesis-seed={number}")
        test = seed(number)(test)
    wanted(test)()
    assert tried >= wanted.max_examples, f"expected {wanted.max_examples} cases, got {tried}"
    return tried


def _seed(config: pytest.Config) -> int:
    given = config.getoption("--hypothesis-seed", None)
    return int(given) if given is not None else random.SystemRandom().randrange(1 << 32)
