"""Every label of an old version reads in the new codes, and old models answer in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import SchemeChangeError
from data.reviews import ReviewStore
from data.scheme import Head, Scheme
from data.scheme_change import (
    SchemeChange,
    heads_to_reinitialise,
    reading_through,
    translate_distribution,
    translation_matrix,
)
from data.scheme_history import Remapped, reading_for, record_change, recorded_changes, remapped
from data.store import Store
from tests.reviewing import NOON, appeal, later
from tests.scheme_versions import CHANGE, label

# --- history --------------------------------------------------------------------------------------


def test_codes_are_read_through_all_changes_between(scheme_change: SchemeChange) -> None:
    third = SchemeChange.parse(
        'from: "2"\nto: "3"\nheads: {category: [{step: retire, code: "0212", into: "0211"}]}'
    )
    reading = reading_through([scheme_change, third], "3")
    assert reading("category", "0101", "1") == frozenset({"0110"})
    assert reading("category", "0201", "1") == frozenset({"0211"})  # split, then joined again
    assert reading("category", "0203", "1") is None
    assert reading("category", "0212", "2") == frozenset({"0211"})
    assert reading("category", "0103", "3") == frozenset({"0103"})
    assert reading("category", "", "1") == frozenset()
    assert reading("petition", "是", "1") is None
    with pytest.raises(SchemeChangeError, match="no change leads on from '0'"):
        reading("category", "0101", "0")


def test_a_circle_of_versions_is_no_way() -> None:
    around = [SchemeChange.parse('from: "1"\nto: "2"'), SchemeChange.parse('from: "2"\nto: "1"')]
    with pytest.raises(SchemeChangeError, match="no change leads on"):
        reading_through(around, "9")("category", "x", "1")


def test_labels_of_an_old_version_come_out_in_the_new_codes(
    sqlite_stores: tuple[Store, ReviewStore],
    old_scheme: Scheme,
    new_scheme: Scheme,
    scheme_change: SchemeChange,
) -> None:
    store, reviews = sqlite_stores
    store.add_many([appeal(id) for id in "ABCDE"])
    for id, code in {"A": "0102", "B": "0201", "C": "0203", "D": "0103", "E": "0101"}.items():
        label(reviews, id, code, old_scheme)
    label(reviews, "E", "0110", new_scheme, "user:bob")
    label(reviews, "B", "0212", new_scheme, "user:bob")
    with pytest.raises(SchemeChangeError, match="record one with: schemes migrate"):
        list(reviews.labels_in_force(reading=reading_for(store.database, new_scheme)))
    unread = remapped(store.database, new_scheme, reading_for(store.database, new_scheme))
    assert unread == {"category": Remapped(unreachable=5)}
    assert record_change(store.database, scheme_change, "user:op", NOON)
    assert not record_change(store.database, scheme_change, "user:op", NOON)
    reading = reading_for(store.database, new_scheme)
    found = {one.appeal_number: one.heads["category"] for one in reviews.labels_in_force(reading=reading)}
    numbers = {id: reviews.appeal(id).number for id in "ABCDE"}
    assert found[numbers["A"]].code == "0110"
    assert (found[numbers["B"]].state, found[numbers["B"]].code) == (
        "sure",
        "0212",
    )  # both agree on that part
    assert numbers["C"] not in found
    assert found[numbers["D"]].code == "0103"
    assert found[numbers["E"]].code == "0110"  # two who mean the same in other words agree
    assert remapped(store.database, new_scheme, reading) == {
        "category": Remapped(same=1, mapped=2, partial=1, unmapped=1)
    }


def test_people_who_mean_the_same_in_old_and_new_words_have_no_dispute(
    sqlite_stores: tuple[Store, ReviewStore],
    old_scheme: Scheme,
    new_scheme: Scheme,
    scheme_change: SchemeChange,
) -> None:
    store, reviews = sqlite_stores
    store.add_many([appeal("A"), appeal("B")])
    record_change(store.database, scheme_change, "user:op", NOON)
    for id, code in {"A": "0110", "B": "0299"}.items():
        label(reviews, id, "0101", old_scheme)
        label(reviews, id, code, new_scheme, "user:bob")
    taken = reviews.take("disputed", "user:lead", now=later(5))
    assert taken is not None and taken.appeal.id == "B"
    number = reviews.appeal("A").number
    assert reviews.labels_of([number])[number]["category"].code == "0110"
    asked = {"scheme": new_scheme, "reviewer": "user:cen"}
    plan = reviews.preview_bulk(["A"], "category", "0110", **asked)  # type: ignore[arg-type]
    assert (plan.changes[0].before, plan.changes[0].stays) == ("0110", "same")


def test_a_recorded_change_is_not_replaced(
    sqlite_stores: tuple[Store, ReviewStore], scheme_change: SchemeChange
) -> None:
    store, _ = sqlite_stores
    record_change(store.database, scheme_change, "user:op", NOON)
    other = SchemeChange.parse(CHANGE.replace('into: "0212"', "unmapped: true"))
    with pytest.raises(SchemeChangeError, match="cannot be replaced"):
        record_change(store.database, other, "user:op", NOON)
    commented = SchemeChange.parse("# checked\n" + CHANGE)
    assert not record_change(store.database, commented, "user:op", NOON)
    assert [one.to_version for one in recorded_changes(store.database)] == ["2"]


# --- old models -----------------------------------------------------------------------------------


def _head(*codes: str) -> Head:
    return Head("category", "flat", codes, {code: code for code in codes})


def test_an_old_model_answers_in_the_new_codes(
    old_scheme: Scheme, new_scheme: Scheme, scheme_change: SchemeChange
) -> None:
    before, after = old_scheme.heads["category"], new_scheme.heads["category"]
    given = [0.2, 0.1, 0.3, 0.2, 0.1, 0.1]  # 0101 0102 0103 0201 0202 0203
    found = translate_distribution(given, before, after, scheme_change.crosswalk(before))
    shares = dict(zip(after.codes, found.probabilities, strict=True))
    spread = 0.1 / 5  # of the unmapped label, over all five
    assert shares == pytest.approx(
        {
            "0110": 0.3 + spread,
            "0103": 0.3 + spread,
            "0211": 0.1 + spread,
            "0212": 0.2 + spread,
            "0299": spread,
        }
    )
    assert found.lost == pytest.approx(0.1)
    assert found.undecided == {"0201": ("0211", "0212")}


def test_a_model_that_is_sure_of_a_retired_label_is_sure_of_nothing(
    old_scheme: Scheme, new_scheme: Scheme, scheme_change: SchemeChange
) -> None:
    before, after = old_scheme.heads["category"], new_scheme.heads["category"]
    found = translate_distribution(np.eye(6)[5], before, after, scheme_change.crosswalk(before))
    assert found.probabilities == pytest.approx([0.2] * 5)


def test_a_crosswalk_to_nowhere_is_refused() -> None:
    with pytest.raises(SchemeChangeError, match="codes that are not there"):
        translation_matrix(_head("a", "b"), _head("c", "d"), {"a": ["c"], "b": ["x"]})


CROSSWALKS = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.sampled_from("xyz"), max_size=3), max_size=4
)


@given(crosswalk=CROSSWALKS, weights=st.lists(st.floats(0.01, 1), min_size=8, max_size=8))
def test_nothing_is_won_or_lost_on_the_way(crosswalk: dict[str, list[str]], weights: list[float]) -> None:
    given_shares = np.array(weights).reshape(2, 4)
    given_shares /= given_shares.sum(axis=1, keepdims=True)
    found = translate_distribution(given_shares, _head(*"abcd"), _head(*"xyz"), crosswalk)
    assert found.probabilities.sum(axis=1) == pytest.approx([1, 1])
    assert (found.probabilities >= 0).all()
    unmapped = ["abcd".index(code) for code in "abcd" if not crosswalk.get(code)]
    assert found.lost == pytest.approx(given_shares[:, unmapped].sum(axis=1), abs=1e-8)


def test_only_new_labels_begin_from_nothing(
    old_scheme: Scheme, new_scheme: Scheme, scheme_change: SchemeChange
) -> None:
    found = heads_to_reinitialise(old_scheme, new_scheme, scheme_change)
    assert found["category"].rows == ((0, 1), (2,), (3,), (3, 4), ())
    assert found["category"].fresh == (4,)
    assert not found["category"].same
    assert found["appeal_type"].same
    assert "petition" not in found
    back = heads_to_reinitialise(new_scheme, old_scheme)
    assert back["petition"].fresh == (0, 1)
    assert back["category"].rows == ((), (), (1,), (), (), ())
