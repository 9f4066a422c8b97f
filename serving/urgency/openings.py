"""What a match of a pattern must begin with, or hold: one or two characters, worked out from the pattern.

Reads the part of the regex syntax that the rules use; anything else may be anything. What is found is never
too little: a text without a pattern's landmarks holds no match, and need not be searched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

__all__ = ["ANY", "first_characters", "landmarks", "openings"]

ANY = "\uffff"  # stands for any character; a noncharacter, so no text means it
MOST = 2000  # first characters beyond which skipping does not pay

_ZERO_WIDTH = ("(?=", "(?!", "(?<=", "(?<!")
_DIGITS = "0123456789０１２３４５６７８９"
_SPACES = " \t\n\r\f\v\u3000\xa0"
_NONE = frozenset({""})

Openings = frozenset[str]  # each of at most two characters; a shorter one is a match that may end there
Landmarks = tuple[Openings, Openings]  # a match of the branch holds one of each


@dataclass
class _Reader:
    pattern: str
    at: int = 0

    def alternation(self) -> Openings:
        """Openings of the branches up to the closing parenthesis."""
        found = self.branch()
        while self.at < len(self.pattern) and self.pattern[self.at] == "|":
            self.at += 1
            found |= self.branch()
        return found

    def branch(self) -> Openings:
        """Openings of one branch; later items count while the earlier ones are short."""
        return _chained(self.items())

    def items(self) -> list[Openings]:
        """Openings of each item of one branch."""
        found = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            found.append(self.repeated(self.item()))
        return found

    def rarest(self) -> list[Landmarks | None]:
        """For every branch of the pattern the two rarest things that a match of it holds, if any."""
        found = [self.rarest_of_branch()]
        while self.at < len(self.pattern):
            self.at += 1
            found.append(self.rarest_of_branch())
        return found

    def rarest_of_branch(self) -> Landmarks | None:
        items = self.items()
        held = [_chained(items[place:]) for place in range(len(items))]
        rare = sorted(filter(_tell, held), key=_commonness)
        return (rare[0], rare[min(1, len(rare) - 1)]) if rare else None

    def item(self) -> Openings:
        """One character, class, group or assertion."""
        rest = self.pattern[self.at : self.at + 4]
        if rest.startswith(_ZERO_WIDTH):
            self.group()
            return _NONE
        if rest[0] == "(":
            return self.group()
        if rest[0] == "[":
            return self.characters()
        self.at += 2 if rest[0] == "\\" else 1
        if rest[0] in "^$":
            return _NONE
        if rest[0] == ".":
            return frozenset({ANY})
        return _escaped(rest[1]) if rest[0] == "\\" else frozenset({rest[0]})

    def group(self) -> Openings:
        """The inside of ``(?:…)``, ``(…)`` or an assertion."""
        opening = re.compile(r"\((?:\?(?:[:=!]|<[=!]))?").match(self.pattern, self.at)
        self.at = opening.end() if opening else self.at + 1
        try:
            return self.alternation()
        finally:
            self.at += 1

    def characters(self) -> Openings:
        """A class such as ``[着起]``; one with ranges is any character."""
        inside = re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]").match(self.pattern, self.at)
        self.at = inside.end() if inside else len(self.pattern)
        if inside is None or inside[1] or re.search(r"\\u|[^\\]-.", inside[2]):
            return frozenset({ANY})
        parts = re.findall(r"\\.|[^\\]", inside[2])
        return frozenset().union(*(_escaped(p[1]) if p[0] == "\\" else {p} for p in parts))

    def repeated(self, item: Openings) -> Openings:
        """Step over a quantifier, if there is one, and what it makes of its item."""
        found = re.compile(r"(?:[?*+]|\{\d+(?:,\d*)?\})[?+]?").match(self.pattern, self.at)
        if found is None:
            return item
        self.at = found.end()
        quantifier = found.group()
        if quantifier[0] != "?":  # two of them fill an opening
            item |= _followed(item, item)
        return item | _NONE if quantifier[0] in "?*" or quantifier.startswith("{0") else item


def _escaped(letter: str) -> Openings:
    if letter in "ds":
        return frozenset(_DIGITS if letter == "d" else _SPACES)
    return frozenset({ANY if letter.isalnum() else letter})


def _chained(items: list[Openings]) -> Openings:
    found = _NONE
    for item in items:
        found = _followed(found, item)
    return found


def _commonness(found: Openings) -> float:
    """How many texts hold one of them, guessed: a character stands in fifty times as many as a pair."""
    return sum(1.0 if len(one) == 1 or one[1] == ANY else 0.02 for one in found)


def _tell(found: Openings) -> bool:
    return "" not in found and all(one[0] != ANY for one in found)


def _followed(first: Openings, then: Openings) -> Openings:
    return frozenset(a if len(a) == 2 else (a + b)[:2] for a in first for b in then)


@cache
def openings(pattern: str) -> Openings | None:
    """How a match may begin; None where that may be anything, or where a match may be empty."""
    found = _Reader(pattern).alternation()
    return found if _tell(found) else None


@cache
def landmarks(pattern: str) -> tuple[Landmarks, ...] | None:
    """For every branch two sets of one or two characters; a match holds one of each set of its branch.

    None where a branch has none such: then anything may match.
    """
    found = _Reader(pattern).rarest()
    told = tuple(one for one in found if one is not None)
    return told if len(told) == len(found) else None


def first_characters(pattern: str) -> frozenset[str] | None:
    """Characters that a match may begin with; None where that may be (nearly) any."""
    found = openings(pattern)
    first = frozenset(one[0] for one in found) if found is not None else None
    return first if first is not None and len(first) <= MOST else None
