"""The acceptance sentences of tests/acceptance."""

from __future__ import annotations

from pathlib import Path

ACCEPTANCE = Path(__file__).parent / "acceptance"


def lines(name: str) -> list[list[str]]:
    """The sentences of a file of tests/acceptance, split at tabs."""
    return [line.split("\t") for line in (ACCEPTANCE / f"urgency_{name}.txt").read_text("utf-8").splitlines()]
