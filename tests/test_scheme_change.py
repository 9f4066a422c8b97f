"""A change of the label scheme: checked, proposed, recorded by command."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from data.__main__ import app
from data.errors import SchemeChangeError
from data.reviews import ReviewStore
from data.scheme import Scheme
from data.scheme_change import SchemeChange
from data.scheme_diff import propose_change
from data.scheme_history import recorded_changes
from data.store import Store
from tests.reviewing import appeal
from tests.scheme_versions import CHANGE, NEW, OLD, label

# --- checking -------------------------------------------------------------------------------------


def test_a_sound_change_leads_over(
    old_scheme: Scheme, new_scheme: Scheme, scheme_change: SchemeChange
) -> None:
    scheme_change.check(old_scheme, new_scheme)
    assert scheme_change.crosswalk(old_scheme.heads["category"]) == {
        "0101": ("0110",),
        "0102": ("0110",),
        "0103": ("0103",),
        "0201": ("0211", "0212"),
        "0202": ("0212",),
        "0203": (),
    }
    assert scheme_change.codes("petition", "是") is None
    assert scheme_change.codes("appeal_type", "咨询") == ("咨询",)


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
def test_what_is_wrong_is_told(
    old_scheme: Scheme, new_scheme: Scheme, was: str, instead: str, expected: str
) -> None:
    assert was in CHANGE
    changed = SchemeChange.parse(CHANGE.replace(was, instead))
    with pytest.raises(SchemeChangeError) as told:
        changed.check(old_scheme, new_scheme)
    assert expected in str(told.value)


def test_a_rename_into_a_new_code_is_as_good_as_a_retirement(old_scheme: Scheme, new_scheme: Scheme) -> None:
    SchemeChange.parse(CHANGE.replace('retire, code: "0202"', 'rename, code: "0202"')).check(
        old_scheme, new_scheme
    )
    wrong = CHANGE.replace('retire, code: "0202", into: "0212"', 'rename, code: "0202", into: "0103"')
    with pytest.raises(SchemeChangeError, match="which the old version has"):
        SchemeChange.parse(wrong).check(old_scheme, new_scheme)


def test_everything_wrong_is_listed_at_once_with_its_line(old_scheme: Scheme, new_scheme: Scheme) -> None:
    broken = CHANGE.replace('"0299"', '"0298"').replace('into: "0110"', 'into: "0111"')
    with pytest.raises(SchemeChangeError) as told:
        SchemeChange.parse(broken, "mine.yaml").check(old_scheme, new_scheme)
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


def test_a_version_that_stays_the_same_is_refused(old_scheme: Scheme) -> None:
    with pytest.raises(SchemeChangeError, match="a new version for a changed scheme"):
        SchemeChange.parse('from: "1"\nto: "1"').check(old_scheme, old_scheme)


# --- proposing ------------------------------------------------------------------------------------


def test_a_change_is_proposed_from_what_the_new_version_says(old_scheme: Scheme, new_scheme: Scheme) -> None:
    text = propose_change(old_scheme, new_scheme)
    SchemeChange.parse(text).check(old_scheme, new_scheme)
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


def test_versions_with_the_same_labels_need_no_step(old_scheme: Scheme) -> None:
    same = Scheme.parse(OLD.replace('version: "1"', 'version: "2"'))
    text = propose_change(old_scheme, same)
    SchemeChange.parse(text).check(old_scheme, same)
    assert text == 'from: "1"\nto: "2"\nheads: {}\n'


# --- commands -------------------------------------------------------------------------------------


def _call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "old.yaml").write_text(OLD, encoding="utf-8")
    (tmp_path / "new.yaml").write_text(NEW, encoding="utf-8")
    return tmp_path / "old.yaml", tmp_path / "new.yaml"


def test_a_change_is_proposed_checked_and_recorded(
    files: tuple[Path, Path], sqlite_stores: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    store, reviews = sqlite_stores
    store.add_many([appeal("A"), appeal("B")])
    label(reviews, "A", "0102", Scheme.parse(OLD))
    label(reviews, "B", "0203", Scheme.parse(OLD))
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
    files: tuple[Path, Path], sqlite_stores: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    store, _ = sqlite_stores
    change = tmp_path / "change.yaml"
    change.write_text(CHANGE.replace('"0110"', '"0111"'), encoding="utf-8")
    result = _call("schemes", "migrate", change, *files, "--database", f"sqlite:///{tmp_path / 'jiesu.db'}")
    assert result.exit_code == 2
    assert "change.yaml:7" in result.output
    assert recorded_changes(store.database) == []
    assert "merge" in _call("schemes", "diff", *files).output
