"""A history file as appeals, one row at a time: CSV or NDJSON, UTF-8, UTF-16 (with a mark) or GB18030.

Nothing but the row in hand is in memory. What is no appeal comes out as a row with its line and the
reason; no line is passed over in silence but blank ones.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import orjson

from data.errors import ReadError
from data.mapping import FileMapping
from data.readers import iso_date
from serving.bulk.rows import Row, read_appeal
from serving.errors import Fault, InvalidInput

__all__ = ["COLUMNS", "History", "Rows", "look_at"]

PLACE = ("city", "district", "street", "community", "grid")
COLUMNS = ("id", "text", "title", "received_at", "channel", *PLACE, "declared_type")
SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson",
}  # fmt: skip
LONGEST_LINE = 1024 * 1024  # characters; a text may have a tenth of it
MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that the encoding does not have, kept by surrogateescape


@dataclass(frozen=True)
class History:
    """A file that was looked at: its hash, its encoding, its size in bytes (as it lies on the disk)."""

    path: Path
    format: str  # csv or ndjson
    encoding: str
    sha256: str
    size: int


def look_at(path: Path, format: str | None = None) -> History:
    """Read a file once, for its hash and encoding. Raises ReadError when it cannot be one of ours."""
    name = path.name.lower().removesuffix(".gz")
    chosen = format or SUFFIXES.get(Path(name).suffix)
    if chosen is None or chosen not in SUFFIXES.values():
        raise ReadError(
            f"{path}: expected a name that ends in {' '.join(SUFFIXES)}, or --format csv or ndjson"
        )
    if not path.is_file():
        raise ReadError(f"{path}: expected a file, got {'a folder' if path.is_dir() else 'nothing there'}")
    with _opened(path) as (stream, _):
        sha256, encoding = _surveyed(stream)
    return History(path, chosen, encoding, sha256, path.stat().st_size)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The file's bytes, unzipped if need be, and the file itself (whose position tells how far we are)."""
    try:
        with path.open("rb") as raw:
            if path.name.lower().endswith(".gz"):
                with gzip.open(raw, "rb") as plain:
                    yield plain, raw  # type: ignore[misc]
            else:
                yield raw, raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ReadError(f"{path}: expected a gzip file, got one that is broken: {error}") from error
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: expected {error.encoding}, got other bytes: {error.reason}") from error
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error}") from error


def _surveyed(stream: BinaryIO) -> tuple[str, str]:
    """Hash and encoding: the one of the mark, else UTF-8, else the one that fewer lines are broken in."""
    digest, broken = hashlib.sha256(), {"utf-8": 0, "gb18030": 0}
    first = b""
    while line := stream.readline(LONGEST_LINE):
        first = first or line
        digest.update(line)
        if not line.isascii():
            for encoding in broken:
                broken[encoding] += not _fits(line, encoding)
    marked = next((encoding for mark, encoding in MARKS if first.startswith(mark)), "")
    return digest.hexdigest(), marked or min(broken, key=lambda one: broken[one])


def _fits(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


class Rows:
    """The rows of a file in order.

    `position` says how many of its bytes were read, `left_out` how many rows the mapping leaves out,
    `ignored` which columns are not ours.
    """

    def __init__(self, history: History, mapping: FileMapping | None = None) -> None:
        self.history, self._mapping = history, mapping
        self.position = self.left_out = 0
        self.ignored: tuple[str, ...] = ()
        self._ids = _Ids()

    def __iter__(self) -> Iterator[Row]:
        with _opened(self.history.path) as (stream, raw):
            text = self._text(stream)
            for row in self._ndjson(text) if self.history.format == "ndjson" else self._csv(text):
                self.position = raw.tell()
                yield row
            self.position = self.history.size

    def _text(self, stream: BinaryIO) -> TextIO:
        errors = "strict" if self.history.encoding == "utf-16" else "surrogateescape"
        newline = "\n" if self.history.format == "ndjson" else ""
        return io.TextIOWrapper(stream, self.history.encoding, errors, newline)

    def _ndjson(self, text: TextIO) -> Iterator[Row]:
        lines = _Physical(text)
        for line in lines:
            if lines.too_long:
                yield _refused(lines.number, _too_long())
            elif line.strip():
                yield self._object(lines.number, line)

    def _object(self, number: int, line: str) -> Row:
        if ESCAPED.search(line):
            return _refused(number, self._not_decodable())
        try:
            body = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            got = f"第 {error.pos} 个字符处：{error.msg}"
            return _refused(number, Fault("body", "这一行不是有效的 JSON", "一行一个 JSON 对象", got))
        return self._ids.row(number, body)

    def _csv(self, text: TextIO) -> Iterator[Row]:
        lines = _Physical(text)
        reader = csv.reader(lines, delimiter=_delimiter(text, self.history.path), strict=True)
        try:
            columns = self._header(next(reader, []))
        except csv.Error as error:
            raise ReadError(f"{self.history.path}: the header line cannot be read: {error}") from error
        while True:
            first, lines.long_at = lines.number + 1, 0
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield _refused(first, _unreadable(error, first, lines.number))
                continue
            if lines.long_at or any(cell.strip() for cell in cells):
                yield from self._record(first, columns, cells, lines)

    def _header(self, cells: Sequence[str]) -> tuple[str, ...]:
        columns = tuple(" ".join(cell.split()) for cell in cells)
        needed = self._mapping.columns() if self._mapping else ("text",)
        known = {*COLUMNS, *needed}
        self.ignored = tuple(column for column in columns if column not in known)
        wrong = [f"{column!r} is missing" for column in needed if column not in columns]
        wrong += [
            f"{column!r} is there twice" for column in dict.fromkeys(columns) if columns.count(column) > 1
        ]
        for column in self.ignored:
            close = difflib.get_close_matches(column, known - set(columns), 1, 0.8)
            wrong += [f"{column!r}: did you mean {close[0]!r}?"] if close else []
        if wrong:
            raise ReadError(
                f"{self.history.path}: expected a header line with {', '.join(needed)}, and any of "
                f"{', '.join(COLUMNS)}; got {', '.join(map(repr, columns))[:300]}: {'; '.join(wrong)}"
            )
        return columns

    def _record(self, line: int, columns: Sequence[str], cells: list[str], lines: _Physical) -> Iterator[Row]:
        if lines.long_at:
            yield _refused(line, _too_long())
        elif len(cells) != len(columns):
            yield _refused(line, Fault("body", "列数不对", f"{len(columns)} 列", f"{len(cells)} 列"))
        elif any(ESCAPED.search(cell) for cell in cells):
            yield _refused(line, self._not_decodable())
        else:
            record = dict(zip(columns, cells, strict=True))
            if self._mapping and self._mapping.drops(record):
                self.left_out += 1
            else:
                yield self._ids.row(line, self._body(record))

    def _body(self, record: dict[str, str]) -> dict[str, Any]:
        """A record as the API's body; empty cells are left out."""
        found = {name: record[name].strip() for name in COLUMNS if name in record}
        mapping = self._mapping
        if mapping:
            own = {"id": mapping.id, "title": mapping.title, "received_at": mapping.date}
            found |= {name: record[column].strip() for name, column in own.items() if column}
            found["text"] = mapping.text_of(record)
        else:
            found["text"] = record["text"]
        received = found.get("received_at", "")
        found["received_at"] = iso_date(received) or received  # 2024/1/5 8:30, as people write it
        filled = {name: value for name, value in found.items() if value}
        place = {name: filled.pop(name) for name in PLACE if name in filled}
        return {**filled, "text": found["text"], **({"place": place} if place else {})}

    def _not_decodable(self) -> Fault:
        return Fault("body", "含有无法解码的字节", f"与全文一致的 {self.history.encoding} 编码", "其他字节")


class _Physical:
    """Lines of bounded length, counted. Of a longer one the start is given, and it is marked."""

    def __init__(self, text: TextIO) -> None:
        self.number, self.long_at, self.too_long = 0, 0, False
        self._text = text

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        self.too_long = len(line) == LONGEST_LINE and not line.endswith(("\n", "\r"))
        if self.too_long:
            self.long_at = self.number
            self._skip_rest()
            return "\n"
        return line

    def _skip_rest(self) -> None:
        while (rest := self._text.readline(LONGEST_LINE)) and not rest.endswith(("\n", "\r")):
            pass


class _Ids:
    """A stable id for a row without one: of its content, and of how many equal ones came before it.

    So a file that was corrected, sorted anew or cut into parts gives its rows the ids that they had.
    About 100 bytes of memory for each such row.
    """

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def row(self, line: int, body: Any) -> Row:
        """The body as a row, with an id."""
        if not isinstance(body, dict) or body.get("id") not in (None, ""):
            return read_appeal(line, body)
        row = read_appeal(line, {**body, "id": "history"})
        if row.appeal is None:
            return Row(line, error=row.error)
        appeal = row.appeal.model_copy(update={"id": self._next(row.sha256)})
        return Row(line, appeal, appeal.sha256(), id=appeal.id)

    def _next(self, sha256: str) -> str:
        key = int(sha256[:16], 16)
        count = self._seen[key] = self._seen.get(key, 0) + 1
        return f"history-{sha256[:24]}" + (f"-{count}" if count > 1 else "")


def _delimiter(text: TextIO, path: Path) -> str:
    """Comma, tab or semicolon: whichever the header line has most of."""
    header = text.readline(LONGEST_LINE)
    if not header.strip():
        raise ReadError(f"{path}: expected a header line with the columns' names, got an empty line or file")
    text.seek(0)
    return max((",", "\t", ";"), key=header.count)


def _refused(line: int, fault: Fault) -> Row:
    return Row(line, error=InvalidInput([fault]))


def _too_long() -> Fault:
    return Fault("body", "这一行过长", f"最多 {LONGEST_LINE} 个字符", "更长")


def _unreadable(error: csv.Error, first: int, last: int) -> Fault:
    lines = f"第 {first} 行" if last <= first else f"第 {first} 至 {last} 行（引号未闭合？）"
    return Fault("body", "不是有效的 CSV", "引号成对，单元格内的引号写两次", f"{lines}：{error}"[:200])
