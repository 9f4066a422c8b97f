"""Requests on their way to a route: which go straight, and what ends one before its answer is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from serving.app import create_app
from serving.requests import JsonRoute
from serving.security.guard import declared_routes
from tests.fakes import FakePredictor
from tests.running import loads, settings

HEADERS = [(b"content-type", b"application/json")]
GONE = {"type": "http.disconnect"}


class Caller:
    """One caller of /v1/classify, as a server shows them to the application; `leave` is what it says."""

    def __init__(self, app: Any, *parts: bytes) -> None:
        self._app, self._parts = app, list(parts)
        self._left = asyncio.Event()
        self.told: list[Any] = []

    async def ask(self) -> None:
        """Send the request; returns when the application is done with it."""
        scope = {
            "type": "http", "method": "POST", "path": "/v1/classify", "raw_path": b"/v1/classify",
            "query_string": b"", "headers": HEADERS, "client": ("127.0.0.1", 5), "state": {},
        }  # fmt: skip
        await self._app(scope, self._receive, self._send)

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()

    @property
    def status(self) -> int:
        """Of the answer."""
        return int(self.told[0]["status"])

    @property
    def body(self) -> Any:
        """The answer's JSON."""
        return orjson.loads(b"".join(message.get("body", b"") for message in self.told))

    async def _receive(self) -> dict[str, Any]:
        if self._parts:
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        await self._left.wait()
        return GONE

    async def _send(self, message: Any) -> None:
        self.told.append(message)


@asynccontextmanager
async def started(tmp_path: Path, fake: FakePredictor, **given: Any) -> AsyncIterator[Any]:
    app = create_app(settings(tmp_path, **given), loads(fake))
    async with app.router.lifespan_context(app):
        fake.batches.clear()
        try:
            yield app
        finally:
            fake.held.set()


def texts(*given: str) -> bytes:
    return orjson.dumps({"texts": given})


def straight() -> Iterator[tuple[str, str]]:
    from serving.routes import appeals, bulk, review, review_many, session, versions

    for part in (appeals, bulk, review, review_many, session, versions):
        for one in declared_routes(part.router.routes):
            if isinstance(one.route, JsonRoute):
                yield from (
                    (each, one.path) for each in one.route.methods or () if one.route.takes_straight(each)
                )


def test_routes_that_ask_for_their_body_alone_are_gone_to_straight() -> None:
    found = set(straight())
    assert {("POST", "/v1/classify"), ("POST", "/v1/appeals")} <= found
    assert not any("{" in path or method == "GET" for method, path in found)


@pytest.mark.parametrize("pieces", [1, 3, 40])
def test_a_body_may_come_in_pieces(tmp_path: Path, pieces: int) -> None:
    async def ask() -> Caller:
        async with started(tmp_path, FakePredictor()) as app:
            body = texts("路灯坏了")
            size = -(-len(body) // pieces)
            caller = Caller(app, *(body[at : at + size] for at in range(0, len(body), size)), b"")
            await caller.ask()
            return caller

    caller = asyncio.run(ask())
    assert caller.status == 200
    assert len(caller.body["results"]) == 1


def test_a_caller_that_leaves_before_its_body_is_there_is_no_error(tmp_path: Path) -> None:
    async def ask() -> tuple[Caller, str]:
        async with started(tmp_path, FakePredictor()) as app:
            caller = Caller(app)
            caller.leave()
            await caller.ask()
            return caller, app.state.service.metrics.text().decode()

    caller, page = asyncio.run(ask())
    assert caller.status == 499
    assert "jiesu_errors_total{" not in page


def test_the_text_of_a_caller_that_left_never_reaches_the_model(tmp_path: Path) -> None:
    fake = FakePredictor()

    async def ask() -> tuple[Caller, Caller, str]:
        async with started(tmp_path, fake) as app:
            fake.held.clear()
            stays, leaves = Caller(app, texts("占住")), Caller(app, texts("走了"))
            first = asyncio.create_task(stays.ask())
            while not fake.batches:
                await asyncio.sleep(0.001)
            second = asyncio.create_task(leaves.ask())
            while not app.state.service.batcher._rest.texts:
                await asyncio.sleep(0.001)
            leaves.leave()
            await second
            fake.held.set()
            await first
            return stays, leaves, app.state.service.metrics.text().decode()

    stays, leaves, page = asyncio.run(ask())
    assert (stays.status, leaves.status) == (200, 499)
    assert fake.batches == [["占住"]]
    assert "jiesu_dropped_total 1.0" in page


def test_a_request_that_the_server_ends_is_not_answered(tmp_path: Path) -> None:
    fake = FakePredictor()

    async def ask() -> tuple[Caller, str]:
        async with started(tmp_path, fake) as app:
            fake.held.clear()
            caller = Caller(app, texts("慢"))
            task = asyncio.create_task(caller.ask())
            while not fake.batches:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return caller, app.state.service.metrics.text().decode()

    caller, page = asyncio.run(ask())
    assert caller.told == []
    assert 'status="499"' in page and "jiesu_errors_total{" not in page


def test_one_whose_time_is_over_is_told_so_and_its_text_waits_no_more(tmp_path: Path) -> None:
    fake = FakePredictor()

    async def ask() -> tuple[Caller, int]:
        async with started(tmp_path, fake, answer_seconds=0.05) as app:
            fake.held.clear()
            holds, waits = Caller(app, texts("占住")), Caller(app, texts("等不到"))
            first = asyncio.create_task(holds.ask())
            while not fake.batches:
                await asyncio.sleep(0.001)
            await asyncio.gather(first, waits.ask())
            return waits, app.state.service.batcher._rest.texts

    waits, left = asyncio.run(ask())
    assert (waits.status, waits.body["error"]["code"], left) == (503, "too_slow", 0)
