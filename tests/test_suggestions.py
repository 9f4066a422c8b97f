"""What a stored answer suggests, head by head, and how sure it was."""

from __future__ import annotations

import pytest

from data.suggestions import Suggestion, read_answer
from serving.examples import ANSWER
from serving.messages import Answer


def test_the_service_s_answer_is_read_head_by_head() -> None:
    body = Answer.model_validate(ANSWER).model_dump_json()
    found = read_answer(body)
    assert {"category", "appeal_type", "urgency", "tier", "unit"} <= set(found.heads)
    assert found.heads["category"].code == ANSWER["category"]["code"]
    assert found.heads["unit"].code == ANSWER["unit"]["lead"]["code"]
    assert found.heads["urgency"].code == ANSWER["urgency"]["level"]
    assert 0 < found.uncertainty < 1


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '{"category": 3}', '{"category": {"code": 1}}', "{}"]
)
def test_what_is_no_answer_suggests_nothing(body: str) -> None:
    assert read_answer(body).heads == {}
    assert read_answer(body).uncertainty == 1.0


def test_the_margin_is_the_distance_to_the_second() -> None:
    assert Suggestion("a", 0.6, (("b", 0.3), ("c", 0.1))).margin == pytest.approx(0.3)
    assert Suggestion("a", 0.4).margin == pytest.approx(0.4)
    assert Suggestion("a", 0.2, (("b", 0.5),)).margin == 0.0  # a rule overruled the model
