"""Leases: nobody gets another's appeal, and double review is by two different people."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import select

from data.errors import AppealUnknown, LeaseLost, ReviewError
from data.review_tables import corrections, leases
from data.reviews import ReviewStore
from data.store import Store
from tests.reviewing import ANN, BOB, CEN, NOON, SCHEME, Desk, appeal, later, order


def test_a_lease_is_one_reviewer_s_alone_until_it_expires(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    store.add(appeal("A"))
    taken = reviews.take("uncertain", ANN, now=NOON, minutes=10)
    assert taken is not None
    assert (taken.appeal.id, taken.expires_at) == ("A", later(10))
    assert taken.appeal.place.street == "柳荫街道"
    assert reviews.take("uncertain", BOB, now=later(9)) is None
    again = reviews.take("uncertain", BOB, now=later(10))
    assert again is not None and again.appeal.id == "A" and again.lease != taken.lease
    with pytest.raises(LeaseLost, match="ended"):
        reviews.extend(taken.lease, ANN, now=later(11))
    assert reviews.extend(again.lease, BOB, now=later(12), minutes=30) == later(42)
    assert reviews.take("uncertain", ANN, now=later(41)) is None


def test_asking_again_gives_the_same_appeal_unless_it_is_held(
    sqlite_stores: tuple[Store, ReviewStore],
) -> None:
    store, reviews = sqlite_stores
    store.add_many([appeal("A"), appeal("B", heads={"category": ("0101", 0.5)})])
    first = reviews.take("uncertain", ANN, now=NOON)
    assert first is not None
    reloaded = reviews.take("uncertain", ANN, now=later(1))
    assert reloaded is not None and reloaded.lease == first.lease
    assert reloaded.expires_at == later(16)
    ahead = reviews.take("uncertain", ANN, now=later(1), holding=[first.lease])
    assert ahead is not None and ahead.appeal.id == "A"
    assert reviews.take("uncertain", ANN, now=later(1), holding=[first.lease, ahead.lease]) is None


def test_released_comes_to_anybody_and_skipped_only_to_others(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take(ANN)
    reviews.release(taken.lease, ANN, now=desk.now())
    reviews.release(taken.lease, ANN, now=desk.now())
    taken = desk.take(ANN)
    reviews.skip(taken.lease, ANN, "方言看不懂", now=desk.now(), seconds=8)
    assert reviews.take("uncertain", ANN, now=desk.now()) is None
    assert reviews.take("urgent", ANN, now=desk.now()) is None
    taken = desk.take(BOB)
    assert reviews.release_all(BOB, now=desk.now()) == 1
    told = [(event.what, event.who, event.why) for event in reviews.history("A")]
    assert told == [
        ("answered", "", ""),
        ("taken", ANN, ""),
        ("released", ANN, ""),
        ("taken", ANN, ""),
        ("skipped", ANN, "方言看不懂"),
        ("taken", BOB, ""),
        ("released", BOB, ""),
    ]


def test_another_s_lease_cannot_be_used(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take(ANN)
    with pytest.raises(LeaseLost, match=f"lease of {BOB}"):
        desk.say(taken.lease, BOB)
    with pytest.raises(LeaseLost):
        reviews.skip(99, ANN, "", now=NOON)
    with pytest.raises(LeaseLost, match=f"{ANN} holds"):
        reviews.take_appeal("A", BOB, now=desk.now())
    with pytest.raises(AppealUnknown, match="'nobody'"):
        reviews.take_appeal("nobody", BOB, now=desk.now())
    with pytest.raises(ReviewError, match="minutes"):
        reviews.take("uncertain", ANN, now=NOON, minutes=0)


def test_reviewers_at_once_never_get_the_same_appeal(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    store.add_many([appeal(f"A-{n}") for n in range(24)])
    gate = Barrier(6)

    def work(number: int) -> list[str]:
        gate.wait()
        done = []
        for turn in range(4):
            taken = reviews.take("uncertain", f"user:{number}", now=later(turn))
            assert taken is not None
            asked: dict[str, Any] = {"scheme": SCHEME, "token": f"{turn}", "now": later(turn)}
            reviews.correct(taken.lease, f"user:{number}", {"category": "0101"}, {}, **asked)
            done.append(taken.appeal.id)
        return done

    with ThreadPoolExecutor(6) as pool:
        done = [id for ids in pool.map(work, range(6)) for id in ids]
    assert sorted(done) == sorted({f"A-{n}" for n in range(24)})
    assert order(reviews, "uncertain") == []


def test_double_review_is_by_exactly_two_different_people(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    reviews.set_rules("operator", now=later(-1), double_share=1.0)
    store.add_many([appeal(f"A-{n}") for n in range(6)])
    done: list[tuple[str, str]] = []
    gate = Barrier(3)

    def work(who: str) -> None:
        gate.wait()
        held: list[int] = []
        while taken := reviews.take("uncertain", who, now=NOON, holding=held):
            held.append(taken.lease)
            done.append((taken.appeal.id, who))
            asked: dict[str, Any] = {"scheme": SCHEME, "token": f"{len(held)}", "now": NOON}
            reviews.correct(taken.lease, who, {"category": "0101"}, {}, **asked)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, [ANN, BOB, CEN]))
    assert len(done) == len(set(done)) == 12
    assert sorted(id for id, _ in done) == sorted([f"A-{n}" for n in range(6)] * 2)


def test_two_hold_a_doubled_appeal_at_once_and_a_third_gets_none(
    sqlite_stores: tuple[Store, ReviewStore],
) -> None:
    store, reviews = sqlite_stores
    reviews.set_rules("operator", now=later(-1), double_share=1.0)
    store.add(appeal("A"))
    assert [reviews.take("uncertain", who, now=NOON) is None for who in (ANN, BOB, CEN)] == [
        False,
        False,
        True,
    ]


def test_a_lease_is_all_that_is_ever_changed(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    desk.say(desk.take().lease, seconds=12)
    with store.database.connect() as connection:
        lease = connection.execute(select(leases)).one()
        word = connection.execute(select(corrections)).one()
    assert (lease.outcome, lease.seconds, lease.number) == ("done", 12, word.lease_number)
    assert lease.taken_at.tzinfo is UTC
