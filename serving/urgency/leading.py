"""Quick search for long alternations: skip texts and places where no match can begin.

The ``re`` module tries every branch of a nested alternation at every position (some 100 to 400 ns each). A
run over characters that cannot begin a match costs a fiftieth of that, so everything between the possible
first characters is skipped. And most of the rules' patterns cannot match anywhere in a given text: one look
at the text's characters and pairs of them tells which, for all branches of all patterns at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from operator import add
from threading import Lock

from serving.urgency.openings import ANY, Landmarks, Openings, first_characters, landmarks

__all__ = ["bits_of", "first_characters", "possible", "spans"]


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


_UNKNOWN: Landmarks = (frozenset(), frozenset())


@dataclass
class _Sieve:
    """Two bits for each branch of a pattern, one for each of its two sets of landmarks.

    ``held`` gives the bits that a character or pair of characters stands for, ``anyhow`` those of patterns
    without landmarks, ``bits`` the lower bit of all branches of a pattern.
    """

    bits: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    anyhow: int = 0
    given: int = 0  # bits so far
    adding: Lock = field(default_factory=Lock)

    def add(self, pattern: str) -> int:
        with self.adding:
            if pattern not in self.bits:
                branches = landmarks(pattern)
                if branches is None:
                    self.anyhow |= 0b11 << self.given
                self.bits[pattern] = sum([self._branch(*one) for one in branches or (_UNKNOWN,)])
            return self.bits[pattern]

    def _branch(self, first: Openings, second: Openings) -> int:
        lower = 1 << self.given
        self._hold(first, lower)
        self._hold(second, lower << 1)
        self.given += 2  # last: from now on texts are judged by it
        return lower

    def _hold(self, marks: Openings, bit: int) -> None:
        for one in marks:
            mark = one[0] if one.endswith(ANY) else one
            self.held[mark] = self.held.get(mark, 0) | bit


@cache
def _sieve() -> _Sieve:
    return _Sieve()


def bits_of(pattern: str) -> int:
    """The pattern's bits in what `possible` gives; it may match where one of them is set."""
    return _sieve().add(pattern)


def possible(text: str) -> int:
    """The bits of all patterns that may match somewhere in the text; linear in its length.

    Patterns that come up after the text was looked at are not judged by it: all further bits are set.
    """
    sieve = _sieve()
    found = -1 << sieve.given | sieve.anyhow
    held = sieve.held
    for one in filter(held.__contains__, {*text, *map(add, text, text[1:])}):
        found |= held[one]
    return found & found >> 1  # both landmarks of a branch
