"""Queues, leases, corrections: nobody gets another's appeal, nothing is lost, states can be rebuilt."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from data.appeals import Place
from data.errors import AppealUnknown, LabelsRefused, LeaseLost, ReviewConflict, ReviewError, StoreError
from data.in_force import Correction, in_force
from data.purge import purge
from data.queues import audit_slot, keys_of
from data.review_tables import corrections, leases, queue_keys
from data.reviews import Done, Filters, InForce, Leased, NewAnswer, ReviewStore, Suspicion
from data.reviews.leases import next_appeal
from data.store import Store
from data.store_tables import appeals
from data.suggestions import Suggestion, read_answer
from serving.examples import ANSWER
from serving.messages import Answer
from tests.reviewing import NOON, SCHEME, answer_body, appeal, later, opened, reviewing

ANN, BOB, CEN = "user:ann", "user:bob", "user:cen"
LEAD = "user:lead"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'jiesu.db'}"


@pytest.fixture
def both(database_url: str) -> Iterator[tuple[Store, ReviewStore]]:
    """Stores in a database of each kind in turn."""
    store, reviews = opened(database_url)
    yield store, reviews
    store.close()


@pytest.fixture
def stores(url: str) -> Iterator[tuple[Store, ReviewStore]]:
    store, reviews = opened(url)
    yield store, reviews
    store.close()


class Desk:
    """A reviewer at work: takes, answers, and counts the minutes."""

    def __init__(self, reviews: ReviewStore) -> None:
        self.reviews, self.minute, self.requests = reviews, 0.0, 0

    def now(self) -> datetime:
        self.minute += 1
        return later(self.minute)

    def token(self) -> str:
        self.requests += 1
        return f"t{self.requests}"

    def take(self, who: str = ANN, queue: str = "uncertain", **more: Any) -> Leased:
        taken = self.reviews.take(queue, who, now=self.now(), **more)
        assert taken is not None
        return taken

    def say(self, lease: int, who: str = ANN, code: str = "0102", shown: str = "0101", **more: Any) -> Done:
        asked: dict[str, Any] = {
            "labels": {"category": code},
            "shown": {"category": shown},
            "token": self.token(),
            **more,
        }
        return self.reviews.correct(lease, who, scheme=SCHEME, **{"now": self.now(), **asked})

    def label(self, id: str, who: str = ANN, code: str = "0102", **more: Any) -> Done:
        taken = self.reviews.take_appeal(id, who, now=self.now())
        return self.say(taken.lease, who, code, **more)

    def decide(self, id: str, code: str, **more: Any) -> Done:
        asked: dict[str, Any] = {"scheme": SCHEME, "token": self.token(), "now": self.now(), **more}
        return self.reviews.adjudicate(id, LEAD, {"category": code}, **asked)

    def category(self, id: str) -> InForce:
        number = self.reviews.appeal(id).number
        return self.reviews.labels_of([number])[number]["category"]


def order(reviews: ReviewStore, queue: str, who: str = ANN, **filters: Any) -> list[str]:
    """The whole queue as this reviewer would get it, without doing any."""
    held: list[int] = []
    ids = []
    while taken := reviews.take(queue, who, now=NOON, holding=held, filters=Filters(**filters)):
        held.append(taken.lease)
        ids.append(taken.appeal.id)
    reviews.release_all(who, now=NOON)
    return ids


# --- answers --------------------------------------------------------------------------------------


def test_the_service_s_answer_is_read_head_by_head() -> None:
    body = Answer.model_validate(ANSWER).model_dump_json()
    found = read_answer(body)
    assert {"category", "appeal_type", "urgency", "tier", "unit"} <= set(found.heads)
    assert found.heads["category"].code == ANSWER["category"]["code"]
    assert found.heads["unit"].code == ANSWER["unit"]["lead"]["code"]
    assert found.heads["urgency"].code == ANSWER["urgency"]["level"]
    assert 0 < found.uncertainty < 1


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '{"category": 3}', '{"category": {"code": 1}}', "{}"]
)
def test_what_is_no_answer_suggests_nothing(body: str) -> None:
    assert read_answer(body).heads == {}
    assert read_answer(body).uncertainty == 1.0


def test_the_margin_is_the_distance_to_the_second() -> None:
    assert Suggestion("a", 0.6, (("b", 0.3), ("c", 0.1))).margin == pytest.approx(0.3)
    assert Suggestion("a", 0.4).margin == pytest.approx(0.4)
    assert Suggestion("a", 0.2, (("b", 0.5),)).margin == 0.0  # a rule overruled the model


# --- queues ---------------------------------------------------------------------------------------


def test_urgent_goes_by_level_then_age(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
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


def test_a_city_s_own_levels_are_followed(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    reviews.set_rules("operator", now=NOON, urgency_levels=["green", "red"])
    store.add_many([appeal("g", level="green"), appeal("r", level="red")])
    assert order(reviews, "urgent") == ["r", "g"]


def test_uncertain_goes_by_the_least_certain(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    shares = {"sure": 0.99, "torn": 0.51, "so-so": 0.7}
    store.add_many([appeal(id, heads={"category": ("0101", share)}) for id, share in shares.items()])
    assert order(reviews, "uncertain") == ["torn", "so-so", "sure"]


def test_answers_that_contradict_each_other_come_up(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    store.add_many([appeal(id) for id in ("same", "weak", "firm", "memory")])
    numbers = {id: reviews.appeal(id).number for id in ("same", "weak", "firm", "memory")}
    bodies = {
        "same": answer_body(),
        "weak": answer_body({"category": ("0102", 0.4)}),
        "firm": answer_body({"category": ("0201", 0.8)}),
    }
    new = [NewAnswer(numbers[id], "m2", "1", "review", "一般", body, NOON) for id, body in bodies.items()]
    assert reviews.add_answers(new) == 3
    assert reviews.add_answers(new) == 0
    reviews.suspect(
        "disagreement", [Suspicion(numbers["memory"], 0.6, "category", "0102")], "memory", now=NOON
    )
    assert order(reviews, "disagreement") == ["firm", "memory", "weak"]
    assert [one.model_version for one in reviews.appeal("firm").answers] == ["m1", "m2"]


def test_suspected_labels_come_up_even_when_they_are_labelled(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
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


def test_the_audit_slice_is_fixed_by_the_id_and_a_secret(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    rules = reviews.set_rules("operator", now=NOON, audit_share=0.3)
    ids = [f"A-{n}" for n in range(300)]
    store.add_many([appeal(id, action="auto_dispatch") for id in ids])
    slots = {id: audit_slot(rules, id) for id in ids}
    expected = sorted((id for id in ids if slots[id] < 0.3), key=slots.__getitem__)
    assert order(reviews, "audit") == expected
    assert 60 < len(expected) < 120  # 300 × 0.3, give or take four standard deviations
    other = replace(rules, salt="other")
    assert expected != [id for id in ids if audit_slot(other, id) < 0.3]


def test_shares_hold_for_what_comes_after_them(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
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


def test_filters_narrow_a_queue(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
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
    stores: tuple[Store, ReviewStore], filters: Filters
) -> None:
    store, _ = stores
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


def test_queues_can_be_made_anew(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    reviews.set_rules("operator", now=later(-1), audit_share=0.5, double_share=0.5)
    store.add_many([appeal(f"A-{n}", level="紧急" if n % 3 else "一般") for n in range(40)])
    desk = Desk(reviews)
    for n in range(0, 40, 4):
        desk.label(f"A-{n}", ANN, "0101")
        desk.label(f"A-{n}", BOB, "0101" if n % 8 else "0102")
    reviews.suspect("suspected", [Suspicion(3, 0.5)], "x", now=desk.now())
    before = _keys(store)
    assert {row[0] for row in before} == {"urgent", "uncertain", "audit", "suspected", "disputed"}
    with store.database.begin() as connection:
        connection.execute(queue_keys.delete())
    told: list[tuple[str, int, int]] = []
    assert reviews.rebuild_queues(lambda *step: told.append(step)) == 40
    assert _keys(store) == before
    assert told == [("queues", 40, 40)]


def _keys(store: Store) -> list[Any]:
    with store.database.connect() as connection:
        rows = connection.execute(select(queue_keys).order_by(queue_keys.c.queue, queue_keys.c.appeal_number))
        return [tuple(row) for row in rows]


def test_what_intake_writes_is_what_is_derived(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    reviews.set_rules("operator", now=later(-1), audit_share=0.5, double_share=0.5)
    store.add_many([appeal(f"A-{n}", level="较急" if n % 2 else "一般") for n in range(20)])
    with store.database.connect() as connection:
        numbers = list(connection.execute(select(appeals.c.number)).scalars())
        derived = keys_of(connection, numbers)
    assert sorted(tuple(row.values()) for row in derived) == sorted(tuple(row) for row in _keys(store))


# --- leases ---------------------------------------------------------------------------------------


def test_a_lease_is_one_reviewer_s_alone_until_it_expires(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
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


def test_asking_again_gives_the_same_appeal_unless_it_is_held(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    store.add_many([appeal("A"), appeal("B", heads={"category": ("0101", 0.5)})])
    first = reviews.take("uncertain", ANN, now=NOON)
    assert first is not None
    reloaded = reviews.take("uncertain", ANN, now=later(1))
    assert reloaded is not None and reloaded.lease == first.lease
    assert reloaded.expires_at == later(16)
    ahead = reviews.take("uncertain", ANN, now=later(1), holding=[first.lease])
    assert ahead is not None and ahead.appeal.id == "A"
    assert reviews.take("uncertain", ANN, now=later(1), holding=[first.lease, ahead.lease]) is None


def test_released_comes_to_anybody_and_skipped_only_to_others(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
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


def test_another_s_lease_cannot_be_used(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
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


def test_reviewers_at_once_never_get_the_same_appeal(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
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


def test_double_review_is_by_exactly_two_different_people(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
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


def test_two_hold_a_doubled_appeal_at_once_and_a_third_gets_none(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    reviews.set_rules("operator", now=later(-1), double_share=1.0)
    store.add(appeal("A"))
    assert [reviews.take("uncertain", who, now=NOON) is None for who in (ANN, BOB, CEN)] == [
        False,
        False,
        True,
    ]


# --- corrections ----------------------------------------------------------------------------------


def test_confirmed_and_changed_are_kept_with_all_that_is_known(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    store.add(appeal("A"))
    taken = reviews.take("uncertain", ANN, now=NOON)
    assert taken is not None
    done = reviews.correct(
        taken.lease,
        ANN,
        {"category": "0102", "unit": "cg", "urgency": ""},
        {"category": "0101", "unit": "cg", "urgency": "一般"},
        scheme=SCHEME,
        token="t1",
        now=later(2),
        model_version="m1",
        comment="夜市占道",
        seconds=41.5,
    )
    rows = {row.head: row for row in done.rows}
    assert {head: row.kind for head, row in rows.items()} == {
        "category": "changed",
        "unit": "confirmed",
        "urgency": "changed",
    }
    assert (rows["category"].shown, rows["category"].code) == ("0101", "0102")
    told = [event for event in reviews.history("A") if event.head == "category"]
    assert [(e.at, e.what, e.who, e.before, e.after, e.why, e.model_version, e.seconds) for e in told] == [
        (later(2), "changed", ANN, "0101", "0102", "夜市占道", "m1", 41.5)
    ]
    number = reviews.appeal("A").number
    labels = reviews.labels_of([number])[number]
    assert {head: label.code for head, label in labels.items()} == {
        "category": "0102",
        "unit": "cg",
        "urgency": "",
    }
    assert reviews.take("uncertain", BOB, now=later(3)) is None
    assert reviews.seconds_per_appeal(NOON, later(9))[0].seconds == 41.5


def test_the_same_request_twice_makes_one_row(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take()
    asked: dict[str, Any] = {"scheme": SCHEME, "token": "same", "now": NOON}
    gate = Barrier(4)

    def send(_: int) -> Done:
        gate.wait()
        return reviews.correct(taken.lease, ANN, {"category": "0102"}, {"category": "0101"}, **asked)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(send, range(4)))
    assert sorted(done.again for done in results) == [False, True, True, True]
    assert len({done.rows for done in results}) == 1
    assert len(reviews.corrections_after(0)) == reviews.last_correction() == 1
    with pytest.raises(ReviewConflict, match="new token"):
        reviews.correct(taken.lease, ANN, {"category": "0201"}, {}, **asked)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"colour": "red"}, "one of the heads category, urgency, unit"),
        ({"category": "0104"}, "a code of head 'category', such as 010"),
        ({"category": "01"}, "without further ones below it, such as 0101, 0102"),
        ({"category": "0103"}, "'0103' is replaced by 0102"),
        ({"urgency": "火急"}, "a code of head 'urgency'"),
        ({}, "a label for at least one of"),
    ],
)
def test_labels_out_of_the_scheme_are_refused(
    stores: tuple[Store, ReviewStore], labels: dict[str, str], expected: str
) -> None:
    store, reviews = stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take()
    with pytest.raises(LabelsRefused, match=expected):
        reviews.correct(taken.lease, ANN, labels, {}, scheme=SCHEME, token="t", now=NOON)
    assert reviews.corrections_after(0) == []
    assert reviews.take("uncertain", ANN, now=NOON) is not None  # still before them


def test_all_wrong_labels_are_named_at_once(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    store.add(appeal("A"))
    with pytest.raises(LabelsRefused) as told:
        Desk(reviews).decide("A", "0199", token="x" * 200)
    with pytest.raises(LabelsRefused) as more:
        Desk(reviews).decide("A", "0101", token="")
    assert len(told.value.problems) == 1
    assert [problem.path for problem in more.value.problems] == ["token"]


def test_work_done_after_the_lease_expired_is_kept(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take(ANN, minutes=5)
    other = reviews.take("uncertain", BOB, now=later(30))
    assert other is not None
    desk.say(other.lease, BOB, "0102", now=later(31))
    desk.say(taken.lease, ANN, "0102", now=later(40))
    assert desk.category("A").code == "0102"
    assert {row.reviewer for row in desk.category("A").rows} == {ANN, BOB}


def test_undo_takes_back_and_hands_out_again(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take()
    desk.say(taken.lease, code="0102")
    back = reviews.undo(taken.lease, ANN, token="u1", now=desk.now())
    assert back.appeal.id == "A"
    assert reviews.labels_of([back.appeal.number]) == {}
    again = reviews.undo(taken.lease, ANN, token="u1", now=desk.now())  # the answer was lost
    assert again.lease == back.lease
    assert len(reviews.corrections_after(0)) == 2
    desk.say(back.lease, code="0201")
    assert desk.category("A").code == "0201"
    assert [event.what for event in reviews.history("A") if event.head] == ["changed", "withdrawn", "changed"]


def test_a_skip_can_be_undone(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take()
    reviews.skip(taken.lease, ANN, "手滑", now=desk.now())
    back = reviews.undo(taken.lease, ANN, token="u", now=desk.now())
    desk.say(back.lease)
    assert desk.category("A").code == "0102"
    with pytest.raises(ReviewConflict, match="undo it first"):
        reviews.skip(back.lease, ANN, "", now=desk.now())


def test_undo_takes_back_only_the_last_word(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take()
    desk.say(taken.lease, code="0102")
    desk.say(taken.lease, code="0201")
    reviews.undo(taken.lease, ANN, token="u", now=desk.now())
    assert desk.category("A").code == "0102"


def test_reviewers_who_disagree_leave_it_to_a_lead(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    store.add(appeal("A"))
    desk = Desk(reviews)
    desk.label("A", ANN, "0101")
    desk.label("A", BOB, "0102")
    label = desk.category("A")
    assert (label.state, label.code) == ("disputed", None)
    taken = desk.take(LEAD, "disputed")
    assert taken.appeal.id == "A"
    desk.decide("A", "0201", lease=taken.lease)
    assert (desk.category("A").code, desk.category("A").adjudicated) == ("0201", True)
    assert order(reviews, "disputed", LEAD) == []
    desk.label("A", CEN, "0101")  # a later word does not overrule the lead
    assert desk.category("A").code == "0201"
    assert order(reviews, "disputed", LEAD) == []
    again = desk.decide("A", "0202", token="d", now=later(90))
    assert desk.decide("A", "0202", token="d", now=later(91)) == Done(again.rows, again=True)
    reviews.withdraw("d", LEAD, token="w", now=later(92))
    assert reviews.withdraw("d", LEAD, token="w", now=later(93)).again
    assert desk.category("A").code == "0201"  # the decision before


def test_a_reviewer_may_change_their_mind(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    desk.label("A", ANN, "0101")
    desk.label("A", BOB, "0102")
    desk.label("A", ANN, "0102")
    assert desk.category("A").code == "0102"
    with pytest.raises(ReviewConflict, match="said something"):
        reviews.withdraw("never", ANN, token="w", now=NOON)


def test_rows_cannot_be_changed(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    store.add(appeal("A"))
    Desk(reviews).label("A")
    with pytest.raises(StoreError, match="append-only"), store.database.begin() as connection:
        connection.execute(text("UPDATE corrections SET code = '0201'"))
    reviews.flag("A", ANN, [(0, 2)], now=NOON)
    with pytest.raises(StoreError, match="append-only"), store.database.begin() as connection:
        connection.execute(text("UPDATE flags SET start = 1"))


def test_retention_takes_reviews_along(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    store.add_many(
        [appeal("A", embedding=b"\0" * 8), appeal("B", received_at=later(days=9), answered_at=later(days=9))]
    )
    desk = Desk(reviews)
    for id in "AB":
        desk.label(id)
        reviews.flag(id, ANN, [(0, 1)], now=NOON)
    taken = reviews.take_appeal("A", ANN, now=desk.now())
    desk.say(taken.lease, code="0201")
    reviews.undo(taken.lease, ANN, token="u", now=desk.now())
    reviews.suspect("suspected", [Suspicion(reviews.appeal("A").number, 1.0)], "x", now=desk.now())
    gone = purge(store.database, later(days=1), "test")
    assert gone["appeals"] == 1 and gone["corrections"] == 3 and gone["embeddings"] == 1
    assert [labels.heads["category"].code for labels in reviews.labels_in_force()] == ["0102"]
    with pytest.raises(AppealUnknown):
        reviews.history("A")


# --- bulk -----------------------------------------------------------------------------------------


def test_bulk_shows_first_and_then_does_what_it_showed(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    ids = ["new", "same", "other", "decided"]
    store.add_many([appeal(id) for id in ids])
    desk = Desk(reviews)
    desk.label("same", BOB, "0102")
    desk.label("other", ANN, "0201")
    desk.decide("decided", "0202")
    asks: dict[str, Any] = {"scheme": SCHEME, "reviewer": ANN}
    plan = reviews.preview_bulk([*ids, "new"], "category", "0102", **asks)
    assert [(one.id, one.before, one.by, one.after, one.stays) for one in plan.changes] == [
        ("new", "0101", "model", "0102", ""),
        ("same", "0102", "person", "0102", "same"),
        ("other", "0201", "person", "0102", ""),
        ("decided", "0202", "person", "0202", "adjudicated"),
    ]
    by_cen = reviews.preview_bulk(["other"], "category", "0102", **{**asks, "reviewer": CEN})
    assert by_cen.changes[0].after is None  # two people, two labels
    by_lead = reviews.preview_bulk(ids, "category", "0102", **{**asks, "reviewer": LEAD}, final=True)
    assert [(one.after, one.stays) for one in by_lead.changes] == [("0102", "")] * 4
    assert plan.changing == 2
    asked: dict[str, Any] = {"scheme": SCHEME, "reviewer": ANN, "token": "b1", "now": desk.now()}
    done = reviews.bulk(ids, "category", "0102", fingerprint=plan.fingerprint, **asked)
    assert (len(done.rows), done.unchanged, done.again) == (2, 2, False)
    assert [(row.kind, row.shown, row.source) for row in done.rows] == [("bulk", "0101", "bulk")] * 2
    assert reviews.bulk(ids, "category", "0102", fingerprint=plan.fingerprint, **asked).again
    assert [desk.category(id).code for id in ids] == ["0102", "0102", "0102", "0202"]
    reviews.withdraw("b1", ANN, token="b2", now=desk.now())
    assert desk.category("other").code == "0201"
    plan = reviews.preview_bulk(ids, "category", "0101", scheme=SCHEME, reviewer=LEAD, final=True)
    asked = {"scheme": SCHEME, "reviewer": LEAD, "token": "b3", "now": desk.now(), "final": True}
    reviews.bulk(ids, "category", "0101", fingerprint=plan.fingerprint, **asked)
    assert {(desk.category(id).code, desk.category(id).adjudicated) for id in ids} == {("0101", True)}


def test_bulk_refuses_what_changed_since_the_preview(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    store.add_many([appeal("A"), appeal("B")])
    plan = reviews.preview_bulk(["A", "B"], "category", "0102", scheme=SCHEME, reviewer=ANN)
    desk = Desk(reviews)
    desk.label("B", BOB, "0201")
    asked: dict[str, Any] = {"scheme": SCHEME, "reviewer": ANN, "token": "b", "now": desk.now()}
    with pytest.raises(ReviewConflict, match="look again"):
        reviews.bulk(["A", "B"], "category", "0102", fingerprint=plan.fingerprint, **asked)
    assert len(reviews.corrections_after(0)) == 1
    with pytest.raises(AppealUnknown) as told:
        reviews.preview_bulk(["A", "X", "Y"], "category", "0102", scheme=SCHEME, reviewer=ANN)
    assert [problem.came for problem in told.value.problems] == ["'X'", "'Y'"]
    with pytest.raises(LabelsRefused, match="1 to 1000"):
        reviews.preview_bulk([], "category", "0102", scheme=SCHEME, reviewer=ANN)
    with pytest.raises(LabelsRefused, match="0103"):
        reviews.preview_bulk(["A"], "category", "0103", scheme=SCHEME, reviewer=ANN)


# --- flags ----------------------------------------------------------------------------------------


def test_flagged_characters_are_covered_and_can_be_erased(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    store.add(appeal("A", text="找老赵家的店投诉"))
    [flag] = reviews.flag("A", ANN, [(1, 3)], now=later(1))
    assert reviews.flag("A", ANN, [(1, 3)], now=later(2)) == (flag,)
    assert reviews.appeal("A").text == "找██家的店投诉"
    reviews.unflag(flag.number, BOB, now=later(3))
    reviews.unflag(flag.number, BOB, now=later(4))
    assert reviews.appeal("A").text == "找老赵家的店投诉"
    assert [event.what for event in reviews.history("A")] == ["answered", "flagged", "flag_withdrawn"]
    reviews.flag("A", ANN, [(1, 3)], now=later(5))
    assert reviews.erase_flagged(later(5)) == 0
    assert reviews.erase_flagged(later(6)) == 1
    assert reviews.erase_flagged(later(6)) == 0
    with store.database.connect() as connection:
        assert connection.execute(select(appeals.c.text)).scalar_one() == "找██家的店投诉"


@pytest.mark.parametrize("span", [(-1, 2), (3, 3), (0, 99), (5, 2)])
def test_spans_out_of_the_text_are_refused(stores: tuple[Store, ReviewStore], span: tuple[int, int]) -> None:
    store, reviews = stores
    store.add(appeal("A", text="油烟很大"))
    with pytest.raises(LabelsRefused, match="within the text of 4 characters"):
        reviews.flag("A", ANN, [span], now=NOON)
    with pytest.raises(LabelsRefused, match="number of a flag"):
        reviews.unflag(7, ANN, now=NOON)


# --- embeddings -----------------------------------------------------------------------------------


def test_vectors_are_kept_beside_the_answer(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
    vector = np.arange(4, dtype="<f2").tobytes()
    store.add_many([appeal("A", embedding=vector), appeal("B"), appeal("C", embedding=vector[::-1])])
    a, b, c = (reviews.appeal(id).number for id in "ABC")
    assert reviews.embeddings("m1") == [(a, vector), (c, vector[::-1])]
    reviews.add_embeddings("m1", {a: b"other", b: b"new"})
    assert reviews.vectors_of("m1", [a, b]) == {a: vector, b: b"new"}
    assert reviews.embeddings("m2") == []
    Desk(reviews).label("C")
    assert reviews.embeddings("m1", labelled=True) == [(c, vector[::-1])]
    assert reviews.embeddings("m1", after=a, limit=1) == [(b, b"new")]


# --- every state can be rebuilt -------------------------------------------------------------------

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "say", "undo", "decide", "withdraw"]),
        st.sampled_from([ANN, BOB]),
        st.sampled_from(["A", "B"]),
        st.sampled_from(["0101", "0102", ""]),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES)
def test_every_past_state_can_be_rebuilt(
    moves: list[tuple[str, str, str, str]], tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("states")
    store, reviews = reviewing(f"sqlite:///{folder / 'jiesu.db'}", "A", "B")
    desk = Desk(reviews)
    recorded: list[tuple[datetime, int, Any]] = []
    for move in moves:
        _play(desk, *move)
        recorded.append((later(desk.minute), reviews.last_correction(), _state(reviews)))
    for at, through, state in recorded:
        assert _state(reviews, at=at) == state
        assert _state(reviews, through=through) == state
    assert [row.number for row in reviews.corrections_after(0)] == sorted(
        row.number for row in reviews.corrections_after(0)
    )
    with store.database.connect() as connection:
        derived = keys_of(connection, [1, 2])
    assert sorted(tuple(row.values()) for row in derived) == sorted(tuple(row) for row in _keys(store))
    store.close()


def _play(desk: Desk, what: str, who: str, id: str, code: str) -> None:
    mine = [
        row for row in desk.reviews.corrections_after(0) if row.reviewer == who and row.kind != "withdrawn"
    ]
    if what == "say":
        taken = desk.reviews.take_appeal(id, who, now=desk.now())
        desk.say(taken.lease, who, code)
    elif what == "decide":
        desk.decide(id, code)
    elif what == "undo" and mine and mine[-1].lease_number:
        back = desk.reviews.undo(mine[-1].lease_number, who, token=desk.token(), now=desk.now())
        desk.reviews.release(back.lease, who, now=desk.now())
    elif what == "withdraw" and mine:
        desk.reviews.withdraw(mine[0].token, who, token=desk.token(), now=desk.now())


def _state(reviews: ReviewStore, **when: Any) -> Any:
    return {
        labels.appeal_number: {
            head: (label.code, label.state, tuple(row.number for row in label.rows))
            for head, label in labels.heads.items()
        }
        for labels in reviews.labels_in_force(**when)
    }


def row(number: int, code: str, who: str = ANN, kind: str = "changed", version: str = "1") -> Correction:
    """A correction of one appeal's category."""
    return Correction(
        number, 1, "category", code, "", kind, who, "", "", version, "page", f"t{number}", None, 0.0,  # type: ignore[arg-type]
        None, NOON,
    )  # fmt: skip


def test_an_older_version_s_code_may_be_several_of_today() -> None:
    def reading(head: str, code: str, version: str) -> frozenset[str] | None:
        several = {"old": frozenset({"0101", "0102"}), "gone": None}
        return several[code] if version == "0" else frozenset({code} if code else ())

    old = row(1, "old", version="0")
    assert in_force([old], reading)["category"].state == "partial"
    both = in_force([old, row(2, "0102", BOB)], reading)["category"]
    assert (both.state, both.code) == ("sure", "0102")
    assert in_force([old, row(2, "0201", BOB)], reading)["category"].state == "disputed"
    assert in_force([row(1, "gone", version="0")], reading) == {}
    assert in_force([old, row(2, "", BOB)], reading)["category"].state == "disputed"
    assert in_force([row(1, ""), row(2, "", BOB)], reading)["category"].code == ""


# --- figures --------------------------------------------------------------------------------------


def test_leads_see_progress_and_throughput(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
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


def test_opinions_are_the_last_words_that_stand(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
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


def test_the_audit_uses_each_day_up_to_the_first_gap(both: tuple[Store, ReviewStore]) -> None:
    store, reviews = both
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


def test_what_nobody_can_answer_does_not_stop_the_audit(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
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


def test_the_whole_slice_weighs_as_much_as_the_whole(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    reviews.set_rules("operator", now=later(-1), audit_share=0.25)
    store.add_many([appeal(f"A-{n}", received_at=NOON + timedelta(days=n % 3)) for n in range(300)])
    desk = Desk(reviews)
    while taken := reviews.take("audit", ANN, now=desk.now()):
        desk.say(taken.lease)
    found = reviews.audit_slice(NOON, later(days=9))
    assert found.used == found.members == found.answered
    assert {one.weight for one in found.rows} == {4.0}


def test_a_lease_is_all_that_is_ever_changed(stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    desk.say(desk.take().lease, seconds=12)
    with store.database.connect() as connection:
        lease = connection.execute(select(leases)).one()
        word = connection.execute(select(corrections)).one()
    assert (lease.outcome, lease.seconds, lease.number) == ("done", 12, word.lease_number)
    assert lease.taken_at.tzinfo is UTC
