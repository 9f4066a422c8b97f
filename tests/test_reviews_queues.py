"""Queues of appeals to review: their order, their filters, and that they can be made anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from data.appeals import Place
from data.errors import ReviewError
from data.queues import audit_slot, keys_of
from data.review_tables import queue_keys
from data.reviews import Filters, NewAnswer, ReviewStore, Suspicion
from data.reviews.leases import next_appeal
from data.store import Store
from data.store_tables import appeals
from tests.reviewing import ANN, BOB, CEN, NOON, Desk, answer_body, appeal, later, order, queue_rows


def test_urgent_goes_by_level_then_age(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    store.add_many(
        [
            appeal("low-auto", level="一般", action="auto_dispatch"),
            appeal("low", level="一般"),
            appeal("high-new", level="紧急", received_at=later(9)),
            appeal("high-old", level="紧急", received_at=later(1)),
            appeal("strange", level="十万火急", received_at=later(5)),
            appeal("now", level="一般", at_once=True, action="auto_dispatch"),
            appeal("some", level="较急", action="auto_dispatch"),
        ]
    )
    assert order(reviews, "urgent") == ["now", "strange", "high-old", "high-new", "some", "low"]


def test_a_city_s_own_levels_are_followed(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    reviews.set_rules("operator", now=NOON, urgency_levels=["green", "red"])
    store.add_many([appeal("g", level="green"), appeal("r", level="red")])
    assert order(reviews, "urgent") == ["r", "g"]


def test_uncertain_goes_by_the_least_certain(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    shares = {"sure": 0.99, "torn": 0.51, "so-so": 0.7}
    store.add_many([appeal(id, heads={"category": ("0101", share)}) for id, share in shares.items()])
    assert order(reviews, "uncertain") == ["torn", "so-so", "sure"]


def test_answers_that_contradict_each_other_come_up(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    store.add_many([appeal(id) for id in ("same", "weak", "firm", "memory")])
    numbers = {id: reviews.appeal(id).number for id in ("same", "weak", "firm", "memory")}
    bodies = {
        "same": answer_body(),
        "weak": answer_body({"category": ("0102", 0.4)}),
        "firm": answer_body({"category": ("0201", 0.8)}),
    }
    new = [
        NewAnswer("m2", "1", "review", "一般", body, NOON, appeal_number=numbers[id])
        for id, body in bodies.items()
    ]
    assert reviews.add_answers(new) == 3
    assert reviews.add_answers(new) == 0
    reviews.suspect(
        "disagreement", [Suspicion(numbers["memory"], 0.6, "category", "0102")], "memory", now=NOON
    )
    assert order(reviews, "disagreement") == ["firm", "memory", "weak"]
    assert [one.model_version for one in reviews.appeal("firm").answers] == ["m1", "m2"]


def test_suspected_labels_come_up_even_when_they_are_labelled(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    store.add_many([appeal("A"), appeal("B")])
    desk = Desk(reviews)
    desk.label("A")
    desk.label("B")
    numbers = [reviews.appeal(id).number for id in "AB"]
    found = [Suspicion(numbers[0], 0.2, "category", "0101"), Suspicion(numbers[1], 0.7, "category", "0101")]
    reviews.suspect("suspected", found, "learning", now=desk.now())
    assert order(reviews, "suspected", CEN) == ["B", "A"]
    taken = desk.take(BOB, "suspected")
    desk.say(taken.lease, BOB, "0102")
    assert order(reviews, "suspected", CEN) == ["A"]
    assert order(reviews, "uncertain", CEN) == []
    with pytest.raises(ReviewError, match="suspected or disagreement"):
        reviews.suspect("urgent", found, "learning", now=NOON)


def test_the_audit_slice_is_fixed_by_the_id_and_a_secret(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    rules = reviews.set_rules("operator", now=NOON, audit_share=0.3)
    ids = [f"A-{n}" for n in range(300)]
    store.add_many([appeal(id, action="auto_dispatch") for id in ids])
    slots = {id: audit_slot(rules, id) for id in ids}
    expected = sorted((id for id in ids if slots[id] < 0.3), key=slots.__getitem__)
    assert order(reviews, "audit") == expected
    assert 60 < len(expected) < 120  # 300 × 0.3, give or take four standard deviations
    other = replace(rules, salt="other")
    assert expected != [id for id in ids if audit_slot(other, id) < 0.3]


def test_shares_hold_for_what_comes_after_them(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    reviews.set_rules("operator", now=later(-5), audit_share=0.0)
    store.add(appeal("before"))
    changed = reviews.set_rules("operator", now=later(1), audit_share=1.0)
    store.add(appeal("after", answered_at=later(2)))
    assert order(reviews, "audit") == ["after"]
    assert reviews.set_rules("other", now=later(3), audit_share=1.0) == changed == reviews.rules()
    reviews.rebuild_queues()
    assert order(reviews, "audit") == ["after"]
    with pytest.raises(ReviewError, match="from 0 to 1"):
        reviews.set_rules("operator", now=NOON, double_share=1.5)


def test_filters_narrow_a_queue(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    place = Place(city="江城", district="西区", street="桥头街道", community="一社区")
    store.add_many(
        [
            appeal("A", heads={"category": ("0101", 0.6)}),
            appeal("B", heads={"category": ("0102", 0.7)}, place=place),
            appeal("C", heads={"category": ("0201", 0.8)}, received_at=later(days=2)),
            appeal("D", heads={"category": ("0102", 0.9)}, received_at=later(days=40)),
        ]
    )
    assert order(reviews, "uncertain", categories=("0102", "0201")) == ["B", "C", "D"]
    assert order(reviews, "uncertain", categories=("0102",), since=later(days=1)) == ["D"]
    assert order(reviews, "uncertain", district="西区") == ["B"]
    assert order(reviews, "uncertain", street="柳荫街道") == ["A", "C", "D"]
    assert order(reviews, "uncertain", community="一社区", until=later(1)) == ["B"]
    assert order(reviews, "uncertain", since=later(days=2), until=later(days=40)) == ["C"]
    assert order(reviews, "uncertain", until=later(days=3)) == ["A", "B", "C"]
    assert order(reviews, "uncertain", since=later(days=41)) == []
    many = tuple(f"c{n}" for n in range(500))
    assert order(reviews, "uncertain", categories=(*many, "0102")) == ["B", "D"]
    with pytest.raises(ReviewError, match="one of the queues"):
        reviews.take("nonsense", ANN, now=NOON)


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(categories=("0101", "0102")),
        Filters(district="东区"),
        Filters(street="柳荫街道"),
        Filters(since=NOON, until=later(days=9)),
        Filters(since=later(days=3), district="东区", categories=("0101",)),
        Filters(categories=("0101",), since=NOON),
    ],
)
def test_no_filter_makes_the_database_read_a_whole_table(
    sqlite_stores: tuple[Store, ReviewStore], filters: Filters
) -> None:
    store, _ = sqlite_stores
    store.add_many([appeal(f"A-{n}") for n in range(20)])
    query = next_appeal("uncertain", ANN, filters, later(days=5))
    compiled = query.compile(store.database.engine, compile_kwargs={"render_postcompile": True})
    with store.database.connect() as connection:
        plan = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {compiled}",
            tuple(compiled.construct_params()[name] for name in names(compiled)),
        ).all()
    steps = [row[-1] for row in plan]
    tables = ("queue_keys", "leases", "corrections", "appeals", "taken_back")
    assert [step for step in steps if step.startswith(tuple(f"SCAN {table}" for table in tables))] == []
    assert any("ix_queue_keys_" in step for step in steps)


def names(compiled: Any) -> list[str]:
    """Parameters in the order of their places in the statement."""
    return list(compiled.positiontup)


def test_queues_can_be_made_anew(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    reviews.set_rules("operator", now=later(-1), audit_share=0.5, double_share=0.5)
    store.add_many([appeal(f"A-{n}", level="紧急" if n % 3 else "一般") for n in range(40)])
    desk = Desk(reviews)
    for n in range(0, 40, 4):
        desk.label(f"A-{n}", ANN, "0101")
        desk.label(f"A-{n}", BOB, "0101" if n % 8 else "0102")
    reviews.suspect("suspected", [Suspicion(3, 0.5)], "x", now=desk.now())
    before = queue_rows(store)
    assert {row[0] for row in before} == {"urgent", "uncertain", "audit", "suspected", "disputed"}
    with store.database.begin() as connection:
        connection.execute(queue_keys.delete())
    told: list[tuple[str, int, int]] = []
    assert reviews.rebuild_queues(lambda *step: told.append(step)) == 40
    assert queue_rows(store) == before
    assert told == [("queues", 40, 40)]


def test_what_intake_writes_is_what_is_derived(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    reviews.set_rules("operator", now=later(-1), audit_share=0.5, double_share=0.5)
    store.add_many([appeal(f"A-{n}", level="较急" if n % 2 else "一般") for n in range(20)])
    with store.database.connect() as connection:
        numbers = list(connection.execute(select(appeals.c.number)).scalars())
        derived = keys_of(connection, numbers)
    assert sorted(tuple(row.values()) for row in derived) == sorted(tuple(row) for row in queue_rows(store))
