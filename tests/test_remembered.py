"""What the correction memory reads: the newest corrections, sure labels alone, on both databases."""

from __future__ import annotations

import numpy as np

from data.reviews import ReviewStore
from data.reviews.remembered import corrected, newest_corrected, present
from data.store import Store
from serving.memory.kept import Kept
from tests.reviewing import ANN, BOB, Desk, appeal

IDS = ("A", "B", "C", "D")
VECTORS = {id: np.random.default_rng(n).normal(size=16).astype("<f2").tobytes() for n, id in enumerate(IDS)}


def stored(store: Store) -> dict[str, int]:
    """Appeals with embeddings; their numbers."""
    store.add_many([appeal(id, embedding=VECTORS[id], taken_by="intake") for id in IDS])
    reviews = ReviewStore(store.database)
    return {id: reviews.appeal(id).number for id in IDS}


def test_those_labelled_last_come_last(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    numbers, desk = stored(store), Desk(reviews)
    assert newest_corrected(store.database, 10) == []
    for id in ("B", "A", "C", "B"):
        desk.label(id)
    assert newest_corrected(store.database, 10) == [numbers[id] for id in "ACB"]
    assert newest_corrected(store.database, 2) == [numbers[id] for id in "CB"]


def test_only_sure_labels_count(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    numbers, desk = stored(store), Desk(reviews)
    desk.label("A", ANN, "0102")
    desk.label("B", ANN, "0102")
    desk.label("B", BOB, "0201")
    desk.label("C", ANN, "")
    found = corrected(store.database, [*numbers.values(), 9999], "1")
    assert {id: dict(found[number].labels) for id, number in numbers.items()} == {
        "A": {"category": "0102"}, "B": {}, "C": {}, "D": {},
    }  # fmt: skip
    one = found[numbers["A"]]
    assert (one.id, one.taken_by, one.last) == ("A", "intake", reviews.history("A")[-1].number)
    assert 9999 not in found
    assert present(store.database, [numbers["A"], 9999]) == {numbers["A"]}


def test_the_memory_follows_correction_by_correction(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    numbers, desk = stored(store), Desk(reviews)
    desk.label("A")
    kept = Kept("m1", "1", 10)
    kept.look(store.database)
    assert kept.neighbours.numbers == [numbers["A"]]
    desk.label("B")
    taken = desk.label("C", BOB)
    kept.look(store.database)
    assert sorted(kept.neighbours.numbers) == [numbers[id] for id in "ABC"]
    reviews.withdraw(taken.rows[0].token, BOB, token="t-back", now=desk.now())
    desk.label("B", BOB, "0201")
    kept.look(store.database)
    assert kept.neighbours.numbers == [numbers["A"]]
    desk.decide("B", "0201")
    kept.look(store.database)
    [[found]] = kept.neighbours.nearest(np.frombuffer(VECTORS["B"], "<f2").astype(np.float32)[None])
    assert found.corrected.labels == {"category": "0201"}


def test_what_has_no_embedding_of_the_version_waits_the_newest_first(
    any_stores: tuple[Store, ReviewStore],
) -> None:
    store, reviews = any_stores
    numbers, desk = stored(store), Desk(reviews)
    for id in ("A", "B", "C"):
        desk.label(id)
    kept = Kept("m2", "1", 2)
    kept.look(store.database)
    assert len(kept.neighbours) == 0
    assert [one.number for one in kept.newest_missing(5)] == [numbers["C"], numbers["B"]]
    kept.put(kept.newest_missing(1)[0], np.ones(16, np.float32))
    assert kept.neighbours.numbers == [numbers["C"]]
    assert [one.number for one in kept.newest_missing(5)] == [numbers["B"]]
