"""One label for many look-alikes at once: first shown what would change, then written, if it still would."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, select

from data.errors import AppealUnknown, LabelsRefused, Problem, ReviewConflict
from data.in_force import Correction, Kind, Reading, in_force
from data.reviews.corrections import AT_ONCE, Saying, check_labels, said, said_at, write
from data.reviews.records import BulkChange, BulkPreview, Done
from data.scheme import Scheme
from data.scheme_history import reading_under
from data.store_tables import answers, appeals
from data.suggestions import read_answer

__all__ = ["MOST", "Wish", "known_numbers", "label_all", "numbers_of", "preview", "suggested_codes"]

MOST = 1000  # appeals at once: more than anybody looks through


def numbers_of(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Numbers of appeals by id. Raises AppealUnknown that names every id without one."""
    found = known_numbers(connection, ids)
    unknown = [Problem("the id of a stored appeal", f"'{id}'") for id in ids if id not in found]
    if unknown:
        raise AppealUnknown("no such appeal:", unknown)
    return {id: found[id] for id in ids}


def known_numbers(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Numbers of appeals by id; an id without one is left out."""
    found: dict[str, int] = {}
    for start in range(0, len(ids), AT_ONCE):
        some = appeals.c.id.in_(ids[start : start + AT_ONCE])
        rows = connection.execute(select(appeals.c.id, appeals.c.number).where(some))
        found |= {row.id: row.number for row in rows}
    return found


def suggested_codes(connection: Connection, numbers: Iterable[int], head: str) -> dict[int, tuple[str, str]]:
    """The newest answer's code of a head and the model version that gave it, by appeal number."""
    wanted, found = sorted(numbers), dict[int, tuple[str, str]]()
    for start in range(0, len(wanted), AT_ONCE):
        some = answers.c.appeal_number.in_(wanted[start : start + AT_ONCE])
        query = select(answers.c.appeal_number, answers.c.model_version, answers.c.body).where(some)
        for row in connection.execute(query.order_by(answers.c.number)):
            found[row.appeal_number] = (read_answer(row.body).code(head), row.model_version)
    return found


@dataclass(frozen=True)
class Wish:
    """One label for many appeals, and who wants it; `final`: as a lead's decision."""

    head: str
    code: str
    reviewer: str
    final: bool = False

    @property
    def kind(self) -> Kind:
        """Of the rows that it makes."""
        return "adjudicated" if self.final else "bulk"


def preview(connection: Connection, ids: Sequence[str], wish: Wish, scheme: Scheme) -> BulkPreview:
    """What would change. Raises AppealUnknown and LabelsRefused."""
    check_labels(scheme, {wish.head: wish.code})
    unique = list(dict.fromkeys(ids))
    if not 0 < len(unique) <= MOST:
        problem = Problem(f"1 to {MOST} appeals at once", f"{len(unique)}", path="ids")
        raise LabelsRefused("too many or too few appeals:", [problem])
    numbers = numbers_of(connection, unique)
    shown = suggested_codes(connection, numbers.values(), wish.head)
    words = said(connection, sorted(numbers.values()))
    reading = reading_under(connection, scheme.version)
    changes = tuple(
        _change(id, words.get(number, []), shown.get(number, ("", ""))[0], wish, scheme, reading)
        for id, number in numbers.items()
    )
    return BulkPreview(wish.head, wish.code, changes, _fingerprint(numbers, words, wish))


def label_all(
    connection: Connection,
    ids: Sequence[str],
    wish: Wish,
    scheme: Scheme,
    saying: Saying,
    fingerprint: str,
) -> Done:
    """Write the label wherever the preview said it would change.

    Raises ReviewConflict when labels of these appeals changed since the preview, and what `preview` raises.
    """
    earlier = said_at(connection, saying.reviewer, saying.token)
    if earlier:
        return _again(earlier, wish)
    plan = preview(connection, ids, wish, scheme)
    if plan.fingerprint != fingerprint:
        raise ReviewConflict(
            "expected labels as the preview showed them, but one of these appeals was labelled since; "
            "look again"
        )
    numbers = numbers_of(connection, [change.id for change in plan.changes if not change.stays])
    shown = suggested_codes(connection, numbers.values(), wish.head)
    rows = [_row(saying, number, wish, shown) for number in numbers.values()]
    return Done(write(connection, saying, rows), unchanged=len(plan.changes) - len(rows))


def _row(saying: Saying, number: int, wish: Wish, shown: Mapping[int, tuple[str, str]]) -> dict[str, Any]:
    suggested, model_version = shown.get(number, ("", ""))
    row = saying.row(number, wish.head, wish.code, suggested, wish.kind)
    return {**row, "model_version": model_version}


def _again(earlier: Sequence[Correction], wish: Wish) -> Done:
    if any((row.head, row.code, row.kind) != (wish.head, wish.code, wish.kind) for row in earlier):
        raise ReviewConflict(
            "expected a new token for new content, got one that came with other labels before"
        )
    return Done(tuple(earlier), again=True)


def _change(
    id: str, words: Sequence[Correction], suggested: str, wish: Wish, scheme: Scheme, reading: Reading
) -> BulkChange:
    label = in_force(words, reading).get(wish.head)
    after = in_force([*words, _would_be(wish, scheme)], reading)[wish.head].code
    if label is None:
        return BulkChange(id, suggested or None, "model" if suggested else "nobody", after)
    stays: Literal["", "same", "adjudicated"] = ""
    if label.code == wish.code and (label.adjudicated or not wish.final):
        stays = "same"
    elif label.adjudicated and not wish.final:
        stays = "adjudicated"
    return BulkChange(id, label.code, "person", after, stays)


def _would_be(wish: Wish, scheme: Scheme) -> Correction:
    """The row that would be written, as far as the label in force depends on it."""
    return Correction(
        number=0,
        appeal_number=0,
        head=wish.head,
        code=wish.code,
        shown="",
        kind=wish.kind,
        reviewer=wish.reviewer,
        comment="",
        model_version="",
        scheme_version=scheme.version,
        source="",
        token="",
        lease_number=None,
        seconds=0.0,
        withdraws=None,
        created_at=datetime.max.replace(tzinfo=UTC),
    )


def _fingerprint(numbers: Mapping[str, int], words: Mapping[int, list[Correction]], wish: Wish) -> str:
    """Changes with every row that is written about one of the appeals and this head."""
    state = [
        (id, [row.number for row in words.get(number, []) if row.head == wish.head])
        for id, number in sorted(numbers.items())
    ]
    return hashlib.sha256(repr((wish, state)).encode()).hexdigest()
