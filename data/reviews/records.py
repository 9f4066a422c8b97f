"""What reviewing hands around: leases, flags, events, and an appeal as a reviewer sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from data.appeals import Place
from data.in_force import Correction

__all__ = [
    "Answered", "BulkChange", "BulkPreview", "Done", "Event", "Filters", "Flag", "Leased", "ReviewAppeal",
    "Suspicion", "mask_flagged",
]  # fmt: skip

COVER = "█"  # one per covered character, so that offsets stay true


@dataclass(frozen=True)
class Filters:
    """Which appeals of a queue: suggested categories (leaf codes), place, and received in [since, until).

    Empty means all. `since` and `until` carry their zone.
    """

    categories: tuple[str, ...] = ()
    district: str = ""
    street: str = ""
    community: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Answered:
    """What one model version answered to an appeal; `body` is the answer's JSON as it was given."""

    model_version: str
    scheme_version: str
    action: str
    urgency: str
    body: str
    answered_at: datetime


@dataclass(frozen=True)
class Flag:
    """Characters [start, end) of a stored text that a reviewer flagged."""

    number: int
    appeal_number: int
    kind: str
    start: int
    end: int
    reviewer: str
    created_at: datetime


@dataclass(frozen=True)
class ReviewAppeal:
    """An appeal with its answers, the first one first. `text` is prepared; flagged spans are covered."""

    number: int
    id: str
    text: str
    place: Place
    channel: str
    declared_type: str
    received_at: datetime
    answers: tuple[Answered, ...]
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Leased:
    """An appeal that is one reviewer's until `expires_at`; `queue` is empty where it was asked for by id."""

    lease: int
    reviewer: str
    queue: str
    taken_at: datetime
    expires_at: datetime
    appeal: ReviewAppeal


@dataclass(frozen=True)
class Done:
    """What a request wrote. `again`: it was sent before and nothing was written this time."""

    rows: tuple[Correction, ...]
    again: bool = False
    unchanged: int = 0  # labels that stood already and were not written again


@dataclass(frozen=True)
class BulkChange:
    """What bulk labelling would do to one appeal.

    `before`: the label in force where a person gave one (`by` person), else the suggestion (`by` model).
    `after`: the label that would be in force; None: others said otherwise, it would be disputed. `stays`
    says why nothing would be written: `same`, or `adjudicated` (a lead decided); empty where it would.
    """

    id: str
    before: str | None
    by: Literal["person", "model", "nobody"]
    after: str | None
    stays: Literal["", "same", "adjudicated"] = ""


@dataclass(frozen=True)
class BulkPreview:
    """Every appeal with what would change; `bulk` takes `fingerprint` and refuses another state."""

    head: str
    code: str
    changes: tuple[BulkChange, ...]
    fingerprint: str

    @property
    def changing(self) -> int:
        """How many appeals would get the label."""
        return sum(not change.stays for change in self.changes)


@dataclass(frozen=True)
class Suspicion:
    """An appeal that a program wants looked at; a larger score goes first."""

    appeal_number: int
    score: float
    head: str = ""
    code: str = ""


@dataclass(frozen=True)
class Event:
    """One thing that happened to an appeal: who, when, from, to, why.

    `what` is answered, taken, a lease's outcome, a correction's kind, flagged, flag_withdrawn, suspected
    or disagreement. `number` is the row's number in its table.
    """

    at: datetime
    what: str
    number: int
    who: str = ""
    head: str = ""
    before: str = ""
    after: str = ""
    why: str = ""
    model_version: str = ""
    scheme_version: str = ""
    seconds: float = 0.0
    details: Mapping[str, object] = field(default_factory=dict)


def mask_flagged(text: str, spans: Iterable[Flag]) -> str:
    """The text with each flagged character covered; its length stays."""
    covered = list(text)
    for span in spans:
        for at in range(max(span.start, 0), min(span.end, len(covered))):
            covered[at] = COVER
    return "".join(covered)
