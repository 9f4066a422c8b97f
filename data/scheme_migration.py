"""What `python -m data schemes migrate` does: check a change, say what it means, record it."""

from __future__ import annotations

import csv
import getpass
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from data.crosswalk import COLUMNS
from data.database import Database
from data.errors import DataError
from data.scheme import PATH_SEPARATOR, Scheme
from data.scheme_change import SchemeChange, heads_to_reinitialise, reading_through
from data.scheme_history import Remapped, record_change, recorded_changes, remapped

__all__ = ["migrate", "write_crosswalk"]


def migrate(
    file: Path, old: Scheme, new: Scheme, database: Database | None, folder: Path | None, now: datetime
) -> list[str]:
    """Check a change file against both versions; what to say about it.

    With a database the change is recorded there, with a folder a crosswalk CSV per head is written.
    Raises SchemeChangeError with every problem, and then does nothing.
    """
    change = SchemeChange.load(file)
    change.check(old, new)
    lines = list(_labels(change, old, new))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for head in old.heads.keys() & new.heads.keys():
            write_crosswalk(folder / f"{head}.csv", change, old, head)
        lines.append(f"crosswalks: {folder}")
    return lines + (_record(database, change, new, now) if database else ["checked; not recorded anywhere"])


def _labels(change: SchemeChange, old: Scheme, new: Scheme) -> Iterator[str]:
    starts = heads_to_reinitialise(old, new, change)
    for name, head in old.heads.items():
        if name in change.dropped:
            yield f"{name}: dropped"
            continue
        fates = Counter(_fate(code, into) for code, into in change.crosswalk(head).items())
        told = ", ".join(f"{count} {fate}" for fate, count in fates.items())
        fresh = len(starts[name].fresh)
        yield f"{name}: {told}" + (f"; {fresh} new labels begin untrained" if fresh else "")
    for name in new.heads.keys() - old.heads.keys():
        yield f"{name}: new head"


def _fate(code: str, into: tuple[str, ...]) -> str:
    if not into:
        return "unmapped"
    if len(into) > 1:
        return "split"
    return "kept" if into == (code,) else "to another code"


def _record(database: Database, change: SchemeChange, new: Scheme, now: datetime) -> list[str]:
    is_new = record_change(database, change, _person(), now)
    reading = reading_through(recorded_changes(database), new.version)
    lines = ["recorded" if is_new else "was recorded already"]
    for head, found in remapped(database, new, reading).items():
        lines.append(f"stored labels of {head}: {_counts(found)}")
    return lines


def _counts(found: Remapped) -> str:
    parts = {
        "as they are": found.same,
        "to another code": found.mapped,
        "one of several": found.partial,
        "unmapped": found.unmapped,
        "of versions without a change that leads here": found.unreachable,
    }
    return ", ".join(f"{count} {what}" for what, count in parts.items() if count)


def _person() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except OSError:
        return "cli"


def write_crosswalk(path: Path, change: SchemeChange, old: Scheme, head: str) -> None:
    """The change of one head as a crosswalk CSV (`data.crosswalk`): old label path → new codes."""
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS)
            for code, into in change.crosswalk(old.heads[head]).items():
                label = PATH_SEPARATOR.join(old.path(code, head))
                writer.writerow([f"{old.name} {old.version}", label, "|".join(into), code])
    except OSError as error:
        raise DataError(f"the crosswalk cannot be written to {path}: {error}") from error
