"""A task: an appeal, what was suggested, what was said, and what speaks for it, in the page's words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from data.in_force import InForce
from data.reviews import Flag, Leased, ReviewAppeal
from data.reviews.standing import Standing
from serving.review.evidence import Explained
from serving.review.naming import Names, Shown, shown_answer
from serving.review.words import (
    Alternative,
    AppealOut,
    FlagOut,
    HeadOut,
    LeaseOut,
    OtherAnswer,
    OtherHead,
    PlaceOut,
    StandsOut,
    Task,
    UrgencyOut,
)

__all__ = ["Seen", "codes_shown", "flags_out", "state_of", "task_of"]


@dataclass(frozen=True)
class Seen:
    """An appeal as one reviewer sees it: under a lease or not, blind to others' labels or not."""

    appeal: ReviewAppeal
    standing: Standing
    lease: Leased | None
    blind: bool


def task_of(seen: Seen, names: Names, explained: Explained | None, zone: ZoneInfo) -> Task:
    """The task; without `explained`, spans and triggers are left out rather than guessed."""
    appeal, standing = seen.appeal, seen.standing
    answers = [shown_answer(answer, names, standing.reading) for answer in appeal.answers]
    first = answers[0] if answers else None
    body = _body(first)
    return Task(
        lease=_lease(seen.lease, zone),
        appeal=_appeal(appeal, zone),
        shown_version=first.answer.model_version if first else "",
        scheme_version=names.scheme.version,
        heads=[_head(head, seen, first, names, explained) for head in names.heads],
        urgency=_urgency(body, explained),
        decision=_dict(body.get("decision")),
        memory=[one for one in body.get("memory") or [] if isinstance(one, dict)],
        others=[_other(answer, names) for answer in answers[1:]],
        wanted=standing.wanted,
        missing=standing.missing,
        blind=seen.blind,
        explained=explained is not None,
    )


def codes_shown(
    appeal: ReviewAppeal, version: str, names: Names, standing: Standing
) -> dict[str, str] | None:
    """head → what the answer of a model version suggests to reviewers; None: it has not answered."""
    found = next((answer for answer in appeal.answers if answer.model_version == version), None)
    return None if found is None else dict(shown_answer(found, names, standing.reading).codes)


def flags_out(flags: Iterable[Flag]) -> list[FlagOut]:
    """Flags in the page's words."""
    return [FlagOut(number=one.number, start=one.start, end=one.end, reviewer=one.reviewer) for one in flags]


def state_of(label: InForce) -> str:
    """How a label in force came about."""
    if label.adjudicated and label.state in ("sure", "untellable"):
        return "adjudicated"
    return "agreed" if label.state == "sure" else label.state


def _lease(lease: Leased | None, zone: ZoneInfo) -> LeaseOut | None:
    if lease is None:
        return None
    return LeaseOut(
        number=lease.lease,
        queue=lease.queue,
        taken_at=lease.taken_at.astimezone(zone),
        expires_at=lease.expires_at.astimezone(zone),
    )


def _appeal(appeal: ReviewAppeal, zone: ZoneInfo) -> AppealOut:
    return AppealOut(
        id=appeal.id,
        text=appeal.text,
        received_at=appeal.received_at.astimezone(zone),
        channel=appeal.channel,
        declared_type=appeal.declared_type,
        place=PlaceOut(**asdict(appeal.place)),
        flags=flags_out(appeal.flags),
    )


def _head(head: str, seen: Seen, shown: Shown | None, names: Names, explained: Explained | None) -> HeadOut:
    told = shown.told.heads.get(head) if shown else None
    code = shown.codes.get(head, "") if shown else ""
    named = code or (told.code if told else "")
    label = None if seen.blind else seen.standing.labels.get(head)
    return HeadOut(
        head=head,
        name=names.head(head),
        code=code,
        label=names.label(head, named) if named else "",
        path=names.path(head, named),
        probability=_share(told.probability) if told else 0.0,
        alternatives=_alternatives(head, shown, code, names) if shown else [],
        evidence=explained.evidence(head, code) if explained else [],
        in_force=_stands(label, names) if label else None,
        mine=seen.standing.mine.get(head),
    )


def _alternatives(head: str, shown: Shown, first: str, names: Names) -> list[Alternative]:
    told = shown.told.heads.get(head)
    found: dict[str, float] = {}
    for answered, share in told.others if told else ():
        code = shown.now(head, answered)
        if code != first and names.active(head, code):
            found.setdefault(code, share)
    return [
        Alternative(
            code=code, name=names.label(head, code), path=names.path(head, code), probability=_share(share)
        )
        for code, share in found.items()
    ]


def _stands(label: InForce, names: Names) -> StandsOut:
    several = "、".join(sorted(names.label(label.head, code) for code in label.codes))
    return StandsOut.model_validate(
        {
            "code": label.code,
            "name": names.label(label.head, label.code) or several,
            "state": state_of(label),
            "by": sorted({row.reviewer for row in label.rows}),
        }
    )


def _urgency(body: dict[str, Any], explained: Explained | None) -> UrgencyOut:
    stored = _dict(body.get("urgency"))
    return UrgencyOut(
        level=str(stored.get("level", "")),
        probability=_share(float(stored.get("probability") or 0.0)),
        triggers=explained.triggers if explained else [],
    )


def _other(shown: Shown, names: Names) -> OtherAnswer:
    heads = {
        head: OtherHead(
            code=code, name=names.label(head, code), probability=_share(shown.told.heads[head].probability)
        )
        for head, code in shown.codes.items()
    }
    return OtherAnswer(model_version=shown.answer.model_version, heads=heads)


def _body(shown: Shown | None) -> dict[str, Any]:
    """The first answer's JSON; empty where it is none (an answer that was imported may hold anything)."""
    try:
        found = orjson.loads(shown.answer.body) if shown else {}
    except orjson.JSONDecodeError:
        return {}
    return _dict(found)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4)
