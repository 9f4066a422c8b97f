"""The lexical part: one linear layer over hashed n-grams, in numpy, with exact evidence.

Only buckets whose n-gram stood in several unrelated appeals are kept (see training), as a sorted array of
hashes; a weight is an int8 and each output has its own scale. The answer for a text is a sparse dot
product, so what every character contributed to an answer is known exactly, not estimated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from classifier.errors import ModelError
from classifier.evidence import Evidence, Row, heat, hottest
from classifier.ngrams import BITS, Features, runs

__all__ = ["Evidence", "LexicalPart", "Reading"]

F32 = npt.NDArray[np.float32]
U32 = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """Some texts as the lexical part sees them: known buckets (``rows``) and their values, text by text.

    Those of text n are ``bounds[n]`` to ``bounds[n + 1]``. Every known occurrence covers [start, end) of text
    number ``texts``; ``place`` is that of its bucket in ``rows``.
    """

    bounds: Sequence[int]
    rows: Places
    values: F32
    texts: Places
    starts: Places
    ends: Places
    place: Places


@dataclass(frozen=True)
class _Buckets:
    """Sorted hashes to be found in.

    ``firsts`` says by a hash's high bits where to begin; at most ``most`` hashes share these. Hashes are
    evenly spread, so that a few steps from there lead to any of them.
    """

    hashes: U32
    firsts: npt.NDArray[np.int32]
    most: int
    low_bits: np.uint32

    @classmethod
    def of(cls, hashes: U32) -> _Buckets:
        """Two to four beginnings for every hash; behind the last one a hash that no n-gram has."""
        bits = min(BITS, len(hashes).bit_length() + 1)
        low = np.uint32(BITS - bits)
        firsts = np.searchsorted(hashes, np.arange(1 << bits, dtype=np.uint32) << low)
        most = int(np.diff(firsts, append=len(hashes)).max())
        return cls(np.append(hashes, np.uint32(1 << BITS)), firsts.astype(np.int32), most, low)

    def find(self, hashes: U32) -> tuple[Places, Places]:
        """Which of the hashes have a bucket, and these buckets."""
        at = self.firsts.take(hashes >> self.low_bits)
        for _ in range(self.most):
            at += self.hashes.take(at) < hashes
        known = np.flatnonzero(self.hashes.take(at) == hashes)
        return known, at[known].astype(np.int64)


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

    @cached_property
    def _buckets(self) -> _Buckets:
        return _Buckets.of(self.hashes)

    @cached_property
    def _columns(self) -> F32:
        """[outputs, heads]: 1 where the output is the head's."""
        columns = np.zeros((len(self.scale), len(self.slices)), np.float32)
        for column, piece in enumerate(self.slices.values()):
            columns[piece, column] = 1.0
        return columns

    def read_all(self, texts: Sequence[str]) -> Reading:
        """Look the texts' n-grams up; unknown ones are dropped. Values are L2-normalised TF-IDF.

        In one go: many short texts cost little more than one.
        """
        found = runs(texts, self.features)
        known, buckets = self._buckets.find(found.hashes)
        owner = found.texts(known)
        width = max(1, len(self.hashes))
        keys, place, counts = _counted(owner * width + buckets)
        rows = keys % width
        bounds = np.searchsorted(keys, np.arange(len(texts) + 1) * width).tolist()
        logs: F32 = np.log(counts.astype(np.float32))
        values = _normed((np.float32(1.0) + logs) * self.idf[rows], bounds)
        return Reading(bounds, rows, values, owner, *found.spans(known), place)

    def scores(self, reading: Reading) -> F32:
        """Decision values [texts, outputs]."""
        sums = np.empty((len(reading.bounds) - 1, len(self.scale)), np.float32)
        for text, (start, end) in enumerate(pairwise(reading.bounds)):
            picked = self.weights.take(reading.rows[start:end], axis=0).astype(np.float32)
            np.dot(reading.values[start:end], picked, out=sums[text])
        return sums * self.scale + self.bias

    def evidence(
        self, texts: Sequence[str], reading: Reading, claims: F32, most: int = 3
    ) -> list[dict[str, tuple[Evidence, ...]]]:
        """For every text and head the ``most`` spans that spoke for its answer more than for its rivals.

        ``claims`` [texts, outputs] hold 1 for a head's answer, and for each rival its share of -1.
        """
        if not len(reading.rows):
            return [dict.fromkeys(self.slices, ()) for _ in texts]
        counts = np.bincount(reading.place)
        shares = np.maximum(self._gains(reading, claims), 0.0) / counts[:, None]
        row = Row.of(texts)
        firsts = row.firsts[reading.texts]
        heats = heat(row, reading.starts + firsts, reading.ends + firsts, shares[reading.place])
        return [dict(zip(self.slices, spans, strict=True)) for spans in hottest(row, heats, most)]

    def _gains(self, reading: Reading, claims: F32) -> F32:
        """[rows, heads]: what each bucket of a text adds to the answer of a head, less what to its rivals."""
        asked = (claims * self.scale)[:, :, None] * self._columns
        gains = np.empty((len(reading.rows), len(self.slices)), np.float32)
        for text, (start, end) in enumerate(pairwise(reading.bounds)):
            picked = self.weights.take(reading.rows[start:end], axis=0).astype(np.float32)
            np.dot(picked, asked[text], out=gains[start:end])
        return gains * reading.values[:, None]

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


def _counted(keys: Places) -> tuple[Places, Places, Places]:
    """The different keys in order, the place of each given one among them, and how often each was given."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    new = np.ones(len(keys), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    place = np.empty(len(keys), np.int64)
    place[order] = np.cumsum(new) - 1
    return ordered[new], place, np.bincount(place)


def _normed(values: F32, bounds: Sequence[int]) -> F32:
    """Each text's values divided by their length as a vector."""
    squares = values * values
    normed = np.empty_like(values)
    for start, end in pairwise(bounds):
        np.divide(values[start:end], np.sqrt(squares[start:end].sum()), out=normed[start:end])
    return normed


def head_slices(sizes: Sequence[tuple[str, int]]) -> dict[str, slice]:
    """Consecutive output slices for heads of the given sizes."""
    slices, at = {}, 0
    for name, size in sizes:
        slices[name] = slice(at, at + size)
        at += size
    return slices
