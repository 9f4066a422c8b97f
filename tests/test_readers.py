"""Reading any city's export: formats, encodings, mappings, and every bad row with its line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from data.errors import BadRows, MappingError, ReadError
from data.mapping import FileMapping, load_mapping, shipped_mappings
from data.readers import iso_date, read, read_all
from data.scheme import default_scheme

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

Write = Callable[[str, str], Path]

CSV = "id,text,date,urgency,petition\n1,路灯坏了没人修,2024-5-1,一般,城乡建设\n2,小区断水四天,,紧急,\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode("utf-8"))
        return path

    return write_file


def refused(path: Path, **options: object) -> list[tuple[int, str]]:
    with pytest.raises(BadRows) as caught:
        read(path, **options)  # type: ignore[arg-type]
    return [
        (problem.line, f"{problem.path} {problem.expected} {problem.came}")
        for problem in caught.value.problems
    ]


# -- formats and encodings -------------------------------------------------------------------------


def test_csv_in_our_columns(write: Write) -> None:
    first, second = read(write("a.csv", CSV), scheme=default_scheme())
    assert (first.id, first.text, first.date, first.line) == ("1", "路灯坏了没人修", "2024-05-01", 2)
    assert first.labels == {"urgency": {"一般"}, "petition": {"城乡建设"}}
    assert second.labels == {"urgency": {"紧急"}}  # an empty cell is no label
    assert second.source == "a"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_are_detected(tmp_path: Path, encoding: str, packed: bool) -> None:
    raw = CSV.encode(encoding)
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert [row.text for row in read(path)] == ["路灯坏了没人修", "小区断水四天"]


@pytest.mark.parametrize("separator", ["\t", ";"])
def test_other_separators(write: Write, separator: str) -> None:
    assert read(write("a.csv", CSV.replace(",", separator)))[1].text == "小区断水四天"


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends(write: Write, line_end: str) -> None:
    assert [row.line for row in read(write("a.csv", CSV.replace("\n", line_end)))] == [2, 3]


def test_jsonl_parquet_and_excel_read_alike(tmp_path: Path) -> None:
    records = [
        {"id": 7, "text": "路灯坏了没人修", "date": "2024-05-01", "urgency": ["一般", "较急"], "note": None},
        {"id": 8, "text": "小区断水四天", "date": "2024-05-02", "urgency": ["紧急"], "note": 1.5},
    ]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, records)), encoding="utf-8")
    frame = pandas.DataFrame(records)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.assign(urgency=["一般|较急", "紧急"], date=pandas.to_datetime(frame["date"]), note="").to_excel(
        tmp_path / "a.xlsx", index=False
    )
    for name, lines in (("a.jsonl", [1, 3]), ("a.parquet", [1, 2]), ("a.xlsx", [2, 3])):
        rows = read(tmp_path / name, scheme=default_scheme())
        assert [row.id for row in rows] == ["7", "8"], name
        assert [row.line for row in rows] == lines
        assert rows[0].date.startswith("2024-05-01")
        assert rows[0].labels == {"urgency": {"一般", "较急"}}, name


def test_lines_are_physical_lines(write: Write) -> None:
    path = write("a.csv", 'id,text\n1,"第一行\n第二行\n第三行"\n\n2,路灯坏了\n2,又坏了\n')
    assert [row.line for row in read_all(path).rows] == [2, 6]
    assert refused(path) == [(7, "id an id that is used once '2' of line 6 again")]


def test_rows_without_an_id_get_one(write: Write) -> None:
    rows = read(write("orders.csv", "text\n路灯坏了\n井盖丢了\n"))
    assert [row.id for row in rows] == ["orders:2", "orders:3"]


# -- what is refused -------------------------------------------------------------------------------


def test_all_bad_rows_at_once_with_their_lines(write: Write) -> None:
    long = "长" * 100_001
    path = write(
        "a.csv",
        "id,text,date,urgency\n"
        "1,路灯坏了,2024-05-01,一般\n"
        "2,,2024-05-01,一般\n"
        "3,\u200b\u3000<br/>,2024-05-01,一般\n"
        "4,少了一列,2024-05-01\n"
        "5,多了一列,2024-05-01,一般,多\n"
        "6,没有这个等级,2024-05-01,火急\n"
        "7,没有这一天,2024-02-31,一般\n"
        f"8,{long},2024-05-01,一般\n"
        "1,编号重复,2024-05-01,一般\n"
        "9,两处都错,昨天,火急\n",
    )
    found = refused(path, scheme=default_scheme())
    assert [line for line, _ in found] == [3, 4, 5, 6, 7, 8, 9, 10, 11, 11]
    for part in (
        "nothing",
        "invisible",
        "columns",
        "columns",
        "火急",
        "2024-02-31",
        "100,001",
        "line 2 again",
    ):
        assert any(part in text for _, text in found), part
    reading = read_all(path, scheme=default_scheme())
    assert [row.line for row in reading.rows] == [2]
    assert reading.total == 10


def test_undecodable_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(CSV.encode() + b"3,\xff\xfe\xfa,,\xe4,\n" + "4,井盖丢了,,,\n".encode())
    assert [line for line, _ in refused(path)] == [4]
    assert [row.id for row in read_all(path).rows] == ["1", "2", "4"]


def test_an_open_quote_is_named_by_its_line(write: Write) -> None:
    path = write("a.csv", 'id,text\n1,路灯坏了\n2,"井盖丢了\n3,停水了\n')
    assert refused(path)[0][0] == 3
    assert "closing quote" in refused(path)[0][1]


def test_a_quote_in_a_quoted_cell(write: Write) -> None:
    path = write("a.csv", 'id,text\n1,"他说"好"的"\n2,停水了\n')
    assert [line for line, _ in refused(path)] == [2]
    assert [row.id for row in read_all(path).rows] == ["2"]


def test_bad_json_lines(write: Write) -> None:
    path = write("a.jsonl", '{"text": "停水了"}\n{"text": \n[1]\n"x"\n{"id": "5"}\n{"text": "\\ud800"}\n')
    assert [line for line, _ in refused(path)] == [2, 3, 4, 5]  # a lone surrogate becomes a question mark
    deep = write("b.jsonl", '{"text": "停水了"}\n' + "[" * 200_000 + "\n")
    assert [line for line, _ in refused(deep)] == [2]


def test_a_very_long_cell_is_a_bad_row_not_a_crash(write: Write) -> None:
    assert [line for line, _ in refused(write("a.csv", "text\n" + "水" * 300_000 + "\n停水了\n"))] == [2]


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.doc", "x", "expected a file that ends in"),
        ("a.csv", "", "header line"),
        ("a.csv", "正文,编号\n停水了,1\n", "'正文', '编号'"),
        ("a.csv", "text,text\n停水了,1\n", "once"),
        ("a.jsonl", "\n", "one JSON object a line"),
        ("a.parquet", "no", "Parquet"),
        ("a.xlsx", "no", "Excel"),
        ("a.csv.gz", "no", "gzip"),
    ],
)
def test_files_that_cannot_be_read(write: Write, name: str, content: str, part: str) -> None:
    with pytest.raises(ReadError, match="expected") as caught:
        read(write(name, content))
    assert part in str(caught.value)


def test_binary_rubbish_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(bytes(range(256)) * 40)
    for one in (path, tmp_path / "none.csv", tmp_path):
        with pytest.raises(ReadError):
            read(one)


# -- mappings --------------------------------------------------------------------------------------

MAPPING = """
source: town
id: no
text:
  columns: [main, more]
  fallback: cut
  fallback_when: {full: "0"}
  fallback_without_spaces: true
date: day
group: g
drop_when:
  - {kind: [静默, 测试]}
  - {full: "2", kind: 咨询}
placeholders: {"<TEL>": "[手机号]"}
boilerplate: [智慧小镇]
heads:
  category:
    - {columns: [l1, l2], when: {tree: A}, crosswalk: mine.csv}
    - {columns: [l1, l2], when: {tree: B}, crosswalk: mine, unknown: skip}
  urgency:
    columns: fast
    values: {"0": 一般, "1": [较急, 紧急], "9": []}
"""
CROSSWALK = "source,label,codes,note\ntown,甲,01,\ntown,甲 / 乙,0101,\ntown,丙,,not ours\n"
HEADER = "no,main,more,cut,full,day,g,kind,tree,l1,l2,fast\n"


@pytest.fixture
def town(write: Write) -> Path:
    write("mine.csv", CROSSWALK)
    return write("town.yaml", MAPPING)


def test_a_mapping_translates_columns_and_labels(write: Write, town: Path) -> None:
    path = write(
        "a.csv",
        HEADER
        + "1,垃圾没清,已三天<TEL>智慧小镇,,1,2024/5/1,3,投诉,A,甲,乙,1\n"
        + "2,,,垃圾 没 清,0,,,投诉,A,甲,丁,0\n"
        + "3,喂,,,1,,,静默,A,甲,乙,1\n"
        + "4,咨询,,,2,,,咨询,A,甲,乙,1\n"
        + "5,垃圾,,,2,,,投诉,A,丙,,9\n"
        + "6,垃圾,,,1,,,投诉,B,没有,,\n",
    )
    reading = read_all(path, town, default_scheme())
    assert reading.problems == ()
    assert reading.dropped == 2
    one, two, five, six = reading.rows
    assert one.text == "垃圾没清。已三天[手机号]"
    assert (one.date, one.group, one.source) == ("2024-05-01", "town:3", "town")
    assert one.labels == {"category": {"0101"}, "urgency": {"较急", "紧急"}}
    assert two.text == "垃圾没清"
    assert two.labels["category"] == default_scheme().leaves("category", "01")  # a branch is a partial label
    assert five.labels == {}
    assert six.labels == {}


def test_a_vague_category_is_narrowed_by_the_unit(write: Write) -> None:
    write("domains.csv", "source,label,codes,note\nours,jiaojing,0701|0702,\n")
    mapping = write(
        "m.yaml",
        "text: text\nnarrow_category: domains\nheads: {category: {columns: c}, unit: {columns: u}}\n",
    )
    lines = ["text,c,u", "路口红灯不亮,07,jiaojing", "路灯不亮,,jiaojing", "垃圾没清,0101,huanwei"]
    rows = read(write("a.csv", "\n".join(lines)), mapping, default_scheme())
    assert [set(row.labels["category"]) for row in rows] == [{"0701", "0702"}, {"0701", "0702"}, {"0101"}]


def test_labels_that_nobody_knows_are_bad_rows(write: Write, town: Path) -> None:
    path = write("a.csv", HEADER + "1,垃圾,,,1,,,投诉,A,没有,,\n2,垃圾,,,1,,,投诉,A,甲,,7\n")
    found = refused(path, mapping=town, scheme=default_scheme())
    assert [line for line, _ in found] == [2, 3]
    assert "mine.csv" in found[0][1]
    assert "the mapping" in found[1][1]


def test_a_mapping_lists_every_column_it_speaks_of() -> None:
    rows = FileMapping.model_validate(
        {"text": "text", "heads": {"kind": {"columns": ["a", "b", "c"], "depth": 2}}}
    )
    assert rows.columns() == ("text", "a", "b", "c")


@pytest.mark.parametrize(("with_scheme", "wanted"), [(False, "市容环卫 / 垃圾清运"), (True, "0101")])
def test_paths_are_shortened_to_what_the_scheme_knows(write: Write, with_scheme: bool, wanted: str) -> None:
    rule = {"columns": ["a", "b", "c"], "shorten": True, "depth": 2}
    mapping = FileMapping.model_validate({"text": "text", "heads": {"category": rule}})
    path = write("a.csv", "text,a,b,c\n垃圾没清,市容环卫,垃圾清运,更细\n")
    (row,) = read(path, mapping, default_scheme() if with_scheme else None)
    assert row.labels["category"] == {wanted}


BAD_MAPPINGS = [
    ("text: a\nhead: {}\n", "mapping files know"),
    ("id: a\n", "text"),
    ("text: a\nheads: {urgency: {columns: u, crosswalk: none}}\n", "one of"),
    ("text: a\nnarrow_category: none\n", "one of"),
    ("text: a\nheads: {urgency: {columns: u, crosswalk: haikou_urgency, values: {a: b}}}\n", "either"),
    ("text: a\nheads: {urgency: {columns: u, unknown: perhaps}}\n", "unknown"),
    ("text: a\nheads: {urgency: {columns: []}}\n", "column"),
    ("text: [a\n", "YAML"),
    ("- a\n", "valid"),
]


@pytest.mark.parametrize(("content", "part"), BAD_MAPPINGS)
def test_bad_mapping_files(write: Write, content: str, part: str) -> None:
    with pytest.raises(MappingError) as caught:
        load_mapping(write("m.yaml", content))
    assert part in str(caught.value)
    assert caught.value.problems


def test_unknown_mapping_names_and_heads(write: Write) -> None:
    with pytest.raises(MappingError, match="haikou"):
        load_mapping("atlantis")
    mapping = FileMapping.model_validate({"text": "text", "heads": {"colour": {"columns": "u"}}})
    with pytest.raises(MappingError, match="category"):
        read(write("a.csv", "text,u\n停水了,红\n"), mapping, default_scheme())


@pytest.mark.parametrize("name", shipped_mappings())
def test_shipped_mappings_are_valid(name: str) -> None:
    assert load_mapping(name).heads


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2018-1-2", "2018-01-02"),
        ("2018/01/02 9:05", "2018-01-02T09:05:00"),
        ("2018年1月2日", "2018-01-02"),
        ("2018.1.2", "2018-01-02"),
        ("20180102", "2018-01-02"),
        ("2018-01-02T09:05:06Z", "2018-01-02T09:05:06"),
        ("", ""),
        ("2018-13-02", None),
        ("昨天", None),
        ("1234567890123", None),
    ],
)
def test_dates(text: str, wanted: str | None) -> None:
    assert iso_date(text) == wanted


@pytest.mark.parametrize(
    ("file", "mapping", "rows", "dropped"),
    [
        ("haikou_12345.csv.gz", "haikou", 16_475, 537),
        ("haikou_12345.csv.gz", "haikou_native", 16_475, 537),
        ("teddy2020.csv.gz", "teddy", 7_380, 0),
        ("jinan_water.csv.gz", "jinan", 3_330, 0),
    ],
)
def test_the_shared_files_read_in_full(file: str, mapping: str, rows: int, dropped: int) -> None:
    if not (SHARED / file).exists():
        pytest.skip("the appeal data for development is not beside the repository")
    scheme = None if mapping == "haikou_native" else default_scheme()
    reading = read_all(SHARED / file, mapping, scheme)
    assert (len(reading.rows), len(reading.problems), reading.dropped) == (rows, 0, dropped)
    assert {row.fold for row in reading.rows} == set("01234567")


def test_column_names_are_cleaned_or_refused(write: Write) -> None:
    (row,) = read(write("a.csv", ' text ,"urg\nency",\n停水了,一般,x\n'))
    assert row.text == "停水了"
    with pytest.raises(ReadError, match="binary"):
        read(write("a.jsonl", '{"text": "停水了", "a\\u0000b": 1}\n'))


def test_ten_thousand_rows_with_every_kind_of_error(write: Write) -> None:
    wrong = (
        "{n},,,一般",
        "{n},停水了,昨天,一般",
        "{n},停水了,,火急",
        "{n},停水了,",
        '{n},"停"水,,',
        "1,停水了,,一般",
    )
    lines = [wrong[number % len(wrong)].format(n=number + 2) for number in range(10_000)]
    path = write("a.csv", "id,text,date,urgency\n1,停水了,,一般\n" + "\n".join(lines) + "\n")
    reading = read_all(path, scheme=default_scheme())
    assert [row.id for row in reading.rows] == ["1"]
    assert [problem.line for problem in reading.problems] == list(range(3, 10_003))
    assert reading.total == 10_001
