"""NDJSON as it comes over a wire, in pieces of any size: unzipped, cut into lines, never held as a whole."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from serving.errors import BodyTooLarge, Fault, InvalidInput

__all__ = ["MEDIA_TYPE", "Line", "Lines", "Unzip"]

MEDIA_TYPE = "application/x-ndjson"
PIECE = 64 * 1024  # bytes unzipped at a time
RATIO = 100  # unzipped ÷ zipped; appeals reach 5 to 20, the format's own limit is 1032
FREE = 1024 * 1024  # unzipped bytes below which the ratio is not looked at
BOM = b"\xef\xbb\xbf"
GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Line:
    """A line that is not blank: number from 1 (blank ones count), bytes or None when over the limit."""

    number: int
    body: bytes | None
    size: int


class Lines:
    """Cuts bytes into lines. LF or CRLF, with or without a byte order mark and a last line end.

    Of a line over `limit` bytes only the size is kept, so that memory stays flat.
    """

    def __init__(self, limit: int) -> None:
        self.number = 0  # lines ended so far
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Line]:
        """The lines that these bytes complete."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._keep(piece)
            yield from self._end()
        self._keep(rest)

    def close(self) -> Iterator[Line]:
        """The last line, when it has no line end."""
        if self._size:
            yield from self._end()

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._parts.clear()
        elif piece:
            self._parts.append(piece)

    def _end(self) -> Iterator[Line]:
        body, size = b"".join(self._parts), self._size
        self._parts, self._size = [], 0
        self.number += 1
        if size > self._limit:
            yield Line(self.number, None, size)
            return
        body = (body.removeprefix(BOM) if self.number == 1 else body).strip()
        if body:
            yield Line(self.number, body, size)


class Unzip:
    """Gzip in pieces of at most `PIECE` bytes; a bomb is refused by its ratio, before it has gone off."""

    def __init__(self) -> None:
        self._zipped = self._plain = 0
        self._inflate = zlib.decompressobj(GZIP)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the data unzips to. Raises InvalidInput when it is no gzip, BodyTooLarge for a bomb."""
        self._zipped += len(data)
        more = True
        while data or (more and not self._inflate.eof):
            if self._inflate.eof:  # gzip files may follow each other
                self._inflate = zlib.decompressobj(GZIP)
            piece = self._piece(data)
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
            more = len(piece) == PIECE  # zlib may hold back what it has unzipped already
            yield self._checked(piece)

    def close(self) -> None:
        """Raises InvalidInput when the end is missing."""
        if self._zipped and not self._inflate.eof:
            raise _not_gzip("数据不完整")

    def _piece(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data, PIECE)
        except zlib.error as error:
            raise _not_gzip("数据已损坏或不是 gzip") from error

    def _checked(self, piece: bytes) -> bytes:
        self._plain += len(piece)
        if self._plain > max(FREE, RATIO * self._zipped):
            raise BodyTooLarge(RATIO * self._zipped, "解压后远超压缩前的大小")
        return piece


def _not_gzip(got: str) -> InvalidInput:
    return InvalidInput([Fault("body", "请求体无法解压", "完整的 gzip 数据", got)])
