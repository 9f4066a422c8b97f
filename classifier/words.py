"""Words of a text: the likeliest way through the words that jieba's dictionary knows.

Gives the words of ``jieba.cut(text, HMM=False)``, in a fifth of the time: one pass from the end of the text
instead of a graph of all words first. Only jieba's dictionary is used, loaded at the first call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import log

__all__ = ["word_bounds"]

_BLOCK = re.compile(r"[\u4e00-\u9fd5a-zA-Z0-9+#&._%\-]+")  # what jieba looks up; the rest stands alone
_LATIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


@dataclass(frozen=True)
class _Dictionary:
    """``counts`` of words; the beginnings of longer words have the count 0. ``log_total`` of all counts."""

    counts: Mapping[str, int]
    log_total: float


@cache
def _dictionary() -> _Dictionary:
    import jieba  # its dictionary takes most of a second: loaded only by models that use words

    jieba.setLogLevel(60)
    jieba.initialize()
    return _Dictionary(jieba.dt.FREQ, log(jieba.dt.total))


def word_bounds(text: str) -> list[tuple[int, int]]:
    """The half-open span of every word, in order; white space is no word."""
    bounds: list[tuple[int, int]] = []
    at = 0
    for block in _BLOCK.finditer(text):
        bounds += _alone(text, at, block.start())
        bounds += _words(block.group(), block.start())
        at = block.end()
    bounds += _alone(text, at, len(text))
    return bounds


def _alone(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    return ((place, place + 1) for place in range(start, end) if text[place].strip())


def _words(block: str, offset: int) -> Iterator[tuple[int, int]]:
    """Words of a block; letters and digits that no word takes in stand together."""
    ends = _likeliest(block)
    start = at = 0
    while at < len(block):
        end = ends[at]
        if end - at > 1 or block[at] not in _LATIN:
            if start < at:
                yield offset + start, offset + at
            yield offset + at, offset + end
            start = end
        at = end
    if start < at:
        yield offset + start, offset + at


def _likeliest(block: str) -> list[int]:
    """For each place the end of the word that begins there on the likeliest way to the end of the block."""
    words = _dictionary()
    counts, log_total, length = words.counts, words.log_total, len(block)
    score = [0.0] * (length + 1)
    ends = [0] * length
    for start in range(length - 1, -1, -1):
        best, chosen, end = 0.0, 0, start + 1
        count = counts.get(block[start])
        while count is not None:
            if count:
                likely = log(count) - log_total + score[end]
                if not chosen or likely >= best:  # of two equal ways, the longer word
                    best, chosen = likely, end
            end += 1
            count = counts.get(block[start:end]) if end <= length else None
        score[start] = best if chosen else score[start + 1] - log_total
        ends[start] = chosen or start + 1
    return ends
