"""Units that a text reports, or whose people's conduct it complains of: they get no order on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from data.scheme import Scheme

__all__ = ["SpokenUnits"]

# 举报 names its object; 投诉 and 反映 accuse a unit only where its people or its conduct are meant.
_REPORTED = r"(?:举报|检举|控告|状告|揭发|告发)"
_COMPLAINED = r"(?:投诉|反映|举报)"
_CONDUCT = (
    r"(?:(?:的|里|内|有)?(?:某|个别|一名|一个|部分)?(?:工作人员|办事人员|办事员|窗口人员|执法人员|执法队员"
    r"|队员|协管员|民警|警察|干部|领导|书记|主任|局长|所长|科长|处长|经办人|人员)"
    r"|(?:懒政|怠政|乱?不作为|乱作为|推诿|推脱|踢皮球|失职|渎职|包庇|袒护|违规执法|暴力执法|违法行政|粗暴"
    r"|态度|刁难|吃拿卡要|收(?:钱|红包|好处)|索要|乱收费|乱罚款|打人|不公|造假|徇私))"
)
_MISCONDUCT = r"(?:懒政|怠政|不作为|乱作为|失职|渎职|包庇|暴力执法|吃拿卡要|索要|收红包|徇私)"
# A text with none of these words accuses nobody: most texts, told without a look at the units' names.
_CUES = tuple(word for cue in (_REPORTED, _COMPLAINED, _MISCONDUCT) for word in cue[3:-1].split("|"))
_CALLED = re.compile(r"(?:向|到|给|跟|找|去|通过|经|由|请|让|希望|要求)[^，。,]{0,4}$")
_NEAR = re.compile(rf"{_REPORTED}[^，。,；;！!]{{0,10}}$")
_BEFORE = re.compile(rf"{_COMPLAINED}[^，。；;！!]{{0,12}}$")
_BEHAVED = re.compile(rf"[^，。,；;]{{0,6}}?{_CONDUCT}")
_WRONG = re.compile(rf"[^，。,；;]{{0,4}}?{_MISCONDUCT}")
_AROUND = 14  # characters before and behind a unit's name that say what is done to it

# Too short or too common to be a unit's name in running text.
_NO_NAMES = frozenset({"其他", "街道", "汽车火车", "机场", "火车站", "轮渡", "12345"})


@dataclass(frozen=True)
class SpokenUnits:
    """A scheme's units as residents name them: one pattern of all names, and who is meant by each."""

    names: re.Pattern[str]
    meant: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, scheme: Scheme) -> SpokenUnits:
        """Names and aliases of the scheme's units; a retired unit's name means the one that took over."""
        meant = {name: scheme.leaves("unit", code) for name, code in _spoken(scheme)}
        longest_first = sorted(meant, key=len, reverse=True)
        return cls(re.compile("|".join(map(re.escape, longest_first)) or r"(?!)"), meant)

    def accused(self, text: str) -> frozenset[str]:
        """Units (codes) that the text reports or whose people's conduct it complains of.

        「向城管局举报」 accuses nobody: a unit after 向、到、给… is the one that was called.
        """
        if not any(map(text.__contains__, _CUES)):
            return frozenset()
        found: set[str] = set()
        for match in self.names.finditer(text):
            start, end = match.span()
            before, after = text[max(0, start - _AROUND) : start], text[end : end + _AROUND]
            if not _CALLED.search(before) and _accuses(before, after):
                found |= self.meant[match.group()]
        return frozenset(found)


def _accuses(before: str, after: str) -> bool:
    if _NEAR.search(before) or _WRONG.match(after):
        return True
    return bool(_BEFORE.search(before) and _BEHAVED.match(after))


def _spoken(scheme: Scheme) -> Iterator[tuple[str, str]]:
    for unit in scheme.units.values():
        for name in (re.sub(r"\(.*?\)", "", unit.name), *unit.aliases):
            if len(name) >= 2 and name not in _NO_NAMES:
                yield name, unit.code
