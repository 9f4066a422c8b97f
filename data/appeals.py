"""Appeals as data: what a resident said, where, and how it was labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Place", "Row"]


@dataclass(frozen=True)
class Place:
    """Where an appeal points to, from the city down to the grid; empty strings where unknown."""

    city: str = ""
    district: str = ""
    street: str = ""
    community: str = ""
    grid: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a labelled (or unlabelled) file.

    ``labels`` maps a head to the admissible leaf codes: one code is a sure label, several mean
    "one of these" (a partial label, as a coarser scheme gives it), an absent head means no label.
    ``date`` is ISO 8601 or empty. ``group`` holds near-duplicates together; ``fold`` is the stable
    hash of the group where the file brings one.
    """

    id: str
    text: str
    title: str = ""
    date: str = ""
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    source: str = ""
    line: int = 0
    group: str = ""
    fold: str = ""
    weight: float = 1.0
