"""Near-duplicate groups, and splits that never put one group on two sides.

Groups come from MinHash signatures of character 3-grams (Broder 1997) with banding (locality-sensitive
hashing), in numpy: time is linear in the number of characters. A group is named by the hash of its
first member's text, so that a row keeps its group and its fold when rows are added behind it; only a
new row that is a near-duplicate of two older groups makes one of them (the earlier one keeps its name).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data.appeals import Row
from data.errors import SplitError
from data.progress import Progress

__all__ = ["FOLDS", "Split", "fold_of", "folds_of_rows", "group_rows", "near_duplicate_groups", "sides",
           "split", "split_by_time", "text_key"]  # fmt: skip

FOLDS = 8
_GRAM = 3  # characters
_SHORTEST = 6  # characters; shorter texts are grouped only where they are equal
_HASHES = 64
_BANDS = 16  # of 4 hashes: finds 99 % of the pairs at a similarity of 0.7, all but none at 0.2
_SIMILAR = 0.7  # Jaccard similarity of the 3-gram sets, estimated with a deviation of 0.06
_CHUNK = 500_000  # characters hashed at a time; 64 hashes of them take 256 MB

Signatures = NDArray[np.uint32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Rows on three sides; `left_out` are rows that can be on none without a group on two sides."""

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    test: tuple[Row, ...]
    left_out: tuple[Row, ...] = ()


def fold_of(group: str, folds: int = FOLDS) -> int:
    """Fold of a group, 0 to folds - 1: a stable hash, the same on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(group.encode("utf-8", "replace")).digest()[:8], "big") % folds


def split(
    rows: Sequence[Row],
    test_folds: Collection[int] = (7,),
    validation_folds: Collection[int] = (6,),
    folds: int = FOLDS,
) -> Split:
    """Split by group: rows of the named folds to test and validation, all others to train.

    Groups and folds that the rows bring are used, the others are computed. Raises SplitError if the
    folds overlap or do not exist, or if the rows bring a group with two folds.
    """
    _check_folds(test_folds, validation_folds, folds)
    sides: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row, fold in zip(rows, folds_of_rows(rows, folds), strict=True):
        side = "test" if fold in test_folds else "validation" if fold in validation_folds else "train"
        sides[side].append(row)
    return Split(tuple(sides["train"]), tuple(sides["validation"]), tuple(sides["test"]))


def split_by_time(rows: Sequence[Row], cut: str, validation_from: str = "") -> Split:
    """Split by date: test from `cut` on, validation from `validation_from` on, train before (ISO dates).

    A group that reaches over a cut stays on its earliest side, its later rows are left out. Rows
    without a date count as early. Raises SplitError if the dates are not in order.
    """
    cuts = [validation_from, cut] if validation_from else [cut]
    if not cut or cuts != sorted(cuts):
        came = f"cut '{cut}' and validation_from '{validation_from}'"
        raise SplitError(f"expected ISO dates, the validation's before the test's, got {came}")
    groups = group_rows(rows)
    sides = [sum(row.date >= one for one in cuts) if row.date else 0 for row in rows]
    earliest: dict[str, int] = {}
    for group, side in zip(groups, sides, strict=True):
        earliest[group] = min(side, earliest.get(group, side))
    kept: list[list[Row]] = [[] for _ in range(len(cuts) + 1)]
    left_out: list[Row] = []
    for row, group, side in zip(rows, groups, sides, strict=True):
        (kept[side] if side == earliest[group] else left_out).append(row)
    validation = tuple(kept[1]) if validation_from else ()
    return Split(tuple(kept[0]), validation, tuple(kept[-1]), tuple(left_out))


def folds_of_rows(rows: Sequence[Row], folds: int = FOLDS, groups: Sequence[str] = ()) -> list[int]:
    """Fold of each row: the one that its group brings, else `fold_of` its group.

    `groups` saves the time of `group_rows` where it was called before. Raises SplitError.
    """
    groups = groups or group_rows(rows)
    brought: dict[str, int] = {}
    for row, group in zip(rows, groups, strict=True):
        if row.fold:
            fold = _brought_fold(row, folds)
            if brought.setdefault(group, fold) != fold:
                came = f"folds {brought[group]} and {fold} for group '{group}' ({row.source} line {row.line})"
                raise SplitError(f"expected one fold a group, got {came}; correct or leave out the folds")
    return [brought[group] if group in brought else fold_of(group, folds) for group in groups]


def group_rows(rows: Sequence[Row], progress: Progress | None = None) -> list[str]:
    """Group of each row: its own if it brings one, else that of a near-duplicate, else a computed one."""
    if all(row.group for row in rows):
        return [row.group for row in rows]
    computed = near_duplicate_groups([f"{row.title}{row.text}" for row in rows], progress=progress)
    brought: dict[str, str] = {}
    for row, group in zip(rows, computed, strict=True):
        if row.group:
            brought.setdefault(group, row.group)
    return [row.group or brought.get(group, group) for row, group in zip(rows, computed, strict=True)]


def near_duplicate_groups(
    texts: Sequence[str], similarity: float = _SIMILAR, progress: Progress | None = None
) -> list[str]:
    """Group id of each text: 16 hexadecimal digits, equal for texts that are nearly the same.

    Two texts are linked if the Jaccard similarity of their character 3-grams is about `similarity`
    or more; groups are what hangs together. Spaces, punctuation, case and width do not count.
    """
    keys = [text_key(text) for text in texts]
    unique = list(dict.fromkeys(keys))
    number = {key: index for index, key in enumerate(unique)}
    parents = list(range(len(unique)))
    for first, second in _similar_pairs(unique, similarity, progress):
        _join(parents, first, second)
    names = {root: _name(unique[root]) for root in {_root(parents, index) for index in range(len(unique))}}
    return [names[_root(parents, number[key])] for key in keys]


_NO_WORD = re.compile(r"[\W_]+")


def text_key(text: str) -> str:
    """What of a text counts when two are compared: its letters, digits and characters in one form."""
    return _NO_WORD.sub("", unicodedata.normalize("NFKC", text)).lower() or text


def _name(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:16]


def _check_folds(test: Collection[int], validation: Collection[int], folds: int) -> None:
    if set(test) & set(validation):
        raise SplitError(f"expected each fold on one side, got {sorted(set(test) & set(validation))} on both")
    outside = sorted(fold for fold in {*test, *validation} if not 0 <= fold < folds)
    if outside:
        raise SplitError(f"expected folds from 0 to {folds - 1}, got {outside}")


def _brought_fold(row: Row, folds: int) -> int:
    if not row.fold.isdecimal() or int(row.fold) >= folds:
        came = f"'{row.fold}' ({row.source} line {row.line})"
        raise SplitError(f"expected a fold from 0 to {folds - 1}, got {came}")
    return int(row.fold)


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def _join(parents: list[int], first: int, second: int) -> None:
    first, second = sorted((_root(parents, first), _root(parents, second)))
    parents[second] = first  # the earlier text names the group


# -- MinHash ---------------------------------------------------------------------------------------


def _similar_pairs(
    keys: Sequence[str], similarity: float, progress: Progress | None
) -> Iterator[tuple[int, int]]:
    long = np.array([i for i, key in enumerate(keys) if len(key) >= _SHORTEST], dtype=np.int64)
    if not len(long):
        return
    signatures = _signatures([keys[index] for index in long], progress)
    for band in range(_BANDS):
        if progress:
            progress("comparing", band + 1, _BANDS)
        first, second = _candidates(_band_hashes(signatures, band))
        alike = _agreement(signatures, first, second) >= similarity
        yield from zip(long[first[alike]].tolist(), long[second[alike]].tolist(), strict=True)


def _signatures(keys: Sequence[str], progress: Progress | None) -> Signatures:
    """uint32 [texts, hashes]: for each hash function the least value over the text's 3-grams."""
    signatures = np.empty((len(keys), _HASHES), dtype=np.uint32)
    for start, end in _chunks(keys):
        signatures[start:end] = _chunk_signatures(keys[start:end])
        if progress:
            progress("hashing", end, len(keys))
    return signatures


def _chunks(keys: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = size = 0
    for index, key in enumerate(keys):
        size += len(key)
        if size >= _CHUNK:
            yield start, index + 1
            start, size = index + 1, 0
    if start < len(keys):
        yield start, len(keys)


def _chunk_signatures(keys: Sequence[str]) -> Signatures:
    lengths = np.array([len(key) for key in keys])
    joined = "".join(keys).encode("utf-32-le", "surrogatepass")
    grams = _mixed(np.frombuffer(joined, dtype=np.uint32).astype(np.uint64))
    ends = np.cumsum(lengths)
    inside = np.ones(len(grams) + _GRAM - 1, dtype=bool)
    for back in range(1, _GRAM):
        inside[ends - back] = False  # a 3-gram that begins here would reach into the next text
    grams = grams[inside[: len(grams)]]
    starts = np.concatenate([[0], np.cumsum(lengths - _GRAM + 1)[:-1]])
    multipliers, shifts = _hash_functions()
    columns = [
        np.minimum.reduceat((grams * multiplier + shift) >> np.uint64(32), starts)
        for multiplier, shift in zip(multipliers, shifts, strict=True)
    ]
    return np.stack(columns, axis=1).astype(np.uint32)


def _mixed(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number for each 3-gram (21 bits a character), mixed so that neighbours are far apart."""
    grams = (codes[:-2] << np.uint64(42)) | (codes[1:-1] << np.uint64(21)) | codes[2:]
    grams = (grams ^ (grams >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    mixed: NDArray[np.uint64] = grams ^ (grams >> np.uint64(29))
    return mixed


@lru_cache(maxsize=1)
def _hash_functions() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    # fixed seed: group ids must not change from run to run
    random = np.random.Generator(np.random.PCG64(20180122))
    multipliers = random.integers(1, 2**63, size=_HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return multipliers, random.integers(0, 2**63, size=_HASHES, dtype=np.uint64)


def _band_hashes(signatures: Signatures, band: int) -> NDArray[np.uint64]:
    width = _HASHES // _BANDS
    hashes = np.zeros(len(signatures), dtype=np.uint64)
    for column in range(band * width, (band + 1) * width):
        hashes = (hashes ^ signatures[:, column]) * np.uint64(0x100000001B3)
        hashes ^= hashes >> np.uint64(32)
    return hashes


def _candidates(hashes: NDArray[np.uint64]) -> tuple[Indices, Indices]:
    """Pairs worth comparing: each text with the first and with the previous one of its bucket."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1]) + 1
    begins = np.ones(len(order), dtype=bool)
    begins[same] = False
    bucket_start = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    first = np.concatenate([order[bucket_start[same]], order[same - 1]])
    return first, np.concatenate([order[same], order[same]])


def _agreement(signatures: Signatures, first: Indices, second: Indices) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of each pair, 0 to 1."""
    parts = [np.zeros(0)]
    for start in range(0, len(first), 100_000):
        part = slice(start, start + 100_000)
        parts.append((signatures[first[part]] == signatures[second[part]]).mean(axis=1))
    return np.concatenate(parts)


def sides(result: Split) -> Iterable[tuple[str, tuple[Row, ...]]]:
    """The sides by name, `left_out` last."""
    return (
        ("train", result.train),
        ("validation", result.validation),
        ("test", result.test),
        ("left_out", result.left_out),
    )
