"""Crosswalks: the longest prefix decides, mistakes are named with their line, the shipped files are sound."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.appeals import Row
from data.crosswalk import CROSSWALKS, Crosswalk, agree, coverage, narrow_by_unit
from data.errors import CrosswalkError, SchemeError
from data.scheme import Scheme, default_scheme

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
HEAD = "source,label,codes,note\n"
ROWS = """\
old,城管,01,whole branch
old,城管 / 噪音,0601|0602|0603,
old,城管 / 噪音 / 工地,0601,an exception
old,其他,,a mix
"""


@pytest.fixture
def crosswalk(tmp_path: Path) -> Crosswalk:
    return written(tmp_path, ROWS)


def written(folder: Path, rows: str, name: str = "old.csv", head: str = "") -> Crosswalk:
    (folder / name).write_text(HEAD + rows, encoding="utf-8")
    return Crosswalk.load(folder / name, default_scheme(), head)


def refused(folder: Path, rows: str) -> list[str]:
    with pytest.raises(CrosswalkError) as caught:
        written(folder, rows)
    return [str(problem).removeprefix(str(folder)) for problem in caught.value.problems]


def test_the_longest_prefix_decides(crosswalk: Crosswalk) -> None:
    assert crosswalk.head == "category"
    assert crosswalk.codes("城管 / 噪音 / 工地 / 夜间") == {"0601"}
    assert crosswalk.codes("城管 / 噪音 / 商铺") == {"0601", "0602", "0603"}
    assert crosswalk.codes(" 城管 /  摊贩") == default_scheme().leaves("category", "01")
    assert crosswalk.codes("城管部") == frozenset()


def test_unmapped_and_unknown_differ(crosswalk: Crosswalk) -> None:
    assert crosswalk.codes("其他") == crosswalk.codes("没有") == frozenset()
    assert crosswalk.knows("其他 / 其他")
    assert not crosswalk.knows("没有")


def test_coverage_counts_rows(crosswalk: Crosswalk) -> None:
    found = coverage(
        crosswalk, ["城管 / 噪音 / 工地"] * 3 + ["城管 / 噪音"] * 2 + ["城管", "其他", "没有", "没有"]
    )
    assert (found.rows, found.covered, found.sure, found.few, found.unmapped) == (9, 6, 3, 5, 1)
    assert found.unknown == {"没有": 2}
    assert found.share == pytest.approx(6 / 9)
    assert found.sure_share == pytest.approx(1 / 3)
    assert str(found) == (
        "old: 9 rows, 6 covered (66.7%), 3 by one leaf (33.3%), 5 by at most 3, "
        "1 unmapped on purpose, 2 unknown"
    )
    assert coverage(crosswalk, []).share == 0.0


def test_the_head_is_told_from_the_codes(tmp_path: Path) -> None:
    assert written(tmp_path, "a,1,较急|紧急|特急,\n").head == "urgency"
    assert written(tmp_path, "a,管网部,gongshui,\n").head == "unit"
    with pytest.raises(CrosswalkError, match="head is not clear"):
        written(tmp_path, "a,其他,,\n")
    assert written(tmp_path, "a,其他,,\n", head="tier").head == "tier"
    with pytest.raises(CrosswalkError):
        written(tmp_path, "a,乙,0101,\n", head="unit")


def test_every_wrong_line_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path, "a,甲,0101|0188,\nb,乙,0101,\nc,丙,9999,\n") == [
        "/old.csv:2 codes: expected codes of head 'category', got '0188'",
        "/old.csv:4 codes: expected codes of head 'category', got '9999'",
    ]
    assert refused(tmp_path, "a,甲,0101,\nb,,0101,\nc,甲,0102,\nd,丁\n") == [
        "/old.csv:3 label: expected a label path such as `甲 / 乙`, got ''",
        "/old.csv:5: expected 4 columns, got 2",
        "/old.csv:4 label: expected each label once, got '甲' of line 2 again",
    ]


def test_files_that_are_no_crosswalk(tmp_path: Path) -> None:
    with pytest.raises(CrosswalkError, match=re.escape("none.csv")):
        Crosswalk.load(tmp_path / "none.csv", default_scheme())
    for content in (b"", b"label,codes\n", "source,label,codes,note\na,甲,0101,\n".encode("utf-16"), b'"a\n'):
        (tmp_path / "bad.csv").write_bytes(content)
        with pytest.raises(SchemeError, match=re.escape("bad.csv")):
            Crosswalk.load(tmp_path / "bad.csv", default_scheme())


def test_replaced_codes_are_followed_and_retired_ones_refused(tmp_path: Path) -> None:
    labels = (
        "- {code: a, active: false, replaced_by: b}\n- {code: b}\n- {code: c}\n- {code: d, active: false}\n"
    )
    scheme = Scheme.parse(f"name: x\nversion: y\nunits:\n{labels}")
    file = tmp_path / "u.csv"
    file.write_text(HEAD + "s,甲,a,\n", encoding="utf-8")
    assert Crosswalk.load(file, scheme).codes("甲") == {"b"}
    file.write_text(HEAD + "s,甲,d,\n", encoding="utf-8")
    with pytest.raises(CrosswalkError, match="retired without a replacement"):
        Crosswalk.load(file, scheme)


def test_joining_two_trees(crosswalk: Crosswalk, tmp_path: Path) -> None:
    other = written(tmp_path, "new,部件 / 井盖,0202,\n", "new.csv")
    joined = Crosswalk.join([crosswalk, other])
    assert joined.codes("部件 / 井盖") == {"0202"}
    assert joined.codes("城管 / 噪音 / 工地") == {"0601"}
    with pytest.raises(CrosswalkError, match="other codes"):
        Crosswalk.join([crosswalk, written(tmp_path, "new,其他,9904,\n", "third.csv")])
    with pytest.raises(CrosswalkError, match="one and the same head"):
        Crosswalk.join([crosswalk, written(tmp_path, "new,部门,gongan,\n", "units.csv")])
    with pytest.raises(CrosswalkError):
        Crosswalk.join([])


def test_two_partial_labels_agree_or_leave_both() -> None:
    traffic, police, nothing = frozenset({"0701", "0702"}), frozenset({"0702", "0806"}), frozenset[str]()
    assert agree(traffic, police) == {"0702"}
    assert agree(traffic, nothing) == agree(nothing, traffic) == traffic
    assert agree(traffic, frozenset({"0806"})) == {"0701", "0702", "0806"}


def test_a_vague_category_is_narrowed_by_the_unit() -> None:
    domains = Crosswalk.load(CROSSWALKS / "unit_categories.csv", default_scheme())

    def narrowed(category: set[str], *units: str) -> set[str]:
        labels = {"category": frozenset(category), "unit": frozenset(units)}
        given = {head: codes for head, codes in labels.items() if codes}
        row = Row(id="1", text="路口红灯不亮", labels=given)
        return set(narrow_by_unit(row, domains).labels.get("category", ()))

    assert narrowed({"0702", "0302"}, "jiaojing") == {"0702"}
    assert narrowed(set(), "gongjiao") == domains.codes("gongjiao")
    assert narrowed({"0702", "0302"}, "jiaojing", "gongdian") == {"0702", "0302"}
    assert narrowed({"0702"}, "jiedao") == {"0702"}
    assert narrowed(set()) == set()


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("petition_517", "category"),
        ("haikou_a", "category"),
        ("haikou_b", "category"),
        ("unit_categories", "category"),
        ("teddy_category", "category"),
        ("teddy_petition", "petition"),
        ("haikou_units", "unit"),
        ("jinan_units", "unit"),
        ("haikou_types", "appeal_type"),
        ("haikou_tiers", "tier"),
        ("haikou_urgency", "urgency"),
        ("jinan_urgency", "urgency"),
    ],
)
def test_shipped_crosswalks_are_sound(name: str, head: str) -> None:
    loaded = Crosswalk.load(CROSSWALKS / f"{name}.csv", default_scheme())
    assert loaded.head == head
    assert any(loaded.entries.values())


def test_no_shipped_crosswalk_is_untested() -> None:
    known = test_shipped_crosswalks_are_sound.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {file.stem for file in CROSSWALKS.glob("*.csv")} == {name for name, _ in known}


def test_every_unit_has_its_categories_and_each_category_a_unit_that_deals_with_it() -> None:
    scheme = default_scheme()
    domains = Crosswalk.load(CROSSWALKS / "unit_categories.csv", scheme)
    assert {path[0] for path in domains.entries} == set(scheme.units)
    for code in scheme.heads["category"].codes:
        lead = scheme.categories[code].unit
        admitted = domains.codes(lead)
        assert not admitted or code in admitted, (code, lead)


def test_the_petition_map_is_complete() -> None:
    petition = Crosswalk.load(CROSSWALKS / "petition_517.csv", default_scheme())
    assert len(petition.entries) == 517
    assert {len(path) for path in petition.entries} == {3}
    assert petition.codes("劳动和社会保障 / 工资福利 / 工资发放") == {"1001"}


def rows(name: str) -> Iterator[dict[str, str]]:
    file = SHARED / name
    if not file.exists():
        pytest.skip(f"{name} is not beside the project")
    with gzip.open(file, "rt", encoding="utf-8-sig", newline="") as stream:
        yield from csv.DictReader(stream)


def test_the_maps_cover_the_orders() -> None:
    """Rows without silent calls; the trees A and B have no label in common, so one map serves both."""
    orders = [row for row in rows("haikou_12345.csv.gz") if row["appeal_type"] != "其他类"]
    scheme = default_scheme()
    trees = Crosswalk.join([Crosswalk.load(CROSSWALKS / f"haikou_{tree}.csv", scheme) for tree in "ab"])
    paths = [" / ".join(row[f"cat{level}"] for level in range(1, 5)) for row in orders]
    found = coverage(trees, paths)
    assert not found.unknown
    assert found.share > 0.9
    units = Crosswalk.load(CROSSWALKS / "haikou_units.csv", scheme)
    by_unit = coverage(units, [row["unit"] for row in orders if row["unit"]])
    assert not by_unit.unknown
    assert by_unit.sure_share > 0.95


@pytest.mark.parametrize(
    ("file", "column", "crosswalk"),
    [
        ("haikou_12345.csv.gz", "appeal_type", "haikou_types"),
        ("haikou_12345.csv.gz", "unit_tier", "haikou_tiers"),
        ("haikou_12345.csv.gz", "is_urgent", "haikou_urgency"),
        ("jinan_water.csv.gz", "is_urgent", "jinan_urgency"),
        ("jinan_water.csv.gz", "unit", "jinan_units"),
        ("teddy2020.csv.gz", "label", "teddy_petition"),
        ("teddy2020.csv.gz", "label", "teddy_category"),
    ],
)
def test_no_label_of_the_other_files_is_unknown(file: str, column: str, crosswalk: str) -> None:
    loaded = Crosswalk.load(CROSSWALKS / f"{crosswalk}.csv", default_scheme())
    assert not coverage(loaded, [row[column] for row in rows(file) if row[column]]).unknown
