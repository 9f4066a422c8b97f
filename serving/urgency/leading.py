"""Quick search for long alternations: jump from one possible first character to the next.

The ``re`` module tries every branch of a nested alternation at every position (some 100 to 400 ns each). A
run over characters that cannot begin a match costs a fiftieth of that, so the first characters are worked
out from the pattern and everything between them is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

_ZERO_WIDTH = ("(?=", "(?!", "(?<=", "(?<!")
_DIGITS = "0123456789０１２３４５６７８９"
_SPACES = " \t\n\r\f\v\u3000\xa0"
_ANY = "any"  # longer than one character, so it is none
_MOST = 2000  # first characters beyond which skipping does not pay


@dataclass
class _Reader:
    """Reads the part of the regex syntax that the rules use; anything else begins with anything."""

    pattern: str
    at: int = 0

    def alternation(self) -> tuple[set[str], bool]:
        """First characters of the branches up to the closing parenthesis, and whether one may be empty."""
        found, empty = self.branch()
        while self.at < len(self.pattern) and self.pattern[self.at] == "|":
            self.at += 1
            more, may = self.branch()
            found, empty = found | more, empty or may
        return found, empty

    def branch(self) -> tuple[set[str], bool]:
        """First characters of one branch; later items count while the earlier ones may be empty."""
        found: set[str] = set()
        empty = True
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            begin, may = self.item()
            may = self.optional() or may
            found |= begin if empty else set()
            empty = empty and may
        return found, empty

    def item(self) -> tuple[set[str], bool]:
        """One character, class, group or assertion."""
        rest = self.pattern[self.at : self.at + 4]
        if rest.startswith(_ZERO_WIDTH):
            self.group()
            return set(), True
        if rest[0] == "(":
            return self.group()
        if rest[0] == "[":
            return self.characters(), False
        self.at += 2 if rest[0] == "\\" else 1
        if rest[0] in "^$":
            return set(), True
        if rest[0] == ".":
            return {_ANY}, False
        return self.escaped(rest[1]) if rest[0] == "\\" else {rest[0]}, False

    def group(self) -> tuple[set[str], bool]:
        """The inside of ``(?:…)``, ``(…)`` or an assertion."""
        opening = re.compile(r"\((?:\?(?:[:=!]|<[=!]))?").match(self.pattern, self.at)
        self.at = opening.end() if opening else self.at + 1
        try:
            return self.alternation()
        finally:
            self.at += 1

    def characters(self) -> set[str]:
        """A class such as ``[着起]``, without ranges other than short ones."""
        inside = re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]").match(self.pattern, self.at)
        self.at = inside.end() if inside else len(self.pattern)
        if inside is None or inside[1] or re.search(r"\\u|[^\\]-.", inside[2]):
            return {_ANY}
        parts = re.findall(r"\\.|[^\\]", inside[2])
        return {char for part in parts for char in (self.escaped(part[1]) if part[0] == "\\" else part)}

    def escaped(self, letter: str) -> set[str]:
        """What a backslash and a letter stand for."""
        if letter in "ds":
            return set(_DIGITS if letter == "d" else _SPACES)
        if letter.isalnum():
            return {_ANY}
        return {letter}

    def optional(self) -> bool:
        """Step over a quantifier; whether it allows none."""
        quantifier = re.compile(r"(?:[?*+]|\{\d+(?:,\d*)?\})[?+]?").match(self.pattern, self.at)
        if quantifier is None:
            return False
        self.at = quantifier.end()
        return quantifier.group()[0] in "?*" or quantifier.group().startswith("{0")


def first_characters(pattern: str) -> frozenset[str] | None:
    """Characters that a match may begin with; None where that may be any, or where a match may be empty."""
    found, empty = _Reader(pattern).alternation()
    return None if empty or _ANY in found or len(found) > _MOST else frozenset(found)


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
