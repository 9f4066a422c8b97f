"""POST /v1/appeals:bulk: lines in, lines out, as they come."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from data.appeals import Place
from data.errors import RowRefused
from data.store import NewAppeal, Store
from serving.bulk.ndjson import PIECE, Lines, Unzip
from serving.bulk.rows import store_all
from serving.errors import BodyTooLarge, InvalidInput, ServingError
from serving.messages import Answer, Problem
from tests.bulk_requests import NDJSON, URL, body, post, statuses, stored_ids
from tests.fakes import FakePredictor
from tests.running import JSON, appeal, problem, running

# --- lines --------------------------------------------------------------------------------------


def test_each_line_is_answered_as_a_single_appeal_would_be(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        single = client.post("/v1/appeals", json=appeal("one", received_at="2025-03-04T19:20:00"))
        lines, end = post(
            client,
            appeal("one", received_at="2025-03-04T19:20:00"),
            appeal("two", "我的电话是13912345678，烧烤店油烟太大", place={"city": "江城"}),
            appeal("one", "另一件事"),
            appeal("three", ""),
        )
        again = client.get("/v1/appeals/two")
    assert [(line["line"], line["id"]) for line in lines] == [
        (1, "one"),
        (2, "two"),
        (3, "one"),
        (4, "three"),
    ]
    assert statuses(lines) == [200, 201, 409, 422]
    assert orjson.dumps(lines[0]["answer"]) == single.content
    assert orjson.dumps(lines[1]["answer"]) == again.content
    Answer.model_validate(lines[1]["answer"])
    for line, code in ((lines[2], "appeal_conflict"), (lines[3], "invalid_input")):
        assert Problem.model_validate({"error": line["error"]}).error.code == code
    assert lines[3]["error"]["field"] == "text"
    counted = {"200": 1, "201": 1, "409": 1, "422": 1}
    assert end == {"end": {"rows": 4, "statuses": counted, "complete": True}}
    assert stored_ids(tmp_path) == ["one", "two"]
    for file in tmp_path.glob("jiesu.db*"):
        assert b"13912345678" not in file.read_bytes()


def test_a_thousand_lines_come_back_in_order_and_the_second_time_as_they_were(tmp_path: Path) -> None:
    rows = [appeal(f"row-{n}", f"小区第{n}个井盖坏了，" + "请来修。" * (n % 37)) for n in range(1000)]
    predictor = FakePredictor()
    with running(tmp_path, predictor) as client:
        first, end = post(client, *rows)
        asked = sum(map(len, predictor.batches))
        second, again = post(client, *rows)
        metrics = client.get("/metrics").text
    assert [line["id"] for line in first] == [row["id"] for row in rows]
    assert (end["end"]["statuses"], again["end"]["statuses"]) == ({"201": 1000}, {"200": 1000})
    assert [line["answer"] for line in first] == [line["answer"] for line in second]
    assert sum(map(len, predictor.batches)) == asked, "what is stored is not classified again"
    assert max(map(len, predictor.batches)) > 1
    assert sorted(stored_ids(tmp_path)) == sorted(row["id"] for row in rows)
    assert 'jiesu_bulk_rows_total{status="201"} 1000.0' in metrics


def test_one_id_in_one_stream_is_stored_once(tmp_path: Path) -> None:
    predictor = FakePredictor(fail_on="毒")
    with running(tmp_path, predictor) as client:
        lines, _ = post(
            client, appeal("a"), appeal("a"), appeal("a", "别的"), appeal("b", ""), appeal("b"), appeal("b")
        )
        failed, _ = post(client, appeal("c", "毒"), appeal("c", "毒"), appeal("d"))
    assert statuses(lines) == [201, 200, 409, 422, 201, 200]
    assert statuses(failed) == [503, 503, 201]
    assert failed[0]["error"]["code"] == "model_failed"
    assert sorted(stored_ids(tmp_path)) == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("line", "status", "field"),
    [
        (b'{"id": "x", \n', 422, "body"),
        (b"[1]\n", 422, "body"),
        (b'"words"\n', 422, "body"),
        (b"\xff\xfe\n", 422, "body"),
        (b'{"id": "x", "text": "\\ud800"}\n', 422, "body"),
        (b"[" * 1900 + b"\n", 422, "body"),
        (b'{"text": "a"}\n', 422, "id"),
        (b'{"id": "x", "text": "a", "more": 1}\n', 422, "more"),
        (b'{"id": "x", "text": "' + b"a" * 3000 + b'"}\n', 413, "body"),
    ],
)
def test_a_bad_line_harms_no_other(tmp_path: Path, line: bytes, status: int, field: str) -> None:
    with running(tmp_path, max_body_bytes=2000) as client:
        lines, end = post(client, appeal("before"), line, appeal("after"))
    assert statuses(lines) == [201, status, 201]
    assert lines[1]["error"]["field"] == field
    assert end["end"]["complete"] is True


def test_the_limit_of_a_body_is_one_of_a_line(tmp_path: Path) -> None:
    rows = [appeal(f"r-{n}", "路灯坏了" * 20) for n in range(40)]
    with running(tmp_path, max_body_bytes=1024) as client:
        assert problem(client.post("/v1/appeals", content=body(*rows), headers=JSON), 413, "body_too_large")
        lines, _ = post(client, *rows)
    assert statuses(lines) == [201] * 40


def test_blank_lines_marks_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    one, two, three = (orjson.dumps(appeal(id)) for id in ("1", "2", "3"))
    with running(tmp_path) as client:
        lines, end = post(client, b"\xef\xbb\xbf" + one + b"\r\n\r\n  \n" + two + b"\r\n\n" + three)
        nothing, empty = post(client, b"")
        blank, _ = post(client, b"\n\r\n \n")
    assert [(line["line"], line["id"]) for line in lines] == [(1, "1"), (4, "2"), (6, "3")]
    assert end["end"]["rows"] == 3
    assert nothing == blank == []
    assert empty == {"end": {"rows": 0, "statuses": {}, "complete": True}}


def test_a_wrong_id_is_not_told_back(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        lines, _ = post(
            client, appeal("13912345678 张三", ""), appeal("x" * 200), appeal(7), appeal("ok", "")
        )
    assert [line["id"] for line in lines] == [None, None, None, "ok"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_cut_the_same_however_the_bytes_come(size: int) -> None:
    data = b"\xef\xbb\xbfone\r\n\n" + b"x" * 50 + b"\n two \nthree\r"
    lines = Lines(20)
    found = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    found += lines.close()
    bodies = [(line.number, line.body, line.size) for line in found]
    assert bodies == [(1, b"one", 7), (3, None, 50), (4, b"two", 5), (5, b"three", 6)]


def test_a_row_that_the_database_refuses_harms_no_other(tmp_path: Path) -> None:
    class Picky(Store):
        def add_many(self, new: Any) -> Any:
            if any(one.id == "bad" for one in new):
                raise RowRefused("the database refused a row")
            return super().add_many(new)

    store = Picky.open(f"sqlite:///{tmp_path / 'jiesu.db'}")
    store.migrate()
    now = time_of_day()
    rows = [
        NewAppeal(id, "hash", "文", Place(), "", "", now, now, "{}", "review", "", "m", "s")
        for id in ("a", "bad", "b")
    ]
    found = store_all(store, rows)
    store.close()
    assert [id for id, one in found.items() if not isinstance(one, ServingError)] == ["a", "b"]
    assert isinstance(found["bad"], InvalidInput)


def time_of_day() -> Any:
    return datetime(2031, 1, 2, 3, 4, tzinfo=UTC)


# --- heads --------------------------------------------------------------------------------------


def test_what_is_not_ndjson_is_refused_whole(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        wrong = client.post(URL, content=b"{}", headers=JSON)
        assert problem(wrong, 415, "wrong_media_type")["expected"] == "application/x-ndjson"
        zipped = client.post(URL, content=b"", headers={**NDJSON, "Content-Encoding": "br"})
        assert problem(zipped, 415, "wrong_media_type")["field"] == "Content-Encoding"
        assert client.get(URL).status_code in (404, 405, 422)
        described = client.get("/openapi.json").json()["paths"][URL]["post"]
    assert list(described["requestBody"]["content"]) == ["application/x-ndjson"]
    assert list(described["responses"]["200"]["content"]) == ["application/x-ndjson"]
    shown = described["responses"]["200"]["content"]["application/x-ndjson"]["example"].splitlines()
    assert [list(orjson.loads(line)) for line in shown][-1] == ["end"]


def test_gzip_is_read_in_several_members_too(tmp_path: Path) -> None:
    rows = [appeal(f"z-{n}") for n in range(300)]
    zipped = gzip.compress(body(*rows[:100])) + gzip.compress(body(*rows[100:]))
    with running(tmp_path) as client:
        lines, _ = post(client, zipped, **{"Content-Encoding": "gzip"})
        half, end = post(client, gzip.compress(body(*rows))[:-20], **{"Content-Encoding": "gzip"})
        none, wrong = post(client, body(rows[0]), **{"Content-Encoding": "gzip"})
        bomb, refused = post(
            client, gzip.compress(body(rows[0]) + b"\n" * 50_000_000), **{"Content-Encoding": "gzip"}
        )
    assert statuses(lines) == [201] * 300
    assert end["end"]["complete"] is False and end["error"]["got"] == "数据不完整"
    assert set(statuses(half)) == {200} and len(half) == end["end"]["rows"]
    assert none == [] and wrong["error"]["code"] == "invalid_input"
    assert statuses(bomb) == [200] and refused["error"]["code"] == "body_too_large"


def test_a_bomb_is_refused_long_before_it_has_gone_off() -> None:
    unzip = Unzip()
    zipped = gzip.compress(b"a" * 100_000_000)
    seen = 0
    with pytest.raises(BodyTooLarge):
        for at in range(0, len(zipped), 1000):
            for piece in unzip.feed(zipped[at : at + 1000]):
                assert len(piece) <= PIECE
                seen += len(piece)
    assert seen < 3_000_000
