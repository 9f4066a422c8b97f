"""HTTP connections of the load generator: a POST costs it a twentieth of a millisecond.

A general client (aiohttp) takes 0.3 ms for each request, from the very processors that the server is
measured on: at 400 texts a second an eighth of one, which no caller on another machine would cost. The
protocol is uvicorn's own parser, httptools; connections are kept, one is opened wherever none is free.
"""

from __future__ import annotations

import asyncio
from typing import cast
from urllib.parse import urlsplit

import httptools

__all__ = ["Client"]


class Client:
    """Posts JSON to one address. ``post`` may be called any number of times at once."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = (
            f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._timeout = timeout
        self._idle: list[_Connection] = []

    async def post(self, body: bytes) -> int:
        """The answer's status, once its last byte is there. Raises OSError or TimeoutError."""
        async with asyncio.timeout(self._timeout):
            connection = self._free() or await self._open()
            request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
            try:
                status = await connection.ask(request)
            except BaseException:
                connection.close()
                raise
        if connection.usable:
            self._idle.append(connection)
        return status

    def close(self) -> None:
        """Close what is open."""
        for connection in self._idle:
            connection.close()

    def _free(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:  # else the server has closed it
                return connection
        return None

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way; httptools calls ``on_message_complete``."""

    def __init__(self) -> None:
        self.usable = True
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[int] | None = None

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request; the future is its answer's status."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self.usable = False
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own kind is no subclass of it

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"expected an HTTP answer, got: {error}"))

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._fail(exc or ConnectionResetError("the server closed the connection before it answered"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
