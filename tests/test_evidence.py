"""Evidence: spans from what the features gained, for several texts and answers at once."""

from __future__ import annotations

import numpy as np

from classifier.evidence import Evidence, Row, heat, hottest

TEXTS = ["路灯坏了", "，停水，了三天了还没来", ""]


def test_each_gain_is_spread_over_its_own_places() -> None:
    row = Row.of(TEXTS)
    found = heat(row, np.array([0, 6]), np.array([2, 8]), np.array([[1.0, 0.0], [0.0, 4.0]]))
    assert found.shape == (2, row.size) == (2, 18)
    assert found[0].tolist() == [0.5, 0.5] + [0.0] * 16
    assert np.allclose(found[1], [0] * 6 + [2, 2] + [0] * 10)


def test_the_hottest_spans_are_told_per_text_and_answer_without_breaks_at_their_edges() -> None:
    heats = np.zeros((2, 18))
    heats[0, 2] = 3.0
    heats[1, 5:10] = 2.0, 3.0, 3.0, 2.0, 0.0
    first, second, third = hottest(Row.of(TEXTS), heats, most=3)
    assert first == [(), ()]  # one character alone tells nothing
    assert second == [(), (Evidence(1, 3, 0.6),)]
    assert third == [(), ()]


def test_a_span_ends_with_its_text() -> None:
    row = Row.of(["ab一二三四", "五六七八九十", ""])
    heats = np.zeros((1, row.size))
    heats[0, [4, 5, 7, 8]] = 1.0
    (first,), (second,), _ = hottest(row, heats, most=3)
    assert first == (Evidence(4, 6, 1.0),)
    assert second == (Evidence(0, 2, 1.0),)


def test_only_the_strongest_spans_are_told_from_left_to_right() -> None:
    text = "一二，三四，五六，七八，九十" + "，" * 20
    heats = np.zeros((1, len(text) + 1))
    for start, value in ((0, 5.0), (3, 9.0), (6, 6.0), (9, 7.0), (12, 8.0)):
        heats[0, start : start + 2] = value
    ((spans,),) = hottest(Row.of([text]), heats, most=3)
    assert [span.start for span in spans] == [3, 9, 12]
