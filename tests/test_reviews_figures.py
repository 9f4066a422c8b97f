"""What leads see: progress, throughput, opinions, and the audit slice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from data.queues import audit_slot
from data.reviews import ReviewStore
from data.store import Store
from tests.reviewing import ANN, BOB, LEAD, NOON, SCHEME, Desk, appeal, later


def test_leads_see_progress_and_throughput(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    store.add_many([appeal(f"A-{n}") for n in range(5)])
    desk = Desk(reviews)
    for seconds in (10, 30, 20):
        desk.say(desk.take(ANN).lease, code="0102", seconds=seconds)
    reviews.skip(desk.take(ANN).lease, ANN, "不会", now=desk.now())
    desk.take(BOB)
    plan = reviews.preview_bulk(["A-0"], "unit", "hb", scheme=SCHEME, reviewer=BOB)
    asked: dict[str, Any] = {"reviewer": BOB, "scheme": SCHEME, "token": "b", "fingerprint": plan.fingerprint}
    reviews.bulk(["A-0"], "unit", "hb", now=later(hours=13), **asked)
    told = {one.queue: one for one in reviews.progress(NOON, later(hours=2))}
    uncertain = told["uncertain"]
    assert (uncertain.waiting, uncertain.held, uncertain.done, uncertain.skipped) == (2, 1, 3, 1)
    assert told["disputed"].waiting == 0
    days = reviews.throughput(NOON, later(days=2), ZoneInfo("Asia/Shanghai"))
    assert [(one.reviewer, one.day.day, one.appeals, one.changed, one.bulk) for one in days] == [
        (ANN, 4, 3, 3, 0),
        (BOB, 5, 1, 0, 1),  # one o'clock at night in Shanghai
    ]
    assert (days[0].median_seconds, days[0].skipped, days[1].median_seconds) == (20, 1, None)


def test_opinions_are_the_last_words_that_stand(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    store.add_many([appeal("A"), appeal("B")])
    desk = Desk(reviews)
    desk.label("A", ANN, "0101")
    desk.label("A", ANN, "0102")
    desk.label("A", BOB, "0101")
    desk.decide("A", "0102")
    desk.label("B", BOB, "", token="taken back")
    reviews.withdraw("taken back", BOB, token="w", now=desk.now())
    found = reviews.opinions(NOON, later(days=1))
    assert [(one.reviewer, one.code, one.adjudicated) for one in found] == [
        (ANN, "0102", False),
        (BOB, "0101", False),
        (LEAD, "0102", True),
    ]
    assert reviews.opinions(later(days=1), later(days=2)) == []


def test_the_audit_uses_each_day_up_to_the_first_gap(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    rules = reviews.set_rules("operator", now=later(-1), audit_share=0.5)
    ids = [f"A-{n}" for n in range(60)]
    store.add_many([appeal(id, action="auto_dispatch" if n % 2 else "review") for n, id in enumerate(ids)])
    slots = {id: audit_slot(rules, id) for id in ids}
    members = sorted((id for id in ids if slots[id] < 0.5), key=slots.__getitem__)
    desk = Desk(reviews)
    for id in members[:5]:
        desk.label(id, code="0101" if id == members[0] else "0102")
    for id in members[-3:]:  # brought forward by another queue: not yet usable
        desk.label(id)
    found = reviews.audit_slice(NOON, later(days=1))
    assert (found.members, found.answered, found.used) == (len(members), 8, 5)
    assert sorted(one.id for one in found.rows) == sorted(members[:5])
    assert {one.weight for one in found.rows} == {1 / slots[members[5]]}
    by_id = {one.id: one for one in found.rows}
    first = by_id[members[0]]
    assert (first.suggested, first.label, first.head, first.model_version) == (
        "0101",
        "0101",
        "category",
        "m1",
    )
    assert {by_id[id].label for id in members[1:5]} == {"0102"}
    assert {one.action for one in found.rows} <= {"auto_dispatch", "review"}


def test_what_nobody_can_answer_does_not_stop_the_audit(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    reviews.set_rules("operator", now=later(-1), audit_share=1.0)
    store.add_many([appeal(f"A-{n}") for n in range(4)])
    desk = Desk(reviews)
    first = desk.take(ANN, "audit")
    reviews.skip(first.lease, ANN, "看不懂", now=desk.now())
    for _ in range(3):
        desk.say(desk.take(ANN, "audit").lease)
    assert reviews.audit_slice(NOON, later(days=1)).used == 0  # a second one may know
    reviews.skip(desk.take(BOB, "audit").lease, BOB, "看不懂", now=desk.now())
    found = reviews.audit_slice(NOON, later(days=1))
    assert (found.used, {one.weight for one in found.rows}) == (3, {1.0})


def test_the_whole_slice_weighs_as_much_as_the_whole(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    reviews.set_rules("operator", now=later(-1), audit_share=0.25)
    store.add_many([appeal(f"A-{n}", received_at=NOON + timedelta(days=n % 3)) for n in range(300)])
    desk = Desk(reviews)
    while taken := reviews.take("audit", ANN, now=desk.now()):
        desk.say(taken.lease)
    found = reviews.audit_slice(NOON, later(days=9))
    assert found.used == found.members == found.answered
    assert {one.weight for one in found.rows} == {4.0}
