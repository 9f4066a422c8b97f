"""Near-duplicate groups and splits: no group on two sides, stable when rows are added."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.appeals import Row
from data.errors import SplitError
from data.splits import (
    Split,
    fold_of,
    folds_of_rows,
    group_rows,
    near_duplicate_groups,
    sides,
    split,
    split_by_time,
)

LONG = "建设路十字路口的红绿灯从上周开始一直不亮，早晚高峰车辆互不相让，非常危险，希望尽快派人检修恢复"
OTHER = "楼下烧烤店每天营业到凌晨两点，油烟直排，喝酒划拳的声音很大，老人孩子都没法睡觉，打过几次电话没人管"


def rows_of(*texts: str, **common: str) -> list[Row]:
    return [Row(id=str(number), text=text, **common) for number, text in enumerate(texts)]  # type: ignore[arg-type]


def test_near_duplicates_share_a_group() -> None:
    texts = [LONG, LONG.replace("上周", "上个月"), f"  {LONG}！！", OTHER, LONG.replace("，", ",")]
    groups = near_duplicate_groups(texts)
    assert groups[0] == groups[1] == groups[2] == groups[4] != groups[3]


def test_short_texts_are_grouped_only_if_equal() -> None:
    groups = near_duplicate_groups(["停水了", "停水了。", "停电了", "停", "电", "😀", "😀", "", ""])
    assert groups[0] == groups[1] != groups[2]
    assert len(set(groups)) == 6
    assert near_duplicate_groups([]) == []


def test_different_matters_of_one_form_stay_apart() -> None:
    first, second = near_duplicate_groups(["咨询人民医院电话号码的问题", "咨询社保局电话号码的问题"])
    assert first != second


def test_groups_and_folds_are_the_same_in_every_run() -> None:
    assert near_duplicate_groups([LONG]) == ["439e46da882c444e"]
    assert [fold_of(str(number)) for number in range(8)] == [0, 1, 6, 3, 6, 3, 7, 6]


def test_folds_are_even() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[fold_of(f"group {number}")] += 1
    assert min(counts) > 880
    assert max(counts) < 1120


def test_rows_keep_their_group_when_rows_are_added() -> None:
    random_ = random.Random(1)
    old = [_random_text(random_) for _ in range(300)]
    added = [_changed(random_, random_.choice(old)) for _ in range(100)] + [
        _random_text(random_) for _ in range(100)
    ]
    before = near_duplicate_groups(old)
    after = near_duplicate_groups([*old, *added])
    assert after[: len(old)] == before


def test_most_near_duplicates_are_found_and_time_is_linear() -> None:
    random_ = random.Random(2)
    texts = [_random_text(random_) for _ in range(4000)]
    changed = [_changed(random_, text) for text in texts]
    groups = near_duplicate_groups([*texts, *changed])
    found = sum(one == other for one, other in zip(groups[:4000], groups[4000:], strict=True))
    assert found > 3900
    assert len(set(groups[:4000])) == 4000  # random texts are no duplicates of each other
    assert _seconds(texts) < 25 * max(_seconds(texts[:400]), 0.01)


def _seconds(texts: Sequence[str]) -> float:
    began = time.process_time()
    near_duplicate_groups(texts)
    return time.process_time() - began


def _random_text(random_: random.Random) -> str:
    return "".join(chr(random_.randint(0x4E00, 0x5E00)) for _ in range(random_.randint(30, 90)))


def _changed(random_: random.Random, text: str) -> str:
    at = random_.randrange(len(text))
    return text[:at] + "变" + text[at + 1 :]


# -- sides -----------------------------------------------------------------------------------------


def test_given_groups_and_folds_are_used() -> None:
    rows = [
        Row(id="1", text=LONG, group="a", fold="7"),
        Row(id="2", text=OTHER, group="a"),
        Row(id="3", text="停水了", group="b", fold="6"),
        Row(id="4", text="停电了", group="c", fold="0"),
    ]
    result = split(rows, test_folds=[7], validation_folds=[6])
    assert [row.id for row in result.test] == ["1", "2"]
    assert [row.id for row in result.validation] == ["3"]
    assert [row.id for row in result.train] == ["4"]


def test_a_row_without_a_group_joins_its_near_duplicate() -> None:
    rows = [Row(id="1", text=LONG, group="a", fold="7"), Row(id="2", text=LONG + "谢谢")]
    assert group_rows(rows) == ["a", "a"]
    assert folds_of_rows(rows) == [7, 7]


@pytest.mark.parametrize(
    ("rows", "options", "part"),
    [
        (
            [Row(id="1", text="停水", group="a", fold="1"), Row(id="2", text="停电", group="a", fold="2")],
            {},
            "one fold",
        ),
        ([Row(id="1", text="停水", group="a", fold="9")], {}, "'9'"),
        ([Row(id="1", text="停水", group="a", fold="train")], {}, "'train'"),
        ([], {"test_folds": [1], "validation_folds": [1]}, "one side"),
        ([], {"test_folds": [8]}, "0 to 7"),
    ],
)
def test_what_cannot_be_split(rows: list[Row], options: dict[str, Any], part: str) -> None:
    with pytest.raises(SplitError, match="expected") as caught:
        split(rows, **options)
    assert part in str(caught.value)


def test_by_time_later_rows_of_an_early_group_are_left_out() -> None:
    rows = [
        Row(id="1", text=LONG, date="2024-01-05"),
        Row(id="2", text=LONG + "急", date="2024-03-05T10:00:00"),
        Row(id="3", text=OTHER, date="2024-03-01"),
        Row(id="4", text="停水了", date="2024-02-10"),
        Row(id="5", text="停电了"),
    ]
    result = split_by_time(rows, "2024-03-01", validation_from="2024-02-01")
    found = {name: [row.id for row in members] for name, members in sides(result)}
    assert found == {"train": ["1", "5"], "validation": ["4"], "test": ["3"], "left_out": ["2"]}
    assert split_by_time(rows, "2024-03-01").validation == ()


@pytest.mark.parametrize(("cut", "validation"), [("", ""), ("2024-01-01", "2024-02-01")])
def test_by_time_wrong_dates(cut: str, validation: str) -> None:
    with pytest.raises(SplitError, match="ISO dates"):
        split_by_time(rows_of(LONG), cut, validation)


BASES = [LONG, OTHER, "地铁口共享单车堆成山，盲道全被占了，推轮椅根本过不去，请安排清理", "停水了", "停电了"]
TEXTS = st.builds(
    lambda base, at, mark: base[:at] + mark + base[at:],
    st.sampled_from(BASES),
    st.integers(0, 40),
    st.sampled_from(["", "。", "谢谢", "急急急", "三天了"]),
)
DATES = st.sampled_from(["", "2024-01-01", "2024-02-01T08:00:00", "2024-03-01", "2024-04-01"])
ROWS = st.lists(
    st.builds(Row, id=st.uuids().map(str), text=TEXTS, date=DATES, group=st.sampled_from(["", "", "a", "b"])),
    max_size=25,
)


def _no_group_on_two_sides(rows: Sequence[Row], result: Split) -> None:
    group = dict(zip((row.id for row in rows), group_rows(rows), strict=True))
    on: defaultdict[str, set[str]] = defaultdict(set)
    for name, members in sides(result):
        for row in members:
            if name != "left_out":
                on[group[row.id]].add(name)
    assert all(len(names) == 1 for names in on.values())
    assert sorted(row.id for _, members in sides(result) for row in members) == sorted(row.id for row in rows)


@settings(max_examples=60, deadline=None, database=None)
@given(ROWS)
def test_no_group_is_ever_on_two_sides(rows: list[Row]) -> None:
    _no_group_on_two_sides(rows, split(rows, test_folds=[5, 6, 7], validation_folds=[3, 4]))
    _no_group_on_two_sides(rows, split_by_time(rows, "2024-03-01", validation_from="2024-02-01"))


@settings(max_examples=60, deadline=None, database=None)
@given(ROWS, ROWS)
def test_a_group_keeps_its_fold_unless_rows_bring_groups_together(rows: list[Row], more: list[Row]) -> None:
    plain = [Row(id=row.id, text=row.text) for row in rows]
    added = [Row(id=row.id, text=row.text) for row in more]
    before, after = group_rows(plain), group_rows([*plain, *added])[: len(plain)]
    joined: defaultdict[str, set[str]] = defaultdict(set)
    for old, new in zip(before, after, strict=True):
        joined[new].add(old)
    assert all(new in olds for new, olds in joined.items())  # the earlier group's name lives on
