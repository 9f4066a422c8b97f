"""Rows in the order in which they came, cut into what a model starts from, what arrives, and what tests it.

Nothing that is tested on nearly repeats an earlier row. Rows without a date are in a random order that is the
same everywhere.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from data.appeals import Row
from data.progress import Progress
from data.splits import fold_of, group_rows
from training.errors import SimulationError

__all__ = ["Timeline", "timeline"]

TRAIN_ONLY = "train"  # the fold of rows that are never held out (see training.dataset)


@dataclass(frozen=True)
class Timeline:
    """``start``: labelled before the loop begins. ``pool``: arrives during the loop, in its order. ``test``:
    comes after all of it; ``repeated`` counts rows of that time which nearly repeat an earlier one, and were
    left out.
    """

    start: tuple[Row, ...]
    pool: tuple[Row, ...]
    test: tuple[Row, ...]
    repeated: int


def timeline(
    rows: Sequence[Row], since: str, test_from: str, until: str = "", progress: Progress | None = None
) -> Timeline:
    """Cut at two moments, and leave out what comes ``until`` a third: ISO dates, or shares of the rows.

    Rows that are trained on only (seeds) belong to the start. Raises SimulationError for cuts that are no
    dates or shares, or leave a part empty.
    """
    ordered = sorted((row for row in rows if row.fold != TRAIN_ONLY), key=_moment)
    ordered = ordered[: _place(ordered, until, "until")] if until else ordered
    grouped = _grouped(ordered, progress)
    first, second = _place(grouped, since, "since"), _place(grouped, test_from, "test_from")
    if not 0 < first < second < len(grouped):
        raise SimulationError(
            f"expected rows before --since {since}, between it and --test-from {test_from}, and after, got "
            f"{first}, {second - first} and {len(grouped) - second} of {len(grouped)} rows"
        )
    known = {row.group for row in grouped[:second]}
    test = tuple(row for row in grouped[second:] if row.group not in known)
    seeds = tuple(row for row in rows if row.fold == TRAIN_ONLY)
    repeated = len(grouped) - second - len(test)
    return Timeline((*grouped[:first], *seeds), tuple(grouped[first:second]), test, repeated)


def _moment(row: Row) -> tuple[str, str]:
    name = f"{row.source}:{row.id}"
    return row.date, name if row.date else hashlib.sha256(name.encode()).hexdigest()


def _place(ordered: Sequence[Row], cut: str, name: str) -> int:
    """How many rows come before a cut."""
    try:
        share = float(cut)
    except ValueError:
        return _place_of_date(ordered, cut, name)
    if not 0 < share <= 1:
        raise SimulationError(f"--{name.replace('_', '-')}: expected a share over 0, at most 1, got {cut}")
    return round(share * len(ordered))


def _place_of_date(ordered: Sequence[Row], cut: str, name: str) -> int:
    if not cut[:4].isdecimal() or any(not row.date for row in ordered):
        raise SimulationError(
            f"--{name.replace('_', '-')}: expected a date such as 2031-05-01 and rows that all have one, "
            f"or a share of the rows such as 0.5, got '{cut}'"
        )
    return bisect_left(ordered, cut, key=lambda row: row.date)


def _grouped(ordered: Sequence[Row], progress: Progress | None) -> list[Row]:
    """Rows that bring no group get that of their near-duplicates, and the fold that goes with it."""
    groups = group_rows(ordered, progress)
    return [
        row if row.group else replace(row, group=group, fold=str(fold_of(group)))
        for row, group in zip(ordered, groups, strict=True)
    ]
