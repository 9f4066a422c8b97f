"""Names of heads and labels, and stored answers in the codes of the label scheme in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from data.errors import SchemeError
from data.in_force import Reading
from data.reviews import Answered
from data.scheme import Scheme
from data.suggestions import Suggested, read_answer
from serving.decision import HEAD_NAMES

__all__ = ["QUEUE_NAMES", "UNTELLABLE", "Names", "Shown", "shown_answer"]

QUEUE_NAMES: Mapping[str, str] = {
    "urgent": "紧急优先",
    "uncertain": "把握最小",
    "disagreement": "判断不一",
    "suspected": "疑似错标",
    "audit": "随机抽查",
    "disputed": "意见分歧",
}
ORDER = (*HEAD_NAMES, "petition")
UNTELLABLE = "无法判断"  # the name of the empty code


@dataclass(frozen=True)
class Names:
    """What people read for the codes of a scheme; a code it does not know is its own name."""

    scheme: Scheme

    @property
    def heads(self) -> list[str]:
        """The scheme's heads in the order of the page."""
        known = [head for head in ORDER if head in self.scheme.heads]
        return known + [head for head in self.scheme.heads if head not in ORDER]

    def head(self, name: str) -> str:
        """A head's name."""
        found = self.scheme.heads.get(name)
        return HEAD_NAMES.get(name) or (found.title if found is not None and found.title else name)

    def label(self, head: str, code: str | None) -> str:
        """A label's name; of the empty code that the text does not tell, of none nothing."""
        if code is None:
            return ""
        label = self.scheme.labels.get(head, {}).get(code)
        return UNTELLABLE if not code else label.name if label else code

    def path(self, head: str, code: str) -> list[str]:
        """Names from the first level down; the label alone where the scheme does not know it."""
        if not code:
            return []
        try:
            return list(self.scheme.path(code, head))
        except SchemeError:
            return [code]

    def active(self, head: str, code: str) -> bool:
        """Whether the label may be given now."""
        return head in self.scheme.heads and code in self.scheme.heads[head].codes


@dataclass(frozen=True)
class Shown:
    """A stored answer as a reviewer sees it; `codes`: head → its suggestion, where it can be confirmed."""

    answer: Answered
    told: Suggested
    codes: Mapping[str, str]
    reading: Reading

    def now(self, head: str, code: str) -> str:
        """What an answered code is called now; empty where it became nothing, or several."""
        return _now(head, code, self.answer.scheme_version, self.reading)


def shown_answer(answer: Answered, names: Names, reading: Reading) -> Shown:
    """An answer under the scheme in force; labels it has no more suggest nothing."""
    told = read_answer(answer.body)
    found = {
        head: _now(head, one.code, answer.scheme_version, reading)
        for head, one in told.heads.items()
        if head in names.scheme.heads
    }
    codes = {head: code for head, code in found.items() if names.active(head, code)}
    return Shown(answer, told, codes, reading)


def _now(head: str, code: str, scheme_version: str, reading: Reading) -> str:
    codes = reading(head, code, scheme_version)
    return next(iter(codes)) if codes is not None and len(codes) == 1 else ""
