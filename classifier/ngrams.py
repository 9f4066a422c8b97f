"""Hashed n-grams: the lexical part's features, without a vocabulary.

A feature is a 64-bit polynomial hash of a run of characters, mixed and cut to ``BITS`` bits. All runs of
all texts of a batch are hashed at once from prefix hashes (Rabin–Karp), so n characters cost O(n) numpy
work, and few calls: for short texts the calls are what costs. Words (from jieba's dictionary) are hashed
the same way under another salt. Nothing maps a hash back to text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from classifier.words import word_bounds

__all__ = [
    "BITS",
    "Features",
    "Occurrences",
    "all_occurrences",
    "char_occurrences",
    "count",
    "occurrences",
    "word_occurrences",
]

BITS = 30
MAX_CHARS = 4_000
WORD_ORDER = 15
_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))
_BREAKS = frozenset(map(ord, "，。！？；：、,.!?;:（）()“”\"'…—-~《》【】 ")) | frozenset(range(33))
_IS_BREAK = np.array([code in _BREAKS for code in range(0x10000)])

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
I32 = npt.NDArray[np.int32]


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
class _Codes:
    """The characters of several texts that take part, one after the other.

    ``where`` is each one's place in its own text, ``text_of`` which text that is, ``bounds`` where a
    text's characters begin, and the end of the last one's.
    """

    codes: U32
    where: I32
    text_of: I32
    bounds: npt.NDArray[np.int64]


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
    read = _codes(texts)
    starts, ends, salts = _runs(read, features)
    hashes = _cut(_run_hashes(*_prefix_hashes(read.codes.astype(np.uint64)), starts, ends), salts)
    if features.words:
        first = int(np.searchsorted(salts, WORD_ORDER))
        more, froms, tos = _pairs(read, hashes[first:], starts[first:], ends[first:])
        hashes, starts, ends = np.append(hashes, more), np.append(starts, froms), np.append(ends, tos)
    return _by_text(read, hashes, starts, ends, len(texts))


def _codes(texts: Sequence[str]) -> _Codes:
    """Lower-cased code points of the texts, runs of breaks as one space."""
    pieces = [_piece(text) for text in texts]
    raw = np.frombuffer("".join(pieces).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    text_of = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    where = np.arange(len(raw), dtype=np.int32) - bounds[text_of].astype(np.int32)
    for number, (text, piece) in enumerate(zip(texts, pieces, strict=True)):
        if len(piece) < len(text):
            where[bounds[number] + MAX_CHARS // 2 : bounds[number + 1]] += len(text) - len(piece)
    broken = _IS_BREAK[np.minimum(raw, 0xFFFF)]
    again = np.concatenate([[False], broken[:-1]])
    again[bounds[:-1][lengths > 0]] = False  # a text does not go on where the one before it ends
    keep = ~(broken & again[: len(broken)])
    codes = np.where(broken, np.uint32(32), raw)[keep]
    return _Codes(codes, where[keep], text_of[keep], np.concatenate([[0], np.cumsum(keep)])[bounds])


def _piece(text: str) -> str:
    lowered = text.lower()
    if len(lowered) != len(text):  # İ and its kin: keep the spans true instead
        lowered = text
    if len(lowered) <= MAX_CHARS:
        return lowered
    return lowered[: MAX_CHARS // 2] + lowered[-MAX_CHARS // 2 :]


def _runs(read: _Codes, features: Features) -> tuple[I32, I32, I32]:
    """Starts, ends and salts of all runs: each order of characters, then words."""
    parts = [_char_runs(read, order) for order in range(features.low, features.high + 1)]
    if features.words:
        parts.append(_word_runs(read))
    if not parts:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32)
    salts = [*range(features.low, features.high + 1), WORD_ORDER]
    counts = [len(starts) for starts, _ in parts]
    return (
        np.concatenate([starts for starts, _ in parts]),
        np.concatenate([ends for _, ends in parts]),
        np.repeat(np.array(salts[: len(parts)], np.int32), counts),
    )


def _char_runs(read: _Codes, order: int) -> tuple[I32, I32]:
    last = max(0, len(read.codes) - order + 1)
    same = read.text_of[:last] == read.text_of[order - 1 :][:last]
    starts = np.flatnonzero(same).astype(np.int32)
    return starts, starts + np.int32(order)


def _word_runs(read: _Codes) -> tuple[I32, I32]:
    text = read.codes.tobytes().decode("utf-32-le", "surrogatepass")
    bounds = read.bounds.tolist()
    spans = [
        (start + begin, start + end)
        for start, stop in pairwise(bounds)
        for begin, end in word_bounds(text[start:stop])
    ]
    words = np.array(spans, dtype=np.int32).reshape(-1, 2)
    return words[:, 0], words[:, 1]


def _pairs(read: _Codes, hashes: U32, starts: I32, ends: I32) -> tuple[U32, I32, I32]:
    """Each word with the next one of the same text."""
    same = read.text_of[starts[:-1]] == read.text_of[starts[1:]]
    with np.errstate(over="ignore"):
        both = hashes[:-1].astype(np.uint64) * _BASE + hashes[1:].astype(np.uint64)
    return _cut(both, np.int32(WORD_ORDER + 1))[same], starts[:-1][same], ends[1:][same]


def _by_text(read: _Codes, hashes: U32, starts: I32, ends: I32, number: int) -> list[Occurrences]:
    owner = read.text_of[starts]
    order = np.argsort(owner, kind="stable") if number > 1 else slice(None)
    hashes, starts, ends = hashes[order], starts[order], ends[order]
    froms, tos = read.where[starts], read.where[np.maximum(ends - 1, 0)] + np.int32(1)
    cuts = np.cumsum(np.bincount(owner, minlength=number))[:-1].tolist()
    pieces = zip([0, *cuts], [*cuts, len(hashes)], strict=True)
    return [Occurrences(hashes[a:b], froms[a:b], tos[a:b]) for a, b in pieces][:number]


def _prefix_hashes(codes: U64) -> tuple[U64, U64]:
    """prefix[i] = hash of codes[:i]; powers[i] = BASE**i, both modulo 2**64."""
    prefix = np.zeros(len(codes) + 1, np.uint64)
    powers = np.ones(len(codes) + 1, np.uint64)
    with np.errstate(over="ignore"):
        if len(codes):
            powers[1:] = np.cumprod(np.full(len(codes), _BASE, np.uint64))
            inverse = np.cumprod(np.full(len(codes), _INVERSE, np.uint64))
            # sum(c_j * B^(i-1-j)) = B^(i-1) * cumsum(c_j * B^-j): one pass, no Python loop.
            weighted = np.cumsum(codes * np.concatenate([[np.uint64(1)], inverse[:-1]]))
            prefix[1:] = powers[:-1] * weighted
    return prefix, powers


def _run_hashes(prefix: U64, powers: U64, starts: I32, ends: I32) -> U64:
    with np.errstate(over="ignore"):
        result: U64 = prefix[ends] - prefix[starts] * powers[ends - starts]
        return result


def _cut(hashes: U64, salts: I32 | np.int32) -> U32:
    """Murmur's 64-bit finaliser over the salted hash, cut to BITS bits."""
    with np.errstate(over="ignore"):
        mixed = hashes + salts.astype(np.uint64) * _MIX_1
        mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX_1
        mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX_2
        mixed ^= mixed >> _SHIFT
    result: U32 = (mixed >> np.uint64(64 - BITS)).astype(np.uint32)
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
