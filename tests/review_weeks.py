"""Weeks of reviewing that never happened: the sample corpus as appeals, three reviewers and a lead at work.

For pictures of the pages and for tests that need more than a handful of rows. Always the same: whoever
reviews, and where they err, is drawn from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from data.appeals import Place, Row
from data.database import Database
from data.readers import read
from data.reviews import Leased, ReviewStore, Suspicion
from data.scheme import Scheme
from data.store import NewAppeal, Store
from data.suggestions import Suggested, read_answer
from serving.answer import Asked, answer_one
from serving.models import Model

__all__ = ["REVIEWERS", "Weeks", "work_through"]

# How often each errs or hesitates, and how many seconds they need.
REVIEWERS = {"user:何欣": (0.05, 17.0), "user:陈立": (0.09, 22.0), "user:周岚": (0.15, 31.0)}
LEAD = "user:lead"
SAMPLE = "data/samples/appeals.csv"
STREETS = ("柳荫街道", "望江街道", "枫林街道", "东湖街道")
CHANNELS = ("电话", "网站", "微信")
HARD = {"unit": 2.2, "category": 1.4, "tier": 1.6, "urgency": 1.0, "appeal_type": 0.6, "petition": 0.8}


@dataclass
class Weeks:
    """The stores, and what happens in them day by day until `until` (in UTC)."""

    database: Database
    model: Model
    until: datetime
    days: int = 58
    times: int = 2  # each sample appeal comes so often

    def __post_init__(self) -> None:
        self.chance = random.Random(7)
        self.store, self.reviews = Store(self.database), ReviewStore(self.database)
        self.truth: dict[str, dict[str, str]] = {}
        self.requests = 0

    @property
    def scheme(self) -> Scheme:
        """The label scheme of the model."""
        return self.model.scheme


def work_through(weeks: Weeks, told: Callable[[int], None] = lambda day: None) -> None:
    """Store the appeals and review them, a day at a time; the last two days are left half done."""
    levels = weeks.scheme.heads["urgency"].codes
    first = weeks.until - timedelta(days=weeks.days)
    weeks.reviews.set_rules(LEAD, now=first, audit_share=0.3, double_share=0.35, urgency_levels=levels)
    for number, batch in enumerate(_batches(weeks)):
        day = first + timedelta(days=number)
        weeks.store.add_many([_appeal(weeks, row, id, day, n) for n, (id, row) in enumerate(batch)])
        if day.weekday() < 5 or number == weeks.days - 1:
            _review(weeks, day, eager=number < weeks.days - 2)
        if number == weeks.days - 12:
            _suspect(weeks, day)
        if number % 9 == 8 or number == weeks.days - 3:
            _adjudicate(weeks, day)
        told(number)


def _batches(weeks: Weeks) -> Iterator[list[tuple[str, Row]]]:
    """A day's appeals at a time."""
    rows = [row for row in read(SAMPLE) if len(row.text) > 14] * weeks.times
    weeks.chance.shuffle(rows)
    for day in range(weeks.days):
        some = rows[day :: weeks.days]
        yield [(f"J{weeks.until.year}-{day:03d}{n:03d}", row) for n, row in enumerate(some)]


def _appeal(weeks: Weeks, row: Row, id: str, day: datetime, n: int) -> NewAppeal:
    at = day + timedelta(minutes=7 * n)
    answer = answer_one(weeks.model, Asked(row.text, at, id=id))
    weeks.truth[id] = _truth(weeks, row, read_answer(answer.model_dump_json()))
    return NewAppeal(
        id=id,
        body_sha256="0" * 64,
        text=row.text,
        place=Place(city="江城", district="东区", street=weeks.chance.choice(STREETS)),
        channel=weeks.chance.choice(CHANNELS),
        declared_type="",
        received_at=at,
        answered_at=at,
        answer=answer.model_dump_json(),
        action=answer.decision.action,
        urgency=answer.urgency.level if answer.urgency else "",
        model_version=weeks.model.version,
        scheme_version=weeks.scheme.version,
    )


def _truth(weeks: Weeks, row: Row, suggested: Suggested) -> dict[str, str]:
    """The sample's labels; mostly the model's where it differs, for the sample is harder than any day."""
    sure = {head: next(iter(codes)) for head, codes in row.labels.items() if len(codes) == 1}
    easy = suggested.uncertainty < 0.6 or weeks.chance.random() < 0.6
    return {
        head: one.code if easy and weeks.chance.random() < 0.95 else sure.get(head, one.code)
        for head, one in suggested.heads.items()
    }


# --- people ---------------------------------------------------------------------------------------


def _review(weeks: Weeks, day: datetime, *, eager: bool) -> None:
    """The urgent ones first, then the audit, then what the model is least sure of."""
    for who, (errs, pace) in REVIEWERS.items():
        at = day + timedelta(hours=2)
        for queue, most in (("urgent", 3), ("audit", 9 if eager else 2), ("suspected", 1), ("uncertain", 3)):
            for _ in range(most):
                taken = weeks.reviews.take(queue, who, now=at)
                if taken is None:
                    break
                seconds = weeks.chance.lognormvariate(0, 0.5) * pace
                at += timedelta(seconds=seconds + 2)
                _say(weeks, taken, who, errs, seconds, at)


def _say(weeks: Weeks, taken: Leased, who: str, errs: float, seconds: float, at: datetime) -> None:
    shown = _shown(taken)
    if weeks.chance.random() < 0.02:
        weeks.reviews.skip(taken.lease, who, "unclear", now=at, seconds=seconds)
        return
    labels = {head: _label(weeks, taken.appeal.id, head, shown, errs) for head in shown.heads}
    weeks.requests += 1
    weeks.reviews.correct(
        taken.lease,
        who,
        labels,
        {head: one.code for head, one in shown.heads.items()},
        scheme=weeks.scheme,
        token=f"t{weeks.requests}",
        now=at,
        model_version=weeks.model.version,
        seconds=seconds,
    )


def _shown(taken: Leased) -> Suggested:
    return read_answer(taken.appeal.answers[0].body)


def _label(weeks: Weeks, id: str, head: str, shown: Suggested, errs: float) -> str:
    """The sample's label, or what the model said; where they err, one of the model's next guesses."""
    suggested = shown.heads[head]
    right = weeks.truth[id].get(head, suggested.code)
    if weeks.chance.random() >= errs * HARD.get(head, 1.0):
        return right
    known = weeks.scheme.heads[head].codes
    others = [code for code, _ in suggested.others[:2] if code in known and code != right]
    return weeks.chance.choice(others) if others else suggested.code


def _suspect(weeks: Weeks, day: datetime) -> None:
    """A program doubts some of what was said so far, half of it with reason."""
    found = []
    for one in list(weeks.reviews.labels_in_force())[::2]:
        [appeal] = weeks.reviews.appeals([one.appeal_number])
        for head in ("unit", "category", "urgency"):
            right, label = weeks.truth[appeal.id].get(head), one.heads.get(head)
            if label is None or label.code is None or right is None:
                continue
            wrong = label.code != right
            if wrong or weeks.chance.random() < 0.05:
                proposed = right if wrong else weeks.scheme.heads[head].codes[0]
                found.append(Suspicion(one.appeal_number, weeks.chance.random(), head, proposed))
                break
    weeks.reviews.suspect("suspected", found, "file:label-errors.csv", now=day + timedelta(hours=1))


def _adjudicate(weeks: Weeks, day: datetime) -> None:
    """The lead decides what is disputed, all but the newest."""
    at = day + timedelta(hours=9)
    while taken := weeks.reviews.take("disputed", LEAD, now=at):
        labels = weeks.reviews.labels_of([taken.appeal.number])[taken.appeal.number]
        shown = _shown(taken)
        disputed = [head for head, label in labels.items() if label.state == "disputed"]
        weeks.requests += 1
        at += timedelta(seconds=25)
        weeks.reviews.adjudicate(
            taken.appeal.id,
            LEAD,
            {head: _label(weeks, taken.appeal.id, head, shown, 0.0) for head in disputed},
            scheme=weeks.scheme,
            token=f"t{weeks.requests}",
            now=at,
            lease=taken.lease,
            seconds=25,
        )
