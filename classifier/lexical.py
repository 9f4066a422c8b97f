"""The lexical part: one linear layer over hashed n-grams, in numpy, with exact evidence.

Only buckets whose n-gram stood in several unrelated appeals are kept (see training), as a sorted array of
hashes; a weight is an int8 and each output has its own scale. The answer for a text is a sparse dot
product, so what every character contributed to an answer is known exactly, not estimated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from classifier.errors import ModelError
from classifier.ngrams import Features, all_occurrences

__all__ = ["Claim", "Evidence", "LexicalPart", "Reading"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Evidence:
    """A span [start, end) of a text and how much of the answer's lexical support it carried (0–1)."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Claim:
    """An answer to be explained: its output, and how much each output of its head (``piece``) rivals it."""

    output: int
    piece: slice
    rivals: F32


@dataclass(frozen=True)
class Reading:
    """One text as the lexical part sees it: known buckets (``rows``) and their values.

    Every known occurrence covers [start, end) of the text; ``place`` is that of its bucket in ``rows``.
    """

    rows: npt.NDArray[np.int64]
    values: F32
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    place: npt.NDArray[np.int64]


@dataclass(frozen=True)
class LexicalPart:
    """Weights [buckets, outputs] as int8, ``scale`` [outputs], ``bias`` [outputs], ``idf`` [buckets].

    ``slices`` says which outputs belong to which head.
    """

    hashes: npt.NDArray[np.uint32]
    idf: F32
    weights: npt.NDArray[np.int8]
    scale: F32
    bias: F32
    features: Features
    slices: Mapping[str, slice]

    def read(self, text: str) -> Reading:
        """Look the text's n-grams up; unknown ones are dropped. Values are L2-normalised TF-IDF."""
        return self.read_all([text])[0]

    def read_all(self, texts: Sequence[str]) -> list[Reading]:
        """``read`` for every text, in one go: many short texts cost little more than one."""
        found = all_occurrences(texts, self.features)
        rows = self._rows(np.concatenate([one.hashes for one in found])) if found else np.zeros(0, np.int64)
        known = rows >= 0
        cuts = np.cumsum([0, *(len(one.hashes) for one in found)])
        owner = np.repeat(np.arange(len(found)), np.diff(cuts))[known]
        width = max(1, len(self.hashes))
        keys, place, counts = np.unique(owner * width + rows[known], return_inverse=True, return_counts=True)
        of_text, buckets = np.divmod(keys, width)
        values = (1.0 + np.log(counts.astype(np.float32))) * self.idf[buckets]
        firsts = np.searchsorted(of_text, np.arange(len(found) + 1)).tolist()
        knowns = np.searchsorted(owner, np.arange(len(found) + 1)).tolist()
        return [
            Reading(
                buckets[firsts[n] : firsts[n + 1]],
                _normed(values[firsts[n] : firsts[n + 1]]),
                one.starts[known[cuts[n] : cuts[n + 1]]],
                one.ends[known[cuts[n] : cuts[n + 1]]],
                place[knowns[n] : knowns[n + 1]] - firsts[n],
            )
            for n, one in enumerate(found)
        ]

    def _rows(self, hashes: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """The bucket of each hash, -1 where there is none."""
        if not len(self.hashes):
            return np.full(len(hashes), -1, np.int64)
        at = np.searchsorted(self.hashes, hashes)
        at[at == len(self.hashes)] = 0
        return np.where(self.hashes[at] == hashes, at, -1)

    def scores(self, reading: Reading) -> F32:
        """Decision values [outputs] of one text."""
        picked = self.weights[reading.rows].astype(np.float32)
        result: F32 = (reading.values @ picked) * self.scale + self.bias
        return result

    def evidence(
        self, text: str, reading: Reading, claims: Sequence[Claim], most: int = 3
    ) -> list[tuple[Evidence, ...]]:
        """For every claim the ``most`` spans that spoke for its output more than for its rivals."""
        if not len(reading.rows):
            return [()] * len(claims)
        # For all claims in one product: what speaks for the output, less what speaks for its rivals.
        asked = np.zeros((len(self.scale), len(claims)), np.float32)
        for column, claim in enumerate(claims):
            asked[claim.piece, column] = -claim.rivals
            asked[claim.output, column] += 1.0
        weighed = self.weights[reading.rows].astype(np.float32) @ (asked * self.scale[:, None])
        return _spans(text, reading, reading.values * weighed.T, most)

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        tensors = {
            "hashes": self.hashes,
            "idf": self.idf.astype(np.float16),
            "weights": self.weights,
            "scale": self.scale,
            "bias": self.bias,
        }
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)

    @classmethod
    def load(cls, path: Path, features: Features, slices: Mapping[str, slice]) -> LexicalPart:
        """Read safetensors. Raises ModelError when tensors are missing or don't fit each other."""
        try:
            tensors = load_file(path)
            part = cls(
                tensors["hashes"],
                tensors["idf"].astype(np.float32),
                tensors["weights"],
                tensors["scale"],
                tensors["bias"],
                features,
                dict(slices),
            )
        except (OSError, KeyError, SafetensorError) as error:
            raise ModelError(f"{path}: expected the tensors of a lexical part, got: {error}") from error
        outputs = max((piece.stop for piece in slices.values()), default=0)
        if part.weights.shape != (len(part.hashes), outputs):
            raise ModelError(
                f"{path}: expected weights [{len(part.hashes)}, {outputs}], got {list(part.weights.shape)}"
            )
        return part


def _normed(values: F32) -> F32:
    norm = float(np.sqrt((values * values).sum())) or 1.0
    return (values / norm).astype(np.float32)


def _spans(text: str, reading: Reading, gains: F32, most: int) -> list[tuple[Evidence, ...]]:
    """Spread each bucket's gain [claims, buckets] over the characters it covers; the strongest runs."""
    claims, places = len(gains), len(text) + 1
    counts = np.bincount(reading.place, minlength=len(reading.rows))
    shares = np.maximum(gains, 0) / np.maximum(counts, 1)
    each = shares[:, reading.place] / np.maximum(reading.ends - reading.starts, 1)
    at = np.concatenate([reading.starts, reading.ends]) + np.arange(claims)[:, None] * places
    steps = np.bincount(at.ravel(), np.concatenate([each, -each], axis=1).ravel(), claims * places)
    heat = np.cumsum(steps.reshape(claims, places), axis=1, dtype=np.float64)[:, :-1]
    return _hottest(text, heat, most)


def _hottest(text: str, heat: npt.NDArray[np.float64], most: int) -> list[tuple[Evidence, ...]]:
    """Runs of characters that are hotter than a third of the hottest and than twice the mean."""
    totals = heat.sum(axis=1)
    least = np.maximum(heat.max(axis=1) * 0.35, 2.0 * totals / heat.shape[1])
    hot = np.zeros((len(heat), heat.shape[1] + 2), bool)
    hot[:, 1:-1] = (heat > least[:, None]) & (totals > 0)[:, None]
    claim, edge = np.nonzero(hot[:, 1:] != hot[:, :-1])
    bounds = [_trimmed(text, start, end) for start, end in edge.reshape(-1, 2).tolist()]
    summed = np.zeros((len(heat), heat.shape[1] + 1))
    np.cumsum(heat, axis=1, out=summed[:, 1:])
    owner, ends = claim[::2], np.array(bounds, np.int64).reshape(-1, 2)
    weights = (summed[owner, ends[:, 1]] - summed[owner, ends[:, 0]]) / totals[owner]
    found: list[list[Evidence]] = [[] for _ in heat]
    for n, (start, end), weight in zip(owner.tolist(), bounds, weights.tolist(), strict=True):
        if end - start >= 2:
            found[n].append(Evidence(start, end, round(weight, 4)))
    return [_first(runs, most) for runs in found]


def _first(runs: list[Evidence], most: int) -> tuple[Evidence, ...]:
    if len(runs) > most:
        runs = sorted(sorted(runs, key=lambda item: -item.weight)[:most], key=lambda item: item.start)
    return tuple(runs)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and not text[start].isalnum():
        start += 1
    while end > start and not text[end - 1].isalnum():
        end -= 1
    return start, end


def head_slices(sizes: Sequence[tuple[str, int]]) -> dict[str, slice]:
    """Consecutive output slices for heads of the given sizes."""
    slices, at = {}, 0
    for name, size in sizes:
        slices[name] = slice(at, at + size)
        at += size
    return slices
