"""What `python -m data export` and `import` do: choose, write or read, and say what was done."""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TextIO
from zoneinfo import ZoneInfo

from data.database import Database
from data.dataset_version import ZONE, write_version
from data.errors import BadRows, DataError, DatasetError, Problem, ReadError
from data.labels.exchange import FORMATS, Format
from data.labels.imports import import_labels
from data.labels.label_studio import label_studio_config
from data.labels.records import INCLUDE, LabelRecord, Selection, records
from data.progress import Progress
from data.readers import iso_date
from data.reviews import ReviewStore, Suspicion
from data.reviews.bulk import known_numbers
from data.scheme import Scheme
from data.scheme_history import reading_for
from data.tables import read_table

__all__ = ["export_dataset", "export_file", "import_file", "selected", "suspect_file"]

SUSPECTS = ("id", "head", "said", "given_probability")


def selected(include: str, since: str, until: str, district: str, zone: ZoneInfo = ZONE) -> Selection:
    """The selection that a person typed; days are of `zone`. Raises DataError."""
    for one in INCLUDE:
        if one == include:
            return Selection(one, _day(since, zone), _day(until, zone), district)
    raise DataError(f"expected --include to be one of {', '.join(INCLUDE)}, got '{include}'")


def _day(text: str, zone: ZoneInfo) -> datetime | None:
    iso = iso_date(text)
    if iso is None:
        raise DataError(f"expected a day such as 2025-03-04, got '{text}'")
    return datetime.fromisoformat(iso).replace(tzinfo=zone) if iso else None


def export_dataset(
    database: Database,
    root: Path,
    name: str,
    scheme: Scheme,
    selection: Selection,
    now: datetime,
    told: Progress,
) -> list[str]:
    """Write a dataset version; what to say about it. Raises DatasetError, StoreError, SchemeChangeError."""
    if selection.include != "labelled":
        raise DatasetError(f"expected labelled appeals for a dataset, got --include {selection.include}")
    version = write_version(database, root, name, scheme, now=now, selection=selection, told=told)
    was_there = now - version.created_at > timedelta(0)
    return [
        f"{version.path}{' (was there already: nothing changed)' if was_there else ''}",
        *(f"  {head}: {_states(found['states'])}" for head, found in version.card["heads"].items()),
    ]


def _states(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items()) or "no labels"


def export_file(
    database: Database,
    out: Path | None,
    format: str,
    scheme: Scheme,
    selection: Selection,
    told: Progress,
) -> list[str]:
    """Write a file for another labelling tool; what to say about it. An existing file is not replaced.

    The format `opinions` is what `python -m evaluation agreement` reads.
    """
    suffix, writer = (".csv", write_opinions) if format == "opinions" else _writer(format)
    path = out or Path(f"appeals-{format}{suffix}")
    beside = path.with_suffix(".config.xml") if format == "label-studio" else None
    for target in (path, beside):
        if target is not None and target.exists():
            raise DatasetError(f"expected a new file, got {target}, which is there already")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    found = records(database, reading_for(database, scheme), selection, told=told)
    try:
        with part.open("x", encoding="utf-8") as stream:
            count = writer(found, stream, scheme)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    if beside is not None:
        beside.write_text(label_studio_config(scheme), encoding="utf-8")
    return [f"{path}: {count} appeals", *([f"labelling interface: {beside}"] if beside else [])]


def import_file(
    database: Database,
    path: Path,
    format: str,
    scheme: Scheme,
    now: datetime,
    reviewer: str,
    adjudicated: bool,
    told: Progress,
) -> list[str]:
    """Take a file's labels; what to say about it. Raises BadRows, ReadError, StoreError."""
    _format(format)
    asked = {"reviewer": reviewer, "adjudicated": adjudicated}
    done = import_labels(database, path, format, scheme, now=now, told=told, **asked)  # type: ignore[arg-type]
    return [f"{done.written} labels of {done.appeals} appeals written, {done.unchanged} stood already"]


Writer = Callable[[Iterable[LabelRecord], TextIO, Scheme], int]


def write_opinions(found: Iterable[LabelRecord], stream: TextIO, scheme: Scheme) -> int:
    """What each reviewer said (decisions of leads left out) as CSV: appeal, reviewer, head, code."""
    writer, count = csv.writer(stream, lineterminator="\n"), 0
    writer.writerow(("appeal", "reviewer", "head", "code"))
    for record in found:
        voices = [opinion for opinion in record.opinions if not opinion.adjudicated]
        for opinion in voices:
            writer.writerows((record.id, opinion.reviewer, *label) for label in opinion.labels.items())
        count += bool(voices)
    return count


def suspect_file(database: Database, path: Path, now: datetime) -> list[str]:
    """Put what `python -m evaluation label-errors` wrote into the queue `suspected`; what to say about it.

    Raises BadRows that lists every line with an unknown id or no probability.
    """
    table = read_table(path)
    missing = [column for column in SUSPECTS if column not in table.columns]
    if missing:
        raise ReadError(f"{path}: expected the columns {', '.join(SUSPECTS)}; missing: {', '.join(missing)}")
    rows = list(table.records())
    with database.connect() as connection:
        known = known_numbers(connection, sorted({row["id"] for _, row in rows}))
    problems, found = list(table.problems), dict[int, Suspicion]()
    for line, row in rows:
        share = _share(row["given_probability"])
        if row["id"] not in known:
            problems.append(
                Problem("the id of a stored appeal", f"'{row['id']}'"[:80], path.name, line, "id")
            )
        elif share is None:
            came = f"'{row['given_probability']}'"[:80]
            problems.append(Problem("a probability", came, path.name, line, "given_probability"))
        else:
            one = Suspicion(known[row["id"]], 1 - share, row["head"], row["said"])
            worst = found.setdefault(one.appeal_number, one)
            found[one.appeal_number] = max(one, worst, key=lambda each: each.score)
    if problems:
        raise BadRows(f"{path}: {len(problems)} problems; nothing was taken up:", problems)
    ReviewStore(database).suspect("suspected", list(found.values()), f"file:{path.name}"[:160], now=now)
    return [f"{len(found)} appeals wait in the queue suspected"]


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _writer(name: str) -> tuple[str, Writer]:
    chosen = _format(name)
    return chosen.suffix, chosen.write


def _format(name: str) -> Format:
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise DataError(f"expected one of the formats {', '.join(FORMATS)}, got '{name}'{hint}")
    return FORMATS[name]
