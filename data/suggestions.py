"""What a stored answer suggests: its labels with their probabilities, read from the answer's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["Suggested", "Suggestion", "disagreement", "read_answer"]


@dataclass(frozen=True)
class Suggestion:
    """The label a head answered, its probability, and the next likely ones, the likeliest first."""

    code: str
    probability: float
    others: tuple[tuple[str, float], ...] = ()

    @property
    def margin(self) -> float:
        """Distance to the next likely label, 0 (a tie) to 1."""
        second = max((share for _, share in self.others), default=0.0)
        return min(1.0, max(0.0, self.probability - second))


@dataclass(frozen=True)
class Suggested:
    """One answer's labels by head; `at_once`: a person must look now, whatever the decision.

    `moved` are heads that corrected look-alikes moved: their labels are not the model's own.
    """

    heads: Mapping[str, Suggestion]
    at_once: bool = False
    moved: frozenset[str] = frozenset()

    @property
    def uncertainty(self) -> float:
        """How much of the answer is open: the mean of 1 − margin over its heads, 0 (sure) to 1."""
        gaps = [1.0 - head.margin for head in self.heads.values()]
        return sum(gaps) / len(gaps) if gaps else 1.0

    def code(self, head: str) -> str:
        """The suggested code of a head; empty without the head."""
        return self.heads[head].code if head in self.heads else ""


def read_answer(body: str) -> Suggested:
    """The labels of an answer's JSON. What is no answer suggests nothing: intake must not fail on it."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Suggested({})
    if not isinstance(answer, dict):
        return Suggested({})
    told = {**_dict(answer.get("extra")), **answer}
    heads = {name: _head(name, value) for name, value in told.items() if isinstance(value, dict)}
    decision = _dict(answer.get("decision"))
    return Suggested(
        {name: head for name, head in heads.items() if head is not None},
        decision.get("at_once") is True,
        frozenset(_dict(answer.get("without_memory"))),
    )


def disagreement(answers: Sequence[Suggested]) -> float:
    """How firmly answers to one appeal contradict each other, 0 (not at all) to 1.

    Over all pairs and heads with different codes: the smaller of both probabilities, at its largest.
    """
    return max(
        (
            min(one.heads[head].probability, other.heads[head].probability)
            for index, one in enumerate(answers)
            for other in answers[index + 1 :]
            for head in one.heads.keys() & other.heads.keys()
            if one.heads[head].code != other.heads[head].code
        ),
        default=0.0,
    )


def _head(name: str, value: dict[str, Any]) -> Suggestion | None:
    if name == "urgency":
        model = _dict(value.get("model"))
        choices = _choices([model, *_list(model.get("alternatives"))])
        return _suggestion(value.get("level"), value.get("probability"), choices)
    if name == "unit":
        lead = _dict(value.get("lead"))
        return _suggestion(lead.get("code"), value.get("probability"), _choices(value.get("alternatives")))
    return _suggestion(value.get("code"), value.get("probability"), _choices(value.get("alternatives")))


def _suggestion(code: Any, probability: Any, choices: Sequence[tuple[str, float]]) -> Suggestion | None:
    if not isinstance(code, str) or not code:
        return None
    others = sorted((choice for choice in choices if choice[0] != code), key=lambda choice: -choice[1])
    return Suggestion(code, _share(probability), tuple(others))


def _choices(value: Any) -> list[tuple[str, float]]:
    listed = [one for one in _list(value) if isinstance(one, dict) and isinstance(one.get("code"), str)]
    return [(one["code"], _share(one.get("probability"))) for one in listed]


def _share(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
