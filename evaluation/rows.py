"""The labelled rows that a model is scored on: read, chosen by fold, their label counts kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.appeals import Row
from data.errors import SchemeError
from data.readers import read, read_all
from data.scheme import Scheme
from evaluation.errors import NothingToScore
from evaluation.labels import LabelSet

__all__ = ["LabelledRows", "load_rows", "select_folds"]


@dataclass(frozen=True)
class LabelledRows:
    """Rows to score. ``support[head][label]`` counts rows of the whole file, before folds were chosen."""

    file: str
    sha256: str
    total: int
    folds: tuple[str, ...]
    rows: tuple[Row, ...]
    support: Mapping[str, Mapping[LabelSet, int]]

    @classmethod
    def of(cls, rows: Sequence[Row], file: str = "", sha256: str = "") -> LabelledRows:
        """All of the given rows."""
        return cls(file, sha256, len(rows), (), tuple(rows), _support(rows))


def load_rows(path: Path, mapping: str | None, scheme: Scheme, folds: Sequence[str] = ()) -> LabelledRows:
    """Read a labelled file and keep the rows of the given folds (all if none are given).

    Without a mapping, labels that the scheme does not know stay on their rows, as labels that no model
    of this scheme can answer; a mapping says itself what becomes of them. Raises DataError as the
    readers do, NothingToScore if no row is left.
    """
    rows = read(path, mapping, scheme) if mapping else _read_plain(path, scheme)
    every = LabelledRows.of(rows, path.name, _sha256(path))
    return select_folds(every, folds) if folds else every


def select_folds(labelled: LabelledRows, folds: Sequence[str]) -> LabelledRows:
    """The rows of these folds; counts stay those of the whole file. Raises NothingToScore if none is left."""
    chosen = tuple(row for row in labelled.rows if row.fold in folds)
    if not chosen:
        there = ", ".join(sorted({row.fold for row in labelled.rows if row.fold})) or "none (no fold column)"
        raise NothingToScore(
            f"{labelled.file}: expected rows of fold {', '.join(folds)}; the file's folds: {there}. "
            "Leave out --folds to score all rows."
        )
    return replace(labelled, folds=tuple(folds), rows=chosen)


def _read_plain(path: Path, scheme: Scheme) -> list[Row]:
    reading = read_all(path, None, scheme)
    if not reading.problems:
        return list(reading.rows)
    # Read again with labels as they are: what is wrong besides unknown labels still raises.
    rows = read(path, reading.mapping, None)
    return [replace(row, labels=_resolved(row.labels, scheme)) for row in rows]


def _resolved(labels: Mapping[str, LabelSet], scheme: Scheme) -> dict[str, LabelSet]:
    return {
        head: frozenset[str]().union(*(_leaves(scheme, head, term) for term in terms))
        for head, terms in labels.items()
    }


def _leaves(scheme: Scheme, head: str, term: str) -> LabelSet:
    try:
        return scheme.leaves(head, term) or frozenset([term])
    except SchemeError:
        return frozenset([term])


def _support(rows: Sequence[Row]) -> dict[str, Counter[LabelSet]]:
    support: dict[str, Counter[LabelSet]] = {}
    for row in rows:
        for head, label in row.labels.items():
            support.setdefault(head, Counter())[label] += 1
    return support


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
