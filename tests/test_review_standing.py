"""How an appeal stands for a reviewer, and what waits, on both databases."""

from __future__ import annotations

import pytest

from data.database import Database
from data.errors import LeaseLost
from data.reviews import ReviewStore
from data.reviews.standing import (
    appeal_under,
    appeals_by_id,
    count_vectors,
    first_waiting,
    newest_vectors,
    queue_counts,
    standing,
)
from data.store import Store
from tests.reviewing import NOON, SCHEME, appeal, later


def filled(database: Database, count: int, double: float = 0.0) -> ReviewStore:
    reviews = ReviewStore(database)
    reviews.set_rules("lead", now=NOON, audit_share=0.0, double_share=double, urgency_levels=("一般", "较急"))
    Store(database).add_many(
        [appeal(f"A-{n}", received_at=later(n), answered_at=later(1), embedding=b"\0<") for n in range(count)]
    )
    return reviews


def say(reviews: ReviewStore, id: str, who: str, code: str, minute: float) -> None:
    lease = reviews.take_appeal(id, who, now=later(minute)).lease
    reviews.correct(
        lease, who, {"category": code}, {}, scheme=SCHEME, token=f"{who}-{id}", now=later(minute + 0.5)
    )


def test_a_second_opinion_is_asked_for_blindly(each_database: Database) -> None:
    reviews = filled(each_database, 1, double=1.0)
    number = reviews.appeal("A-0").number
    fresh = standing(each_database, number, "ming", "1")
    assert (fresh.wanted, fresh.missing, fresh.blind, fresh.mine) == (2, 2, True, {})
    say(reviews, "A-0", "ming", "0101", 2)
    mine, other = (standing(each_database, number, who, "1") for who in ("ming", "hua"))
    assert (mine.missing, mine.blind, mine.mine) == (1, False, {"category": "0101"})
    assert other.blind and other.mine == {} and other.labels["category"].code == "0101"
    say(reviews, "A-0", "hua", "0102", 4)
    after = standing(each_database, number, "hua", "1")
    assert after.labels["category"].state == "disputed" and not after.blind


def test_one_opinion_is_not_blind(each_database: Database) -> None:
    reviews = filled(each_database, 1)
    number = reviews.appeal("A-0").number
    fresh = standing(each_database, number, "ming", "1")
    assert (fresh.wanted, fresh.missing, fresh.blind) == (1, 1, False)
    say(reviews, "A-0", "ming", "", 2)
    done = standing(each_database, number, "ming", "1")
    assert (done.missing, done.mine, done.labels["category"].state) == (0, {"category": ""}, "untellable")


def test_queues_are_counted_as_far_as_it_matters(each_database: Database) -> None:
    reviews = filled(each_database, 5)
    reviews.take("uncertain", "ming", now=later(2))
    reviews.take("uncertain", "hua", now=later(2))
    found = {one.queue: one for one in queue_counts(each_database, later(3))}
    told = found["uncertain"]
    assert (told.waiting, told.held, told.more) == (5, 2, False) and found["audit"].waiting == 0
    few = {one.queue: one for one in queue_counts(each_database, later(60), most=4)}["uncertain"]
    assert (few.waiting, few.held, few.more) == (4, 0, True), "leases that ran out hold nothing"
    assert len(first_waiting(each_database, "uncertain", 3)) == 3
    assert first_waiting(each_database, "disputed", 3) == []


def test_an_appeal_is_found_by_its_lease_and_its_id(each_database: Database) -> None:
    reviews = filled(each_database, 2)
    lease = reviews.take_appeal("A-1", "ming", now=later(2)).lease
    assert appeal_under(each_database, lease, "ming").id == "A-1"
    for number, who in ((lease, "hua"), (lease + 1, "ming")):
        with pytest.raises(LeaseLost):
            appeal_under(each_database, number, who)
    found = appeals_by_id(each_database, ["A-1", "N-1", "A-0"])
    assert set(found) == {"A-0", "A-1"} and found["A-0"].id == "A-0"


def test_vectors_are_counted_by_version(each_database: Database) -> None:
    reviews = filled(each_database, 6)
    [last] = [one.number for one in (reviews.appeal("A-5"),)]
    assert newest_vectors(each_database, "m1", 2) == last - 1
    assert newest_vectors(each_database, "m1", 99) == last - 5
    assert newest_vectors(each_database, "m2", 99) == 0
    assert count_vectors(each_database, "m1", last - 3, last) == 4
    assert count_vectors(each_database, "m2", 0, last) == 0
