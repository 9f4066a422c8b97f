"""The dispatch table, its join with the model, accused units, tiers."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.appeals import Place
from data.scheme import Scheme, default_scheme
from serving.accused import SpokenUnits
from serving.dispatch import (
    DispatchTableError,
    Table,
    find_tier,
    find_unit,
    load_table,
    parse_table,
)
from serving.emergency import Emergency, Rescue
from serving.urgency import LEVELS, assess

HEAD = "# version: t1\ncategory,district,street,tier,unit,co_units,co_from,binding,note\n"


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return default_scheme()


@pytest.fixture(scope="module")
def table(scheme: Scheme) -> Table:
    return load_table(scheme)


def test_every_line_of_the_shipped_table_fits_the_default_scheme(scheme: Scheme) -> None:
    file = Path(__file__).parent.parent / "serving" / "tables" / "dispatch.default.csv"
    table = load_table(scheme, file)  # strict: raises at a wrong line
    assert table.version == "default-1" and len(table.rows) > 40 and len(table.sha256) == 64


def test_every_category_has_a_unit_and_a_consistent_tier(scheme: Scheme, table: Table) -> None:
    for code in scheme.heads["category"].codes:
        answer = find_unit(scheme, table, code)
        assert answer.lead in scheme.units and answer.source == "table"
        chosen = scheme.tiers[find_tier(scheme, answer.lead, category=code).tier]
        assert chosen.rank <= scheme.tiers[scheme.units[answer.lead].tier].rank


def test_the_most_specific_row_wins(scheme: Scheme) -> None:
    table = parse_table(
        scheme,
        HEAD
        + "*,,,,rexian,,,,\n08,,,,yingji,,,,\n0801,,,,xiaofang,,,,\n0801,,,小区,wuye,,,,\n"
        + "0801,东湖区,,,jiedao,,,,\n*,东湖区,柳岸街道,,shequ,,,,\n0801,东湖区,,,chengguan,,,,\n",
    )

    def lead(category: str, place: Place = Place(), tier: str = "") -> str:  # noqa: B008 - frozen
        return find_unit(scheme, table, category, place, tier).lead

    assert lead("0101") == "rexian"
    assert lead("0803") == "yingji"
    assert lead("0801") == "xiaofang"
    assert lead("0801", tier="小区") == "wuye"
    assert lead("0801", Place(district="东湖区")) == "chengguan"  # the later line of two alike
    assert lead("0801", Place(district="东湖区", street="柳岸街道")) == "shequ"
    assert lead("unknown") == "rexian"


def test_the_table_and_the_model_are_joined(scheme: Scheme, table: Table) -> None:
    both = find_unit(scheme, table, "0303", unit_probs={"ranqi": 0.7, "zhujian": 0.3})
    assert (both.lead, both.source, both.probability) == ("ranqi", "both", 0.7)
    near = find_unit(scheme, table, "0303", unit_probs={"ranqi": 0.45, "zhujian": 0.55})
    assert (near.lead, near.source, near.probability) == ("ranqi", "table", 0.45)
    sure = find_unit(scheme, table, "0303", unit_probs={"ranqi": 0.1, "zhujian": 0.9})
    assert (sure.lead, sure.source, sure.usual) == ("zhujian", "model", "ranqi")
    assert sure.alternatives == (("ranqi", 0.1),)


def test_a_binding_row_decides(scheme: Scheme) -> None:
    table = parse_table(scheme, HEAD + "0303,,,,ranqi,,,yes,\n")
    answer = find_unit(scheme, table, "0303", unit_probs={"ranqi": 0.01, "zhujian": 0.99})
    assert (answer.lead, answer.source, answer.probability) == ("ranqi", "table", 0.01)


def test_co_units_join_from_their_level_on(scheme: Scheme, table: Table) -> None:
    assert find_unit(scheme, table, "0801", urgency="一般").co_units == ()
    assert find_unit(scheme, table, "0801", urgency="特急").co_units == ("jiedao", "yingji")
    assert find_unit(scheme, table, "0504").co_units == ("jiedao",)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("举报城管局工作人员收钱", {"chengguan"}),
        ("投诉派出所民警态度恶劣", {"gongan"}),
        ("投诉街道办不作为", {"jiedao"}),
        ("举报物业公司偷排污水", {"wuye"}),
        ("村委会主任索要好处", {"shequ"}),
        ("我向城管局举报占道经营", set()),
        ("举报烧烤店占道经营，请城管局处理", set()),
        ("投诉楼上漏水，已经找过住建局", set()),
        ("表扬派出所的民警", set()),
    ],
)
def test_accused_units(scheme: Scheme, text: str, units: set[str]) -> None:
    assert SpokenUnits.of(scheme).accused(text) == units


@pytest.mark.parametrize(
    ("accused", "lead"),
    [("wuye", "jiedao"), ("shequ", "jiedao"), ("jiedao", "quzf"), ("chengguan", "jijian")],
)
def test_an_accused_unit_never_gets_the_order(scheme: Scheme, accused: str, lead: str) -> None:
    table = parse_table(scheme, HEAD + f"*,,,,{accused},{accused};gongan,,yes,\n")
    answer = find_unit(scheme, table, "1603", unit_probs={accused: 0.99, "gongan": 0.01}, accused={accused})
    assert (answer.lead, answer.source, answer.accused) == (lead, "upward", (accused,))
    assert accused not in answer.co_units and accused not in dict(answer.alternatives)


def test_an_accused_discipline_unit_goes_higher_still(scheme: Scheme) -> None:
    table = parse_table(scheme, HEAD + "*,,,,jijian,,,,\n")
    answer = find_unit(scheme, table, "1606", unit_probs={"gongshui": 0.2}, accused={"jijian"})
    assert answer.lead == "gongshui" and scheme.units[answer.lead].tier == "市"


@pytest.mark.parametrize(
    ("unit", "probs", "tier", "leader"),
    [
        ("wuye", {"市": 0.9}, "小区", "楼栋长、物业长"),  # a compound's unit acts on its own tier
        ("shequ", {}, "社区", "网格长、片区长、社区长"),
        ("chengguan", {"市": 0.6, "街道": 0.4}, "街道", "街道办负责人"),  # never above the unit
        ("gongshui", {"市": 0.6, "街道": 0.4}, "市", "市级部门负责人"),
    ],
)
def test_the_tier_fits_the_unit(
    scheme: Scheme, unit: str, probs: dict[str, float], tier: str, leader: str
) -> None:
    found = find_tier(scheme, unit, probs)
    assert (found.tier, found.leader) == (tier, leader)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("category,unit\n", "# version"),
        ("# version: 1\n", "column names"),
        ("# version: 1\ncategory,unit,colour\n", "colour"),
        (HEAD + "0801,,,,nobody,,,,\n", ":3: unit: expected"),
        (HEAD + "0000,,,,wuye,,,,\n", ":3: category: expected"),
        (HEAD + "0801,,,,wuye,,马上,,\n", ":3: urgency: expected"),
        (HEAD + "0801,,,星球,wuye,,,,\n", ":3: tier: expected"),
        (HEAD + "0801,,,,wuye,,,maybe,\n", ":3: binding: expected"),
        (HEAD + "0801,,柳岸街道,,wuye,,,,\n", ":3: district: expected"),
        (HEAD + "\n0801,,,,,,,,\n", ":4: unit: expected"),
    ],
)
def test_wrong_tables_name_the_line(scheme: Scheme, text: str, said: str) -> None:
    with pytest.raises(DispatchTableError, match="dispatch table") as error:
        parse_table(scheme, text)
    assert said in str(error.value)


def test_all_wrong_lines_are_told_at_once(scheme: Scheme) -> None:
    with pytest.raises(DispatchTableError) as error:
        parse_table(scheme, HEAD + "0801,,,,a,,,,\n0802,,,,b,,,,\n")
    assert ":3:" in str(error.value) and ":4:" in str(error.value)


def test_a_spreadsheet_in_gb18030_is_read(scheme: Scheme, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes((HEAD + "燃气安全,东湖区,,,燃气公司,,,是,备注\n").encode("gb18030"))
    table = load_table(scheme, file)
    assert [(row.category, row.unit, row.binding) for row in table.rows] == [("0802", "ranqi", True)]
    with pytest.raises(DispatchTableError, match="cannot read"):
        load_table(scheme, tmp_path / "absent.csv")
    file.write_bytes(b"\xff\xff\xff")
    with pytest.raises(DispatchTableError, match="UTF-8"):
        load_table(scheme, file)


def called(text: str, scheme: Scheme, probs: dict[str, float] | None = None, **model: float) -> Rescue:
    """Who is called out for a text, by its rules and what the model says of its urgency."""
    urgency = assess(text, model or None)
    return Emergency.of(scheme).called_out(urgency, LEVELS[-1], probs or {})


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("公园的湖里有人落水了，快来人", ("xiaofang", "weijian")),
        ("楼下车棚着火了", ("xiaofang",)),
        ("有人持刀在超市里", ("gongan",)),
        ("我爸昏迷了，叫不醒", ("weijian",)),
        ("一辆车把行人撞倒了", ("gongan", "weijian")),
        ("公园的路灯坏了", ()),
        ("路中间的井盖不见了", ()),  # urgent, but nobody's life
    ],
)
def test_rescue_is_called_out_by_the_danger(scheme: Scheme, text: str, units: tuple[str, ...]) -> None:
    assert called(text, scheme).units == units


def test_a_drowning_is_not_led_by_the_parks_unit(scheme: Scheme, table: Table) -> None:
    probs = {"yuanlin": 0.9, "xiaofang": 0.02}
    rescue = called("公园的湖里有人落水了，快来人", scheme)
    answer = find_unit(scheme, table, "0502", unit_probs=probs, urgency="特急", rescue=rescue)
    assert (answer.lead, answer.source) == ("xiaofang", "emergency")
    assert answer.co_units[:2] == ("yuanlin", "weijian")  # the parks' staff knows the place
    assert ("yuanlin", 0.9) in answer.alternatives


def test_who_rescues_anyway_keeps_the_lead(scheme: Scheme, table: Table) -> None:
    gas = called("厨房燃气管一直在漏气", scheme)
    answer = find_unit(scheme, table, "0802", unit_probs={"ranqi": 0.9}, rescue=gas)
    assert (answer.lead, answer.source) == ("ranqi", "both")
    assert "xiaofang" in answer.co_units
    water = find_unit(scheme, table, "0301", unit_probs={"gongshui": 0.9}, rescue=gas)
    assert (water.lead, water.source) == ("xiaofang", "emergency")


def test_an_accused_unit_does_not_lead_a_rescue(scheme: Scheme, table: Table) -> None:
    rescue = called("有人持刀在超市里", scheme)
    answer = find_unit(scheme, table, "0806", unit_probs={"gongan": 0.9}, accused={"gongan"}, rescue=rescue)
    assert answer.lead == "jijian"
    assert "gongan" not in answer.co_units


def test_danger_that_the_model_alone_sees_calls_the_likeliest(scheme: Scheme) -> None:
    rescue = called("那里的事情你们快来看看", scheme, {"gongan": 0.3, "yuanlin": 0.6}, 特急=0.9, 一般=0.1)
    assert rescue.units == ("gongan",)
    assert {"xiaofang", "weijian", "ranqi"} <= rescue.may_lead


UNITS = "name: a\nversion: '1'\nunits: [{{code: U, name: 水务站}}, {{code: V, name: {}}}]\n"


@pytest.mark.parametrize(("name", "units"), [("消防大队", ("V",)), ("园林站", ())])
def test_a_schemes_own_rescue_unit_is_found_by_its_name(name: str, units: tuple[str, ...]) -> None:
    assert called("楼下车棚着火了", Scheme.parse(UNITS.format(name))).units == units


def test_rows_are_found_among_thousands(scheme: Scheme) -> None:
    lines = "".join(f"0801,东湖区,第{n}街道,,jiedao,,,,\n" for n in range(3000))
    table = parse_table(scheme, HEAD + lines + "0801,东湖区,第7街道,,wuye,,,,\n")
    place = Place(district="东湖区", street="第7街道")
    assert find_unit(scheme, table, "0801", place).lead == "wuye"
    assert find_unit(scheme, table, "0801", Place(district="西湖区")).lead == "xiaofang"
