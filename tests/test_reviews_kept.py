"""What is kept beside the words of reviewers: flags and vectors; retention takes all of it along."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select

from data.errors import AppealUnknown, LabelsRefused
from data.purge import purge
from data.reviews import ReviewStore, Suspicion
from data.store import Store
from data.store_tables import appeals
from tests.reviewing import ANN, BOB, NOON, Desk, appeal, later


def test_retention_takes_reviews_along(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
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


# --- flags ----------------------------------------------------------------------------------------


def test_flagged_characters_are_covered_and_can_be_erased(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
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
def test_spans_out_of_the_text_are_refused(
    sqlite_stores: tuple[Store, ReviewStore], span: tuple[int, int]
) -> None:
    store, reviews = sqlite_stores
    store.add(appeal("A", text="油烟很大"))
    with pytest.raises(LabelsRefused, match="within the text of 4 characters"):
        reviews.flag("A", ANN, [span], now=NOON)
    with pytest.raises(LabelsRefused, match="number of a flag"):
        reviews.unflag(7, ANN, now=NOON)


# --- embeddings -----------------------------------------------------------------------------------


def test_vectors_are_kept_beside_the_answer(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
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
