"""Hashed n-grams: the lexical part's features, without a vocabulary.

A feature is a 64-bit polynomial hash of a run of characters, mixed and cut to ``BITS`` bits. All runs of
all texts of a batch are hashed at once from prefix hashes (Rabin–Karp), so n characters cost O(n) numpy
work, and few calls: for short texts the calls are what costs. Words (from jieba's dictionary) are hashed
the same way under another salt. Nothing maps a hash back to text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from classifier.words import word_places

__all__ = [
    "BITS",
    "Features",
    "Occurrences",
    "Runs",
    "all_occurrences",
    "char_occurrences",
    "count",
    "occurrences",
    "runs",
    "word_occurrences",
]

BITS = 30
MAX_CHARS = 4_000
WORD_ORDER = 15
_BASE = 0x9E3779B97F4A7C15 | 1
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_TOP = np.uint64(64 - BITS)
_BREAKS = frozenset(map(ord, "，。！？；：、,.!?;:（）()“”\"'…—-~《》【】 ")) | frozenset(range(33))
_IS_BREAK = np.array([code in _BREAKS for code in range(0x10000)])

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
I32 = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]


def _powers(base: int) -> U64:
    """base**0, base**1, … as far as a text's characters go, modulo 2**64."""
    return np.cumprod(np.array([1] + [base] * (MAX_CHARS - 1), np.uint64), dtype=np.uint64)


_POWERS, _INVERSES = _powers(_BASE), _powers(pow(_BASE, -1, 1 << 64))
_SALTS = np.arange(WORD_ORDER + 2, dtype=np.uint64) * _MIX_1


@dataclass(frozen=True)
class Occurrences:
    """Every feature occurrence in one text: hash, and the half-open span [start, end) it covers.

    In order: characters by order, words, word pairs; each from left to right.
    """

    hashes: U32
    starts: I32
    ends: I32


@dataclass(frozen=True)
class Features:
    """Which features a lexical part reads: character orders ``low``..``high``, and whether words too."""

    low: int = 1
    high: int = 4
    words: bool = False


@dataclass(frozen=True)
class Runs:
    """Every feature occurrence in several texts: hash, and the half-open span [start, end) it covers.

    Characters by order, words, word pairs; each from left to right through the texts one after the other.
    Spans are counted in the characters that take part: ``where`` is each one's place in its own text,
    ``text_of`` which text that is.
    """

    hashes: U32
    starts: Places
    ends: Places
    where: Places
    text_of: Places

    def texts(self, chosen: Places | slice) -> Places:
        """Which text each of the chosen occurrences is in."""
        return self.text_of[self.starts[chosen]]

    def spans(self, chosen: Places | slice) -> tuple[Places, Places]:
        """Starts and ends of the chosen occurrences, each in its own text."""
        return self.where[self.starts[chosen]], self.where[self.ends[chosen] - 1] + 1


@dataclass(frozen=True)
class _Codes:
    """The characters of several texts that take part, one after the other.

    ``where`` is each one's place in its own text, ``text_of`` which text that is, ``bounds`` where a
    text's characters begin, and the end of the last one's; ``within`` counts them from there.
    """

    codes: U32
    where: Places
    text_of: Places
    bounds: Places
    within: Places


def occurrences(text: str, features: Features) -> Occurrences:
    """All feature occurrences of ``text`` (the middle of texts over MAX_CHARS characters is left out)."""
    return all_occurrences([text], features)[0]


def char_occurrences(text: str, low: int, high: int) -> Occurrences:
    """Character n-grams alone."""
    return occurrences(text, Features(low, high, words=False))


def word_occurrences(text: str) -> Occurrences:
    """Words and word pairs alone."""
    return occurrences(text, Features(1, 0, words=True))


def all_occurrences(texts: Sequence[str], features: Features) -> list[Occurrences]:
    """What ``occurrences`` gives for each text, in one go."""
    found, number = runs(texts, features), len(texts)
    owner = found.texts(slice(None))
    order = np.argsort(owner, kind="stable")
    starts, ends = found.spans(order)
    cuts = np.cumsum(np.bincount(owner, minlength=number))[:-1]
    parts = (np.split(part, cuts) for part in (found.hashes[order], _i32(starts), _i32(ends)))
    return [Occurrences(*one) for one in zip(*parts, strict=True)][:number]


def runs(texts: Sequence[str], features: Features) -> Runs:
    """All feature occurrences of the texts, in one go: many short texts cost little more than one."""
    read = _codes(texts)
    starts, ends, orders = _char_runs(read, features)
    if features.words:
        froms, tos = _word_runs(read)
        starts, ends = np.concatenate([starts, froms]), np.concatenate([ends, tos])
        orders = np.concatenate([orders, np.full(len(froms), WORD_ORDER)])
    hashes = _cut(_run_hashes(read, starts, ends), _SALTS[orders])
    if features.words:
        same, both = _pairs(read, hashes[len(hashes) - len(froms) :], froms)
        hashes = np.concatenate([hashes, both])
        starts, ends = np.concatenate([starts, froms[:-1][same]]), np.concatenate([ends, tos[1:][same]])
    return Runs(hashes, starts, ends, read.where, read.text_of)


def _codes(texts: Sequence[str]) -> _Codes:
    """Lower-cased code points of the texts, runs of breaks as one space."""
    pieces = [_piece(text) for text in texts]
    raw = np.frombuffer("".join(pieces).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = [len(piece) for piece in pieces]
    bounds = np.array([0, *accumulate(lengths)])
    text_of = np.repeat(np.arange(len(texts)), lengths)
    places = np.arange(len(raw))
    where = places - bounds[text_of]
    broken = _IS_BREAK.take(raw, mode="clip")
    kept = np.ones(len(raw), np.bool_)
    # A break after a break is left out, but a text does not go on where the one before it ends.
    kept[1:] = ~(broken[1:] & broken[:-1]) | (where[1:] == 0)
    for number, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        if length < len(text):
            where[bounds[number] + MAX_CHARS // 2 : bounds[number + 1]] += len(text) - length
    chosen = np.flatnonzero(kept)
    bounds, text_of = np.searchsorted(chosen, bounds), text_of[chosen]
    codes = np.where(broken, np.uint32(32), raw)[chosen]
    return _Codes(codes, where[chosen], text_of, bounds, places[: len(chosen)] - bounds[text_of])


def _i32(places: Places) -> I32:
    return places.astype(np.int32)


def _piece(text: str) -> str:
    lowered = text.lower()
    if len(lowered) != len(text):  # İ and its kin: keep the spans true instead
        lowered = text
    if len(lowered) <= MAX_CHARS:
        return lowered
    return lowered[: MAX_CHARS // 2] + lowered[-MAX_CHARS // 2 :]


def _char_runs(read: _Codes, features: Features) -> tuple[Places, Places, Places]:
    """Starts, ends and orders of all runs of characters."""
    orders = np.arange(features.low, features.high + 1)
    left = read.bounds[1:][read.text_of] - np.arange(len(read.codes))
    rows, starts = np.nonzero(left >= orders[:, None])
    return starts, starts + orders[rows], orders[rows]


def _word_runs(read: _Codes) -> tuple[Places, Places]:
    """Starts and ends of all words."""
    text = read.codes.tobytes().decode("utf-32-le", "surrogatepass")
    bounds = read.bounds.tolist()
    starts, ends = word_places([text[start:end] for start, end in pairwise(bounds)])
    words = np.array([starts, ends], np.int64)
    words -= np.searchsorted(read.bounds[1:] + np.arange(len(bounds) - 1), words[0], side="right")
    return words[0], words[1]


def _pairs(read: _Codes, words: U32, starts: Places) -> tuple[Places, U32]:
    """Which words are followed by another one of the same text, and the hash of each with that one."""
    owner = read.text_of[starts]
    same = np.flatnonzero(owner[:-1] == owner[1:])
    wide = words.astype(np.uint64)
    return same, _cut(wide[same] * np.uint64(_BASE) + wide[same + 1], _SALTS[WORD_ORDER + 1 :])


def _run_hashes(read: _Codes, starts: Places, ends: Places) -> U64:
    """For characters c from place s to place e: sum(c_j * BASE**(e-1-j)), modulo 2**64.

    That is BASE**(e-1) * sum(c_j * BASE**-j); the sum over a run is the difference of two from the start.
    """
    sums = np.zeros(len(read.codes) + 1, np.uint64)
    np.cumsum(read.codes * _INVERSES[read.within], out=sums[1:])
    result: U64 = _POWERS[read.within[ends - 1]] * (sums[ends] - sums[starts])
    return result


def _cut(hashes: U64, salts: U64) -> U32:
    """Murmur's 64-bit finaliser over the salted hash, cut to BITS bits."""
    mixed = hashes + salts
    mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX_1
    mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX_2
    mixed ^= mixed >> _SHIFT
    result: U32 = (mixed >> _TOP).astype(np.uint32)
    return result


def count(found: Sequence[Occurrences]) -> tuple[npt.NDArray[np.int64], U32, npt.NDArray[np.float32]]:
    """Per text the unique hashes and sublinear counts 1 + ln(tf), as CSR: (indptr, hashes, values)."""
    indptr, hashes, values = [0], [], []
    for item in found:
        unique, counts = np.unique(item.hashes, return_counts=True)
        hashes.append(unique)
        values.append(1.0 + np.log(counts.astype(np.float32)))
        indptr.append(indptr[-1] + len(unique))
    flat = np.concatenate(hashes) if hashes else np.zeros(0, np.uint32)
    weights = np.concatenate(values) if values else np.zeros(0, np.float32)
    return np.array(indptr, np.int64), flat, weights.astype(np.float32)
