"""Labels taken back from another tool: checked like any file, all or nothing, with where they came from.

Each label becomes a correction of the person who gave it, with the source `import:FORMAT:FILE`. What
that person had said already is not written again, and the same file a second time writes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, select

from data.database import Database, alone
from data.errors import BadRows, Problem, ReadError, SchemeError
from data.in_force import Correction, live
from data.labels.exchange import FORMATS, UNTELLABLE, Brought, argilla_user, read_brought
from data.progress import Progress
from data.review_tables import corrections
from data.reviews.corrections import AT_ONCE, Saying, kind_of, said, write
from data.reviews.views import appeals_by_number
from data.scheme import Scheme
from data.store_tables import appeals
from data.suggestions import Suggested, read_answer

__all__ = ["Imported", "import_labels"]


@dataclass(frozen=True)
class Imported:
    """What an import wrote: labels that are new, labels that stood already, and appeals with a new label."""

    written: int
    unchanged: int
    appeals: int


@dataclass(frozen=True)
class _Label:
    """One checked label of one appeal by one person."""

    line: int
    number: int
    head: str
    code: str
    reviewer: str
    adjudicated: bool
    comment: str
    seconds: float


@dataclass(frozen=True)
class _Appeal:
    """A stored appeal, as far as an import needs it."""

    number: int
    text: str
    suggested: Suggested
    model_version: str


def import_labels(
    database: Database,
    path: Path,
    format: str,
    scheme: Scheme,
    *,
    now: datetime,
    reviewer: str = "",
    adjudicated: bool = False,
    told: Progress = lambda what, done, total: None,
) -> Imported:
    """Read a file of `format` (see `exchange.FORMATS`) and write its labels in one transaction.

    `reviewer` is who labelled where the file does not say; `adjudicated`: these labels are final.
    Raises BadRows that lists every problem with its line (unknown ids, heads and labels, labels of one
    person that contradict each other, texts that are not the stored ones), and then writes nothing.
    """
    brought, problems = read_brought(path, FORMATS[format])
    with database.begin() as connection:
        alone(connection, "reviews")
        known = _Known(connection, path.name, scheme, reviewer, {one.id for one in brought})
        labels = list(known.labels(brought, told))
        found = sorted([*problems, *known.problems], key=lambda problem: problem.line)
        if found:
            raise BadRows(
                f"{path}: {len(found)} problems in {len(brought)} rows; nothing was imported:", found
            )
        if not brought:
            raise ReadError(f"{path}: expected labels in the format {format}, found none")
        token = f"import:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        origin = _Origin(now, scheme.version, f"import:{format}:{path.name}"[:160], token, adjudicated)
        return _write(connection, labels, known, origin, told)


# --- checks ---------------------------------------------------------------------------------------


@dataclass
class _Known:
    """Checks labels against the stored appeals and the scheme; collects what is wrong."""

    connection: Connection
    file: str
    scheme: Scheme
    reviewer: str
    ids: Iterable[str]
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.appeals = dict(_stored(self.connection, sorted(self.ids)))
        people = self.connection.execute(select(corrections.c.reviewer).distinct()).scalars()
        self._people = {f"argilla:{argilla_user(name)}": name for name in people}
        self._first: dict[tuple[int, str, str, bool], _Label] = {}

    def labels(self, brought: Sequence[Brought], told: Progress) -> Iterator[_Label]:
        """Good labels, each once; everything else is in `problems`."""
        for done, row in enumerate(brought, start=1):
            appeal = self.appeals.get(row.id)
            if appeal is None:
                self._refuse(row, "the id of a stored appeal", f"'{row.id}'"[:80], "id")
                continue
            if row.text is not None and row.text.strip() != appeal.text.strip():
                self._refuse(row, f"the stored text of '{row.id}'", "another text", "text")
            yield from self._labels_of(row, appeal)
            if done % 1000 == 0 or done == len(brought):
                told("checking", done, len(brought))

    def _labels_of(self, row: Brought, appeal: _Appeal) -> Iterator[_Label]:
        who = self._people.get(row.reviewer, row.reviewer) or self.reviewer
        if not who and row.labels:
            self._refuse(row, "who labelled it (give a reviewer)", "nobody", "reviewer")
            return
        about = (who, row.adjudicated, row.comment, row.seconds)
        for head, term in row.labels:
            code = self._code(row, head, term)
            if code is not None:
                label = _Label(row.line, appeal.number, head, code, *about)
                # What a person said and what they decided as a lead are two things.
                first = self._first.setdefault((label.number, head, who, row.adjudicated), label)
                if first is label:
                    yield label
                elif first.code != code:
                    came = f"'{code}', but '{first.code}' in line {first.line}"
                    self._refuse(row, f"one label of {who} for '{row.id}'", came, head)

    def _code(self, row: Brought, head: str, term: str) -> str | None:
        if head not in self.scheme.heads:
            self._refuse(row, f"one of the heads {', '.join(self.scheme.heads)}", f"'{head}'"[:80], head)
            return None
        try:
            code = self.scheme.label(head, term).code
        except SchemeError:
            if term in ("", UNTELLABLE):
                return ""
            self._refuse(row, f"a label of head '{head}'", f"'{term}'"[:80], head)
            return None
        if code not in self.scheme.heads[head].codes:
            expected = f"an active label of head '{head}' without labels below it"
            self._refuse(row, expected, f"'{term}'"[:80], head)
            return None
        return code

    def _refuse(self, row: Brought, expected: str, came: str, path: str) -> None:
        self.problems.append(Problem(expected, came, self.file, row.line, path))


def _stored(connection: Connection, ids: Sequence[str]) -> Iterator[tuple[str, _Appeal]]:
    for start in range(0, len(ids), AT_ONCE):
        some = appeals.c.id.in_(ids[start : start + AT_ONCE])
        numbers = list(connection.execute(select(appeals.c.number).where(some)).scalars())
        for appeal in appeals_by_number(connection, numbers):
            answer = appeal.answers[-1] if appeal.answers else None
            suggested = read_answer(answer.body) if answer else Suggested({})
            version = answer.model_version if answer else ""
            yield appeal.id, _Appeal(appeal.number, appeal.text, suggested, version)


# --- writing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Origin:
    """What all rows of an import share."""

    now: datetime
    scheme_version: str
    source: str
    token: str
    adjudicated: bool

    def of(self, final: bool) -> str:
        """The token of its rows: what is said and what is decided may come in one file."""
        return f"{self.token}{'!' if final else ''}"


def _write(
    connection: Connection, labels: Sequence[_Label], known: _Known, origin: _Origin, told: Progress
) -> Imported:
    words = said(connection, sorted({label.number for label in labels}))
    new = [label for label in labels if not _stands(label, words.get(label.number, []), origin)]
    suggested = {appeal.number: appeal for appeal in known.appeals.values()}
    groups: dict[tuple[str, str, float, bool], list[_Label]] = {}
    for label in new:
        final = label.adjudicated or origin.adjudicated
        groups.setdefault((label.reviewer, label.comment, label.seconds, final), []).append(label)
    for done, ((reviewer, comment, seconds, final), some) in enumerate(groups.items(), start=1):
        saying = Saying(
            reviewer,
            origin.of(final),
            origin.now,
            origin.scheme_version,
            origin.source,
            comment=comment,
            seconds=seconds,
        )
        write(connection, saying, [_row(saying, label, suggested[label.number], final) for label in some])
        told("writing", done, len(groups))
    return Imported(len(new), len(labels) - len(new), len({label.number for label in new}))


def _row(saying: Saying, label: _Label, appeal: _Appeal, final: bool) -> dict[str, object]:
    shown = appeal.suggested.code(label.head)
    kind = "adjudicated" if final else kind_of(label.code, shown)
    row = saying.row(label.number, label.head, label.code, shown, kind)
    return {**row, "model_version": appeal.model_version if shown else ""}


def _stands(label: _Label, words: Sequence[Correction], origin: _Origin) -> bool:
    """Whether this file brought it before, or the same person's last word says the same."""
    mine = [word for word in words if word.head == label.head and word.reviewer == label.reviewer]
    final = label.adjudicated or origin.adjudicated
    if any(word.token == origin.of(final) for word in mine):
        return True
    last = [word for word in live(mine) if word.kind == "adjudicated" or not final]
    return bool(last) and last[-1].code == label.code
