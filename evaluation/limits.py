"""What the gate allows: a small TOML file that holds only what differs from the defaults below.

    head_drop = 0.01
    urgent_recall = 0.8

Shares run from 0 to 1, accuracies as well.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluation.errors import BadLimits

__all__ = ["Limits", "load_limits"]


class Limits(BaseModel):
    """The gate's limits.

    ``overall_margin``: how much lower the mean accuracy over the heads may be at the low end of its 95 %
    interval. ``head_drop``: how much one head may lose although the loss is beyond doubt. ``class_support``:
    fewer rows than this say nothing about a class. ``urgent_p``: the one-sided p under which a loss of urgent
    appeals counts; ``urgent_recall`` and ``urgent_drop``: the least recall, and the most that it may fall,
    asked of ``urgent_support`` urgent rows or more. ``ece``: the calibration error allowed; ``ece_rise``: or
    so much more than the champion's. ``size_mb`` and ``memory_mb`` are absolute (10^6 bytes), the ratios
    are to the champion.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    overall_margin: float = Field(0.01, ge=0, le=1)
    head_drop: float = Field(0.005, ge=0, le=1)
    class_support: int = Field(5, ge=1)
    class_slack: float = Field(0.0, ge=0, le=1)
    urgent_head: str = "urgency"
    urgent_p: float = Field(0.05, gt=0, lt=1)
    urgent_recall: float = Field(0.5, ge=0, le=1)
    urgent_drop: float = Field(0.05, ge=0, le=1)
    urgent_support: int = Field(50, ge=1)
    ece: float = Field(0.08, ge=0, le=1)
    ece_rise: float = Field(0.01, ge=0, le=1)
    size_mb: float = Field(80.0, gt=0)
    size_ratio: float = Field(1.25, gt=0)
    memory_mb: float = Field(1024.0, gt=0)
    memory_ratio: float = Field(1.25, gt=0)
    latency_ratio: float = Field(1.25, gt=0)
    resamples: int = Field(1000, ge=100, le=100_000)


def load_limits(path: Path | None) -> Limits:
    """Limits from a TOML file; the defaults for None. Raises BadLimits that lists every wrong key."""
    if path is None:
        return Limits()
    try:
        return Limits.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadLimits(f"{path}: expected a TOML file with the gate's limits, got: {error}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise BadLimits("\n".join([f"{path}: these limits are wrong; correct them:", *lines])) from error
