"""Hashed n-grams: the lexical part's features, without a vocabulary.

A feature is a 64-bit polynomial hash of a run of characters, mixed and cut to ``BITS`` bits. All runs of
one order are hashed at once from prefix hashes (Rabin–Karp), so a text of n characters costs O(n) numpy
work. Words (from jieba) are hashed the same way under another salt. Nothing maps a hash back to text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BITS", "Features", "Occurrences", "char_occurrences", "count", "occurrences", "word_occurrences"]

BITS = 30
MAX_CHARS = 4_000
WORD_ORDER = 15
_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_BREAKS = np.frombuffer("，。！？；：、,.!?;:（）()“”\"'…—-~《》【】 ".encode("utf-32-le"), dtype=np.uint32)

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Occurrences:
    """Every feature occurrence in one text: hash, and the half-open span [start, end) it covers."""

    hashes: U32
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Features:
    """Which features a lexical part reads: character orders ``low``..``high``, and whether words too."""

    low: int = 1
    high: int = 4
    words: bool = False


def occurrences(text: str, features: Features) -> Occurrences:
    """All feature occurrences of ``text`` (the middle of texts over MAX_CHARS characters is left out)."""
    codes, shift = _codes(text)
    prefix, powers = _prefix_hashes(codes)
    parts = list(_char_parts(codes, prefix, powers, features))
    if features.words:
        parts.append(_word_part(text, codes, prefix, powers, shift))
    hashes = np.concatenate([p.hashes for p in parts]) if parts else np.zeros(0, np.uint32)
    starts = np.concatenate([p.starts for p in parts]) if parts else np.zeros(0, np.int32)
    ends = np.concatenate([p.ends for p in parts]) if parts else np.zeros(0, np.int32)
    return Occurrences(hashes, shift[starts], shift[np.maximum(ends - 1, 0)] + 1)


def char_occurrences(text: str, low: int, high: int) -> Occurrences:
    """Character n-grams alone."""
    return occurrences(text, Features(low, high, words=False))


def word_occurrences(text: str) -> Occurrences:
    """Jieba words and word pairs alone."""
    return occurrences(text, Features(1, 0, words=True))


def _codes(text: str) -> tuple[U64, npt.NDArray[np.int32]]:
    """Code points that take part and where each stood: lower-cased, runs of breaks as one space."""
    raw = np.frombuffer(text.lower().encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    if len(raw) != len(text):  # lower() changed the length (İ and its kin): keep the spans true instead
        raw = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    where = np.arange(len(raw), dtype=np.int32)
    if len(raw) > MAX_CHARS:
        half = MAX_CHARS // 2
        raw, where = np.concatenate([raw[:half], raw[-half:]]), np.concatenate([where[:half], where[-half:]])
    broken = np.isin(raw, _BREAKS) | (raw < 33)
    raw = np.where(broken, np.uint32(32), raw)
    keep = ~(broken & np.concatenate([[False], broken[:-1]])) if len(raw) else broken
    return raw[keep].astype(np.uint64), where[keep]


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


_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))


def _run_hashes(prefix: U64, powers: U64, starts: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]) -> U64:
    with np.errstate(over="ignore"):
        result: U64 = prefix[ends] - prefix[starts] * powers[ends - starts]
        return result


def _cut(hashes: U64, salt: int) -> U32:
    """Murmur's 64-bit finaliser over the salted hash, cut to BITS bits."""
    with np.errstate(over="ignore"):
        mixed = hashes + np.uint64(salt) * _MIX_1
        mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX_1
        mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX_2
        mixed ^= mixed >> _SHIFT
    return (mixed >> np.uint64(64 - BITS)).astype(np.uint32)


def _char_parts(codes: U64, prefix: U64, powers: U64, features: Features) -> Iterable[Occurrences]:
    length = len(codes)
    for order in range(features.low, features.high + 1):
        starts = np.arange(max(0, length - order + 1), dtype=np.int32)
        ends = starts + np.int32(order)
        yield Occurrences(_cut(_run_hashes(prefix, powers, starts, ends), order), starts, ends)


def _word_part(text: str, codes: U64, prefix: U64, powers: U64, shift: npt.NDArray[np.int32]) -> Occurrences:
    bounds = _word_bounds("".join(map(chr, codes.tolist())))
    starts, ends = bounds[:, 0], bounds[:, 1]
    hashes = _cut(_run_hashes(prefix, powers, starts, ends), WORD_ORDER)
    if len(starts) < 2:
        return Occurrences(hashes, starts, ends)
    with np.errstate(over="ignore"):
        pairs = _cut(hashes[:-1].astype(np.uint64) * _BASE + hashes[1:].astype(np.uint64), WORD_ORDER + 1)
    return Occurrences(
        np.concatenate([hashes, pairs]),
        np.concatenate([starts, starts[:-1]]),
        np.concatenate([ends, ends[1:]]),
    )


def _word_bounds(text: str) -> npt.NDArray[np.int32]:
    import jieba  # its dictionary takes most of a second: loaded only by models that use words

    jieba.setLogLevel(60)
    bounds = [(start, end) for word, start, end in jieba.tokenize(text, HMM=False) if word.strip()]
    return np.array(bounds, dtype=np.int32).reshape(-1, 2)


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
