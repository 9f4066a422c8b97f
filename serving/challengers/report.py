"""Where a challenger's answers differ from those that callers got, and where that matters.

Computed from the stored answers alone, newest first and one at a time: what is kept are counts and the
worst cases. Rows that people have labelled since are not a random sample (unsure and disputed appeals are
looked at first); both versions are judged on the same ones, so their difference can be trusted further
than their shares.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ConfigDict, Field

from data.database import Database
from data.paired_answers import Pair, pairs, urgency_levels
from data.proportions import mcnemar, paired_difference, wilson
from serving.messages import Message
from serving.urgency import LEVELS

__all__ = ["LONGEST_DAYS", "MOST", "ShadowReport", "compared", "shadow_report"]

WORST = 20
CHANGES = 5  # of a head, the most frequent ones
MOST, LONGEST_DAYS = 100_000, 366

# How much a difference matters, the worst first.
GRAVITY = ("urgency_lowered", "now_automatic", "transfer_changed", "urgency_raised", "to_review", "labels")

EXAMPLE: dict[str, Any] = {
    "version": "default-20310505-1a2b3c4d",
    "since": "2031-05-01T00:00:00Z",
    "until": "2031-05-08T00:00:00Z",
    "appeals": 1200,
    "complete": True,
    "against": {"default-20310401-9f8e7d6c": 1200},
    "heads": [],
    "decisions": [{"before": "review", "after": "auto_dispatch", "appeals": 31}],
    "decisions_changed": 40,
    "urgency_raised": 6,
    "urgency_lowered": 2,
    "worst": [
        {"id": "A-17", "matter": "urgency_lowered", "what": ["urgency: 紧急 → 一般"], "firmness": 0.81}
    ],
    "lag_seconds": 1.4,
    "timed_texts": 120,
    "champion_ms": 12.1,
    "challenger_ms": 12.4,
}


class Change(Message):
    """From what callers were told to what the challenger says, and of how many appeals."""

    before: str
    after: str
    appeals: int


class Judged(Message):
    """Appeals that people labelled since. `difference`: challenger − champion, with its 95 % interval."""

    appeals: int
    champion_right: int
    challenger_right: int
    only_champion: int
    only_challenger: int
    difference: float
    low: float
    high: float
    p: float = Field(description="McNemar's test")


class HeadDifference(Message):
    """One head: the share of different answers with its 95 % interval, mean probabilities, who was right."""

    head: str
    appeals: int
    different: int
    share: float
    low: float
    high: float
    champion_confidence: float
    challenger_confidence: float
    changes: list[Change]
    judged: Judged | None = Field(description="null: no label yet")


class Worst(Message):
    """An appeal to look at: what differs, and how sure the less sure of both versions was."""

    id: str
    matter: str = Field(description=f"One of {', '.join(GRAVITY)}")
    what: list[str]
    firmness: float


class ShadowReport(Message):
    """The differences of one challenger. `complete`: false where there were more appeals than were read."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    version: str
    since: datetime
    until: datetime
    appeals: int
    complete: bool
    against: dict[str, int] = Field(description="Versions that answered the callers → appeals")
    heads: list[HeadDifference]
    decisions: list[Change]
    decisions_changed: int
    urgency_raised: int
    urgency_lowered: int
    worst: list[Worst]
    lag_seconds: float | None = Field(description="Mean time from an answer to the challenger's")
    timed_texts: int = Field(description="Answers whose texts both versions were timed on")
    champion_ms: float | None = Field(description="Mean of a text, of those")
    challenger_ms: float | None


def shadow_report(
    database: Database, version: str, now: datetime, days: float = 7.0, limit: int = 20_000
) -> ShadowReport:
    """Compare a challenger's answers of the last days, at most `limit` of them. Raises StoreError."""
    since = now - timedelta(days=days)
    levels = urgency_levels(database) or tuple(LEVELS)
    return compared(pairs(database, version, since, now, limit), version, (since, now), levels, limit)


def compared(
    found: Iterable[Pair], version: str, window: tuple[datetime, datetime], levels: Sequence[str], limit: int
) -> ShadowReport:
    """The report on pairs, however many; `levels` are those of urgency, the lowest first."""
    tally = _Tally(levels)
    for pair in found:
        tally.add(pair)
    return tally.told(version, window, limit)


@dataclass
class _Head:
    appeals: int = 0
    different: int = 0
    champion: float = 0.0
    challenger: float = 0.0
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    judged: Counter[tuple[bool, bool]] = field(default_factory=Counter)  # (champion, challenger) right

    def told(self, head: str) -> HeadDifference:
        low, high = wilson(self.different, self.appeals)
        return HeadDifference(
            head=head,
            appeals=self.appeals,
            different=self.different,
            share=_round(self.different / self.appeals),
            low=_round(low),
            high=_round(high),
            champion_confidence=_round(self.champion / self.appeals),
            challenger_confidence=_round(self.challenger / self.appeals),
            changes=_changes(self.changes, CHANGES),
            judged=_judged(self.judged) if self.judged else None,
        )


class _Tally:
    """Counts, and a heap of the worst."""

    def __init__(self, levels: Sequence[str]) -> None:
        self._ranks = {level: rank for rank, level in enumerate(levels)}
        self._heads: dict[str, _Head] = {}
        self._against, self._decisions = Counter[str](), Counter[tuple[str, str]]()
        self._appeals = self._raised = self._lowered = self._timed = 0
        self._lag = self._champion_ms = self._challenger_ms = 0.0
        self._worst: list[tuple[int, float, str, tuple[str, ...]]] = []

    def add(self, pair: Pair) -> None:
        self._appeals += 1
        self._against[pair.told.model_version] += 1
        self._lag += max(0.0, (pair.challenger.answered_at - pair.told.answered_at).total_seconds())
        self._add_time(pair)
        for head in pair.told.heads.keys() & pair.challenger.heads.keys():
            self._add_head(head, pair)
        step = self._ranks.get(pair.challenger.urgency, 0) - self._ranks.get(pair.told.urgency, 0)
        self._raised += step > 0
        self._lowered += step < 0
        if pair.told.action != pair.challenger.action:
            self._decisions[pair.told.action, pair.challenger.action] += 1
        self._keep(pair, step)

    def _add_time(self, pair: Pair) -> None:
        timed = pair.challenger.timed
        if {"champion_ms", "challenger_ms"} <= timed.keys():
            self._timed += 1
            self._champion_ms += timed["champion_ms"]
            self._challenger_ms += timed["challenger_ms"]

    def _add_head(self, head: str, pair: Pair) -> None:
        told, theirs = pair.told.heads[head], pair.challenger.heads[head]
        counted = self._heads.setdefault(head, _Head())
        counted.appeals += 1
        counted.champion += told.probability
        counted.challenger += theirs.probability
        if told.code != theirs.code:
            counted.different += 1
            if len(counted.changes) < 10_000 or (told.code, theirs.code) in counted.changes:
                counted.changes[told.code, theirs.code] += 1
        label = pair.labels.get(head)
        if label is not None and label.code:
            counted.judged[told.code == label.code, theirs.code == label.code] += 1

    def _keep(self, pair: Pair, step: int) -> None:
        matter = _matter(pair, step)
        if matter:
            what, firmness = _differences(pair)
            entry = (-GRAVITY.index(matter), firmness, pair.id, (matter, *what))
            (heapq.heappush if len(self._worst) < WORST else heapq.heappushpop)(self._worst, entry)

    def told(self, version: str, window: tuple[datetime, datetime], limit: int) -> ShadowReport:
        worst = sorted(self._worst, reverse=True)
        return ShadowReport(
            version=version,
            since=window[0],
            until=window[1],
            appeals=self._appeals,
            complete=self._appeals < limit,
            against=dict(self._against),
            heads=[one.told(head) for head, one in sorted(self._heads.items())],
            decisions=_changes(self._decisions, None),
            decisions_changed=sum(self._decisions.values()),
            urgency_raised=self._raised,
            urgency_lowered=self._lowered,
            worst=[
                Worst(id=id, matter=matter, what=what, firmness=_round(firmness))
                for _, firmness, id, (matter, *what) in worst
            ],
            lag_seconds=_mean(self._lag, self._appeals),
            timed_texts=self._timed,
            champion_ms=_mean(self._champion_ms, self._timed),
            challenger_ms=_mean(self._challenger_ms, self._timed),
        )


def _matter(pair: Pair, step: int) -> str:
    """The gravest of what differs; empty where nothing does."""
    before, after = pair.told.action, pair.challenger.action
    heads = pair.told.heads.keys() & pair.challenger.heads.keys()
    labels = any(pair.told.heads[head].code != pair.challenger.heads[head].code for head in heads)
    found = {
        "urgency_lowered": step < 0,
        "now_automatic": before != after == "auto_dispatch",
        "transfer_changed": before != after and "transfer" in (before, after),
        "urgency_raised": step > 0,
        "to_review": before != after == "review",
        "labels": labels,
    }
    return next((matter for matter in GRAVITY if found[matter]), "")


def _differences(pair: Pair) -> tuple[list[str], float]:
    """In words, and how firmly both stand to them: the less sure one's probability, at its largest."""
    what, firmness = list[str](), 0.0
    if pair.told.action != pair.challenger.action:
        what.append(f"decision: {pair.told.action} → {pair.challenger.action}")
    if pair.told.urgency != pair.challenger.urgency:
        what.append(f"urgency: {pair.told.urgency} → {pair.challenger.urgency}")
    for head in sorted(pair.told.heads.keys() & pair.challenger.heads.keys()):
        told, theirs = pair.told.heads[head], pair.challenger.heads[head]
        if told.code != theirs.code:
            firmness = max(firmness, min(told.probability, theirs.probability))
            if head != "urgency":
                what.append(f"{head}: {told.code} → {theirs.code}")
    return what, firmness


def _judged(counted: Counter[tuple[bool, bool]]) -> Judged:
    rows = sum(counted.values())
    both, only_champion, only_challenger = counted[True, True], counted[True, False], counted[False, True]
    low, high = paired_difference(only_champion, only_challenger, rows)
    return Judged(
        appeals=rows,
        champion_right=both + only_champion,
        challenger_right=both + only_challenger,
        only_champion=only_champion,
        only_challenger=only_challenger,
        difference=_round((only_challenger - only_champion) / rows),
        low=_round(low),
        high=_round(high),
        p=_round(mcnemar(only_champion, only_challenger)),
    )


def _changes(counted: Counter[tuple[str, str]], most: int | None) -> list[Change]:
    return [
        Change(before=before, after=after, appeals=appeals)
        for (before, after), appeals in counted.most_common(most)
    ]


def _mean(total: float, count: int) -> float | None:
    return _round(total / count) if count else None


def _round(value: float) -> float:
    return round(value, 4)
