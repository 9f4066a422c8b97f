from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from classifier.ngrams import (
    BITS,
    MAX_CHARS,
    Features,
    all_occurrences,
    char_occurrences,
    count,
    occurrences,
    word_occurrences,
)

TEXT = "龙王路88号附近，井盖缺失！！有老人摔倒"


def spans(text: str, low: int, high: int) -> set[str]:
    found = char_occurrences(text, low, high)
    return {text[a:b] for a, b in zip(found.starts, found.ends, strict=True)}


def test_every_run_of_an_order_is_found_where_it_stands() -> None:
    assert spans("井盖缺失", 2, 2) == {"井盖", "盖缺", "缺失"}
    assert spans("井盖缺失", 1, 4) >= {"井", "井盖缺失"}


def test_the_same_run_hashes_alike_wherever_it_stands() -> None:
    alone = set(char_occurrences("井盖缺失", 2, 3).hashes)
    inside = set(char_occurrences("中山路上井盖缺失三天", 2, 3).hashes)
    assert alone <= inside


def test_different_runs_hash_differently() -> None:
    pairs = {
        char_occurrences(a + b, 2, 2).hashes[0] for a in "东南西北中上下左右" for b in "路街巷村镇市区县"
    }
    assert len(pairs) == 72
    assert all(int(value) < 2**BITS for value in pairs)


def test_orders_and_words_do_not_share_hashes() -> None:
    word = word_occurrences("井盖").hashes
    assert not set(word) & set(char_occurrences("井盖", 1, 2).hashes)


def test_runs_of_breaks_count_as_one_and_spans_stay_true() -> None:
    found = char_occurrences(TEXT, 3, 3)
    assert all(0 <= a < b <= len(TEXT) for a, b in zip(found.starts, found.ends, strict=True))
    assert set(char_occurrences("停水！！停电", 3, 3).hashes) == set(
        char_occurrences("停水。停电", 3, 3).hashes
    )


def test_words_are_jiebas_with_pairs() -> None:
    found = word_occurrences("井盖缺失三天")
    words = {"井盖缺失三天"[a:b] for a, b in zip(found.starts, found.ends, strict=True)}
    assert {"井盖", "缺失", "井盖缺失"} <= words


def test_count_is_sublinear() -> None:
    indptr, hashes, values = count([char_occurrences("啊啊啊啊", 1, 1), char_occurrences("", 1, 1)])
    assert indptr.tolist() == [0, 1, 1]
    assert len(hashes) == 1
    assert np.isclose(values[0], 1 + np.log(4))


def test_a_text_of_100_000_characters_is_read_from_both_ends() -> None:
    text = "路灯坏了没人修，" * 12_500
    found = occurrences(text, Features(1, 1))
    assert len(found.hashes) == MAX_CHARS
    assert int(found.starts.min()) == 0 and int(found.ends.max()) == len(text)


@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    found = occurrences(text, Features(1, 4))
    assert len(found.hashes) == len(found.starts) == len(found.ends)
    assert all(0 <= a < b <= len(text) for a, b in zip(found.starts, found.ends, strict=True))


@given(st.lists(st.text(alphabet="路灯坏了AbC12，。 \u0130😀", max_size=40), max_size=6), st.booleans())
def test_texts_read_together_are_read_as_each_alone(texts: list[str], words: bool) -> None:
    features = Features(1, 4, words)
    together = all_occurrences(texts, features)
    assert len(together) == len(texts)
    for text, found in zip(texts, together, strict=True):
        alone = occurrences(text, features)
        for part in ("hashes", "starts", "ends"):
            assert getattr(found, part).tolist() == getattr(alone, part).tolist()


def test_a_long_text_among_others_keeps_its_places() -> None:
    long = "路灯坏了没人修，" * 1_000
    first, middle, last = all_occurrences(["井盖", long, "停水"], Features(2, 2))
    assert int(middle.ends.max()) == len(long)
    assert first.hashes.tolist() == occurrences("井盖", Features(2, 2)).hashes.tolist()
    assert last.starts.tolist() == [0]
