"""A bulk request: lines in, lines out, a group at a time.

Nothing is read that is not worked on: what the service does not ask for waits in the socket and then
at the client. A group is answered (and its rows are on disk) before the next one is read, so that
memory stays flat however long the body is, and a row that was told 201 is stored.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

import orjson
from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from data.errors import RowRefused
from data.store import Store, StoredAnswer
from serving.batcher import Classified
from serving.batcher import Request as Queued
from serving.bulk.ndjson import MEDIA_TYPE, Line
from serving.bulk.rows import Outcome, Row, outcomes, read_line, row_refused
from serving.bulk.source import Source
from serving.errors import (
    ModelNotReady,
    Overloaded,
    ServingError,
    Stopping,
    StoreNotReady,
    problem_body,
)
from serving.logs import log
from serving.service import Service
from serving.walk import Walked, answer_each, asked_appeal, new_appeal
from serving.writer import Result

__all__ = ["BulkResponse", "answer_lines"]

T = TypeVar("T")
PAUSE = 0.1  # seconds between two tries to get what is busy or away


@dataclass
class _Tally:
    """What the last line tells."""

    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, told: list[Outcome]) -> None:
        self.rows += len(told)
        self.statuses.update(str(one.status) for one in told)

    def line(self, error: ServingError | None) -> bytes:
        end = {"rows": self.rows, "statuses": dict(sorted(self.statuses.items())), "complete": error is None}
        told = {"end": end} if error is None else {"end": end, **problem_body(error)}
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


async def answer_lines(service: Service, source: Source) -> AsyncGenerator[bytes, None]:
    """The answer, a group of lines at a time; the last line has the counts, and why it ended early."""
    tally, reason = _Tally(), "client_gone"
    try:
        async with aclosing(_groups_told(service, source)) as groups:
            async for told in groups:
                tally.add(told)
                _count(service, told)
                yield b"".join(one.told() for one in told)
                if stopping := next((one.error for one in told if isinstance(one.error, Stopping)), None):
                    raise stopping
        reason = ""
        yield tally.line(None)
    except ClientDisconnect:
        pass  # nobody listens
    except ServingError as error:
        reason = error.code
        yield tally.line(error)
    finally:
        source.close()
        log("bulk_ended", rows=tally.rows, statuses=dict(tally.statuses), reason=reason)


async def _groups_told(service: Service, source: Source) -> AsyncGenerator[list[Outcome], None]:
    async with aclosing(source.groups()) as groups:
        async for group in groups:
            yield await _answer_group(service, group)


def _count(service: Service, told: list[Outcome]) -> None:
    for one in told:
        service.metrics.bulk_rows.labels(str(one.status)).inc()


async def _answer_group(service: Service, group: list[Line]) -> list[Outcome]:
    """Read, find, classify, store: the walk of one appeal, for a group of them."""
    limit = service.settings.max_body_bytes
    rows = await service.run(_read_all, group, limit)
    new: dict[str, Row] = {}
    for row in rows:
        if row.appeal is not None:
            new.setdefault(row.appeal.id, row)
    settled: dict[str, Result | ServingError] = {}
    try:
        known = await _patiently(service, lambda: service.in_store(_find(list(new))))
        settled.update({id: (stored, False) for id, stored in known.items()})
        todo = [row for id, row in new.items() if id not in settled]
        settled.update(await _patiently(service, lambda: _classify_and_store(service, todo)))
    except ServingError as error:
        settled.update({id: error for id in new if id not in settled})
    return outcomes(rows, settled)


def _read_all(group: list[Line], limit: int) -> list[Row]:
    return [read_line(line, limit) for line in group]


def _find(ids: list[str]) -> Callable[[Store], dict[str, StoredAnswer]]:
    return lambda store: store.find_many(ids)


async def _classify_and_store(service: Service, rows: list[Row]) -> dict[str, Result | ServingError]:
    appeals = [row.appeal for row in rows if row.appeal is not None]
    if not appeals:
        return {}
    asked = [asked_appeal(service.zone, appeal) for appeal in appeals]
    answered = await answer_each(service, asked, lambda one: _classify(service, one))
    with service.metrics.stage("store"):
        storing = (_store(service, row, found) for row, found in zip(rows, answered, strict=True))
        stored = await asyncio.gather(*storing)
    return {appeal.id: found for appeal, found in zip(appeals, stored, strict=True)}


async def _classify(service: Service, one: Queued) -> Classified:
    """Urgent texts go straight to their lane; the others wait for room, so that they shed nobody."""
    if one.urgent:
        [found] = await service.batcher.classify([one])
        return found
    async with service.bulk.room(len(one.text)):
        [found] = await _patiently(service, lambda: service.batcher.classify([one]))
        return found


async def _store(
    service: Service, row: Row, found: Walked | ServingError
) -> Result | ServingError:
    """Store one answered row, in one transaction with its neighbours."""
    if isinstance(found, ServingError):
        return found
    assert row.appeal is not None
    new = new_appeal(row.appeal, row.sha256, found, service.sealer)
    try:
        stored = await _patiently(service, lambda: service.store_answer(new, urgent=found.understood.urgent))
        if stored[1]:
            service.shadow.offer(found.understood, found.answer)
        return stored
    except RowRefused as error:
        return row_refused(error)
    except ServingError as error:
        return error


async def _patiently(service: Service, work: Callable[[], Awaitable[T]]) -> T:
    """Do what needs the model and the database.

    Waits for one that is away as long as a caller may wait for an answer, and for room for ever.
    """
    end = time.monotonic() + service.settings.answer_seconds
    while True:
        try:
            return await work()
        except (StoreNotReady, ModelNotReady):
            if time.monotonic() >= end or service.bulk.stopping.is_set():
                raise
        except Overloaded:
            service.bulk.check()
        await asyncio.sleep(PAUSE)


class BulkResponse(Response):
    """Streams an answer while its request is still read: so it leaves receive() alone.

    A client that takes nothing for `idle_seconds` is given up: the connection ends without a last line.
    `leave` is called when all is over.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, answers: AsyncGenerator[bytes, None], leave: Callable[[], None], idle_seconds: float
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"  # nginx would gather the answer and defeat back-pressure
        self._answers, self._leave, self._idle = answers, leave, idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._answers):
                await self._send(send)
        except (TimeoutError, OSError) as error:
            log("bulk_client_gone", reason=type(error).__name__)
        finally:
            self._leave()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        async for part in self._answers:
            body = {"type": "http.response.body", "body": part, "more_body": True}
            await asyncio.wait_for(send(body), self._idle)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
