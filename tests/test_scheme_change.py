"""A changed label scheme: every old label reads in the new codes, and old models answer in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from data.__main__ import app
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
from data.scheme_diff import propose_change
from data.scheme_history import Remapped, reading_for, record_change, recorded_changes, remapped
from data.store import Store
from tests.reviewing import NOON, appeal, later, opened

OLD = """
name: city
version: "1"
categories:
- code: "01"
  name: 市容
  children:
  - {code: "0101", name: 垃圾清运}
  - {code: "0102", name: 垃圾分类}
  - {code: "0103", name: 占道经营}
- code: "02"
  name: 噪音
  children:
  - {code: "0201", name: 噪音扰民}
  - {code: "0202", name: 鸣笛}
  - {code: "0203", name: 寻呼机干扰}
appeal_types: [咨询, 投诉]
extra_heads:
- {name: petition, labels: [是, 否]}
"""
NEW = """
name: city
version: "2"
categories:
- code: "01"
  name: 市容
  children:
  - {code: "0110", name: 垃圾, aliases: [垃圾清运, 垃圾分类]}
  - {code: "0103", name: 占道经营（含流动摊贩）}
- code: "02"
  name: 噪音
  children:
  - code: "0201"
    name: 噪音扰民
    children: [{code: "0211", name: 施工噪音}, {code: "0212", name: 广场舞}]
  - {code: "0202", name: 鸣笛, active: false, replaced_by: "0212"}
  - {code: "0299", name: 低空飞行}
appeal_types: [咨询, 投诉]
"""
CHANGE = """
from: "1"
to: "2"
dropped: [petition]
heads:
  category:
  - {step: merge, codes: ["0101", "0102"], into: "0110"}
  - {step: split, code: "0201", into: ["0211", "0212"]}
  - {step: retire, code: "0202", into: "0212"}
  - {step: retire, code: "0203", unmapped: true, why: 不再有}
  - {step: add, code: "0299"}
"""


@pytest.fixture
def old() -> Scheme:
    return Scheme.parse(OLD)


@pytest.fixture
def new() -> Scheme:
    return Scheme.parse(NEW)


@pytest.fixture
def change() -> SchemeChange:
    return SchemeChange.parse(CHANGE)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, ReviewStore]]:
    store, reviews = opened(f"sqlite:///{tmp_path / 'jiesu.db'}")
    yield store, reviews
    store.close()


# --- checking -------------------------------------------------------------------------------------


def test_a_sound_change_leads_over(old: Scheme, new: Scheme, change: SchemeChange) -> None:
    change.check(old, new)
    assert change.crosswalk(old.heads["category"]) == {
        "0101": ("0110",),
        "0102": ("0110",),
        "0103": ("0103",),
        "0201": ("0211", "0212"),
        "0202": ("0212",),
        "0203": (),
    }
    assert change.codes("petition", "是") is None
    assert change.codes("appeal_type", "咨询") == ("咨询",)


@pytest.mark.parametrize(
    ("was", "instead", "expected"),
    [
        ('from: "1"', 'from: "0"', "old scheme's version '1', got '0'"),
        ('to: "2"', 'to: "3"', "the new scheme's version '2', got '3'"),
        ("dropped: [petition]\n", "", "'petition', which the new version lacks"),
        (
            "dropped: [petition]",
            "dropped: [petition, unit]",
            "heads of the old version that the new one lacks, got 'unit'",
        ),
        ("  category:", "  petition:", "one of the heads of both versions"),
        ('codes: ["0101", "0102"]', 'codes: ["0101"]', "two codes or more, got 1"),
        (
            'codes: ["0101", "0102"]',
            'codes: ["0101", "0199"]',
            "an active label of category in the old version, got '0199'",
        ),
        (
            'codes: ["0101", "0102"]',
            'codes: ["0101", "0102", "0103"]',
            "a code that the new version lacks, or",
        ),
        ('into: "0110"', 'into: "0103"', "a step for '0110', which is new"),
        ('into: "0110"', "into: []", "one code in `into`, got 0"),
        ('into: ["0211", "0212"]', 'into: ["0211"]', "two codes or more in `into`, got 1"),
        (
            'into: ["0211", "0212"]',
            'into: ["0211", "0201"]',
            "active labels of category in the new version, got '0201'",
        ),
        ("unmapped: true", "unmapped: false", "one code in `into`, or `unmapped: true`, got 0"),
        (
            '{step: retire, code: "0203", unmapped: true, why: 不再有}',
            '{step: add, code: "0103"}',
            "only the new version has",
        ),
        (
            '  - {step: retire, code: "0203", unmapped: true, why: 不再有}\n',
            "",
            "a step for '0203', which the new version lacks",
        ),
        ('  - {step: add, code: "0299"}\n', "", "a step for '0299', which is new"),
        (
            '{step: add, code: "0299"}',
            '{step: retire, code: "0203", into: "0299"}',
            "each code in one step, got '0203' again",
        ),
        ('{step: add, code: "0299"}', '{step: add, code: "0299", into: "0110"}', "no `into` for a new code"),
        (
            '{step: add, code: "0299"}',
            '{step: add, code: "0299", unmapped: true}',
            "only where a code is retired",
        ),
    ],
)
def test_what_is_wrong_is_told(old: Scheme, new: Scheme, was: str, instead: str, expected: str) -> None:
    assert was in CHANGE
    changed = SchemeChange.parse(CHANGE.replace(was, instead))
    with pytest.raises(SchemeChangeError) as told:
        changed.check(old, new)
    assert expected in str(told.value)


def test_a_rename_into_a_new_code_is_as_good_as_a_retirement(old: Scheme, new: Scheme) -> None:
    SchemeChange.parse(CHANGE.replace('retire, code: "0202"', 'rename, code: "0202"')).check(old, new)
    wrong = CHANGE.replace('retire, code: "0202", into: "0212"', 'rename, code: "0202", into: "0103"')
    with pytest.raises(SchemeChangeError, match="which the old version has"):
        SchemeChange.parse(wrong).check(old, new)


def test_everything_wrong_is_listed_at_once_with_its_line(old: Scheme, new: Scheme) -> None:
    broken = CHANGE.replace('"0299"', '"0298"').replace('into: "0110"', 'into: "0111"')
    with pytest.raises(SchemeChangeError) as told:
        SchemeChange.parse(broken, "mine.yaml").check(old, new)
    assert [
        (one.file, one.line) for one in told.value.problems if "0111" in one.came or "0298" in one.came
    ] == [
        ("mine.yaml", 7),
        ("mine.yaml", 11),
    ]
    assert len(told.value.problems) == 4  # 0110 and 0299 have no step now


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "got"),
        ("from: x", "to: expected"),
        ("from: a\nto: b\nheads: {category: [{step: melt}]}", "heads.category[0].step"),
        ("from: a\nto: b\nextra: 1", "a key that change files know"),
        ("from: [", "valid YAML"),
    ],
)
def test_what_is_no_change_file_is_refused(text: str, expected: str) -> None:
    with pytest.raises(SchemeChangeError, match="not a valid change file") as told:
        SchemeChange.parse(text)
    assert expected in str(told.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SchemeChangeError, match="cannot be read"):
        SchemeChange.load(tmp_path / "none.yaml")


def test_a_version_that_stays_the_same_is_refused(old: Scheme) -> None:
    with pytest.raises(SchemeChangeError, match="a new version for a changed scheme"):
        SchemeChange.parse('from: "1"\nto: "1"').check(old, old)


# --- proposing ------------------------------------------------------------------------------------


def test_a_change_is_proposed_from_what_the_new_version_says(old: Scheme, new: Scheme) -> None:
    text = propose_change(old, new)
    SchemeChange.parse(text).check(old, new)
    steps = {(step.step, step.codes, step.into) for step in SchemeChange.parse(text).heads["category"]}
    assert steps == {
        ("merge", ("0101", "0102"), ("0110",)),
        ("split", ("0201",), ("0211", "0212")),
        ("retire", ("0203",), ()),
        ("rename", ("0202",), ("0212",)),
        ("add", ("0299",), ()),
    }
    assert "# 0103: 占道经营 → 占道经营（含流动摊贩）" in text
    assert [line for line in text.splitlines() if line.endswith("check")] == [
        '  - {step: retire, code: "0203", unmapped: true}  # 寻呼机干扰 – check'
    ]


def test_a_guess_by_name_is_marked() -> None:
    head = "name: c\nversion: '{0}'\nunits: [{{code: {1}, name: {2}}}, {{code: z, name: 住建局}}]\n"
    before = Scheme.parse(head.format(1, "a", "城市管理局"))
    text = propose_change(before, Scheme.parse(head.format(2, "b", "城市管理委")))
    assert '- {step: rename, code: "a", into: "b"}  # 城市管理局 → 城市管理委 – check' in text
    other = propose_change(before, Scheme.parse(head.format(2, "b", "气象台")))
    assert "unmapped: true" in other and '{step: add, code: "b"}' in other


def test_two_that_go_into_one_that_was_there_are_merged() -> None:
    units = "name: c\nversion: '{0}'\nunits: [{1}]\n"
    before = Scheme.parse(units.format(1, "a, b, c, d"))
    after = Scheme.parse(
        units.format(2, "a, {code: b, active: false, replaced_by: a}, {code: c, aliases: [x]}, d")
    )
    text = propose_change(before, after)
    SchemeChange.parse(text).check(before, after)
    assert '{step: retire, code: "b", into: "a"}' in text
    both = Scheme.parse(
        units.format(
            2, "a, {code: b, active: false, replaced_by: a}, {code: c, active: false, replaced_by: a}, d"
        )
    )
    text = propose_change(before, both)
    SchemeChange.parse(text).check(before, both)
    assert '{step: merge, codes: ["a", "b", "c"], into: "a"}' in text


def test_versions_with_the_same_labels_need_no_step(old: Scheme) -> None:
    same = Scheme.parse(OLD.replace('version: "1"', 'version: "2"'))
    text = propose_change(old, same)
    SchemeChange.parse(text).check(old, same)
    assert text == 'from: "1"\nto: "2"\nheads: {}\n'


# --- history --------------------------------------------------------------------------------------


def test_codes_are_read_through_all_changes_between(change: SchemeChange) -> None:
    third = SchemeChange.parse(
        'from: "2"\nto: "3"\nheads: {category: [{step: retire, code: "0212", into: "0211"}]}'
    )
    reading = reading_through([change, third], "3")
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


def _label(reviews: ReviewStore, id: str, code: str, scheme: Scheme, who: str = "user:ann") -> None:
    taken = reviews.take_appeal(id, who, now=NOON)
    asked = {"scheme": scheme, "token": f"{id}{code}{who}", "now": later(1)}
    reviews.correct(taken.lease, who, {"category": code}, {}, **asked)  # type: ignore[arg-type]


def test_labels_of_an_old_version_come_out_in_the_new_codes(
    stores: tuple[Store, ReviewStore], old: Scheme, new: Scheme, change: SchemeChange
) -> None:
    store, reviews = stores
    store.add_many([appeal(id) for id in "ABCDE"])
    for id, code in {"A": "0102", "B": "0201", "C": "0203", "D": "0103", "E": "0101"}.items():
        _label(reviews, id, code, old)
    _label(reviews, "E", "0110", new, "user:bob")
    _label(reviews, "B", "0212", new, "user:bob")
    with pytest.raises(SchemeChangeError, match="record one with: schemes migrate"):
        list(reviews.labels_in_force(reading=reading_for(store.database, new)))
    unread = remapped(store.database, new, reading_for(store.database, new))
    assert unread == {"category": Remapped(unreachable=5)}
    assert record_change(store.database, change, "user:op", NOON)
    assert not record_change(store.database, change, "user:op", NOON)
    reading = reading_for(store.database, new)
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
    assert remapped(store.database, new, reading) == {
        "category": Remapped(same=1, mapped=2, partial=1, unmapped=1)
    }


def test_people_who_mean_the_same_in_old_and_new_words_have_no_dispute(
    stores: tuple[Store, ReviewStore], old: Scheme, new: Scheme, change: SchemeChange
) -> None:
    store, reviews = stores
    store.add_many([appeal("A"), appeal("B")])
    record_change(store.database, change, "user:op", NOON)
    for id, code in {"A": "0110", "B": "0299"}.items():
        _label(reviews, id, "0101", old)
        _label(reviews, id, code, new, "user:bob")
    taken = reviews.take("disputed", "user:lead", now=later(5))
    assert taken is not None and taken.appeal.id == "B"
    number = reviews.appeal("A").number
    assert reviews.labels_of([number])[number]["category"].code == "0110"
    asked = {"scheme": new, "reviewer": "user:cen"}
    plan = reviews.preview_bulk(["A"], "category", "0110", **asked)  # type: ignore[arg-type]
    assert (plan.changes[0].before, plan.changes[0].stays) == ("0110", "same")


def test_a_recorded_change_is_not_replaced(stores: tuple[Store, ReviewStore], change: SchemeChange) -> None:
    store, _ = stores
    record_change(store.database, change, "user:op", NOON)
    other = SchemeChange.parse(CHANGE.replace('into: "0212"', "unmapped: true"))
    with pytest.raises(SchemeChangeError, match="cannot be replaced"):
        record_change(store.database, other, "user:op", NOON)
    commented = SchemeChange.parse("# checked\n" + CHANGE)
    assert not record_change(store.database, commented, "user:op", NOON)
    assert [one.to_version for one in recorded_changes(store.database)] == ["2"]


# --- old models -----------------------------------------------------------------------------------


def _head(*codes: str) -> Head:
    return Head("category", "flat", codes, {code: code for code in codes})


def test_an_old_model_answers_in_the_new_codes(old: Scheme, new: Scheme, change: SchemeChange) -> None:
    before, after = old.heads["category"], new.heads["category"]
    given = [0.2, 0.1, 0.3, 0.2, 0.1, 0.1]  # 0101 0102 0103 0201 0202 0203
    found = translate_distribution(given, before, after, change.crosswalk(before))
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
    old: Scheme, new: Scheme, change: SchemeChange
) -> None:
    before, after = old.heads["category"], new.heads["category"]
    found = translate_distribution(np.eye(6)[5], before, after, change.crosswalk(before))
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


def test_only_new_labels_begin_from_nothing(old: Scheme, new: Scheme, change: SchemeChange) -> None:
    found = heads_to_reinitialise(old, new, change)
    assert found["category"].rows == ((0, 1), (2,), (3,), (3, 4), ())
    assert found["category"].fresh == (4,)
    assert not found["category"].same
    assert found["appeal_type"].same
    assert "petition" not in found
    back = heads_to_reinitialise(new, old)
    assert back["petition"].fresh == (0, 1)
    assert back["category"].rows == ((), (), (1,), (), (), ())


# --- commands -------------------------------------------------------------------------------------


def _call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "old.yaml").write_text(OLD, encoding="utf-8")
    (tmp_path / "new.yaml").write_text(NEW, encoding="utf-8")
    return tmp_path / "old.yaml", tmp_path / "new.yaml"


def test_a_change_is_proposed_checked_and_recorded(
    files: tuple[Path, Path], stores: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    store, reviews = stores
    store.add_many([appeal("A"), appeal("B")])
    _label(reviews, "A", "0102", Scheme.parse(OLD))
    _label(reviews, "B", "0203", Scheme.parse(OLD))
    change = tmp_path / "change.yaml"
    assert _call("schemes", "diff", *files, "--out", change).exit_code == 0
    url = f"sqlite:///{tmp_path / 'jiesu.db'}"
    dry = _call("schemes", "migrate", change, *files)
    assert dry.exit_code == 0, dry.output
    assert recorded_changes(store.database) == []
    done = _call("schemes", "migrate", change, *files, "--database", url, "--crosswalks", tmp_path / "walks")
    assert done.exit_code == 0, done.output
    assert "1 to another code" in done.output and "1 unmapped" in done.output
    assert len(recorded_changes(store.database)) == 1
    walk = (tmp_path / "walks" / "category.csv").read_text(encoding="utf-8").splitlines()
    assert walk[0] == "source,label,codes,note"
    assert "city 1,市容 / 垃圾清运,0110,0101" in walk
    assert "city 1,噪音 / 噪音扰民,0211|0212,0201" in walk


def test_a_wrong_change_exits_2_and_records_nothing(
    files: tuple[Path, Path], stores: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    store, _ = stores
    change = tmp_path / "change.yaml"
    change.write_text(CHANGE.replace('"0110"', '"0111"'), encoding="utf-8")
    result = _call("schemes", "migrate", change, *files, "--database", f"sqlite:///{tmp_path / 'jiesu.db'}")
    assert result.exit_code == 2
    assert "change.yaml:7" in result.output
    assert recorded_changes(store.database) == []
    assert "merge" in _call("schemes", "diff", *files).output
