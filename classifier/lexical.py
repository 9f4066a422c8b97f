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
from classifier.ngrams import Features, Occurrences, occurrences

__all__ = ["Evidence", "LexicalPart", "Reading"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Evidence:
    """A span [start, end) of a text and how much of the answer's lexical support it carried (0–1)."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Reading:
    """One text as the lexical part sees it: known rows, their values, and where each occurrence stood."""

    rows: npt.NDArray[np.int64]
    values: F32
    found: Occurrences
    row_of: npt.NDArray[np.int64]


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
        found = occurrences(text, self.features)
        at = np.searchsorted(self.hashes, found.hashes)
        at[at == len(self.hashes)] = 0
        known = self.hashes[at] == found.hashes if len(self.hashes) else np.zeros(len(at), bool)
        row_of = np.where(known, at, -1)
        rows, counts = np.unique(at[known], return_counts=True)
        values = (1.0 + np.log(counts.astype(np.float32))) * self.idf[rows]
        norm = float(np.sqrt((values * values).sum())) or 1.0
        return Reading(rows, (values / norm).astype(np.float32), found, row_of)

    def scores(self, reading: Reading) -> F32:
        """Decision values [outputs] of one text."""
        picked = self.weights[reading.rows].astype(np.float32)
        result: F32 = (reading.values @ picked) * self.scale + self.bias
        return result

    def evidence(
        self, text: str, reading: Reading, output: int, rivals: F32, most: int = 3
    ) -> list[Evidence]:
        """The ``most`` spans that spoke for ``output`` more than for the other outputs of its head.

        ``rivals`` [outputs] weighs the outputs to compare with (their probabilities).
        """
        if not len(reading.rows):
            return []
        picked = self.weights[reading.rows].astype(np.float32) * self.scale
        gain = (reading.values * (picked[:, output] - picked @ rivals)).astype(np.float32)
        return _spans(text, reading, gain, most)

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


def _spans(text: str, reading: Reading, gain: F32, most: int) -> list[Evidence]:
    """Spread each feature's gain over the characters it covers and read off the strongest runs."""
    counts = np.bincount(
        np.searchsorted(reading.rows, reading.row_of[reading.row_of >= 0]), minlength=len(gain)
    )
    share = np.maximum(gain, 0) / np.maximum(counts, 1)
    heat = np.zeros(len(text) + 1, np.float64)
    known = reading.row_of >= 0
    starts, ends = reading.found.starts[known], reading.found.ends[known]
    each = share[np.searchsorted(reading.rows, reading.row_of[known])] / np.maximum(ends - starts, 1)
    np.add.at(heat, starts, each)
    np.add.at(heat, ends, -each)
    return _runs(text, np.cumsum(heat)[:-1], most)


def _runs(text: str, heat: npt.NDArray[np.float64], most: int) -> list[Evidence]:
    total = float(heat.sum())
    if total <= 0:
        return []
    hot = heat > max(heat.max() * 0.35, 2.0 * float(heat.mean()))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hot, [False]]).astype(np.int8)))
    runs = [_trimmed(text, int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    found = [Evidence(a, b, round(float(heat[a:b].sum()) / total, 4)) for a, b in runs if b - a >= 2]
    return sorted(sorted(found, key=lambda item: -item.weight)[:most], key=lambda item: item.start)


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
