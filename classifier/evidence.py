"""Evidence: the spans of a text whose features spoke for an answer, from what every feature gained it.

All texts and all answers of a batch are looked at together: their characters stand in one row, each text's
followed by one place that holds nothing, so that no span runs from one text into the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

__all__ = ["Evidence", "Row", "heat", "hottest"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

HOT = 0.35  # of the hottest place; and
OVER_MEAN = 2.0  # times the mean: what is less belongs to no span
SHORTEST = 2  # a single character tells a reader nothing


@dataclass(frozen=True)
class Evidence:
    """A span [start, end) of a text and how much of the answer's lexical support it carried (0–1)."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Row:
    """The characters of the texts in one row, of ``size`` places.

    ``firsts`` are the texts' first places, ``lengths`` their lengths with the empty place, ``solid`` the
    places of letters and digits, between -1 and the row's end.
    """

    firsts: Places
    lengths: Places
    size: int
    solid: Places

    @classmethod
    def of(cls, texts: Sequence[str]) -> Row:
        """The texts' characters, one text after the other."""
        joined = "\n".join(texts) + "\n"
        size = len(joined)
        solid = [place for place, character in enumerate(joined) if character.isalnum()]
        lengths = [len(text) + 1 for text in texts]
        firsts = [0, *accumulate(lengths[:-1])]
        return cls(np.array(firsts), np.array(lengths), size, np.array([-1, *solid, size]))

    def trimmed(self, starts: Places, ends: Places) -> tuple[Places, Places]:
        """Spans without what is neither letter nor digit at their edges; empty ones end before they start."""
        froms = self.solid[np.searchsorted(self.solid, starts)]
        return froms, self.solid[np.searchsorted(self.solid, ends) - 1] + 1


def heat(row: Row, starts: Places, ends: Places, gains: F64) -> F64:
    """[answers, places]: each occurrence's gain [occurrences, answers] spread evenly over its places."""
    answers = gains.shape[1]
    each = gains / (ends - starts)[:, None]
    at = np.concatenate([starts, ends])[:, None] + np.arange(answers) * row.size
    steps = np.bincount(at.ravel(), np.concatenate([each, -each]).ravel(), answers * row.size)
    found: F64 = steps.reshape(answers, row.size).astype(np.float64, copy=False)
    for first, length in zip(row.firsts.tolist(), row.lengths.tolist(), strict=True):
        text = found[:, first : first + length]  # summed by itself: rounding stays in the text
        np.cumsum(text, axis=1, out=text)
        text[:, -1] = 0.0
    return found


def hottest(row: Row, heats: F64, most: int) -> list[list[tuple[Evidence, ...]]]:
    """For each text and answer the ``most`` strongest spans, from heat [answers, places]."""
    totals = np.add.reduceat(heats, row.firsts, axis=1)
    starts, ends = _hot(row, heats, totals)
    answer, places = np.divmod(starts, row.size)
    froms, tos = row.trimmed(places, ends - answer * row.size)
    kept = np.flatnonzero(tos - froms >= SHORTEST)
    answer, froms, tos = answer[kept], froms[kept], tos[kept]
    base = answer * row.size
    edges = np.empty(2 * len(kept), np.int64)
    edges[::2], edges[1::2] = froms + base, tos + base
    sums = np.add.reduceat(heats.ravel(), edges)[::2] if len(kept) else np.zeros(0)
    text = np.searchsorted(row.firsts, froms, side="right") - 1
    weights, firsts = sums / totals[answer, text], row.firsts[text]
    columns = (text * len(heats) + answer, froms - firsts, tos - firsts, weights)
    found: list[list[Evidence]] = [[] for _ in range(totals.size)]
    for n, start, end, weight in zip(*(column.tolist() for column in columns), strict=True):
        found[n].append(Evidence(start, end, round(weight, 4)))
    told = [_first(spans, most) for spans in found]
    return [told[n : n + len(heats)] for n in range(0, len(told), len(heats))]


def _hot(row: Row, heats: F64, totals: F64) -> tuple[Places, Places]:
    """Starts and ends of the runs of hot places in all rows of heat, one row after the other."""
    mean = totals / np.maximum(row.lengths - 1, 1)
    least = np.maximum(np.maximum.reduceat(heats, row.firsts, axis=1) * HOT, mean * OVER_MEAN)
    least[totals <= 0.0] = np.inf
    hot = np.zeros(heats.size + 1, np.bool_)
    np.greater(heats, np.repeat(least, row.lengths, axis=1), out=hot[1:].reshape(heats.shape))
    edges = np.flatnonzero(hot[1:] != hot[:-1])
    return edges[::2], edges[1::2]


def _first(spans: list[Evidence], most: int) -> tuple[Evidence, ...]:
    if len(spans) > most:
        spans = sorted(sorted(spans, key=lambda item: -item.weight)[:most], key=lambda item: item.start)
    return tuple(spans)
