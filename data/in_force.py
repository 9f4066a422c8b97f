"""Which label is in force: derived from corrections, never stored.

Of one appeal and head: the latest adjudicated row that was not withdrawn decides; without one, the
latest row of each reviewer, if they agree; else the label is disputed. Rows under an older version of
the label scheme are read through `Reading` (data.scheme_change): several codes are a partial label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

__all__ = [
    "AppealLabels",
    "Correction",
    "InForce",
    "Kind",
    "Reading",
    "as_written",
    "in_force",
    "live",
    "read_as",
]

Kind = Literal["confirmed", "changed", "adjudicated", "bulk", "withdrawn"]
State = Literal["sure", "partial", "untellable", "disputed"]

# (head, code, scheme version) → codes to read it as; None: it says nothing any more.
Reading = Callable[[str, str, str], "frozenset[str] | None"]


@dataclass(frozen=True)
class Correction:
    """One row: what a person said of one head of one appeal, and what they had been shown.

    `code` is empty where the text does not tell. A row of kind withdrawn takes back the row `withdraws`.
    """

    number: int
    appeal_number: int
    head: str
    code: str
    shown: str
    kind: Kind
    reviewer: str
    comment: str
    model_version: str
    scheme_version: str
    source: str
    token: str
    lease_number: int | None
    seconds: float
    withdraws: int | None
    created_at: datetime


@dataclass(frozen=True)
class InForce:
    """The label in force of one head. `rows` are those that decided it (of a dispute: the two sides' rows).

    sure: one code; partial: one of several (an older label that was split); untellable: a person says
    the text does not tell; disputed: no code.
    """

    head: str
    codes: frozenset[str]
    state: State
    rows: tuple[Correction, ...]

    @property
    def code(self) -> str | None:
        """The code; "" where it cannot be told from the text; None if disputed or partial."""
        if self.state == "sure":
            return next(iter(self.codes))
        return "" if self.state == "untellable" else None

    @property
    def adjudicated(self) -> bool:
        """Whether a lead decided it."""
        return self.rows[0].kind == "adjudicated"

    @property
    def decided_at(self) -> datetime:
        """When it became what it is: the newest row's moment."""
        return max(row.created_at for row in self.rows)


@dataclass(frozen=True)
class AppealLabels:
    """The labels in force of one appeal, by head; a head without a word from anyone is absent."""

    appeal_number: int
    heads: Mapping[str, InForce]


def as_written(head: str, code: str, scheme_version: str) -> frozenset[str]:
    """Reads codes as they stand: for rows under one version of the label scheme."""
    return frozenset({code}) if code else frozenset()


def read_as(reading: Reading, head: str, code: str, scheme_version: str) -> str:
    """A code as it reads today, where that is one code; else as it was written."""
    codes = reading(head, code, scheme_version) or frozenset()
    return next(iter(codes)) if len(codes) == 1 else code


def live(rows: Iterable[Correction]) -> list[Correction]:
    """Rows that were not withdrawn, in their order."""
    listed = list(rows)
    withdrawn = {row.withdraws for row in listed}
    return [row for row in listed if row.kind != "withdrawn" and row.number not in withdrawn]


def in_force(rows: Iterable[Correction], reading: Reading = as_written) -> dict[str, InForce]:
    """The labels in force of one appeal, of whose corrections `rows` are all up to some moment, in order."""
    by_head: dict[str, list[Correction]] = {}
    for row in live(rows):
        by_head.setdefault(row.head, []).append(row)
    found = {head: _of_head(head, some, reading) for head, some in by_head.items()}
    return {head: label for head, label in found.items() if label is not None}


def _of_head(head: str, rows: Sequence[Correction], reading: Reading) -> InForce | None:
    adjudicated = [row for row in rows if row.kind == "adjudicated"]
    voices = adjudicated[-1:] or list({row.reviewer: row for row in rows}.values())
    read = [(row, reading(head, row.code, row.scheme_version)) for row in voices]
    heard = [(row, codes) for row, codes in read if codes is not None]
    if not heard:
        return None
    return _agreed(head, tuple(row for row, _ in heard), [codes for _, codes in heard])


def _agreed(head: str, rows: tuple[Correction, ...], sets: Sequence[frozenset[str]]) -> InForce:
    if not any(sets):
        return InForce(head, frozenset(), "untellable", rows)
    common = frozenset.intersection(*sets)
    if not common:
        return InForce(head, frozenset(), "disputed", rows)
    return InForce(head, common, "sure" if len(common) == 1 else "partial", rows)
