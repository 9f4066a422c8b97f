"""What the correction memory asks: which appeals were labelled last, and what is in force there.

Functions on a database, for reading, some hundred appeals at a time. Raise StoreError.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from data.corrected import Corrected
from data.database import Database
from data.in_force import in_force
from data.review_tables import corrections
from data.reviews.corrections import said
from data.scheme_history import reading_under
from data.store_tables import appeals

__all__ = ["corrected", "newest_corrected", "present"]


def newest_corrected(database: Database, most: int) -> list[int]:
    """Numbers of the appeals that were labelled last, at most so many; the latest one is the last."""
    newest = func.max(corrections.c.number)
    query = select(corrections.c.appeal_number).group_by(corrections.c.appeal_number)
    with database.connect() as connection:
        found = connection.execute(query.order_by(newest.desc()).limit(most)).scalars()
        return list(found)[::-1]


def corrected(database: Database, numbers: Sequence[int], scheme_version: str) -> dict[int, Corrected]:
    """Appeals with their sure labels, in the codes of a version of the label scheme.

    One without a sure label comes with none; one that is gone is left out.
    """
    query = select(appeals.c.number, appeals.c.id, appeals.c.taken_by)
    with database.connect() as connection:
        words, reading = said(connection, numbers), reading_under(connection, scheme_version)
        rows = connection.execute(query.where(appeals.c.number.in_(numbers))).all()
    found = {}
    for row in rows:
        some = words.get(row.number, [])
        labels = {head: one.code for head, one in in_force(some, reading).items() if one.code}
        last = max((word.number for word in some), default=0)
        found[row.number] = Corrected(row.number, labels, last, row.id, row.taken_by)
    return found


def present(database: Database, numbers: Sequence[int]) -> set[int]:
    """Those of the appeals that are still stored."""
    with database.connect() as connection:
        query = select(appeals.c.number).where(appeals.c.number.in_(numbers))
        return set(connection.execute(query).scalars())
