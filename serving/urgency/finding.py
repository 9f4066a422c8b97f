"""How a rule looks for its words: patterns, and the hits that survive their context."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

from serving.urgency.answer import LEVELS, Trigger
from serving.urgency.context import Hit, dismissal
from serving.urgency.leading import bits_of, spans
from serving.urgency.scan import Scan, compiled

GENERAL, SOON, URGENT, EXTREME = range(4)

# Enough for the page and the reasons; bounds the work on a text that repeats one word 10,000 times.
_MOST_TRIGGERS = 4

# Between two words of one statement: no punctuation.
GAP = "[^。！？!?；;，,\\n]"
# The same, but a comma may stand between.
WIDE = "[^。！？!?；;\\n]"


# A statement ends here: who is in a hurry puts any mark or none, and goes on with thanks or a cry for help.
END = r"(?=[^\u4e00-\u9fff]|[谢快求救请]|$)"

# Someone, as a caller says it.
PERSON = (
    r"(?:人|孩子?|小孩|娃|宝宝|婴儿|老人|老太太|老头|大爷|大妈|爷爷|奶奶|爸|妈|我|他|她|学生|工人|工友"
    r"|师傅|司机|同事|邻居|儿子|女儿|老婆|老公|弟|妹|哥|姐|乘客|行人|男的|女的|骑车的)"
)


@dataclass(frozen=True, eq=False)  # each is itself alone: quick to look up by
class Pattern:
    """Words of one rule: their rank, who is called, and the contexts that do not excuse them.

    ``unless`` is a pattern that must not occur in the clause (from 12 characters before the hit to its end).
    """

    words: str
    rank: int
    bodies: tuple[str, ...] = ()
    tolerates: frozenset[str] = frozenset()
    unless: str = ""

    @cached_property
    def bits(self) -> int:
        """Its bits in ``Scan.possible``: it may match where one of them is set."""
        return bits_of(self.words)


@dataclass(frozen=True, eq=False)
class Rule:
    """One kind of trigger and its patterns. Called, it gives what a text holds of the kind."""

    kind: str
    patterns: tuple[Pattern, ...]

    @cached_property
    def bits(self) -> int:
        """The bits of all its patterns: most rules find nothing in a text, and this says so at once."""
        return reduce(or_, (pattern.bits for pattern in self.patterns), 0)

    def __call__(self, scan: Scan) -> list[Trigger]:
        """Every pattern's hits that no context dismisses, at most four per pattern."""
        possible = scan.possible
        return [
            trigger
            for pattern in self.patterns
            if pattern.bits & possible
            for trigger in _matches(scan, self.kind, pattern)
        ]


def _matches(scan: Scan, kind: str, pattern: Pattern) -> list[Trigger]:
    found: list[Trigger] = []
    seen: dict[tuple[str, str, str], bool] = {}
    for start, end in spans(pattern.words, scan.view):
        hit = Hit(start, end, scan.around(start, end))
        if _stands(scan, hit, pattern, seen):
            text = scan.text[hit.start : hit.end]
            found.append(
                Trigger(kind, hit.start, hit.end, "rule", LEVELS[pattern.rank], text, pattern.bodies)
            )
        if len(found) == _MOST_TRIGGERS:
            break
    return found


def _stands(scan: Scan, hit: Hit, pattern: Pattern, seen: dict[tuple[str, str, str], bool]) -> bool:
    """Whether the hit is a trigger; equal surroundings are judged once: a flood stays cheap."""
    view = scan.view
    surroundings = (
        view[max(0, hit.start - 34) : hit.start],
        view[hit.start : hit.end],
        view[hit.end : hit.end + 34],
    )
    if surroundings not in seen:
        excused = pattern.unless and compiled(pattern.unless).search(
            scan.view, max(hit.clause.start, hit.start - 12), max(hit.clause.end, hit.end)
        )
        seen[surroundings] = not excused and dismissal(scan, hit, pattern.tolerates) is None
    return seen[surroundings]
