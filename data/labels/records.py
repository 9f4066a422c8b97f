"""Stored appeals as records for other labelling tools: what was suggested apart from what people said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import ColumnElement, Connection, exists, func, select

from data.appeals import Place
from data.database import Database
from data.in_force import Correction, InForce, Reading, in_force, live
from data.progress import Progress
from data.review_tables import corrections
from data.reviews.corrections import said
from data.reviews.records import Answered, ReviewAppeal
from data.reviews.views import appeals_by_number
from data.store_tables import appeals
from data.suggestions import Suggestion, read_answer

__all__ = ["INCLUDE", "Include", "LabelRecord", "Opinion", "Selection", "records"]

Include = Literal["labelled", "waiting", "all"]
INCLUDE: tuple[Include, ...] = get_args(Include)
AT_ONCE = 500


@dataclass(frozen=True)
class Selection:
    """Which appeals: received in [since, until), in a district, labelled by anybody or not yet."""

    include: Include = "labelled"
    since: datetime | None = None
    until: datetime | None = None
    district: str = ""

    def rules(self) -> list[ColumnElement[bool]]:
        """The same for a query over appeals."""
        spoken_of = exists().where(corrections.c.appeal_number == appeals.c.number)
        rules: list[ColumnElement[bool]] = []
        if self.include != "all":
            rules.append(spoken_of if self.include == "labelled" else ~spoken_of)
        if self.since is not None:
            rules.append(appeals.c.received_at >= self.since)
        if self.until is not None:
            rules.append(appeals.c.received_at < self.until)
        if self.district:
            rules.append(appeals.c.district == self.district)
        return rules

    def told(self) -> dict[str, str]:
        """For the card of what was made with it."""
        moments = {"since": self.since, "until": self.until}
        written = {name: moment.isoformat() for name, moment in moments.items() if moment is not None}
        return {"include": self.include, **written} | ({"district": self.district} if self.district else {})


@dataclass(frozen=True)
class Opinion:
    """What one person last said of an appeal: head → code ("" where the text does not tell)."""

    reviewer: str
    labels: Mapping[str, str]
    adjudicated: bool = False
    comment: str = ""
    seconds: float = 0.0
    at: datetime | None = None


@dataclass(frozen=True)
class LabelRecord:
    """One appeal. `text` is prepared, flagged characters covered; suggestions are of the newest answer."""

    number: int
    id: str
    text: str
    received_at: datetime
    place: Place
    channel: str
    declared_type: str
    model_version: str
    suggestions: Mapping[str, Suggestion]
    opinions: tuple[Opinion, ...]
    labels: Mapping[str, InForce] = field(default_factory=dict)


def records(
    database: Database,
    reading: Reading,
    selection: Selection,
    *,
    through: int | None = None,
    told: Progress = lambda what, done, total: None,
) -> Iterator[LabelRecord]:
    """Records by appeal number, in codes as `reading` reads them, up to the correction `through`."""
    rules, done, last = selection.rules(), 0, 0
    with database.connect() as connection:
        total = connection.execute(select(func.count()).select_from(appeals).where(*rules)).scalar_one()
    while True:
        with database.connect() as connection:
            here = select(appeals.c.number).where(appeals.c.number > last, *rules)
            numbers = list(connection.execute(here.order_by(appeals.c.number).limit(AT_ONCE)).scalars())
            found = _records(connection, numbers, reading, through)
        if not numbers:
            return
        yield from found
        done, last = done + len(numbers), numbers[-1]
        told("reading", min(done, total), total)


def _records(
    connection: Connection, numbers: Sequence[int], reading: Reading, through: int | None
) -> list[LabelRecord]:
    words = said(connection, numbers)
    counted = {
        number: [word for word in some if through is None or word.number <= through]
        for number, some in words.items()
    }
    return [
        _record(appeal, counted.get(appeal.number, []), reading)
        for appeal in appeals_by_number(connection, numbers)
    ]


def _record(appeal: ReviewAppeal, words: Sequence[Correction], reading: Reading) -> LabelRecord:
    answer = appeal.answers[-1] if appeal.answers else None
    return LabelRecord(
        number=appeal.number,
        id=appeal.id,
        text=appeal.text,
        received_at=appeal.received_at,
        place=appeal.place,
        channel=appeal.channel,
        declared_type=appeal.declared_type,
        model_version=answer.model_version if answer else "",
        suggestions=_suggestions(answer, reading) if answer else {},
        opinions=tuple(_opinions(words, reading)),
        labels=in_force(words, reading),
    )


def _suggestions(answer: Answered, reading: Reading) -> dict[str, Suggestion]:
    """In today's codes; what reads as several codes, or none, is left out."""
    found: dict[str, Suggestion] = {}
    for head, one in read_answer(answer.body).heads.items():
        codes = reading(head, one.code, answer.scheme_version)
        if codes is not None and len(codes) == 1:
            found[head] = replace(one, code=next(iter(codes)))
    return found


def _opinions(words: Sequence[Correction], reading: Reading) -> Iterator[Opinion]:
    """One per person, and one more where they decided as a lead; what reads as several codes is left out."""
    voices: dict[tuple[str, bool], dict[str, Correction]] = {}
    for word in live(words):
        voices.setdefault((word.reviewer, word.kind == "adjudicated"), {})[word.head] = word
    for (reviewer, adjudicated), last in voices.items():
        read = {head: reading(head, word.code, word.scheme_version) for head, word in last.items()}
        labels = {
            head: "".join(codes) for head, codes in read.items() if codes is not None and len(codes) < 2
        }
        if labels:
            newest = max((last[head] for head in labels), key=lambda word: word.number)
            yield Opinion(reviewer, labels, adjudicated, newest.comment, newest.seconds, newest.created_at)
