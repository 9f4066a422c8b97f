"""The promises that `data/samples/README.md` makes about the sample corpus, held against the file."""

from __future__ import annotations

import csv
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from data.scheme import default_scheme

SAMPLES = Path(__file__).parents[1] / "data" / "samples" / "appeals.csv"
COLUMNS = ["id", "text", "category", "appeal_type", "urgency", "tier", "unit", "style"]
HEADS = ("category", "appeal_type", "urgency", "tier", "unit")
STYLES = {
    "typed", "web", "spoken", "dialect", "typo", "terse", "elderly", "angry", "polite", "mixed", "hard",
}  # fmt: skip
NEAR = 0.5  # character 3-gram Jaccard from which two texts count as one

# Telephone, bank card and identity numbers are long runs of digits; a plate is a province sign, a letter
# and five or six characters; an address of a mailbox has its sign.
PERSONAL = {
    "long number": re.compile(r"\d(?:[\s\-]?\d){5,}"),
    "number plate": re.compile(r"[\u4e00-\u9fff][A-Z]\s?[A-Z0-9]{5,6}(?![A-Z0-9])"),
    "mailbox": re.compile(r"[\w.]+@[\w.]+"),
}


@pytest.fixture(scope="module")
def samples() -> list[dict[str, str]]:
    with SAMPLES.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def texts(samples: list[dict[str, str]]) -> list[str]:
    return [row["text"] for row in samples]


def shingles(text: str) -> frozenset[str]:
    return frozenset(text[i : i + 3] for i in range(len(text) - 2))


def share(rows: list[dict[str, str]], shorter: int, longer: int) -> float:
    return sum(shorter <= len(row["text"]) < longer for row in rows) / len(rows)


def test_header_and_rows_are_whole(samples: list[dict[str, str]]) -> None:
    assert len(samples) >= 400
    assert list(samples[0]) == COLUMNS
    assert [row["id"] for row in samples if not all((row[column] or "").strip() for column in COLUMNS)] == []
    assert [row["id"] for row in samples if row["text"] != row["text"].strip()] == []


def test_ids_are_unique(samples: list[dict[str, str]]) -> None:
    assert len({row["id"] for row in samples}) == len(samples)


@pytest.mark.parametrize("head", HEADS)
def test_every_code_is_an_active_one_and_every_one_occurs(samples: list[dict[str, str]], head: str) -> None:
    given = {row[head] for row in samples}
    assert given == set(default_scheme().heads[head].codes)


def test_every_leaf_has_at_least_three_rows(samples: list[dict[str, str]]) -> None:
    counts = Counter(row["category"] for row in samples)
    assert {code: n for code, n in counts.items() if n < 3} == {}


def test_every_first_level_category_occurs(samples: list[dict[str, str]]) -> None:
    scheme = default_scheme()
    assert len({scheme.path_codes(row["category"])[0] for row in samples}) == 17


def test_urgency_levels_are_numerous_enough_to_be_measured(samples: list[dict[str, str]]) -> None:
    counts = Counter(row["urgency"] for row in samples)
    assert counts["特急"] >= 40
    assert counts["紧急"] >= 50
    assert counts["较急"] >= 80
    assert counts["一般"] > len(samples) / 2


def test_styles_are_the_documented_ones_and_all_occur(samples: list[dict[str, str]]) -> None:
    counts = Counter(row["style"] for row in samples)
    assert set(counts) == STYLES
    assert min(counts.values()) >= 10


def test_spoken_rows_have_no_punctuation(samples: list[dict[str, str]]) -> None:
    marks = re.compile("[，。！？、；：,.!?;:]")
    assert [row["id"] for row in samples if row["style"] == "spoken" and marks.search(row["text"])] == []


def test_hard_rows_hold_both_false_alarms_and_plain_danger(samples: list[dict[str, str]]) -> None:
    levels = Counter(row["urgency"] for row in samples if row["style"] == "hard")
    assert levels["一般"] >= 8
    assert levels["特急"] >= 8


def test_lengths_run_from_eight_to_nine_hundred(samples: list[dict[str, str]], texts: list[str]) -> None:
    lengths = [len(text) for text in texts]
    assert min(lengths) == 8
    assert 800 <= max(lengths) <= 900
    assert 0.10 <= share(samples, 0, 20) <= 0.20
    assert 0.12 <= share(samples, 201, 901) <= 0.20
    assert sum(length > 600 for length in lengths) >= 12


def test_no_two_texts_are_the_same_or_nearly(samples: list[dict[str, str]]) -> None:
    grams = [(row["id"], shingles(row["text"])) for row in samples]
    near = [
        (one, other)
        for (one, a), (other, b) in combinations(grams, 2)
        if len(a & b) >= NEAR * len(a | b)
    ]  # fmt: skip
    assert near == []


@pytest.mark.parametrize("kind", PERSONAL)
def test_nothing_looks_like_personal_data(samples: list[dict[str, str]], kind: str) -> None:
    assert [row["id"] for row in samples if PERSONAL[kind].search(row["text"])] == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("long number", "电话一三八没有，写的是138 0000 0000"),
        ("number plate", "车牌京A12345挡路"),
        ("mailbox", "请回复到nobody@example.com"),
    ],
)
def test_the_personal_data_patterns_find_what_they_are_for(kind: str, text: str) -> None:
    assert PERSONAL[kind].search(text)


def test_a_report_on_discipline_never_goes_to_the_tier_below_the_district(
    samples: list[dict[str, str]],
) -> None:
    reports = [row for row in samples if row["category"] == "1606"]
    assert {(row["unit"], row["tier"]) for row in reports} == {("jijian", "区")}
