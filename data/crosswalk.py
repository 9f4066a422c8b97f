"""Crosswalks: labels of another scheme ↔ codes of ours, as CSV files that a person can check.

Columns `source,label,codes,note`. `label` is the path of the other scheme's names joined by ` / `, of any
depth: the longest prefix that is listed decides, so a branch is one line and its exceptions are
further lines. `codes` are codes of ours joined by `|`, leaves or inner nodes; more than one leaf means
"one of these". Empty codes: the label is known and deliberately not mapped.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.appeals import Row
from data.errors import CrosswalkError, Problem, SchemeError
from data.scheme import PATH_SEPARATOR, Scheme

COLUMNS = ("source", "label", "codes", "note")
FEW = 3  # a partial label with so few leaves still teaches much
CROSSWALKS = Path(__file__).parent / "crosswalks"  # the shipped ones

Path_ = tuple[str, ...]


def split_path(label: str) -> Path_:
    """Names of a label path (`城管问题 / 街面秩序`), without blanks around them."""
    return tuple(part.strip() for part in label.split(PATH_SEPARATOR))


@dataclass(frozen=True)
class Crosswalk:
    """A checked crosswalk to one head. `entries`: label path → active leaf codes, empty if unmapped."""

    name: str
    head: str
    entries: Mapping[Path_, frozenset[str]]

    @classmethod
    def load(cls, path: Path | str, scheme: Scheme, head: str = "") -> Crosswalk:
        """Read and check a crosswalk CSV (UTF-8). Without `head`, the head is the one that has all its codes.

        Raises CrosswalkError that lists every line with a wrong column, label or code.
        """
        file = Path(path)
        lines = _read(file)
        head = head or _head_of(file, lines, scheme)
        return cls(file.stem, head, _entries(file, lines, scheme, head))

    @classmethod
    def join(cls, crosswalks: Sequence[Crosswalk]) -> Crosswalk:
        """One crosswalk out of several to the same head, such as two trees used one after the other.

        Raises CrosswalkError if they lead to different heads or disagree about a label.
        """
        if len({one.head for one in crosswalks}) != 1:
            heads = ", ".join(f"{one.name} → {one.head}" for one in crosswalks)
            raise CrosswalkError(
                "cannot join:", [Problem("crosswalks to one and the same head", heads or "none")]
            )
        entries: dict[Path_, frozenset[str]] = {}
        for one in crosswalks:
            for path, codes in one.entries.items():
                if entries.setdefault(path, codes) != codes:
                    came = f"'{PATH_SEPARATOR.join(path)}' also in {one.name} with other codes"
                    raise CrosswalkError("cannot join:", [Problem("each label mapped one way", came)])
        return cls("+".join(one.name for one in crosswalks), crosswalks[0].head, entries)

    def codes(self, label_path: str) -> frozenset[str]:
        """Admissible leaf codes of a label path; empty if it is unmapped or unknown (see `knows`)."""
        found = self._longest(label_path)
        return self.entries[found] if found else frozenset()

    def knows(self, label_path: str) -> bool:
        """Whether the label path, or a branch above it, is listed at all."""
        return bool(self._longest(label_path))

    def _longest(self, label_path: str) -> Path_:
        path = split_path(label_path)
        return next((path[:n] for n in range(len(path), 0, -1) if path[:n] in self.entries), ())


def agree(first: frozenset[str], second: frozenset[str]) -> frozenset[str]:
    """What two partial labels of one row say together, such as its category path and its unit.

    An empty set says nothing. Sets that overlap leave what both admit; sets that exclude each other
    leave either, because one of the two is wrong and nobody knows which.
    """
    if not first or not second:
        return first | second
    return first & second or first | second


def narrow_by_unit(row: Row, domains: Crosswalk) -> Row:
    """The row with its category label narrowed to what its unit deals with (see `agree`).

    `domains` maps units to categories (the shipped `unit_categories.csv`). A row without a sure unit
    stays as it is; one without a category gets the unit's categories as a partial label.
    """
    units = row.labels.get("unit", frozenset())
    admitted = domains.codes(next(iter(units))) if len(units) == 1 else frozenset()
    if not admitted:
        return row
    category = agree(row.labels.get("category", frozenset()), admitted)
    return replace(row, labels={**row.labels, "category": category})


@dataclass(frozen=True)
class Coverage:
    """How much of a file's labels a crosswalk covers, counted in rows."""

    name: str
    rows: int
    covered: int  # a non-empty map
    sure: int  # one single leaf
    few: int  # at most `FEW` leaves, the single ones included
    unmapped: int  # listed with empty codes
    unknown: Mapping[str, int]  # labels that are not listed → rows

    @property
    def share(self) -> float:
        """Share of the rows with a non-empty map, 0 to 1."""
        return self.covered / self.rows if self.rows else 0.0

    @property
    def sure_share(self) -> float:
        """Share of the rows mapped to one single leaf, 0 to 1."""
        return self.sure / self.rows if self.rows else 0.0

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.rows} rows, {self.covered} covered ({self.share:.1%}), "
            f"{self.sure} by one leaf ({self.sure_share:.1%}), {self.few} by at most {FEW}, "
            f"{self.unmapped} unmapped on purpose, "
            f"{sum(self.unknown.values())} unknown"
        )


def coverage(crosswalk: Crosswalk, labels: Iterable[str]) -> Coverage:
    """Count how many of the labels (one per row) the crosswalk covers; `print` it for one line of text."""
    counts = Counter(labels)
    sets = {label: crosswalk.codes(label) for label in counts}
    unknown = {label: rows for label, rows in counts.most_common() if not crosswalk.knows(label)}
    covered = sum(rows for label, rows in counts.items() if sets[label])
    return Coverage(
        name=crosswalk.name,
        rows=counts.total(),
        covered=covered,
        sure=sum(rows for label, rows in counts.items() if len(sets[label]) == 1),
        few=sum(rows for label, rows in counts.items() if 0 < len(sets[label]) <= FEW),
        unmapped=counts.total() - covered - sum(unknown.values()),
        unknown=unknown,
    )


@dataclass(frozen=True)
class _Line:
    number: int
    label: Path_
    codes: tuple[str, ...]


def _read(file: Path) -> list[_Line]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, strict=True)
            lines = [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
    except OSError as error:
        problem = Problem("a readable file", error.strerror or type(error).__name__, file=str(file))
        raise CrosswalkError("no crosswalk:", [problem]) from error
    except (UnicodeDecodeError, csv.Error) as error:
        problem = Problem("a CSV file in UTF-8", str(error)[:120], file=str(file))
        raise CrosswalkError("the crosswalk cannot be read:", [problem]) from error
    return _checked_lines(file, lines)


def _checked_lines(file: Path, rows: list[tuple[int, list[str]]]) -> list[_Line]:
    header = tuple(cell.strip() for cell in rows[0][1]) if rows else ()
    if header != COLUMNS:
        problem = Problem(
            ",".join(COLUMNS), ",".join(header) or "nothing", file=str(file), line=1, path="header"
        )
        raise CrosswalkError("the crosswalk has other columns:", [problem])
    problems = [problem for number, row in rows[1:] for problem in _row_problems(file, number, row)]
    lines = [_line(number, row) for number, row in rows[1:] if len(row) == len(COLUMNS)]
    first: dict[Path_, int] = {}
    for line in lines:
        if first.setdefault(line.label, line.number) != line.number:
            came = f"'{PATH_SEPARATOR.join(line.label)}' of line {first[line.label]} again"
            problems.append(Problem("each label once", came, str(file), line.number, "label"))
    if problems:
        raise CrosswalkError(f"{file} is not a valid crosswalk; correct these lines:", problems)
    return lines


def _row_problems(file: Path, number: int, row: list[str]) -> list[Problem]:
    if len(row) != len(COLUMNS):
        return [Problem(f"{len(COLUMNS)} columns", f"{len(row)}", str(file), number)]
    if not all(split_path(row[1])):
        return [Problem("a label path such as `甲 / 乙`", repr(row[1]), str(file), number, "label")]
    return []


def _line(number: int, row: list[str]) -> _Line:
    codes = tuple(code.strip() for code in row[2].split("|") if code.strip())
    return _Line(number, split_path(row[1]), codes)


def _head_of(file: Path, lines: list[_Line], scheme: Scheme) -> str:
    codes = {code for line in lines for code in line.codes}
    missing = {head: len(codes - set(labels)) for head, labels in scheme.labels.items()}
    best = [head for head, count in missing.items() if count == min(missing.values())]
    if len(best) == 1:
        return best[0]
    problem = Problem(
        "codes of one head only, or a head named with it", f"all fit {', '.join(best)}", str(file)
    )
    raise CrosswalkError("the crosswalk's head is not clear:", [problem])


def _entries(file: Path, lines: list[_Line], scheme: Scheme, head: str) -> dict[Path_, frozenset[str]]:
    problems: list[Problem] = []
    entries: dict[Path_, frozenset[str]] = {}
    for line in lines:
        sets = [_leaves(file, line, code, scheme, head, problems) for code in line.codes]
        entries[line.label] = frozenset().union(*sets)
    if problems:
        raise CrosswalkError(f"{file} is not a valid crosswalk; correct these lines:", problems)
    return entries


def _leaves(
    file: Path, line: _Line, code: str, scheme: Scheme, head: str, problems: list[Problem]
) -> frozenset[str]:
    try:
        leaves = scheme.leaves(head, code)
    except SchemeError:
        problems.append(Problem(f"codes of head '{head}'", f"'{code}'", str(file), line.number, "codes"))
        return frozenset()
    if not leaves:
        came = f"'{code}', retired without a replacement"
        problems.append(Problem("codes with active leaves", came, str(file), line.number, "codes"))
    return leaves
