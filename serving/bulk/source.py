"""The body of a bulk request as groups of lines, read from the client only when asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from serving.bulk.ndjson import Line, Lines, Unzip
from serving.bulk.share import BulkShare
from serving.errors import BulkIdle, ServingError

__all__ = ["Source"]

GROUP_ROWS = 64
GROUP_BYTES = 1024 * 1024
LINGER = 0.05  # seconds that a started group waits for more lines


class Source:
    """The request's body as groups of lines, read only when asked for."""

    def __init__(
        self, receive: Receive, lines: Lines, unzip: Unzip | None, share: BulkShare, idle_seconds: float
    ) -> None:
        self._receive, self._lines, self._unzip = receive, lines, unzip
        self._share, self._idle = share, idle_seconds
        self._coming: asyncio.Task[Message] | None = None
        self._ready: Iterator[Line] = iter(())  # lines of the part that came last
        self._ended = False

    async def first(self) -> None:
        """Wait until the first part of the body is there. Raises BulkIdle, Stopping."""
        if not await self._wait(self._idle):
            raise BulkIdle(self._idle)

    async def groups(self) -> AsyncGenerator[list[Line], None]:
        """Groups of lines; one is given out when it is full, or when the client pauses.

        Raises ClientDisconnect at once; BulkIdle, Stopping and what is wrong with the gzip after the
        lines that came before.
        """
        ended = False
        while not ended:
            group: list[Line] = []
            try:
                ended = await self._gather(group)
            except ServingError:
                if group:
                    yield group
                raise
            if group:
                yield group

    async def _gather(self, group: list[Line]) -> bool:
        """Fill a group; whether the body has ended."""
        size = 0
        while True:
            for line in self._ready:
                group.append(line)
                size += len(line.body or b"")
                if len(group) >= GROUP_ROWS or size >= GROUP_BYTES:
                    return False
            if self._ended:
                return True
            if not await self._wait(LINGER if group else self._idle):
                if not group:
                    raise BulkIdle(self._idle)
                return False
            self._ready = self._cut(*self._next())

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._coming:
            self._coming.cancel()

    async def _wait(self, seconds: float) -> bool:
        # The task outlives the wait: a cancelled receive() could lose a part of the body.
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._receive())
        stopping = asyncio.ensure_future(self._share.stopping.wait())
        try:
            await asyncio.wait({self._coming, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        self._share.check()
        return self._coming.done()

    def _next(self) -> tuple[bytes, bool]:
        assert self._coming is not None
        message, self._coming = self._coming.result(), None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect()
        return message.get("body", b""), not message.get("more_body", False)

    def _cut(self, data: bytes, ended: bool) -> Iterator[Line]:
        for piece in self._unzip.feed(data) if self._unzip else (data,):
            yield from self._lines.feed(piece)
        if ended:
            if self._unzip:
                self._unzip.close()
            yield from self._lines.close()
            self._ended = True
