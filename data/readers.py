"""Any city's export as rows: read the file, map its columns and labels, report all that is wrong.

`read` refuses a file with bad rows and names every one of them; `read_all` hands back the good rows
and the problems, for those who want to look at both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from data.appeals import Row
from data.cleaning import is_blank
from data.crosswalk import Crosswalk, narrow_by_unit
from data.errors import BadRows, Problem, ReadError
from data.mapping import FileMapping, HeadLabels, load_mapping, plain_mapping
from data.progress import Progress
from data.scheme import Scheme, default_scheme
from data.tables import Table, read_table

__all__ = ["LONGEST_TEXT", "Reading", "iso_date", "read", "read_all", "require_columns"]

LONGEST_TEXT = 100_000  # characters; a longer "appeal" is a file that was pasted in, or a missing quote


@dataclass(frozen=True)
class Reading:
    """What a file held: good rows, problems (each with its line), and how many rows the mapping left out."""

    file: str
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    dropped: int
    total: int  # rows found in the file, bad and dropped ones included
    mapping: FileMapping
    encoding: str = ""

    def good_rows(self) -> list[Row]:
        """All rows, if none is bad; else raises BadRows."""
        if self.problems:
            found = f"{len(self.problems)} problems in {self.total} rows"
            raise BadRows(f"{self.file}: {found}; correct these lines:", self.problems)
        return list(self.rows)


def read(
    path: Path | str, mapping: FileMapping | Path | str | None = None, scheme: Scheme | None = None
) -> list[Row]:
    """All rows of a CSV, TSV, JSONL, Parquet or Excel file (text files also gzipped).

    `mapping` is a mapping file or the name of a shipped one; without it the file has our columns:
    `text` (id, title, date, group, fold, weight) and one per head of the scheme (of the default scheme
    where none is given). Labels are checked against `scheme`; without a scheme they are taken as they
    are, except where the mapping translates them. Raises BadRows that lists every bad row with its
    line; ReadError, MappingError or SchemeError if nothing can be read at all.
    """
    return read_all(path, mapping, scheme).good_rows()


def read_all(
    path: Path | str,
    mapping: FileMapping | Path | str | None = None,
    scheme: Scheme | None = None,
    progress: Progress | None = None,
) -> Reading:
    """As `read`, but bad rows do not raise: they are in `problems`, the good ones in `rows`."""
    file = Path(path)
    chosen = None if mapping is None else load_mapping(mapping)
    table = read_table(file)
    chosen = chosen or plain_mapping(table.columns, scheme)
    require_columns(file, table, chosen)
    builder = _Builder(file, chosen, scheme)
    rows = len(table.dataset)
    for done, (line, record) in enumerate(table.records(), start=1):
        builder.add(line, record)
        if progress and (done % 1000 == 0 or done == rows):
            progress("reading", done, rows)
    problems = sorted([*table.problems, *builder.problems], key=lambda problem: problem.line)
    total = builder.seen + len({problem.line for problem in table.problems})
    return Reading(
        file.name, tuple(builder.rows), tuple(problems), builder.dropped, total, chosen, table.encoding
    )


def require_columns(file: Path, table: Table, mapping: FileMapping) -> None:
    """Raises ReadError that names the columns that are there if the mapping speaks of others."""
    missing = [column for column in mapping.columns() if column not in table.columns]
    if missing:
        there = ", ".join(repr(column)[:60] for column in table.columns[:60])
        raise ReadError(f"{file}: expected the columns {', '.join(map(repr, missing))}; the file has {there}")


@dataclass
class _Builder:
    """Turns records into rows, one after the other; keeps what is wrong with them."""

    file: Path
    mapping: FileMapping
    scheme: Scheme | None
    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    dropped: int = 0
    seen: int = 0

    def __post_init__(self) -> None:
        self.source = self.mapping.source or self.file.name.split(".")[0]
        self.heads = [HeadLabels(head, rules, self.scheme) for head, rules in self.mapping.heads.items()]
        narrow = self.mapping.narrow_category
        self.domains = Crosswalk.load(narrow, self.scheme or default_scheme(), "category") if narrow else None
        self.lines: dict[str, int] = {}  # id → its first line

    def add(self, line: int, record: dict[str, str]) -> None:
        self.seen += 1
        if self.mapping.drops(record):
            self.dropped += 1
            return
        row = self._row(line, record)
        wrong = [*_text_problems(row.text), *self._identity(row), *_date_problems(record, self.mapping)]
        labels = {labeller.head: labeller.codes(record) for labeller in self.heads}
        wrong += [codes for codes in labels.values() if isinstance(codes, Problem)]
        wrong += _weight_problems(record, self.mapping)
        self.problems += [Problem(one.expected, one.came, self.file.name, line, one.path) for one in wrong]
        if not wrong:
            known = {head: codes for head, codes in labels.items() if not isinstance(codes, Problem)}
            row = replace(row, labels={head: codes for head, codes in known.items() if codes})
            self.rows.append(narrow_by_unit(row, self.domains) if self.domains else row)

    def _row(self, line: int, record: dict[str, str]) -> Row:
        mapping = self.mapping
        group = _get(record, mapping.group)
        return Row(
            id=_get(record, mapping.id) or f"{self.source}:{line}",
            text=mapping.text_of(record),
            title=_get(record, mapping.title),
            date=iso_date(_get(record, mapping.date)) or "",
            source=self.source,
            line=line,
            # group numbers of two files are not the same groups
            group=f"{mapping.source}:{group}" if group and mapping.source else group,
            fold=_get(record, mapping.fold),
            weight=_number(_get(record, mapping.weight)) or 1.0,
        )

    def _identity(self, row: Row) -> list[Problem]:
        first = self.lines.setdefault(row.id, row.line)
        if first == row.line:
            return []
        return [Problem("an id that is used once", f"'{row.id}' of line {first} again", path=self.mapping.id)]


def _get(record: dict[str, str], column: str) -> str:
    return record[column].strip() if column else ""


def _text_problems(text: str) -> list[Problem]:
    if not text.strip():
        return [Problem("a text", "nothing", path="text")]
    if len(text) > LONGEST_TEXT:
        return [Problem(f"a text of at most {LONGEST_TEXT:,} characters", f"{len(text):,}", path="text")]
    if is_blank(text):
        return [Problem("a text", "only invisible characters or markup", path="text")]
    return []


_DATE = re.compile(
    r"(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})日?(?:[T\s]+(\d{1,2})[:：时点](\d{1,2})(?:[:：分](\d{1,2}))?.*)?"
)
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:\s*(\d{2})(\d{2})(\d{2})?)?")


def iso_date(text: str) -> str | None:
    """A date as people write it (2018-1-2, 2018/01/02 10:20, 2018年1月2日, 20180102) in ISO 8601.

    Empty stays empty; None if it is no date.
    """
    if not text:
        return ""
    match = _DATE.fullmatch(text) or _COMPACT.fullmatch(text)
    if match is None:
        return None
    try:
        moment = datetime(*(int(part) for part in match.groups(default="0")))  # type: ignore[arg-type]
    except ValueError:
        return None
    return moment.isoformat() if match.group(4) else moment.date().isoformat()


def _date_problems(record: dict[str, str], mapping: FileMapping) -> list[Problem]:
    came = _get(record, mapping.date)
    if iso_date(came) is not None:
        return []
    return [Problem("a date such as 2024-05-31 or 2024-05-31 14:30", repr(came)[:40], path=mapping.date)]


def _weight_problems(record: dict[str, str], mapping: FileMapping) -> list[Problem]:
    came = _get(record, mapping.weight)
    if not came or _number(came) is not None:
        return []
    return [Problem("a weight above 0, such as 0.5", repr(came)[:40], path=mapping.weight)]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
