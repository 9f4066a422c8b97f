"""What reviewers say: kept with all that is known, never twice, taken back only by those who said it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import text

from data.errors import LabelsRefused, ReviewConflict, StoreError
from data.reviews import Done, ReviewStore
from data.store import Store
from tests.reviewing import ANN, BOB, CEN, LEAD, NOON, SCHEME, Desk, appeal, later, order


def test_confirmed_and_changed_are_kept_with_all_that_is_known(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
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


def test_the_same_request_twice_makes_one_row(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
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
    sqlite_stores: tuple[Store, ReviewStore], labels: dict[str, str], expected: str
) -> None:
    store, reviews = sqlite_stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take()
    with pytest.raises(LabelsRefused, match=expected):
        reviews.correct(taken.lease, ANN, labels, {}, scheme=SCHEME, token="t", now=NOON)
    assert reviews.corrections_after(0) == []
    assert reviews.take("uncertain", ANN, now=NOON) is not None  # still before them


def test_all_wrong_labels_are_named_at_once(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    store.add(appeal("A"))
    with pytest.raises(LabelsRefused) as told:
        Desk(reviews).decide("A", "0199", token="x" * 200)
    with pytest.raises(LabelsRefused) as more:
        Desk(reviews).decide("A", "0101", token="")
    assert len(told.value.problems) == 1
    assert [problem.path for problem in more.value.problems] == ["token"]


def test_work_done_after_the_lease_expired_is_kept(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take(ANN, minutes=5)
    other = reviews.take("uncertain", BOB, now=later(30))
    assert other is not None
    desk.say(other.lease, BOB, "0102", now=later(31))
    desk.say(taken.lease, ANN, "0102", now=later(40))
    assert desk.category("A").code == "0102"
    assert {row.reviewer for row in desk.category("A").rows} == {ANN, BOB}


def test_undo_takes_back_and_hands_out_again(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
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


def test_a_skip_can_be_undone(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take()
    reviews.skip(taken.lease, ANN, "手滑", now=desk.now())
    back = reviews.undo(taken.lease, ANN, token="u", now=desk.now())
    desk.say(back.lease)
    assert desk.category("A").code == "0102"
    with pytest.raises(ReviewConflict, match="undo it first"):
        reviews.skip(back.lease, ANN, "", now=desk.now())


def test_undo_takes_back_only_the_last_word(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    taken = desk.take()
    desk.say(taken.lease, code="0102")
    desk.say(taken.lease, code="0201")
    reviews.undo(taken.lease, ANN, token="u", now=desk.now())
    assert desk.category("A").code == "0102"


def test_reviewers_who_disagree_leave_it_to_a_lead(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
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


def test_a_reviewer_may_change_their_mind(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    store.add(appeal("A"))
    desk = Desk(reviews)
    desk.label("A", ANN, "0101")
    desk.label("A", BOB, "0102")
    desk.label("A", ANN, "0102")
    assert desk.category("A").code == "0102"
    with pytest.raises(ReviewConflict, match="said something"):
        reviews.withdraw("never", ANN, token="w", now=NOON)


def test_rows_cannot_be_changed(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    store.add(appeal("A"))
    Desk(reviews).label("A")
    with pytest.raises(StoreError, match="append-only"), store.database.begin() as connection:
        connection.execute(text("UPDATE corrections SET code = '0201'"))
    reviews.flag("A", ANN, [(0, 2)], now=NOON)
    with pytest.raises(StoreError, match="append-only"), store.database.begin() as connection:
        connection.execute(text("UPDATE flags SET start = 1"))
