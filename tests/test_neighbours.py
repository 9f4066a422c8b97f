"""Look-alikes: found exactly, forgotten without a trace, and never followed further than the rule says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from classifier.lexical import Evidence
from classifier.neighbours import Neighbour, Neighbours, Rule, adjust
from classifier.predictor import Prediction
from data.corrected import Corrected
from tests.fuzzing import fuzz

SIZE = 16
RULE = Rule()
CODES = {"unit": ("cg", "hb", "gs"), "urgency": ("一般", "较急", "紧急", "特急")}
SHARES = st.lists(st.floats(0.001, 1.0), min_size=4, max_size=4)


def prediction(unit: Sequence[float], urgency: Sequence[float] = (0.7, 0.2, 0.06, 0.04)) -> Prediction:
    given = {"unit": np.array(unit, np.float32), "urgency": np.array(urgency, np.float32)}
    shares = {head: (one / one.sum()).astype(np.float32) for head, one in given.items()}
    return Prediction(shares, CODES, {"unit": (Evidence(0, 2, 1.0),)}, np.ones(SIZE, np.float32))


def neighbour(number: int, similarity: float, **labels: str) -> Neighbour:
    return Neighbour(Corrected(number, labels, number, f"A-{number}"), similarity)


def vector(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)


def held(memory: Neighbours, *seeds: int) -> list[list[tuple[int, float, Mapping[str, str]]]]:
    """What is found of some vectors."""
    found = memory.nearest(np.stack([vector(seed) for seed in seeds]))
    return [[(one.corrected.number, one.similarity, one.corrected.labels) for one in some] for some in found]


NEIGHBOURS = st.lists(
    st.tuples(
        st.floats(0.98, 1.0),
        st.sampled_from(["cg", "hb", "gs", "unknown", ""]),
        st.sampled_from(["一般", "较急", "紧急", "特急", ""]),
    ),
    max_size=12,
).map(
    lambda drawn: [
        neighbour(i, round(similarity, 4), unit=unit, urgency=urgency)
        for i, (similarity, unit, urgency) in enumerate(drawn)
    ]
)


# --- the answer -----------------------------------------------------------------------------------


def test_an_adjusted_answer_is_bounded_sums_to_one_and_lowers_no_urgency(
    pytestconfig: pytest.Config,
) -> None:
    def check(case: Any) -> None:
        unit, urgency, alike = case
        before = prediction(unit[:3], urgency)
        adjusted = adjust(before, alike)
        if adjusted is None:
            return
        for head, shares in adjusted.prediction.probabilities.items():
            old = before.probabilities[head]
            assert shares.dtype == np.float32
            assert abs(float(shares.sum()) - 1.0) < 1e-5
            assert (shares >= 0.0).all()
            assert (shares >= (1.0 - RULE.bound) * old - 1e-6).all() or head == "urgency"
            assert float(np.abs(shares - old).sum()) / 2 <= RULE.bound + 1e-6
        old, new = (one.probabilities["urgency"][::-1].cumsum() for one in (before, adjusted.prediction))
        assert (new >= old - 1e-5).all()
        assert sum(vote.weight for vote in adjusted.votes if vote.head == "unit") <= RULE.bound + 1e-3
        assert adjusted.alone is before

    fuzz(pytestconfig, st.tuples(SHARES, SHARES, NEIGHBOURS), check, 300)


def test_the_order_of_equal_neighbours_changes_nothing(pytestconfig: pytest.Config) -> None:
    def check(case: Any) -> None:
        unit, alike, random = case
        few, before = alike[: RULE.most], prediction(unit[:3])
        mixed = list(few)
        random.shuffle(mixed)
        one, other = adjust(before, few), adjust(before, mixed)
        assert (one is None) == (other is None)
        if one and other:
            for head, shares in one.prediction.probabilities.items():
                np.testing.assert_allclose(shares, other.prediction.probabilities[head], atol=1e-6)

    fuzz(pytestconfig, st.tuples(SHARES, NEIGHBOURS, st.randoms(use_true_random=False)), check, 150)


def test_one_correction_of_the_same_text_turns_an_unsure_answer_and_doubts_a_sure_one() -> None:
    unsure = adjust(prediction([0.5, 0.3, 0.2]), [neighbour(1, 1.0, unit="gs")])
    assert unsure is not None
    assert unsure.prediction.top("unit")[0][0] == "gs"
    assert unsure.changed == ("unit",)
    sure = adjust(prediction([0.96, 0.02, 0.02]), [neighbour(1, 1.0, unit="gs")])
    assert sure is not None
    (code, share), (second, _) = sure.prediction.top("unit", 2)
    assert (code, second, sure.changed) == ("cg", "gs", ())
    assert share == pytest.approx(0.6 * 0.96, abs=1e-4)


def test_more_and_nearer_neighbours_weigh_more_and_those_that_disagree_less() -> None:
    def followed(*alike: Neighbour) -> float:
        adjusted = adjust(prediction([0.9, 0.05, 0.05]), alike)
        return float(adjusted.prediction.probabilities["unit"][2]) if adjusted else 0.05

    one, two = neighbour(1, 0.995, unit="gs"), neighbour(2, 0.995, unit="gs")
    nearer, other = neighbour(1, 1.0, unit="gs"), neighbour(2, 0.995, unit="hb")
    assert followed(neighbour(1, 0.98, unit="gs")) == 0.05
    assert 0.05 < followed(one) < followed(one, two) < 0.05 + RULE.bound
    assert followed(one) < followed(nearer)
    assert followed(one, other) < followed(one)


def test_what_cannot_be_told_and_what_the_model_does_not_know_has_no_vote() -> None:
    before = prediction([0.5, 0.3, 0.2])
    silent = [neighbour(1, 1.0, unit=""), neighbour(2, 1.0, unit="closed"), neighbour(3, 1.0)]
    assert adjust(before, silent) is None
    assert adjust(before, []) is None


def test_evidence_of_a_changed_label_is_dropped_and_that_of_others_stays() -> None:
    kept = adjust(prediction([0.96, 0.02, 0.02]), [neighbour(1, 1.0, unit="gs")])
    dropped = adjust(prediction([0.5, 0.3, 0.2]), [neighbour(1, 1.0, unit="gs")])
    assert kept is not None
    assert dropped is not None
    assert kept.prediction.evidence.keys() == {"unit"}
    assert not dropped.prediction.evidence


def test_urgency_is_raised_by_look_alikes_and_never_lowered() -> None:
    alike = [neighbour(i, 1.0, urgency="一般") for i in range(8)]
    assert adjust(prediction([1, 1, 1], (0.1, 0.2, 0.3, 0.4)), alike) is None
    raised = adjust(prediction([1, 1, 1]), [neighbour(i, 1.0, urgency="特急") for i in range(8)])
    assert raised is not None
    assert raised.prediction.top("urgency")[0][0] == "特急"


# --- the store ------------------------------------------------------------------------------------


def test_the_same_text_is_found_and_another_is_not() -> None:
    memory = Neighbours(10)
    assert held(memory, 1) == [[]]
    memory.put(Corrected(1, {"unit": "cg"}), vector(1) * 3)
    assert held(memory, 1, 2) == [[(1, 1.0, {"unit": "cg"})], []]


def test_what_is_found_is_what_all_cosines_say() -> None:
    random = np.random.default_rng(3)
    seeds = random.normal(size=(40, 96)).astype(np.float32)
    rows = np.repeat(seeds, 25, axis=0) + random.normal(size=(1000, 96)).astype(np.float32) * 0.15
    memory = Neighbours(1000, Rule(threshold=0.97))
    for number, row in enumerate(rows):
        memory.put(Corrected(number, {}, number), row)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[::37]
    cosines = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ units.T
    found = memory.nearest(queries)
    assert [{one.corrected.number for one in some} for some in found] == [
        set(np.flatnonzero(row >= 0.97).tolist()) for row in cosines
    ]
    assert any(len(some) > 3 for some in found)


def test_removed_is_as_if_never_added_and_put_again_is_replaced(pytestconfig: pytest.Config) -> None:
    steps = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["cg", "hb", None])), max_size=60)

    def check(done: list[tuple[int, str | None]]) -> None:
        memory, plain = Neighbours(100), dict[int, str]()
        for last, (number, code) in enumerate(done):
            if code is None:
                memory.remove(number)
                plain.pop(number, None)
            else:
                memory.put(Corrected(number, {"unit": code}, last), vector(number))
                plain[number] = code
        assert len(memory) == len(plain)
        assert sorted(memory.numbers) == sorted(plain)
        assert held(memory, *range(10)) == [
            [(number, 1.0, {"unit": plain[number]})] if number in plain else [] for number in range(10)
        ]

    fuzz(pytestconfig, steps, check, 100)


def test_the_newest_corrections_are_kept_in_whichever_order_they_come() -> None:
    memory = Neighbours(3)
    for number, last in ((1, 10), (2, 50), (3, 20), (4, 5), (5, 40), (2, 60)):
        memory.put(Corrected(number, {"unit": "cg"}, last), vector(number))
    assert sorted(memory.numbers) == [2, 3, 5]
    for last in range(1000):
        memory.put(Corrected(3, {"unit": "cg"}, 100 + last), vector(3))
    memory.put(Corrected(6, {"unit": "cg"}, 2000), vector(6))
    assert sorted(memory.numbers) == [2, 3, 6]
    assert memory.bytes < 100_000


@pytest.mark.parametrize(
    "broken", [np.zeros(SIZE), np.full(SIZE, np.nan), np.ones(3), np.zeros(0), np.ones(SIZE + 1)]
)
def test_an_embedding_that_is_none_is_not_kept_and_finds_nothing(broken: Any) -> None:
    memory = Neighbours(10)
    memory.put(Corrected(1, {"unit": "cg"}), vector(1))
    assert not memory.put(Corrected(2, {"unit": "cg"}), broken.astype(np.float32))
    assert memory.numbers == [1]
    assert memory.nearest(broken.astype(np.float32)[None]) == [()]


def test_equal_neighbours_come_newest_first() -> None:
    memory = Neighbours(100)
    for number in range(70):
        memory.put(Corrected(number, {"unit": "cg"}, number), vector(1))
    [found] = memory.nearest(vector(1)[None])
    assert [one.corrected.number for one in found] == list(range(69, 5, -1))
