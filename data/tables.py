"""A file of any city as one table of texts, each row with its line in the file.

CSV, TSV, JSONL, Parquet and Excel; text files in UTF-8, UTF-16 (with a mark) or GB18030, plain or
gzipped. What cannot be read of single lines is noted as a problem with its line, the rest is kept.
The table is a Hugging Face `Dataset`, so that whatever `datasets` can do can be done with it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from data.errors import Problem, ReadError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["LINE", "Table", "read_table"]

LINE = "__line__"  # column that holds the line; row number in Parquet, which has no lines
_BATCH = 1000  # rows converted at a time


@dataclass(frozen=True)
class Table:
    """The rows of a file as texts. `columns` leaves out the line; `problems` are lines that were lost."""

    dataset: Dataset
    columns: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    encoding: str = ""

    def records(self) -> Iterator[tuple[int, dict[str, str]]]:
        """(line, column → cell) of each row, in the file's order; a missing cell is the empty text."""
        for batch in self.dataset.iter(batch_size=_BATCH):
            cells = [batch[column] for column in self.columns]
            for number, *row in zip(batch[LINE], *cells, strict=True):
                yield number, {column: _cell(value) for column, value in zip(self.columns, row, strict=True)}


def read_table(path: Path) -> Table:
    """Read a file by its suffix.

    Raises ReadError if it is missing, of another kind, broken as a whole, or without a header.
    """
    name = path.name.lower().removesuffix(".gz")
    reader = next((read for suffixes, read in _READERS.items() if name.endswith(suffixes)), None)
    if reader is None:
        known = " ".join(suffix for suffixes in _READERS for suffix in suffixes)
        raise ReadError(f"{path}: expected a file that ends in one of {known} (text files also with .gz)")
    if not path.is_file():
        raise ReadError(f"{path}: expected a file, got {'a folder' if path.is_dir() else 'nothing there'}")
    try:
        return reader(path)
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error}") from error


# -- text ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Text:
    content: str
    encoding: str
    broken: frozenset[int] = frozenset()  # lines with bytes that the encoding does not have


_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def _text(path: Path) -> _Text:
    raw = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ReadError(f"{path}: expected a gzip file, got one that is broken: {error}") from error
    marked = next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), None)
    for encoding in [marked] if marked else ["utf-8", "gb18030"]:
        try:
            return _Text(raw.decode(encoding), encoding)
        except UnicodeDecodeError:
            continue
    return _mostly_decoded(raw, "utf-8" if marked != "utf-16" else "utf-16")


def _mostly_decoded(raw: bytes, preferred: str) -> _Text:
    """Neither encoding fits the whole file: take the one that fits more lines, and note the others."""
    if preferred == "utf-16":
        return _Text(raw.decode("utf-16", errors="replace"), "utf-16", frozenset({1}))
    lines = raw.split(b"\n")
    broken = {encoding: _undecodable(lines, encoding) for encoding in ("utf-8", "gb18030")}
    encoding = min(broken, key=lambda one: len(broken[one]))
    content = "\n".join(line.decode(encoding, errors="replace") for line in lines)
    return _Text(content.removeprefix("\ufeff"), encoding, broken[encoding])


def _undecodable(lines: Sequence[bytes], encoding: str) -> frozenset[int]:
    broken = set()
    for number, line in enumerate(lines, start=1):
        try:
            line.decode(encoding)
        except UnicodeDecodeError:
            broken.add(number)
    return frozenset(broken)


def _broken_lines(path: Path, text: _Text) -> list[Problem]:
    expected = f"text in UTF-8 or GB18030 (most of the file is {text.encoding})"
    return [Problem(expected, "other bytes", path.name, line) for line in sorted(text.broken)]


# -- CSV -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """A record of a CSV file; with quoted line ends it reaches from `first` to `last`."""

    first: int
    last: int
    cells: list[str]


def _read_csv(path: Path) -> Table:
    text = _text(path)
    problems = _broken_lines(path, text)
    records = _csv_records(text.content, path, problems)
    header = next(records, _Line(0, 0, []))
    columns = _checked_header(header.cells, path)
    kept = []
    for record in records:
        if len(record.cells) != len(columns):
            expected = f"{len(columns)} columns ({', '.join(columns)})"[:300]
            problems.append(Problem(expected, str(len(record.cells)), path.name, record.first))
        elif text.broken.isdisjoint(range(record.first, record.last + 1)):
            kept.append(record)
    cells = zip(*(record.cells for record in kept), strict=True) if kept else ([] for _ in columns)
    lines = [record.first for record in kept]
    return _table(dict(zip(columns, map(list, cells), strict=True)), lines, problems, text.encoding)


def _csv_records(content: str, path: Path, problems: list[Problem]) -> Iterator[_Line]:
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=_delimiter(content), strict=True)
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problems.append(_unreadable(error, path, first, reader.line_num))
                continue
            if any(cell.strip() for cell in cells):
                yield _Line(first, reader.line_num, cells)
    finally:
        csv.field_size_limit(limit)


_LONGEST_CELL = 2**31 - 1  # a text that is too long is refused with its line, not by the csv module


def _unreadable(error: csv.Error, path: Path, first: int, last: int) -> Problem:
    if "unexpected end" in str(error):
        return Problem("a closing quote", f"none until the file's end (line {last})", path.name, first)
    return Problem("a CSV line (a quote inside a quoted cell is written twice)", str(error), path.name, first)


def _delimiter(content: str) -> str:
    header = content[: content.find("\n") + 1 or len(content)]
    return max((",", "\t", ";"), key=header.count)


def _checked_header(cells: Sequence[str], path: Path) -> tuple[str, ...]:
    """Names of the columns, with single spaces; a column without a name is called after its place."""
    if not any(cell.strip() for cell in cells):
        raise ReadError(f"{path}: expected a header line with the columns' names, got an empty file")
    columns = tuple(" ".join(cell.split()) or f"column {at}" for at, cell in enumerate(cells, start=1))
    unreadable = [column for column in columns if _UNREADABLE.search(column)]
    if unreadable:
        came = ", ".join(map(repr, unreadable))[:200]
        raise ReadError(f"{path}: expected a table with its columns' names, got binary data: {came}")
    twice = [column for column, count in Counter([*columns, LINE]).items() if count > 1]
    if twice:
        raise ReadError(f"{path}: expected each column's name once, got twice: {', '.join(twice)[:300]}")
    return columns


_UNREADABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffd]")


# -- JSONL, Parquet, Excel -------------------------------------------------------------------------


def _read_jsonl(path: Path) -> Table:
    text = _text(path)
    problems = _broken_lines(path, text)
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(text.content.split("\n"), start=1):
        if not line.strip() or number in text.broken:
            continue
        record = _json_object(line)
        if isinstance(record, Problem):
            problems.append(Problem(record.expected, record.came, path.name, number))
        else:
            records.append(record)
            lines.append(number)
    keys = list(dict.fromkeys(key for record in records for key in record))
    if not keys:
        raise ReadError(f"{path}: expected one JSON object a line, got none")
    names = zip(_checked_header(keys, path), keys, strict=True)
    cells = {name: [_cell(record.get(key)) for record in records] for name, key in names}
    return _table(cells, lines, problems, text.encoding)


def _json_object(line: str) -> dict[str, Any] | Problem:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Problem("a JSON object", f"{error}"[:120])
    return value if isinstance(value, dict) else Problem("a JSON object", f"a {type(value).__name__}")


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet
    from datasets import Dataset

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise ReadError(f"{path}: expected a Parquet file, got one that is broken: {error}"[:300]) from error
    columns = _checked_header(table.column_names, path)
    numbered = table.rename_columns(list(columns)).append_column(
        LINE, pyarrow.array(range(1, table.num_rows + 1))
    )
    return Table(Dataset(numbered), columns)


def _read_excel(path: Path) -> Table:
    import pandas

    try:
        frame = pandas.read_excel(path, header=None, dtype=object, keep_default_na=False, engine="openpyxl")
    except (BadZipFile, KeyError, ValueError) as error:
        raise ReadError(f"{path}: expected an Excel file, got one that is broken: {error}"[:300]) from error
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    filled = [(number, row) for number, row in enumerate(rows, start=1) if any(cell.strip() for cell in row)]
    columns = _checked_header(filled[0][1] if filled else [], path)
    cells = {column: [row[index] for _, row in filled[1:]] for index, column in enumerate(columns)}
    return _table(cells, [number for number, _ in filled[1:]], [])


def _table(
    cells: Mapping[str, list[str]], lines: list[int], problems: list[Problem], encoding: str = ""
) -> Table:
    from datasets import Dataset, Features, Value  # a second to import; only reading needs it

    # large: a column of texts may pass the 2 GiB that a plain Arrow string column holds
    features = Features({**{column: Value("large_string") for column in cells}, LINE: Value("int64")})
    safe = {column: [_storable(cell) for cell in values] for column, values in cells.items()}
    dataset = Dataset.from_dict({**safe, LINE: lines}, features=features)
    return Table(dataset, tuple(cells), tuple(problems), encoding)


def _storable(cell: str) -> str:
    """Arrow stores UTF-8, which has no lone surrogates (JSON can write them)."""
    return cell if cell.isascii() else cell.encode("utf-8", "replace").decode("utf-8")


def _cell(value: Any) -> str:
    """Any cell as the text that a person would have typed."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NaTType":
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime | date | time):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, list | tuple):
        return "|".join(map(_cell, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


_READERS: Mapping[tuple[str, ...], Callable[[Path], Table]] = {
    (".csv", ".tsv", ".txt"): _read_csv,
    (".jsonl", ".ndjson"): _read_jsonl,
    (".parquet",): _read_parquet,
    (".xlsx", ".xlsm"): _read_excel,
}
