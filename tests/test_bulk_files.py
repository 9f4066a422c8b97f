"""What `python -m serving bulk` reads, and what it refuses."""

from __future__ import annotations

import csv
import gzip
import io
import random
from pathlib import Path

import orjson
import pytest

from data.errors import ReadError
from serving.bulk.files import LONGEST_LINE, look_at
from serving.errors import ServingError
from serving.messages import AppealIn
from tests.bulk_histories import field, parsed, run, stored, write
from tests.running import appeal


def test_a_csv_file_is_read_with_all_columns(tmp_path: Path) -> None:
    columns = "id,text,title,received_at,channel,city,district,street,community,grid,declared_type"
    file = write(
        tmp_path,
        [
            columns,
            'a,"井盖,丢了\n在路口",井盖,2031/5/4 8:30,电话,江城,南区,河街,梧桐,一格,投诉',
            "b,路灯坏了" + "," * 9,
        ],
    )
    (first, second), bad = parsed(file)
    assert bad == []
    assert (first.text, first.title, first.channel) == ("井盖,丢了\n在路口", "井盖", "电话")
    assert first.received_at is not None and first.received_at.isoformat() == "2031-05-04T08:30:00"
    place = first.place
    assert (place.city, place.district, place.street, place.community, place.grid) == (
        "江城", "南区", "河街", "梧桐", "一格",
    )  # fmt: skip
    assert first.declared_type == "投诉"
    assert second == AppealIn(id="b", text="路灯坏了")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("name", ["h.csv", "h.ndjson"])
def test_encodings_are_found_out(tmp_path: Path, encoding: str, name: str) -> None:
    words = ["路灯坏了", "井盖丢了，𠮷祥里小区", "è€ 与全角"]
    if name.endswith("csv"):
        lines = ["id,text", *(f"{n},{word}" for n, word in enumerate(words))]
    else:
        lines = [orjson.dumps(appeal(str(n), word)).decode() for n, word in enumerate(words)]
    found, bad = parsed(write(tmp_path, lines, name, encoding))
    assert ([one.text for one in found], bad) == (words, [])


def test_bytes_of_another_encoding_are_refused_by_line(tmp_path: Path) -> None:
    for encoding, other in (("utf-8", "gb18030"), ("gb18030", "utf-8")):
        rows = [f"{n},第{n}盏路灯坏了".encode(encoding) for n in range(20)]
        rows[7] = "7,这一行的编码不同啊".encode(other)
        file = tmp_path / f"{encoding}.csv"
        file.write_bytes(b"\n".join([b"id,text", *rows]))
        found, bad = parsed(file)
        assert [row.line for row in bad] == [9]
        assert [one.id for one in found] == [str(n) for n in range(20) if n != 7]


def test_a_zipped_file_is_read_and_a_broken_one_told(tmp_path: Path) -> None:
    data = "\n".join(["id,text", *(f"{n},路灯坏了{random.random()}" for n in range(5000))]).encode()
    file = tmp_path / "h.csv.gz"
    file.write_bytes(gzip.compress(data))
    assert len(parsed(file)[0]) == 5000
    file.write_bytes(gzip.compress(data)[:-3000])
    with pytest.raises(ReadError, match="broken"):
        parsed(file)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("id,words", "'text' is missing"),
        ("id,text,titel", "did you mean 'title'"),
        ("id,text,text", "twice"),
        ("", "header line"),
        ('id,"te"xt', "header line"),
    ],
)
def test_a_wrong_header_is_told(tmp_path: Path, header: str, told: str) -> None:
    with pytest.raises(ReadError, match=told):
        parsed(write(tmp_path, [header, "1,a"]))


def test_a_wrong_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"--format"):
        look_at(tmp_path / "history.xlsx")
    with pytest.raises(ReadError, match="nothing there"):
        look_at(tmp_path / "history.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ReadError, match="a folder"):
        look_at(tmp_path / "folder.csv")
    assert look_at(write(tmp_path, ["{}"], "export"), "ndjson").format == "ndjson"


def test_bad_csv_rows_are_refused_with_their_lines(tmp_path: Path) -> None:
    rows = [
        "id,text",
        "a,好的一行",
        "b,太多,列",
        "c",
        "",
        'd,"引号"错了',
        "e,",
        f"f,{'长' * (LONGEST_LINE + 5)}",
        "不 行,文字",
        'g,"两行\n的文字"',
        f"h,{'长' * 100_001}",
        "i,最后",
    ]
    found, bad = parsed(write(tmp_path, rows))
    assert [one.id for one in found] == ["a", "g", "i"]
    assert [(row.line, field(row)) for row in bad] == [
        (3, "body"), (4, "body"), (6, "body"), (7, "text"), (8, "body"), (9, "id"), (12, "text"),
    ]  # fmt: skip
    assert bad[3].id == "e" and bad[5].id is None


def test_a_quote_that_is_never_closed_costs_some_rows_but_not_in_silence(tmp_path: Path) -> None:
    rows = [f"{n},第{n}盏路灯坏了" + "。" * 40 for n in range(9000)]
    rows[10] = '10,"引号没有闭合'
    found, bad = parsed(write(tmp_path, ["id,text", *rows]))
    assert len(bad) == 1 and bad[0].line == 12 and bad[0].error is not None
    last = int(bad[0].error.fault.got.split(" 至 ")[1].split()[0])
    assert [one.id for one in found] == [str(n) for n in [*range(10), *range(last - 1, 9000)]]


def test_ndjson_lines_are_those_of_the_api(tmp_path: Path) -> None:
    lines = ['{"id": "a", "text": "路灯"}', "", "{", "[]", '{"text": "井盖"}', '{"id": 7, "text": "x"}\r']
    found, bad = parsed(write(tmp_path, lines, "h.ndjson"))
    assert found[0] == AppealIn(id="a", text="路灯") and found[1].id.startswith("history-")
    assert [row.line for row in bad] == [3, 4, 6]


def test_a_row_without_an_id_keeps_the_one_of_its_content(tmp_path: Path) -> None:
    rows = ["路灯坏了,江城", "井盖丢了,江城", "路灯坏了,江城", "路灯坏了,河城"]
    first = [one.id for one in parsed(write(tmp_path, ["text,city", *rows]))[0]]
    turned = [one.id for one in parsed(write(tmp_path, ["text,city", "新的一行,", *rows[1:], rows[0]]))[0]]
    assert len(set(first)) == 4, "two calls with the same words are two appeals"
    assert set(first) < set(turned)
    assert first[2] == first[0] + "-2"


def test_a_mapping_brings_other_columns(tmp_path: Path) -> None:
    mapping = tmp_path / "mine.yaml"
    mapping.write_text(
        "id: 工单\ntext: {columns: [标题, 内容]}\ndate: 时间\ndrop_when: [{类型: [测试]}]\n", encoding="utf-8"
    )
    file = write(
        tmp_path,
        [
            "工单,标题,内容,时间,类型,city,其他",
            "1,路灯,坏了,2031年5月4日,,江城,x",
            "2,无,无,,测试,,",
            "3,,井盖,,,,",
        ],
    )
    report = run(tmp_path, file, mapping=str(mapping))
    assert (report.done.rows, report.done.answered, report.left_out) == (2, 2, 1)
    assert {id: text for id, (text, _) in stored(tmp_path).items()} == {"1": "路灯。坏了", "3": "井盖"}
    with pytest.raises(ReadError, match="NDJSON"):
        run(tmp_path, write(tmp_path, ["{}"], "x.ndjson"), mapping=str(mapping))


def test_a_csv_written_by_a_library_comes_back_as_it_was(tmp_path: Path) -> None:
    words = ['他说"井盖"丢了', "一行\r\n两行", "逗号,分号;", " 空格 ", "=SUM(1)"]
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerows([["id", "text"], *([str(n), word] for n, word in enumerate(words))])
    file = tmp_path / "h.csv"
    file.write_bytes(buffer.getvalue().encode())
    found, bad = parsed(file)
    assert ([one.text for one in found], bad) == (words, [])
    assert not any(isinstance(one, ServingError) for one in found)
