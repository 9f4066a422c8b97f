"""The shipped label scheme is complete, a city's own is read, every mistake is named with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data.appeals import Row
from data.errors import DataError, SchemeError
from data.proposal import propose
from data.scheme import DEFAULT_SCHEME, Clock, Scheme, default_scheme

SMALL = """\
name: kleinstadt
version: 1
categories:
- code: 01
  name: 环境
  tier: 街道
  unit: huanwei
  children:
  - {code: 0101, name: 垃圾, keywords: [垃圾桶]}
  - {code: 0102, name: 摊贩, unit: chengguan}
  - {code: 0103, name: 集市, active: false, replaced_by: 0102}
- {code: 02, name: 噪声, tier: 社区}
tiers: [{code: 社区, leader: [网格长, 社区长]}, 街道]
units:
- {code: chengguan, name: 城管局, tier: 街道, aliases: [城管]}
- {code: huanwei, name: 环卫中心}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SchemeError) as caught:
        Scheme.parse(text, "x.yaml")
    assert caught.value.problems
    return [str(problem) for problem in caught.value.problems]


def changed(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new)


def test_default_scheme_has_the_heads_and_sizes_of_the_default_tree() -> None:
    heads = default_scheme().heads
    assert {name: len(head.codes) for name, head in heads.items()} == {
        "category": 110,
        "appeal_type": 6,
        "urgency": 4,
        "tier": 6,
        "unit": 52,
        "petition": 7,
    }
    assert [heads[name].kind for name in heads] == ["tree", "flat", "ordinal", "ordinal", "flat", "flat"]
    assert sum(category.level == 1 for category in default_scheme().categories.values()) == 17


def test_every_default_leaf_is_useful_on_the_first_day() -> None:
    scheme = default_scheme()
    for code in scheme.heads["category"].codes:
        leaf = scheme.categories[code]
        assert 6 <= len(leaf.keywords) <= 15, code
        assert len(leaf.definition) >= 8, code
        assert leaf.unit in scheme.units, code
        assert leaf.tier in scheme.tiers or leaf.parent == "99", code
        assert scheme.path(code) == (scheme.categories[leaf.parent].name, leaf.name)
    assert all(unit.tier in scheme.tiers for unit in scheme.units.values())


def test_default_levels_and_clocks() -> None:
    scheme = default_scheme()
    assert list(scheme.urgency_levels) == ["一般", "较急", "紧急", "特急"]
    assert [level.rank for level in scheme.urgency_levels.values()] == [0, 1, 2, 3]
    assert scheme.urgency_levels["特急"].clocks["answer"] == Clock(5, "minutes")
    assert scheme.urgency_levels["紧急"].clocks["result"] == Clock(24 * 60, "minutes")
    assert scheme.urgency_levels["一般"].clocks["at_most"] == Clock(15, "working_days")
    assert scheme.tiers["小区"].leader == "楼栋长、物业长"
    assert list(scheme.appeal_types) == ["咨询", "求助", "投诉", "举报", "建议", "表扬"]


def test_a_report_of_misconduct_goes_to_the_discipline_body() -> None:
    assert default_scheme().categories["1606"].unit == "jijian"


def test_a_small_scheme_reads_codes_as_written_and_inherits_tier_and_unit() -> None:
    scheme = Scheme.parse(SMALL)
    assert list(scheme.heads) == ["category", "tier", "unit"]
    assert scheme.heads["category"].codes == ("0101", "0102", "02")
    assert (scheme.categories["0101"].tier, scheme.categories["0101"].unit) == ("街道", "huanwei")
    assert scheme.categories["0102"].unit == "chengguan"
    assert scheme.categories["02"].unit == ""
    assert scheme.path_codes("0101") == ("01", "0101")
    assert scheme.tiers["街道"].leaders == ()
    assert not scheme.appeal_types


def test_labels_are_found_by_code_name_alias_and_path() -> None:
    scheme = Scheme.parse(SMALL)
    assert scheme.leaves("category", "01") == {"0101", "0102"}
    assert scheme.leaves("category", "环境 / 垃圾") == {"0101"}
    assert scheme.leaves("category", " 摊贩 ") == {"0102"}
    assert scheme.leaves("unit", "城管") == {"chengguan"}
    with pytest.raises(SchemeError, match="'公安'"):
        scheme.leaves("unit", "公安")
    with pytest.raises(SchemeError, match="heads category, tier, unit"):
        scheme.leaves("petition", "01")
    with pytest.raises(DataError):
        scheme.path("0199")


def test_replaced_labels_are_followed_and_retired_ones_give_nothing() -> None:
    scheme = Scheme.parse(SMALL)
    assert scheme.leaves("category", "0103") == {"0102"}
    retired = Scheme.parse(changed("active: false, replaced_by: 0102", "active: false"))
    assert retired.leaves("category", "0103") == frozenset()
    upwards = Scheme.parse(changed("replaced_by: 0102", "replaced_by: 01"))
    assert upwards.leaves("category", "0103") == {"0101", "0102"}


def test_a_retired_branch_takes_its_leaves_along() -> None:
    labels = "[甲, 乙, {name: 丙, active: false, children: [丁]}]"
    scheme = Scheme.parse(SMALL + f"extra_heads:\n- name: old\n  labels: {labels}\n")
    assert scheme.heads["old"].codes == ("甲", "乙")
    assert scheme.leaves("old", "丙 / 丁") == frozenset()


def test_a_city_with_only_units_and_an_own_tree() -> None:
    text = "name: a\nversion: b\nunits: [公安局, 城管局]\n"
    text += "extra_heads:\n- name: tree_a\n  title: 甲树\n  labels:\n"
    text += "  - {name: 部件, children: [井盖, 其他]}\n"
    text += "  - {name: 事件, children: [{name: 噪音, children: [工地, 其他]}, 其他]}\n"
    scheme = Scheme.parse(text)
    assert scheme.heads["tree_a"].kind == "tree"
    assert scheme.heads["tree_a"].title == "甲树"
    assert scheme.heads["tree_a"].codes == (
        "部件 / 井盖",
        "部件 / 其他",
        "事件 / 噪音 / 工地",
        "事件 / 噪音 / 其他",
        "事件 / 其他",
    )
    assert scheme.heads["tree_a"].names["事件 / 其他"] == "其他"
    assert scheme.path("事件 / 噪音 / 工地", "tree_a") == ("事件", "噪音", "工地")
    assert scheme.leaves("tree_a", "噪音") == {"事件 / 噪音 / 工地", "事件 / 噪音 / 其他"}
    with pytest.raises(SchemeError, match="several labels"):
        scheme.leaves("tree_a", "其他")


@pytest.mark.parametrize(
    "text", [SMALL, DEFAULT_SCHEME.read_text(encoding="utf-8")], ids=["small", "default"]
)
def test_dump_and_load_give_the_same_scheme(text: str, tmp_path: Path) -> None:
    scheme = Scheme.parse(text)
    scheme.dump(tmp_path / "scheme.yaml")
    again = Scheme.load(tmp_path / "scheme.yaml")
    assert again == scheme
    assert again.sha256 == scheme.sha256


def test_the_hash_follows_the_content_not_the_form() -> None:
    reordered = SMALL.replace("name: kleinstadt\nversion: 1\n", 'version: "1"\nname: kleinstadt  # hier\n')
    assert Scheme.parse(reordered).sha256 == Scheme.parse(SMALL).sha256
    assert Scheme.parse(changed("[垃圾桶]", "[垃圾箱]")).sha256 != Scheme.parse(SMALL).sha256


def test_all_mistakes_are_listed_with_line_and_place() -> None:
    text = changed("unit: chengguan}", "unit: cg, keyword: [摊]}").replace("tier: 社区}", "tier: 村}")
    text = text.replace("keyword: [摊]", "definition: 摊")
    found = problems(text.replace("code: 0101", "code: 0102"))
    assert "x.yaml:10 categories[0].children[1].unit: expected a code listed under units, got 'cg'" in found
    assert "x.yaml:12 categories[1].tier: expected a code listed under tiers, got '村'" in found
    assert any(line.startswith("x.yaml:10") and "'0102' of line 9 again" in line for line in found)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("keywords: [垃圾桶]", "keyword: [垃圾桶]", r"^x.yaml:9 .*keywords, .*unknown key 'keyword'$"),
        ("version: 1\n", "", r"expected key 'version', got no such key$"),
        ("name: 噪声, ", "name: 噪声, active: maybe, ", r"^x.yaml:12 categories\[1\]\.active: .*'maybe'$"),
        ("{code: 02, name: 噪声, tier: 社区}", "{tier: 社区}", r"^x.yaml:12 .*a label with a code or a name"),
        ("replaced_by: 0102", "replaced_by: 0109", r"^x.yaml:11 .*a code of the same head, got '0109'$"),
        ("active: false, replaced_by", "replaced_by", r"active: false where replaced_by is given"),
        ("active: false, replaced_by: 0102", "active: false, replaced_by: 0103", r"0103 → 0103$"),
        ("name: 摊贩", "name: 垃圾", r"names that differ side by side, got '垃圾' again$"),
        ("[垃圾桶]", "[桶, 桶]", r"keywords\[1\]: expected each keyword once in a label, got '桶' again$"),
        ("aliases: [城管]", "aliases: [环卫中心]", r"^x.yaml:15 .*also of huanwei$"),
        ("code: 02", "code: 02|3", r"a code without '\|' or a line break"),
        ("name: 噪声", "name: 噪声 / 夜间", r"a name without ' / '"),
        (
            "unit: huanwei",
            "unit: huanwei\n  unit: chengguan",
            r"^x.yaml:7 .*key 'unit' once, got again in line 8$",
        ),
        ("[{code: 社区", "[&x {code: 社区", ""),
        ("街道]", "*y ]", r"^x.yaml:13"),
        ("tiers: [", "tiers: [[", r"^x.yaml:1\d: expected valid YAML"),
        (
            "name: 城管局, tier: 街道",
            "name: 城管局, tier: [街道]",
            r"^x.yaml:15 units\[0\]\.tier: .*\['街道'\]$",
        ),
        (
            "{code: huanwei, name: 环卫中心}",
            "{code: huanwei, name: x, active: false}",
            r"at least 2 active labels in unit",
        ),
    ],
)
def test_each_mistake_is_explained(old: str, new: str, expected: str) -> None:
    text = changed(old, new)
    if not expected:
        Scheme.parse(text)  # an anchor alone does no harm
        return
    found = problems(text)
    assert any(re.search(expected, line) for line in found), found


def test_circles_of_replacements_are_refused() -> None:
    text = changed("name: 噪声,", "name: 噪声, active: false, replaced_by: 0103,")
    found = problems(text.replace("replaced_by: 0102", "replaced_by: 02"))
    assert [line for line in found if "0103 → 02 → 0103" in line]


def test_an_alias_of_yaml_is_refused() -> None:
    text = "name: a\nversion: b\nappeal_types: &t [咨询, 投诉]\nextra_heads:\n- {name: types, labels: *t}\n"
    assert problems(text)[0].startswith("x.yaml:5 extra_heads[0].labels: expected the entry written out")


@pytest.mark.parametrize(
    ("clocks", "ok"),
    [
        ("{answer: 5 分钟}", True),
        ("{result: 3个工作日, answer: 2 h}", True),
        ("{answer: 很快}", False),
        ("{reply: 1 h}", False),
    ],
)
def test_clocks(clocks: str, ok: bool) -> None:
    text = f"name: a\nversion: b\nurgency_levels: [{{code: 一般, clocks: {clocks}}}, 紧急]\n"
    if ok:
        assert Scheme.parse(text).urgency_levels["一般"].clocks["answer"].unit == "minutes"
    else:
        assert problems(text)[0].startswith("x.yaml:3 urgency_levels[0].clocks")


def test_names_of_extra_heads() -> None:
    head = "\n- {name: %s, labels: [甲, 乙]}"
    text = "name: a\nversion: b\nextra_heads:" + head % "unit" + head % "Tree" + head % "t"
    assert any("lowercase" in line or "pattern" in line for line in problems(text))
    text = "name: a\nversion: b\nextra_heads:" + head % "unit" + head % "t" + head % "t"
    assert [line[:8] for line in problems(text)] == ["x.yaml:4", "x.yaml:6"]
    labels = "[甲, {name: 乙, children: [丙]}]"
    flat = f"name: a\nversion: b\nextra_heads: [{{name: t, kind: flat, labels: {labels}}}]\n"
    assert "kind tree" in problems(flat)[0]


@pytest.mark.parametrize("text", ["", "[]", "- a", "42", "name: a\nversion: b\n", "\x00", "a: &a [*a]"])
def test_rubbish_is_refused_without_a_crash(text: str) -> None:
    assert problems(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SchemeError, match=r"missing\.yaml"):
        Scheme.load(tmp_path / "missing.yaml")
    (tmp_path / "gb.yaml").write_bytes(SMALL.encode("gb18030"))
    with pytest.raises(SchemeError, match="save it as UTF-8"):
        Scheme.load(tmp_path / "gb.yaml")


def test_the_example_of_the_readme_is_valid_and_its_error_message_true() -> None:
    readme = (DEFAULT_SCHEME.parent / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert block
    scheme = Scheme.parse(block[1])
    assert scheme.leaves("category", "马路市场") == {"0102"}
    assert scheme.heads["source_category"].codes[0] == "部件 / 井盖"
    wrong = block[1].replace("keywords: [摆摊, 小贩]", "keyword: [摆摊, 小贩]")
    shown = re.search(r"keyword: (expected .*?'keyword')", readme)
    assert shown and problems(wrong)[0].endswith(shown[1])


def test_a_scheme_is_proposed_from_the_labels_of_a_file() -> None:
    rows = [
        Row("1", "停水", labels={"unit": frozenset(["供水公司"]), "matter": frozenset(["公用 / 供水"])}),
        Row("2", "停水", labels={"unit": frozenset(["供水公司"]), "matter": frozenset(["公用 / 供电"])}),
        Row("3", "噪声", labels={"unit": frozenset(["环保局"]), "matter": frozenset(["环境"])}),
    ]
    scheme = Scheme.parse(propose(rows, "city", "1"))
    assert [unit.name for unit in scheme.units.values()] == ["供水公司", "环保局"]
    assert scheme.heads["matter"].kind == "tree"
    assert scheme.leaves("matter", "公用") == {"公用 / 供水", "公用 / 供电"}
    often = [*rows, *rows, Row("6", "停电", labels={"unit": frozenset(["供电公司"])})]
    assert set(Scheme.parse(propose(often, "city", "1", min_rows=2)).heads["unit"].codes) == {
        "供水公司",
        "环保局",
    }
