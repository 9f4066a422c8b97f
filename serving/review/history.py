"""What happened to an appeal, in the page's words."""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from data.reviews import Event
from serving.review.asking import SKIP_REASONS
from serving.review.naming import Names
from serving.review.words import EventOut

__all__ = ["events_out", "skip_reason"]

SAID = frozenset({"confirmed", "changed", "adjudicated", "bulk", "withdrawn"})
BETWEEN = ": "


def skip_reason(code: str, comment: str) -> str:
    """A reason as it is stored: the code, and what the reviewer added."""
    return f"{code}{BETWEEN}{comment}" if comment else code


def events_out(
    events: Iterable[Event], names: Names, zone: ZoneInfo, reviewer: str, blind: bool
) -> list[EventOut]:
    """Events with the names of their labels; `blind`: without what others than the reviewer said."""
    return [
        _event(event, names, zone)
        for event in events
        if not (blind and event.what in SAID and event.who != reviewer)
    ]


def _event(event: Event, names: Names, zone: ZoneInfo) -> EventOut:
    return EventOut(
        at=event.at.astimezone(zone),
        what=event.what,
        who=event.who,
        head=event.head,
        before=event.before,
        after=event.after,
        before_name=_name(event, event.before, names),
        after_name=_name(event, event.after, names),
        why=_why(event),
        model_version=event.model_version,
        scheme_version=event.scheme_version,
        seconds=event.seconds,
        details=dict(event.details),
    )


def _name(event: Event, code: str, names: Names) -> str:
    """Of a word of somebody the empty code is a label; elsewhere it is nothing."""
    if not event.head or not (code or (event.what in SAID and event.what != "withdrawn")):
        return ""
    if not code and event.before == code and event.after != code:
        return ""  # nothing was suggested
    return names.label(event.head, code)


def _why(event: Event) -> str:
    if event.what != "skipped":
        return event.why
    code, between, comment = event.why.partition(BETWEEN)
    return SKIP_REASONS.get(code, code) + ("：" + comment if between else "")
