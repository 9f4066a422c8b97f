"""Errors of the data room.

    DataError                  anything this room refuses; catch it to catch all of them
    ├── SchemeError            a label scheme is not valid, or lacks the head or code asked for
    │   ├── CrosswalkError     a crosswalk file is not valid for its scheme
    │   └── SchemeChangeError  a change file does not lead from one scheme version to the other
    ├── ReadError              a file cannot be read as rows (missing, unknown format or encoding)
    │   └── BadRows            the file was read, but rows in it are wrong
    ├── MappingError           a mapping file (their columns → ours) is not valid
    ├── SplitError             rows cannot be split as asked
    ├── AccessError            no API key or user goes by this name, or the name is taken
    ├── DatasetError           a dataset version cannot be written, is damaged or not there
    ├── ReviewError            a review cannot be taken up as it was asked for
    │   ├── AppealUnknown      no stored appeal has this id
    │   ├── LeaseLost          the lease is not there, not this reviewer's, or another one holds the appeal
    │   ├── LabelsRefused      labels do not fit the label scheme, or spans the text
    │   └── ReviewConflict     the same token came with other content, or labels changed since the preview
    └── StoreError             rows cannot be written to, or read back from, the place asked for
        └── RowRefused         the database works but refused a row (doubled key, wrong value)

Every error may carry a list of `Problem`s: all that is wrong, not only the first thing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SHOWN = 50  # problems written out in a message; the rest is counted, `problems` keeps all


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file: where it is, what was expected and what came.

    `line` counts from 1 and is 0 when no line is known; `path` is the place inside the file
    (`categories[3].children[0].code`, or a column's name).
    """

    expected: str
    came: str
    file: str = ""
    line: int = 0
    path: str = ""

    def __str__(self) -> str:
        where = ":".join(part for part in (self.file, str(self.line) if self.line else "") if part)
        place = " ".join(part for part in (where, self.path) if part)
        text = f"expected {self.expected}, got {self.came}"
        return f"{place}: {text}" if place else text


class DataError(Exception):
    """What the data room refuses. `problems` lists every single cause, possibly none."""

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__(self._text())

    def _text(self) -> str:
        shown = [f"  {problem}" for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            shown.append(f"  … and {len(self.problems) - SHOWN} more")
        return "\n".join([self.message, *shown])


class SchemeError(DataError):
    """A label scheme is not valid, or lacks the head or code that was asked for."""


class CrosswalkError(SchemeError):
    """A crosswalk file is not valid for the scheme it maps to."""


class SchemeChangeError(SchemeError):
    """A change file does not lead from one version of a label scheme to the other."""


class ReadError(DataError):
    """A file cannot be read as rows."""


class BadRows(ReadError):
    """The file was read, but rows in it are wrong; `problems` names every one with its line."""


class MappingError(DataError):
    """A mapping file (their columns and labels → ours) is not valid."""


class SplitError(DataError):
    """Rows cannot be split as asked."""


class StoreError(DataError):
    """Rows cannot be written to, or read back from, the place asked for."""


class RowRefused(StoreError):
    """The database works but refused a row: a key is doubled, a value is missing or has no column form."""


class AccessError(DataError):
    """No API key or user goes by this name, or the name is taken."""


class DatasetError(DataError):
    """A dataset version cannot be written, is damaged, or is not there."""


class ReviewError(DataError):
    """A review cannot be taken up as it was asked for."""


class AppealUnknown(ReviewError):
    """No stored appeal has this id."""


class LeaseLost(ReviewError):
    """The lease is not there or not this reviewer's, or another reviewer holds the appeal."""


class LabelsRefused(ReviewError):
    """Labels do not fit the label scheme, or flagged spans do not fit the text."""


class ReviewConflict(ReviewError):
    """The same token came before with other content, or labels changed since the preview."""
