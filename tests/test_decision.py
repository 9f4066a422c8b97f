"""Decisions: hand over, review or dispatch, with reasons and clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from data.scheme import Clock, Scheme, default_scheme
from serving.decision import Decision, WorkingDays, deadline, decide
from serving.dispatch import UnitAnswer
from serving.urgency import UrgencyAnswer, assess

TEXT = "小区门口的路灯坏了好几天，希望尽快修一下"
SURE = {"category": {"0203": 0.97}, "unit": {"shizheng": 0.96}, "appeal_type": {"求助": 0.95}}
THRESHOLDS = {"category": 0.8, "unit": 0.85, "appeal_type": 0.8}
FRIDAY = datetime.fromisoformat("2030-03-01T16:30:00+08:00")


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return default_scheme()


def unit(**changed: Any) -> UnitAnswer:
    given: dict[str, Any] = {"lead": "shizheng", "usual": "shizheng", "source": "both", "probability": 0.96}
    return UnitAnswer(**{**given, **changed})


def decided(scheme: Scheme, text: str = TEXT, **changed: Any) -> Decision:
    given: dict[str, Any] = {
        "urgency": assess(text),
        "unit": unit(),
        "shares": SURE,
        "thresholds": THRESHOLDS,
    }
    given |= {"received_at": FRIDAY, "text": text, **changed}
    return decide(scheme, **given)


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


def test_a_sure_appeal_is_dispatched(scheme: Scheme) -> None:
    decision = decided(scheme)
    assert (decision.action, codes(decision), decision.at_once) == ("auto_dispatch", ["sure"], False)
    assert "0.96" in decision.reasons[0].text


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"unit": unit(probability=0.84)}, "low_probability"),
        ({"unit": unit(lead="", probability=0.0)}, "no_unit"),
        ({"unit": unit(lead="gongdian", source="model")}, "heads_disagree"),
        ({"unit": unit(lead="jijian", source="upward", accused=("shizheng",))}, "accused_unit"),
        ({"text": "路灯坏"}, "too_short"),
        ({"text": "the street light is broken 路灯"}, "not_chinese"),
        ({"text": "😀 12345"}, "not_chinese"),
        (
            {"declared_type": "咨询", "shares": {**SURE, "appeal_type": {"投诉": 0.9}}},
            "declared_type_softened",
        ),
        (
            {"declared_type": "投诉", "shares": {**SURE, "appeal_type": {"咨询": 0.9}}},
            "declared_type_differs",
        ),
        ({"declared_type": "闲聊"}, "declared_type_unknown"),
        ({"thresholds": {}, "unit": unit(probability=0.89)}, "low_probability"),
    ],
)
def test_each_doubt_asks_for_a_person(scheme: Scheme, changed: dict[str, Any], code: str) -> None:
    decision = decided(scheme, **changed)
    assert decision.action == "review" and code in codes(decision)
    assert all(reason.text and reason.text != reason.code for reason in decision.reasons)


@pytest.mark.parametrize(
    "changed",
    [
        {"declared_type": "求助"},
        {
            "declared_type": "咨询",
            "shares": {**SURE, "appeal_type": {"投诉": 0.5}},
        },  # not sure enough to object
        {"unit": unit(lead="gongdian", source="model"), "shares": {"category": {"0203": 0.4}}},
        {"unit": unit(lead="jiedao", source="model", co_units=("jiedao",))},
    ],
)
def test_what_is_no_doubt_is_dispatched(scheme: Scheme, changed: dict[str, Any]) -> None:
    assert decided(scheme, **changed).action == "auto_dispatch"


def test_softened_words_are_told(scheme: Scheme) -> None:
    decision = decided(scheme, declared_type="咨询", shares={**SURE, "appeal_type": {"投诉": 0.9}})
    assert "登记为“咨询”，文本更像“投诉”" in decision.reasons[0].text


def test_danger_is_handed_over_and_flagged(scheme: Scheme) -> None:
    decision = decided(scheme, "孩子掉进河里了，快来人")
    assert (decision.action, decision.at_once) == ("transfer", True)
    assert decision.transfer_to == ("120", "119")
    assert {"transfer_119", "transfer_120", "at_once"} <= set(codes(decision))
    assert decision.respond_by == datetime.fromisoformat("2030-03-01T16:35:00+08:00")
    assert decision.resolve_by == datetime.fromisoformat("2030-03-02T16:30:00+08:00")


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("实名举报某镇书记贪污补偿款", "12388"),
        ("欠薪的事劳动仲裁委已经受理，一直没开庭", "仲裁"),
        ("房子漏水的纠纷法院已经判决，对方不执行", "法院"),
        ("我已经申请行政复议，还没有结果", "行政复议"),
        ("信访局已经受理，给了受理告知书", "信访"),
    ],
)
def test_matters_of_others_are_handed_over_without_haste(scheme: Scheme, text: str, body: str) -> None:
    decision = decided(scheme, text)
    assert decision.action == "transfer" and body in decision.transfer_to
    assert f"transfer_{body}" in codes(decision)


def test_urgent_is_dispatched_only_if_sure_and_never_waits(scheme: Scheme) -> None:
    text = "整个小区从昨晚停水到现在，没人来修"
    sure = decided(scheme, text)
    assert (sure.action, sure.at_once, sure.transfer_to) == ("auto_dispatch", True, ())
    unsure = decided(scheme, text, unit=unit(probability=0.3))
    assert (unsure.action, unsure.at_once, codes(unsure)[-1]) == ("review", True, "at_once")
    assert sure.respond_by == unsure.respond_by == datetime.fromisoformat("2030-03-01T18:30:00+08:00")


def test_urgency_seen_by_the_model_only_is_looked_at(scheme: Scheme) -> None:
    by_model = UrgencyAnswer("紧急", 0.8, rule_level="一般", model_level="紧急")
    assert "urgency_by_model_only" in codes(decided(scheme, urgency=by_model))
    soon = UrgencyAnswer("较急", 0.8, rule_level="一般", model_level="较急")
    assert decided(scheme, urgency=soon).action == "auto_dispatch"  # a faster clock needs nobody's leave
    extreme = UrgencyAnswer("特急", 0.9, rule_level="特急")
    assert codes(decided(scheme, urgency=extreme)) == ["extreme", "at_once"]


def test_working_days_skip_weekends_and_holidays(scheme: Scheme) -> None:
    decision = decided(scheme)  # 一般, on a Friday
    assert decision.respond_by == datetime.fromisoformat("2030-03-04T18:00:00+08:00")
    assert decision.resolve_by == datetime.fromisoformat("2030-03-12T18:00:00+08:00")
    calendar = WorkingDays.parse(["# spring", "2030-03-04", "2030-03-09 班", ""])
    moved = decided(scheme, calendar=calendar)
    assert moved.respond_by == datetime.fromisoformat("2030-03-05T18:00:00+08:00")
    assert moved.resolve_by == datetime.fromisoformat("2030-03-12T18:00:00+08:00")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2030-03-02T10:00:00+08:00", "2030-03-04T18:00:00+08:00"),  # a Saturday
        ("2030-03-03T17:00:00+00:00", "2030-03-05T18:00:00+08:00"),  # already Monday in Shanghai
        ("2030-03-04T09:00:00", "2030-03-05T18:00:00+08:00"),  # without a zone: local time
    ],
)
def test_one_working_day(start: str, expected: str) -> None:
    due = deadline(datetime.fromisoformat(start), Clock(1, "working_days"))
    assert due is not None and due.isoformat() == expected


def test_minutes_run_day_and_night() -> None:
    start = datetime(2030, 3, 2, 15, 50, tzinfo=UTC)
    due = deadline(start, Clock(30, "minutes"))
    assert due is not None and due.isoformat() == "2030-03-03T00:20:00+08:00"
    assert deadline(start, None) is None


def test_wrong_holidays_are_told_with_their_lines() -> None:
    with pytest.raises(ValueError, match="line 1") as error:
        WorkingDays.parse(["2030-13-01", "2030-03-01", "2030-03-02 off"])
    assert "line 3" in str(error.value) and "line 2" not in str(error.value)
    closed = WorkingDays(frozenset(date.fromordinal(date(2030, 1, 1).toordinal() + n) for n in range(800)))
    with pytest.raises(ValueError, match="holidays"):
        closed.after(date(2030, 1, 1), 1)


def test_another_schemes_unknown_level_has_no_clock(scheme: Scheme) -> None:
    decision = decided(scheme, urgency=UrgencyAnswer("加急", 0.9, rule_level="加急"))
    assert (decision.respond_by, decision.resolve_by, decision.at_once) == (None, None, False)


BY_MODEL = UrgencyAnswer("特急", 0.8, rule_level="一般", model_level="特急")


def test_danger_that_the_model_alone_sees_is_looked_at_at_once(scheme: Scheme) -> None:
    decision = decided(scheme, urgency=BY_MODEL)
    assert (decision.action, decision.at_once, decision.transfer_to) == ("review", True, ())
    assert codes(decision) == ["urgency_by_model_only", "at_once"]
    assert "仅由模型判断" in decision.reasons[0].text and "立即" in decision.reasons[1].text


def test_a_slow_hand_over_does_not_hide_danger_that_the_model_sees(scheme: Scheme) -> None:
    text = "信访局已经受理，给了受理告知书"
    urgency = assess(text, {"一般": 0.1, "特急": 0.9})
    decision = decided(scheme, text, urgency=urgency)
    assert (decision.action, decision.at_once, decision.transfer_to) == ("review", True, ("信访",))
    assert {"transfer_信访", "urgency_by_model_only"} <= set(codes(decision))


def test_a_rescue_units_lead_is_not_doubted_for_the_models_share(scheme: Scheme) -> None:
    rescue = unit(lead="xiaofang", usual="yuanlin", source="emergency", probability=0.02)
    decision = decided(scheme, "孩子掉进河里了，快来人", unit=rescue)
    assert decision.action == "transfer"
    assert not {"low_probability", "heads_disagree"} & set(codes(decision))
