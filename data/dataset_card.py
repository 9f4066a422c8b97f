"""What a dataset version says of itself: counts, agreement between reviewers, and a page for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.labels.records import LabelRecord
from data.reviews.agreement import alpha
from data.scheme import Scheme

__all__ = ["CARD_FORMAT", "Tally", "nominal_alpha", "readme"]

CARD_FORMAT = 1


class Tally:
    """Counts records as they are written."""

    def __init__(self, scheme: Scheme) -> None:
        self.rows = 0
        self._scheme = scheme
        self._states: dict[str, Counter[str]] = {head: Counter() for head in scheme.heads}
        self._codes: dict[str, Counter[str]] = {head: Counter() for head in scheme.heads}
        self._reviewers: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._units: dict[str, list[list[str]]] = {head: [] for head in scheme.heads}

    def add(self, record: LabelRecord) -> None:
        """Count one record."""
        self.rows += 1
        for head, label in record.labels.items():
            if head in self._states:
                self._states[head]["adjudicated" if label.adjudicated else label.state] += 1
                self._codes[head].update([label.code] if label.code else [])
        self._reviewers.update({opinion.reviewer for opinion in record.opinions})
        rows = [row for label in record.labels.values() for row in label.rows]
        self._models.update({row.model_version for row in rows if row.model_version})
        voices = [opinion.labels for opinion in record.opinions if not opinion.adjudicated]
        for head, units in self._units.items():
            said = [labels[head] for labels in voices if head in labels]
            if len(said) > 1:
                units.append(said)

    def told(self) -> dict[str, Any]:
        """For the card."""
        return {
            "rows": self.rows,
            "heads": {head: self._head(head) for head in self._units},
            "reviewers": dict(self._reviewers.most_common()),
            "model_versions": dict(self._models.most_common()),
        }

    def _head(self, head: str) -> dict[str, Any]:
        codes = self._codes[head]
        return {
            "states": dict(sorted(self._states[head].items())),
            "labels": {code: codes[code] for code in self._scheme.heads[head].codes if codes[code]},
            "agreement": _agreement(self._units[head]),
        }


def _agreement(units: Sequence[Sequence[str]]) -> dict[str, float | int | None]:
    """Of appeals that several people labelled: how many, how often all agree, and Krippendorff's alpha."""
    same = sum(len(set(unit)) == 1 for unit in units)
    found = nominal_alpha(units)
    return {
        "appeals": len(units),
        "agreed": round(same / len(units), 4) if units else None,
        "alpha": None if found is None else round(found, 4),
    }


def nominal_alpha(units: Sequence[Sequence[str]]) -> float | None:
    """Krippendorff's alpha for nominal labels; None where it is not defined (fewer than two labels in use).

    Each unit holds the labels that at least two people gave to one appeal.
    """
    labels = sorted({label for unit in units for label in unit})
    if len(labels) < 2:
        return None
    return alpha(np.array([[unit.count(label) for label in labels] for unit in units], np.int64), "nominal")


STATES = ("sure", "adjudicated", "partial", "untellable", "disputed")
PAGE = """# {name}

{rows} labelled appeals, written {created_at}; never changed.

- hash of labels and scheme: `{hash}`
- label scheme: {scheme}
- query: {query}
- reviewers (appeals): {reviewers}

| head | {states} | labels in use | nominal alpha (appeals) |
|---|{rule}---|---|
{heads}

`labels.parquet`: one row per appeal. A column per head holds the code in force (`a|b`: one of these; empty:
none, see `HEAD_state`); `HEAD_…` tell who said so, when, what was shown to them, and under which model and
scheme version. Personal data is masked, flagged characters are covered.
"""


def readme(card: Mapping[str, Any]) -> str:
    """The card as a page that people read (Markdown)."""
    scheme = card["scheme"]
    return PAGE.format(
        **{key: card[key] for key in ("name", "rows", "created_at", "hash")},
        scheme=f"{scheme['name']} {scheme['version']} (sha256 `{scheme['sha256'][:12]}`)",
        query=", ".join(f"{key} = {value}" for key, value in card["query"].items()),
        reviewers=", ".join(f"{name} ({count})" for name, count in card["reviewers"].items()),
        states=" | ".join(STATES),
        rule="---|" * len(STATES),
        heads="\n".join(_line(head, found) for head, found in card["heads"].items()),
    )


def _line(head: str, found: Mapping[str, Any]) -> str:
    value, doubled = found["agreement"]["alpha"], found["agreement"]["appeals"]
    shown = f"{'–' if value is None else f'{value:.3f}'} ({doubled})"
    cells = [head, *(found["states"].get(state, 0) for state in STATES), len(found["labels"]), shown]
    return f"| {' | '.join(map(str, cells))} |"
