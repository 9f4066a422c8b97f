"""Words by jieba's dictionary, found in one pass: the same as jieba's own."""

from __future__ import annotations

import csv
from pathlib import Path

import jieba
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.words import word_bounds, word_places

SAMPLES = Path(__file__).parent.parent / "data" / "samples" / "appeals.csv"
ALPHABET = "小区门口的路灯坏了三天没人修请尽快派人处理自来水公司abcXYZ019 \t\r\n，。.+-%_&#《》😀𠀀\u3000"


def jiebas(text: str) -> list[tuple[int, int]]:
    return [(start, end) for word, start, end in jieba.tokenize(text, HMM=False) if word.strip()]


def test_the_sample_corpus_is_cut_as_jieba_cuts_it() -> None:
    with SAMPLES.open(encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert len(texts) > 500
    assert [word_bounds(text) for text in texts] == [jiebas(text) for text in texts]


@pytest.mark.parametrize("text", ["", " ", "a", "iPhone12坏了", "T恤", "c++", "3.5%", "x\r\ny", "卡拉OK厅"])
def test_letters_and_digits_are_cut_as_jieba_cuts_them(text: str) -> None:
    assert word_bounds(text) == jiebas(text)


@given(st.text(alphabet=ALPHABET, max_size=80))
def test_any_text_is_cut_as_jieba_cuts_it(text: str) -> None:
    assert word_bounds(text) == jiebas(text)


@given(st.lists(st.text(alphabet=ALPHABET, max_size=30), max_size=5))
def test_texts_cut_together_are_cut_as_each_alone(texts: list[str]) -> None:
    expected, first = [], 0
    for text in texts:
        expected += [(first + start, first + end) for start, end in word_bounds(text)]
        first += len(text) + 1
    assert list(zip(*word_places(texts), strict=True)) == expected


def test_no_word_runs_from_one_text_into_the_next() -> None:
    assert word_places(["路", "灯坏了"])[0][:2] == [0, 2]
