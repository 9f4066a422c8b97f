"""What happens to an appeal: dispatched automatically, shown to a person, or handed over; with its clocks.

Order of thought: a hand-over (110, 119, 120, 12388, court …) is a transfer, at once; otherwise every doubt
is a reason for review; an appeal without a doubt is dispatched. The thresholds come from the model folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from data.scheme import Clock, Scheme
from serving.dispatch import UnitAnswer
from serving.urgency import UrgencyAnswer

__all__ = ["HEAD_NAMES", "Action", "Decision", "Reason", "WorkingDays", "deadline", "decide"]

Action = Literal["auto_dispatch", "review", "transfer"]
Shares = Mapping[str, Mapping[str, float]]

SHANGHAI = "Asia/Shanghai"
CLOSE = time(18, 0)  # 民法典第203条: where there are business hours, the last day ends with them
FEWEST_CHARACTERS = 6  # Chinese characters below which a text is too short to be sent on unseen
LEAST_CHINESE = 0.3  # share of letters
DEFAULT_THRESHOLD = 0.9  # where the model folder states none for a head that decides
URGENT_FROM_TOP = 2  # the two highest levels never wait

_ONE_DAY = timedelta(days=1)
_CHINESE = re.compile(r"[\u3400-\u9fff]+")
_LETTERS = re.compile(r"[^\W\d_]+")

# From the softest to the gravest word for the same matter.
_GRAVITY = ("表扬", "咨询", "建议", "求助", "投诉", "举报")
_BODIES: Mapping[str, str] = {
    "110":
        "公安 110",
        "119":
        "消防 119",
        "120":
        "急救 120",
        "12388":
        "纪检监察 12388",
        "法院":
        "人民法院（已进入诉讼）",
    "仲裁":
        "仲裁机构（已进入仲裁）",
        "行政复议":
        "行政复议机关（已进入复议）",
        "信访":
        "信访部门（信访已受理）",
}  # fmt: skip


HEAD_NAMES: Mapping[str, str] = {
    "category": "事项分类",
    "appeal_type": "诉求性质",
    "urgency": "紧急程度",
    "tier": "责任层级",
    "unit": "承办单位",
}


@dataclass(frozen=True)
class Reason:
    """Why: `code` is stable for programs, `text` is Chinese, for people."""

    code: str
    text: str


@dataclass(frozen=True)
class Decision:
    """The action, why, to whom it is handed over, and by when (None where the scheme states no clock).

    `at_once`: a person must look now, whatever the action.
    """

    action: Action
    reasons: tuple[Reason, ...]
    respond_by: datetime | None = None
    resolve_by: datetime | None = None
    transfer_to: tuple[str, ...] = ()
    at_once: bool = False


@dataclass(frozen=True)
class WorkingDays:
    """Monday to Friday, but for `holidays`; `workdays` are weekend days worked in exchange (调休)."""

    holidays: frozenset[date] = field(default_factory=frozenset)
    workdays: frozenset[date] = field(default_factory=frozenset)

    @classmethod
    def parse(cls, lines: Iterable[str]) -> WorkingDays:
        """One day a line: `2030-10-01` is off, `2030-10-12 班` is worked; # begins a comment.

        Raises ValueError that lists every wrong line.
        """
        days: dict[bool, set[date]] = {False: set(), True: set()}
        problems: list[str] = []
        for number, line in enumerate(lines, 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            day = _day(words[0])
            if day is None or words[1:] not in ([], ["班"]):
                problems.append(
                    f"line {number}: expected '2030-10-01' or '2030-10-12 班', got {line.strip()!r}"
                )
            else:
                days[len(words) > 1].add(day)
        if problems:
            raise ValueError("the list of holidays is not valid:\n" + "\n".join(problems))
        return cls(frozenset(days[False]), frozenset(days[True]))

    def works(self, day: date) -> bool:
        """Whether the day is worked."""
        return day in self.workdays or (day.weekday() < 5 and day not in self.holidays)

    def after(self, day: date, number: int) -> date:
        """The number-th working day after the day; the day itself does not count (民法典第201条)."""
        for _ in range(366 * 2):  # longer than any clock; a list that closes two years is refused below
            if number <= 0:
                return day
            day += _ONE_DAY
            number -= self.works(day)
        raise ValueError("expected working days within two years, got none; check the list of holidays")


def _day(word: str) -> date | None:
    try:
        return date.fromisoformat(word)
    except ValueError:
        return None


MONDAY_TO_FRIDAY = WorkingDays()


def decide(
    scheme: Scheme,
    urgency: UrgencyAnswer,
    unit: UnitAnswer,
    shares: Shares,
    thresholds: Mapping[str, float],
    received_at: datetime,
    *,
    text: str,
    declared_type: str = "",
    calendar: WorkingDays = MONDAY_TO_FRIDAY,
    zone: str = SHANGHAI,
    unsettled: Iterable[str] = (),
    remembered: tuple[Reason, ...] = (),
) -> Decision:
    """The decision on one appeal.

    `shares` maps head → code → probability, of the likeliest codes at least (empty without a model);
    `thresholds` head → least probability (the model folder's); `text` is the prepared text; `declared_type` a
    name or code of an appeal type, as an agent typed it; `unsettled` heads an older model could not tell in
    the codes that are in force; `remembered` doubts that corrected look-alikes raise. A `received_at` without
    a zone is taken as local time of `zone`; deadlines carry it.
    """
    level = scheme.urgency_levels.get(urgency.level)
    clocks = level.clocks if level else {}
    at_once = _rank_from_top(scheme, urgency.level) < URGENT_FROM_TOP
    handed = _handed_over(urgency)
    doubts = tuple(_doubts(scheme, urgency, unit, shares, thresholds, text, declared_type))
    doubts += _scheme_doubts(unsettled) + remembered
    looked_at = _extreme_by_model_only(scheme, urgency)
    action: Action = "transfer" if handed and not looked_at else "review" if doubts else "auto_dispatch"
    reasons = handed + doubts if handed or doubts else (_sure(unit, thresholds),)
    return Decision(
        action=action,
        reasons=reasons + (_now(urgency.level, action) if at_once else ()),
        respond_by=deadline(received_at, clocks.get("answer"), calendar, zone),
        resolve_by=deadline(received_at, clocks.get("result") or clocks.get("at_most"), calendar, zone),
        transfer_to=urgency.transfer,
        at_once=at_once,
    )


def deadline(
    start: datetime, clock: Clock | None, calendar: WorkingDays = MONDAY_TO_FRIDAY, zone: str = SHANGHAI
) -> datetime | None:
    """When the clock has run out: minutes run day and night, working days end at close of business."""
    if clock is None:
        return None
    there = ZoneInfo(zone)
    local = start.replace(tzinfo=there) if start.tzinfo is None else start.astimezone(there)
    if clock.unit == "minutes":
        return local + timedelta(minutes=clock.amount)
    return datetime.combine(calendar.after(local.date(), clock.amount), CLOSE, tzinfo=there)


def _rank_from_top(scheme: Scheme, level: str) -> int:
    levels = scheme.urgency_levels
    return len(levels) - 1 - levels[level].rank if level in levels else len(levels)


def _extreme_by_model_only(scheme: Scheme, urgency: UrgencyAnswer) -> bool:
    """The model alone sees danger to life: nobody is alarmed unseen, and no slow hand-over hides it."""
    return _rank_from_top(scheme, urgency.level) == 0 and urgency.rule_level != urgency.level


def _handed_over(urgency: UrgencyAnswer) -> tuple[Reason, ...]:
    """One reason for each body, with the triggers that call it."""
    said = {body: [t for t in urgency.triggers if body in t.bodies] for body in urgency.transfer}
    return tuple(_hand_over(body, [t.name for t in triggers]) for body, triggers in said.items())


def _hand_over(body: str, kinds: list[str]) -> Reason:
    why = "、".join(dict.fromkeys(kinds))
    return Reason(
        f"transfer_{body}",
        f"涉及{why}，移交{_BODIES.get(body, body)}" if why else f"移交{_BODIES.get(body, body)}",
    )


def _now(level: str, action: Action) -> tuple[Reason, ...]:
    told = {
        "transfer": "同时立即提醒值班人员跟进",
        "review": "须立即人工核实",
        "auto_dispatch": "派单后立即电话确认",
    }
    return (Reason("at_once", f"紧急程度为{level}，{told[action]}"),)


def _sure(unit: UnitAnswer, thresholds: Mapping[str, float]) -> Reason:
    least = thresholds.get("unit", DEFAULT_THRESHOLD)
    return Reason("sure", f"承办单位把握 {unit.probability:.2f}，达到自动派单要求 {least:.2f}")


def _doubts(
    scheme: Scheme,
    urgency: UrgencyAnswer,
    unit: UnitAnswer,
    shares: Shares,
    thresholds: Mapping[str, float],
    text: str,
    declared_type: str,
) -> Iterable[Reason]:
    """Every reason why a person should look first."""
    yield from _text_doubts(text)
    yield from _unit_doubts(scheme, unit, shares, thresholds)
    yield from _urgency_doubts(scheme, urgency)
    yield from _type_doubts(scheme, shares.get("appeal_type", {}), thresholds, declared_type)


def _text_doubts(text: str) -> Iterable[Reason]:
    chinese = sum(map(len, _CHINESE.findall(text)))
    letters = sum(map(len, _LETTERS.findall(text)))
    if not letters or chinese / letters < LEAST_CHINESE:
        yield Reason("not_chinese", "文本中几乎没有中文内容，需人工辨认")
    elif chinese < FEWEST_CHARACTERS:
        yield Reason("too_short", f"文本只有 {chinese} 个汉字，信息不足，需人工补充")


def _unit_doubts(
    scheme: Scheme, unit: UnitAnswer, shares: Shares, thresholds: Mapping[str, float]
) -> Iterable[Reason]:
    if unit.accused:
        named = "、".join(_name(scheme, code) for code in unit.accused)
        yield Reason("accused_unit", f"诉求举报或投诉的对象是{named}，不得派回该单位，需人工确定承办单位")
    least = thresholds.get("unit", DEFAULT_THRESHOLD)
    if not unit.lead:
        yield Reason("no_unit", "派单表与模型都没有给出承办单位")
    elif unit.probability < least and unit.source != "emergency":  # no model chose that one
        yield Reason("low_probability", f"承办单位把握 {unit.probability:.2f}，低于自动派单要求 {least:.2f}")
    if _heads_disagree(unit, shares.get("category", {}), thresholds):
        usual, found = _name(scheme, unit.usual), _name(scheme, unit.lead)
        said = f"该事项通常由{usual}承办，模型判断为{found}，两者不一致"
        yield Reason("heads_disagree", said)


def _scheme_doubts(unsettled: Iterable[str]) -> tuple[Reason, ...]:
    """The model is older than the label scheme, and what it found has no one meaning there."""
    heads = "、".join(HEAD_NAMES.get(head, head) for head in sorted(unsettled))
    said = f"标签体系已调整，模型的{heads}结果在新体系中没有唯一对应，需人工确定"
    return (Reason("scheme_changed", said),) if heads else ()


def _name(scheme: Scheme, code: str) -> str:
    return scheme.units[code].name if code in scheme.units else code


def _heads_disagree(
    unit: UnitAnswer, categories: Mapping[str, float], thresholds: Mapping[str, float]
) -> bool:
    """A sure category whose usual unit is another; an unsure category has nothing to object."""
    sure = max(categories.values(), default=0.0) >= thresholds.get("category", DEFAULT_THRESHOLD)
    other = unit.source == "model" and unit.lead not in {unit.usual, *unit.co_units}
    return sure and other and bool(unit.usual)


def _urgency_doubts(scheme: Scheme, urgency: UrgencyAnswer) -> Iterable[Reason]:
    levels = scheme.urgency_levels
    if urgency.level not in levels or _rank_from_top(scheme, urgency.level) >= URGENT_FROM_TOP:
        return
    by_rules = levels[urgency.rule_level].rank if urgency.rule_level in levels else 0
    if by_rules < levels[urgency.level].rank:
        said = f"紧急程度{urgency.level}仅由模型判断，规则未发现明确依据，需人工核实"
        yield Reason("urgency_by_model_only", said)
    elif not urgency.transfer and _rank_from_top(scheme, urgency.level) == 0:
        yield Reason("extreme", f"紧急程度为{urgency.level}，须由人工确定处置")


def _type_doubts(
    scheme: Scheme, types: Mapping[str, float], thresholds: Mapping[str, float], declared: str
) -> Iterable[Reason]:
    if not declared:
        return
    code = _type_code(scheme, declared)
    if not code:
        yield Reason("declared_type_unknown", f"登记的诉求性质“{declared[:20]}”不在标签体系中")
        return
    found = max(types, key=lambda one: types[one], default="")
    if not found or found == code or types[found] < thresholds.get("appeal_type", DEFAULT_THRESHOLD):
        return
    said, meant = scheme.appeal_types[code].name, scheme.appeal_types[found].name
    if said in _GRAVITY and meant in _GRAVITY and _GRAVITY.index(said) < _GRAVITY.index(meant):
        yield Reason(
            "declared_type_softened",
            f"登记为“{said}”，文本更像“{meant}”（{types[found]:.2f}），登记可能弱化了原意",
        )
    else:
        yield Reason("declared_type_differs", f"登记为“{said}”，文本更像“{meant}”（{types[found]:.2f}）")


def _type_code(scheme: Scheme, declared: str) -> str:
    said = declared.strip()
    known = (t.code for t in scheme.appeal_types.values() if said in {t.code, t.name, *t.aliases})
    return next(known, "")
