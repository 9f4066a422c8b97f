"""One answer: rules read once and shared, the same answer whichever way the text came in."""

from __future__ import annotations

from datetime import datetime

import pytest

from serving.answer import Asked, answer_one, respond, understand
from serving.urgency import combining
from serving.urgency.answer import Trigger
from serving.urgency.scan import Scan
from tests.fakes import FakePredictor, furnish

AT = datetime.fromisoformat("2030-03-01T16:30:00+08:00")
TEXTS = ["楼下车棚着火了，浓烟往楼上窜", "小区井盖有点响，请尽快看看", "水", "信访局已经受理，给了受理告知书"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_rules_are_read_once(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(scanned: Scan) -> tuple[Trigger, ...]:
        read.append(scanned.text)
        return found(scanned)

    found = combining.rule_triggers
    monkeypatch.setattr(combining, "rule_triggers", counted)
    answer_one(furnish(FakePredictor()), Asked(text, AT))
    assert read == [text]


@pytest.mark.parametrize(("text", "urgent"), [*zip(TEXTS, (True, False, False, True), strict=True)])
def test_what_the_rules_raise_or_hand_over_goes_first(text: str, urgent: bool) -> None:
    assert understand(Asked(text, AT)).urgent is urgent


def test_a_walk_by_hand_gives_the_same_answer() -> None:
    model = furnish(FakePredictor())
    for text in TEXTS:
        understood = understand(Asked(text, AT, title="关于安全"), model)
        (prediction,) = model.predict([understood.prepared.text])
        assert respond(model, understood, prediction) == answer_one(model, Asked(text, AT, title="关于安全"))


def test_a_drowning_is_handed_over_and_led_by_rescue() -> None:
    answer = answer_one(furnish(FakePredictor()), Asked("公园的湖里有人落水了，快来人", AT))
    assert answer.unit is not None
    assert (answer.unit.lead.code, answer.unit.source) == ("xiaofang", "emergency")
    assert answer.decision.action == "transfer"
    assert answer.tier is not None


def test_so_many_numerals_hang_nothing_and_count_nothing() -> None:
    answer = answer_one(furnish(FakePredictor()), Asked("订单" + "9" * 5000 + "户业主反映", AT))
    assert answer.urgency is not None
    assert answer.urgency.triggers == []
