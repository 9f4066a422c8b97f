"""Bulk beside other requests: it waits for room and sheds nobody; a stop or a lost client ends it."""

from __future__ import annotations

import asyncio
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
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn

from serving.app import create_app
from serving.bulk.share import BulkShare
from serving.errors import Overloaded
from tests.bulk_requests import NDJSON, URGENT, URL, body, hold, post, statuses, stored_ids, told
from tests.fakes import FakePredictor
from tests.running import appeal, loads, problem, running, settings, until

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
