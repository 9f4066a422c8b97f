"""Quick search for long alternations: skip texts and places where no match can begin.

The ``re`` module tries every branch of a nested alternation at every position (some 100 to 400 ns each). A
run over characters that cannot begin a match costs a fiftieth of that, so everything between the possible
first characters is skipped. And most of the rules' patterns cannot match anywhere in a given text: one look
at the text's characters and pairs of them tells which, for all patterns at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from operator import add
from threading import Lock

from serving.urgency.openings import ANY, first_characters, landmarks

__all__ = ["bit_of", "first_characters", "possible", "spans"]


@cache
def _stepping(pattern: str) -> re.Pattern[str] | None:
    first = first_characters(pattern)
    if first is None:
        return None
    others = "[^" + "".join(map(re.escape, sorted(first))) + "]"
    return re.compile(rf"(?s:(?:{others}++|(?!{pattern}).)*+)({pattern})")


@cache
def _plain(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def spans(pattern: str, text: str) -> Iterator[tuple[int, int]]:
    """Spans of the matches, from left to right, as ``re.finditer`` gives them."""
    stepping = _stepping(pattern)
    if stepping is None:
        yield from (match.span() for match in _plain(pattern).finditer(text))
        return
    match = stepping.match(text)
    while match is not None:
        yield match.span(1)
        match = stepping.match(text, match.end())


@dataclass
class _Sieve:
    """A bit for each pattern, and for each character or pair of characters the patterns that may hold it."""

    bits: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    anyhow: int = 0
    adding: Lock = field(default_factory=Lock)

    def add(self, pattern: str) -> int:
        with self.adding:
            if pattern not in self.bits:
                bit = 1 << len(self.bits)
                marks = landmarks(pattern)
                if marks is None:
                    self.anyhow |= bit
                for one in marks or ():
                    mark = one[0] if one.endswith(ANY) else one
                    self.held[mark] = self.held.get(mark, 0) | bit
                self.bits[pattern] = bit  # last: from now on texts are judged by it
            return self.bits[pattern]


@cache
def _sieve() -> _Sieve:
    return _Sieve()


def bit_of(pattern: str) -> int:
    """The pattern's bit in what `possible` gives."""
    return _sieve().add(pattern)


def possible(text: str) -> int:
    """The bits of all patterns that may match somewhere in the text; linear in its length.

    Patterns that come up after the text was looked at are not judged by it: all further bits are set.
    """
    sieve = _sieve()
    found = sieve.anyhow | -1 << len(sieve.bits)
    held = sieve.held
    for one in filter(held.__contains__, {*text, *map(add, text, text[1:])}):
        found |= held[one]
    return found
