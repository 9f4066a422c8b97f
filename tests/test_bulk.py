"""POST /v1/appeals:bulk: lines in, lines out, as they come."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn
from fastapi.testclient import TestClient

from data.appeals import Place
from data.errors import RowRefused
from data.store import NewAppeal, Store
from serving.app import create_app
from serving.bulk.ndjson import PIECE, Lines, Unzip
from serving.bulk.rows import store_all
from serving.bulk.share import BulkShare
from serving.errors import BodyTooLarge, InvalidInput, Overloaded, ServingError
from serving.messages import Answer, Problem
from tests.fakes import FakePredictor
from tests.running import JSON, appeal, loads, problem, running, settings, until

NDJSON = {"Content-Type": "application/x-ndjson"}
URL = "/v1/appeals:bulk"
URGENT = "快救命！孩子掉进河里了！"


def body(*rows: Any) -> bytes:
    return b"".join(row if isinstance(row, bytes) else orjson.dumps(row) + b"\n" for row in rows)


def told(response: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines of an answer, and its last one."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    *lines, end = [orjson.loads(line) for line in response.content.splitlines()]
    return lines, end


def post(client: TestClient, *rows: Any, **headers: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return told(client.post(URL, content=body(*rows), headers={**NDJSON, **headers}))


def statuses(lines: list[dict[str, Any]]) -> list[int]:
    return [line["status"] for line in lines]


def hold(predictor: FakePredictor) -> None:
    """Let the model wait, and forget what it was asked at the start."""
    predictor.held.clear()
    predictor.batches.clear()


def stored_ids(tmp_path: Path) -> list[str]:
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        return [id for (id,) in plain.execute("SELECT id FROM appeals ORDER BY number")]


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


# --- the service beside it ----------------------------------------------------------------------


def test_bulk_waits_for_room_and_sheds_nobody(tmp_path: Path) -> None:
    predictor = FakePredictor()
    rows = [appeal(f"b-{n}", f"路灯坏了{n}") for n in range(200)]
    limits = {"queue_texts": 8, "bulk_texts": 4, "batch_texts": 2}
    with running(tmp_path, predictor, **limits) as client, ThreadPoolExecutor(8) as pool:
        hold(predictor)
        bulk = pool.submit(post, client, *rows)
        until(lambda: len(predictor.batches) == 1)
        single = [pool.submit(client.post, "/v1/classify", json={"texts": [f"问{n}"]}) for n in range(4)]
        until(lambda: 'jiesu_queue_texts{lane="rest"}' in client.get("/metrics").text)
        time.sleep(0.1)
        predictor.held.set()
        lines, _ = bulk.result()
        assert [one.result().status_code for one in single] == [200] * 4
    assert statuses(lines) == [201] * 200
    place = next(n for n, batch in enumerate(predictor.batches) if any("问3" in text for text in batch))
    assert place <= 6, "a single request waits for the bulk rows in the queue, not for the whole stream"


def test_bulk_rows_wait_when_single_requests_fill_the_queue(tmp_path: Path) -> None:
    predictor = FakePredictor()
    with running(tmp_path, predictor, queue_texts=2, batch_texts=1) as client, ThreadPoolExecutor(4) as pool:
        hold(predictor)
        first = pool.submit(client.post, "/v1/classify", json={"texts": ["一"]})
        until(lambda: predictor.batches)
        fill = pool.submit(client.post, "/v1/classify", json={"texts": ["二", "三"]})
        time.sleep(0.1)
        bulk = pool.submit(post, client, appeal("b-1"), appeal("b-2"))
        time.sleep(0.3)
        assert not bulk.done()
        predictor.held.set()
        lines, _ = bulk.result()
        assert [first.result().status_code, fill.result().status_code] == [200, 200]
    assert statuses(lines) == [201, 201]


def test_urgent_rows_of_a_stream_go_first(tmp_path: Path) -> None:
    predictor = FakePredictor()
    rows = [appeal(f"b-{n}", f"路灯坏了{n}") for n in range(30)]
    with running(tmp_path, predictor, bulk_texts=4, batch_texts=2) as client, ThreadPoolExecutor(2) as pool:
        hold(predictor)
        bulk = pool.submit(post, client, *rows, appeal("u-1", URGENT))
        until(lambda: predictor.batches)
        time.sleep(0.2)
        predictor.held.set()
        lines, _ = bulk.result()
    assert statuses(lines) == [201] * 31
    place = next(n for n, batch in enumerate(predictor.batches) if URGENT in batch[0])
    assert place <= 1


def test_only_so_many_streams_at_a_time(tmp_path: Path) -> None:
    predictor = FakePredictor()
    with running(tmp_path, predictor, bulk_streams=1) as client, ThreadPoolExecutor(2) as pool:
        hold(predictor)
        bulk = pool.submit(post, client, appeal())
        until(lambda: predictor.batches)
        refused = client.post(URL, content=body(appeal("A-2")), headers=NDJSON)
        predictor.held.set()
        bulk.result()
        assert problem(refused, 429, "overloaded")["field"] == "bulk_streams"
        assert int(refused.headers["Retry-After"]) >= 1
        assert statuses(post(client, appeal("A-2"))[0]) == [201]


def test_a_database_that_is_away_is_waited_for_then_told_by_line(tmp_path: Path) -> None:
    with running(tmp_path, answer_seconds=0.3) as client:
        assert statuses(post(client, appeal("A-1"))[0]) == [201]
        with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
            plain.execute("ALTER TABLE answers RENAME TO gone")
            rows = [appeal(f"B-{n}") for n in range(3)]
            away = client.post(URL, content=body(*rows), headers=NDJSON)
            if away.status_code == 200:
                lines, end = told(away)
                assert statuses(lines) == [503] * 3
                assert {line["error"]["code"] for line in lines} == {"store_not_ready"}
                assert end["end"] == {"rows": 3, "statuses": {"503": 3}, "complete": True}
            else:
                problem(away, 503, "store_not_ready")
            plain.execute("ALTER TABLE gone RENAME TO answers")
        until(lambda: client.get("/readyz").status_code == 200)
        assert statuses(post(client, *rows)[0]) == [201] * 3


# --- over the wire ------------------------------------------------------------------------------


@contextmanager
def listening(tmp_path: Path, predictor: FakePredictor, **given: Any) -> Iterator[tuple[Any, int]]:
    """The application behind a real socket, for what a test client cannot do: send and read at once."""
    app = create_app(settings(tmp_path, **given), loads(predictor))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    until(lambda: server.started, 20)
    try:
        yield app, listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@asynccontextmanager
async def streaming(port: int) -> AsyncIterator[tuple[Callable[..., Any], asyncio.StreamReader]]:
    """A chunked request that was begun: a function that sends lines, and what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )

    async def send(*rows: Any, end: bool = False) -> None:
        data = body(*rows)
        writer.write((f"{len(data):x}\r\n".encode() + data + b"\r\n" if data else b"") + b"0\r\n\r\n" * end)
        await writer.drain()

    try:
        yield send, reader
    finally:
        writer.close()


async def next_line(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next line of a chunked answer that is JSON."""
    while True:
        line = await asyncio.wait_for(reader.readline(), 10)
        assert line, "the connection was closed"
        if line.startswith(b'{"'):
            found: dict[str, Any] = orjson.loads(line)
            return found


def test_answers_come_while_the_request_is_still_sent(tmp_path: Path) -> None:
    async def talk(port: int) -> None:
        async with streaming(port) as (send, reader):
            for n in range(3):
                await send(appeal(f"live-{n}"))
                line = await next_line(reader)
                assert (line["line"], line["id"], line["status"]) == (n + 1, f"live-{n}", 201)
                assert f"live-{n}" in stored_ids(tmp_path), "what was told is on disk"
            await send(appeal("last"), end=True)
            assert (await next_line(reader))["id"] == "last"
            assert (await next_line(reader))["end"]["rows"] == 4

    with listening(tmp_path, FakePredictor()) as (_, port):
        asyncio.run(talk(port))


def test_a_client_is_read_from_no_faster_than_it_takes(tmp_path: Path) -> None:
    rows = [appeal(f"p-{n}", f"路灯坏了{n}" + "，一直没人修" * 400) for n in range(800)]
    data = body(*rows)  # 6 MB; the sockets hold less than one

    async def push(port: int) -> int:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode())
        sent = 0
        with suppress(TimeoutError):
            for at in range(0, len(data), 100_000):
                writer.write(data[at : at + 100_000])
                await asyncio.wait_for(writer.drain(), 1.0)
                sent = at
        writer.transport.abort()
        return sent

    predictor = FakePredictor()
    with listening(tmp_path, predictor) as (app, port):
        hold(predictor)  # nothing is answered: nothing more may be taken
        sent = asyncio.run(push(port))
        predictor.held.set()
        until(lambda: app.state.service.bulk.streams == 0, 20)
    assert sent < len(data) / 2
    assert len(stored_ids(tmp_path)) < 400


def test_a_client_that_leaves_keeps_what_it_was_told(tmp_path: Path) -> None:
    async def leave(port: int) -> list[str]:
        async with streaming(port) as (send, reader):
            await send(*(appeal(f"g-{n}") for n in range(500)))
            return [(await next_line(reader))["id"] for _ in range(100)]

    with listening(tmp_path, FakePredictor()) as (app, port):
        acknowledged = asyncio.run(leave(port))
        until(lambda: app.state.service.bulk.streams == 0, 20)
        assert app.state.service.bulk.free == app.state.service.settings.bulk_texts
    assert acknowledged == [f"g-{n}" for n in range(100)]
    assert set(acknowledged) <= set(stored_ids(tmp_path))


def test_a_client_that_sends_nothing_is_given_up(tmp_path: Path) -> None:
    async def dawdle(port: int) -> dict[str, Any]:
        async with streaming(port) as (send, reader):
            await send(appeal("slow"))
            assert (await next_line(reader))["status"] == 201
            return await next_line(reader)

    with listening(tmp_path, FakePredictor(), bulk_idle_seconds=0.3) as (_, port):
        end = asyncio.run(dawdle(port))
    assert end["end"] == {"rows": 1, "statuses": {"201": 1}, "complete": False}
    assert end["error"]["code"] == "bulk_idle"


def test_a_stop_ends_a_stream_with_a_word(tmp_path: Path) -> None:
    async def talk(app: Any, port: int) -> dict[str, Any]:
        async with streaming(port) as (send, reader):
            await send(appeal("first"))
            assert (await next_line(reader))["status"] == 201
            app.state.service.bulk.stop()
            return await next_line(reader)

    with listening(tmp_path, FakePredictor()) as (app, port):
        end = asyncio.run(talk(app, port))
    assert end["end"]["complete"] is False and end["error"]["code"] == "stopping"


def test_a_terminated_service_ends_its_streams_with_a_word(tmp_path: Path) -> None:
    async def talk(process: subprocess.Popen[str], port: int) -> dict[str, Any]:
        async with streaming(port) as (send, reader):
            await send(appeal("first"))
            assert (await next_line(reader))["status"] == 201
            process.terminate()
            return await next_line(reader)

    kept = {name: value for name, value in os.environ.items() if not name.startswith("JIESU_")}
    root = str(Path(__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bulk_program", "run", "--port", "0"],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": root, "JIESU_GRACE_SECONDS": "60"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
            end = asyncio.run(talk(process, port))
            process.communicate(timeout=30)
        finally:
            process.kill()
    assert end["end"] == {"rows": 1, "statuses": {"201": 1}, "complete": False}
    assert end["error"]["code"] == "stopping"


# --- the share ----------------------------------------------------------------------------------


def test_room_is_given_in_turn_and_never_lost() -> None:
    async def play() -> list[str]:
        share, order = BulkShare(streams=1, texts=4, chars=400), []

        async def hold(name: str, chars: int, seconds: float) -> None:
            async with share.room(chars):
                order.append(name)
                await asyncio.sleep(seconds)

        tasks = [asyncio.create_task(hold("long", 1_000_000, 0.05))]  # takes all there is
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(hold(name, 10, 0)) for name in ("a", "left", "b")]
        await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert share.free == 4
        return order

    assert asyncio.run(play()) == ["long", "a", "b"]


def test_a_waiter_that_leaves_as_its_turn_comes_gives_it_on() -> None:
    async def play() -> None:
        share = BulkShare(streams=1, texts=1, chars=100)
        held = share.room(1)
        await held.__aenter__()
        waiting = asyncio.create_task(share.room(1).__aenter__())
        await asyncio.sleep(0)
        await held.__aexit__(None, None, None)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert share.free == 1
        share.enter()
        with pytest.raises(Overloaded):
            share.enter()

    asyncio.run(play())
