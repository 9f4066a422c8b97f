"""Writing what people say: corrections, their withdrawal, adjudication. Rows are added, none is changed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from data.errors import LabelsRefused, Problem, ReviewConflict
from data.in_force import Correction, Kind, live
from data.queues import refresh
from data.review_tables import corrections
from data.scheme import Scheme

__all__ = ["Saying", "check_labels", "kind_of", "said", "said_at", "said_before", "withdraw", "write"]

LONGEST = {"comment": 4000, "token": 96, "reviewer": 160}  # characters
AT_ONCE = 500  # appeals in one IN (…)


@dataclass(frozen=True)
class Saying:
    """Who says it, where, and under which token: what all rows of one request share."""

    reviewer: str
    token: str
    now: datetime
    scheme_version: str
    source: str = "page"
    model_version: str = ""
    comment: str = ""
    seconds: float = 0.0
    lease: int | None = None

    def row(self, appeal_number: int, head: str, code: str, shown: str, kind: Kind) -> dict[str, Any]:
        """The row to be written for one head of one appeal."""
        return {
            "appeal_number": appeal_number,
            "head": head,
            "code": code,
            "shown": shown,
            "kind": kind,
            "reviewer": self.reviewer,
            "comment": self.comment,
            "model_version": self.model_version,
            "scheme_version": self.scheme_version,
            "source": self.source,
            "token": self.token,
            "lease_number": self.lease,
            "seconds": max(0.0, self.seconds),
            "withdraws": None,
            "created_at": self.now,
        }


def kind_of(code: str, shown: str) -> Kind:
    """Whether a person confirmed what they were shown or changed it."""
    return "confirmed" if code == shown and shown else "changed"


# --- checks ---------------------------------------------------------------------------------------


def check_labels(scheme: Scheme, labels: Mapping[str, str]) -> None:
    """Raises LabelsRefused unless every head is the scheme's and every code one of its active leaves.

    The empty code says that the text does not tell. All that is wrong is listed.
    """
    problems = [problem for head, code in labels.items() if (problem := label_problem(scheme, head, code))]
    if not labels:
        problems = [Problem(f"a label for at least one of {', '.join(scheme.heads)}", "none", path="labels")]
    if problems:
        raise LabelsRefused(f"labels that do not fit the scheme {scheme.name} {scheme.version}:", problems)


def label_problem(scheme: Scheme, head: str, code: str) -> Problem | None:
    """What is wrong with one label; None if nothing is."""
    if head not in scheme.heads:
        return Problem(f"one of the heads {', '.join(scheme.heads)}", f"'{head}'", path=head)
    codes = scheme.heads[head].codes
    if code in codes or not code:
        return None
    return Problem(_expected(scheme, head, code), f"'{code}'", path=head)


def _expected(scheme: Scheme, head: str, code: str) -> str:
    label = scheme.labels[head].get(code)
    if label is not None and not label.active:
        instead = (
            f"; '{code}' is replaced by {label.replaced_by}" if label.replaced_by else "; this one is retired"
        )
        return f"an active label of head '{head}'{instead}"
    if label is not None:
        below = ", ".join(sorted(scheme.leaves(head, code))[:5])
        return f"a label without further ones below it, such as {below}"
    near = difflib.get_close_matches(code, scheme.heads[head].codes, n=3)
    return f"a code of head '{head}'" + (f", such as {', '.join(near)}" if near else "")


def _check_lengths(saying: Saying) -> None:
    problems = [
        Problem(f"at most {most} characters", f"{len(getattr(saying, part))}", path=part)
        for part, most in LONGEST.items()
        if len(getattr(saying, part)) > most
    ]
    problems += [
        Problem("a text", "nothing", path=part) for part in ("token", "reviewer") if not getattr(saying, part)
    ]
    if problems:
        raise LabelsRefused("this cannot be stored:", problems)


# --- reading --------------------------------------------------------------------------------------


def said(connection: Connection, numbers: Sequence[int]) -> dict[int, list[Correction]]:
    """All rows of some appeals in the order they were written, by appeal."""
    found: dict[int, list[Correction]] = {}
    for start in range(0, len(numbers), AT_ONCE):
        some = corrections.c.appeal_number.in_(numbers[start : start + AT_ONCE])
        query = select(corrections).where(some).order_by(corrections.c.number)
        for row in connection.execute(query).mappings():
            found.setdefault(row["appeal_number"], []).append(Correction(**row))
    return found


def said_at(connection: Connection, reviewer: str, token: str) -> list[Correction]:
    """All rows of one request."""
    here = (corrections.c.reviewer == reviewer, corrections.c.token == token)
    rows = connection.execute(select(corrections).where(*here).order_by(corrections.c.number)).mappings()
    return [Correction(**row) for row in rows]


def said_before(
    connection: Connection, saying: Saying, wanted: Mapping[tuple[int, str], str]
) -> tuple[Correction, ...]:
    """The rows that the same request wrote before; empty for a new one.

    `wanted`: (appeal number, head) → code. Raises ReviewConflict where the token came with other content.
    """
    rows = said_at(connection, saying.reviewer, saying.token)
    if rows and {(row.appeal_number, row.head): row.code for row in rows} != dict(wanted):
        raise ReviewConflict(
            "expected a new token for new content, got one that came with other labels before"
        )
    return tuple(rows)


# --- writing --------------------------------------------------------------------------------------


def write(connection: Connection, saying: Saying, rows: Sequence[dict[str, Any]]) -> tuple[Correction, ...]:
    """Add rows and renew the queues of their appeals; the rows as they stand there."""
    _check_lengths(saying)
    if rows:
        connection.execute(insert(corrections), list(rows))
        numbers = sorted({row["appeal_number"] for row in rows})
        for start in range(0, len(numbers), AT_ONCE):
            refresh(connection, numbers[start : start + AT_ONCE])
    return tuple(said_at(connection, saying.reviewer, saying.token))


def withdraw(connection: Connection, saying: Saying, rows: Sequence[Correction]) -> tuple[Correction, ...]:
    """Take rows back, each by a new row; those that are withdrawn already stay so."""
    numbers = sorted({row.appeal_number for row in rows})
    standing = {row.number for some in said(connection, numbers).values() for row in live(some)}
    added = [
        {
            **saying.row(row.appeal_number, row.head, row.code, row.shown, "withdrawn"),
            "withdraws": row.number,
            "scheme_version": row.scheme_version,
            "model_version": row.model_version,
        }
        for row in rows
        if row.number in standing
    ]
    return write(connection, saying, added)
