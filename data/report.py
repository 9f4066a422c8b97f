"""What is in a file of appeals, and what is wrong with it, before anything is trained on it.

The report counts; it never shows a text, because texts hold personal data.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data.appeals import Row
from data.cleaning import visible
from data.errors import Problem
from data.masking import find_personal_data
from data.progress import Progress
from data.readers import Reading
from data.scheme import PATH_SEPARATOR, Scheme
from data.splits import near_duplicate_groups, text_key

__all__ = ["Duplicates", "HeadReport", "Report", "data_report", "print_report"]

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
_SHORTEST_NAME = 2  # characters; a label's name of one character is found in any text


@dataclass(frozen=True)
class HeadReport:
    """Labels of one head. `labels`: code → rows that have it as their only code, the most frequent first."""

    labels: Mapping[str, int]
    partial: int  # rows with several admissible codes
    missing: int  # rows without a label
    identical: int  # groups of identical texts in which this head is labelled twice or more
    conflicting: int  # of those, groups whose labels exclude each other
    leaking: int  # rows whose text holds their label's name literally


@dataclass(frozen=True)
class Duplicates:
    """Groups of two rows or more, the rows in them, and the largest."""

    groups: int
    rows: int
    largest: int


@dataclass(frozen=True)
class Report:
    """The data report. `personal`: kind → pieces found in the texts; `lengths`: quantile → characters."""

    file: str
    encoding: str
    total: int
    good: int
    dropped: int
    bad: tuple[Problem, ...]
    dates: tuple[str, str]
    lengths: Mapping[float, int]
    heads: Mapping[str, HeadReport]
    exact: Duplicates
    near: Duplicates
    personal: Mapping[str, int]
    personal_rows: int

    def as_json(self) -> dict[str, Any]:
        """The report as plain lists and dicts."""
        return {**asdict(self), "bad": [str(problem) for problem in self.bad]}


def data_report(reading: Reading, scheme: Scheme | None = None, progress: Progress | None = None) -> Report:
    """Count what a file holds. Linear in its size; `scheme` gives the labels' names."""
    rows = reading.rows
    keys = [text_key(row.text) for row in rows]
    personal, personal_rows = _personal(rows, progress)
    dates = sorted(row.date for row in rows if row.date)
    return Report(
        file=reading.file,
        encoding=reading.encoding,
        total=reading.total,
        good=len(rows),
        dropped=reading.dropped,
        bad=reading.problems,
        dates=(dates[0], dates[-1]) if dates else ("", ""),
        lengths=_lengths(rows),
        heads={head: _head(head, rows, keys, scheme) for head in reading.mapping.heads},
        exact=_duplicates(keys),
        near=_duplicates(near_duplicate_groups([row.text for row in rows], progress=progress)),
        personal=personal,
        personal_rows=personal_rows,
    )


def _lengths(rows: Sequence[Row]) -> dict[float, int]:
    lengths = sorted(len(row.text) for row in rows)
    return {q: lengths[round(q * (len(lengths) - 1))] for q in QUANTILES} if lengths else {}


def _duplicates(groups: Sequence[str]) -> Duplicates:
    sizes = [size for size in Counter(groups).values() if size > 1]
    return Duplicates(len(sizes), sum(sizes), max(sizes, default=1))


def _personal(rows: Sequence[Row], progress: Progress | None) -> tuple[dict[str, int], int]:
    kinds: Counter[str] = Counter()
    touched = 0
    for done, row in enumerate(rows, start=1):
        found = find_personal_data(visible(row.text))
        kinds.update(hit.kind for hit in found)
        touched += bool(found)
        if progress and (done % 500 == 0 or done == len(rows)):
            progress("looking for personal data", done, len(rows))
    return dict(kinds.most_common()), touched


def _head(head: str, rows: Sequence[Row], keys: Sequence[str], scheme: Scheme | None) -> HeadReport:
    pairs = zip(keys, rows, strict=True)
    labelled = [(key, row, row.labels[head]) for key, row in pairs if head in row.labels]
    sure = Counter(code for _, _, codes in labelled if len(codes) == 1 for code in codes)
    names = _names(head, scheme)
    by_text: defaultdict[str, list[frozenset[str]]] = defaultdict(list)
    for key, _, codes in labelled:
        by_text[key].append(codes)
    several = [sets for sets in by_text.values() if len(sets) > 1]
    return HeadReport(
        labels=dict(sure.most_common()),
        partial=len(labelled) - sure.total(),
        missing=len(rows) - len(labelled),
        identical=len(several),
        conflicting=sum(not frozenset.intersection(*sets) for sets in several),
        leaking=sum(_leaks(row.text, map(names, codes)) for _, row, codes in labelled if len(codes) == 1),
    )


def _names(head: str, scheme: Scheme | None) -> Callable[[str], str]:
    names = scheme.heads[head].names if scheme is not None and head in scheme.heads else {}
    return lambda code: names.get(code, code).split(PATH_SEPARATOR)[-1]


def _leaks(text: str, names: Iterable[str]) -> bool:
    return any(len(name) >= _SHORTEST_NAME and not name.isascii() and name in text for name in names)


# -- as people read it -----------------------------------------------------------------------------


def print_report(report: Report, console: Console, scheme: Scheme | None = None, top: int = 20) -> None:
    """Write the report; `top` labels of each head are shown, the rest is summed up."""
    encoding = f" ({report.encoding})" if report.encoding else ""
    console.print(f"[bold]{escape(report.file)}[/bold]{encoding}: {report.total} rows")
    console.print(
        f"  good {report.good}, left out by the mapping {report.dropped}, problems {len(report.bad)}"
    )
    if report.dates[0]:
        console.print(f"  dates from {report.dates[0]} to {report.dates[1]}")
    console.print(_overview(report))
    for head, one in report.heads.items():
        console.print(_label_table(head, one, _names(head, scheme), top))
    for problem in report.bad:
        console.print(f"[red]bad[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)


def _overview(report: Report) -> Table:
    table = Table("what", "count", title="Texts", title_justify="left")
    for quantile, length in report.lengths.items():
        table.add_row(f"length, {quantile:.0%} of the rows at most", f"{length}")
    for name, found in (("identical", report.exact), ("near-duplicate", report.near)):
        counts = f"{found.groups}, {found.rows}, {found.largest}"
        table.add_row(f"{name} texts: groups, rows, largest", counts)
    for kind, count in report.personal.items():
        table.add_row(f"personal data still visible: {kind}", f"{count}")
    table.add_row("rows with personal data still visible", f"{report.personal_rows}")
    return table


def _label_table(head: str, one: HeadReport, name: Callable[[str], str], top: int) -> Table:
    table = Table("label", "name", "rows", title=f"Head {head}", title_justify="left")
    for code, count in list(one.labels.items())[:top]:
        table.add_row(escape(code), escape(name(code)), f"{count}")
    rest = list(one.labels.values())[top:]
    if rest:
        table.add_row(f"{len(rest)} more", "", f"{sum(rest)}")
    table.add_section()
    table.add_row("one of several (partial label)", "", f"{one.partial}")
    table.add_row("no label", "", f"{one.missing}")
    table.add_row("identical texts, labels in conflict", f"of {one.identical} groups", f"{one.conflicting}")
    table.add_row("label's name is in the text (leak)", "", f"{one.leaking}")
    return table
