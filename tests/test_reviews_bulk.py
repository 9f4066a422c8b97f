"""Many labels at a time: first shown, then done as it was shown."""

from __future__ import annotations

from typing import Any

import pytest

from data.errors import AppealUnknown, LabelsRefused, ReviewConflict
from data.reviews import ReviewStore
from data.store import Store
from tests.reviewing import ANN, BOB, CEN, LEAD, SCHEME, Desk, appeal


def test_bulk_shows_first_and_then_does_what_it_showed(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
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


def test_bulk_refuses_what_changed_since_the_preview(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
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
