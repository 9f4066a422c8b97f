"""What programs add to the queues: suspicions, answers of further model versions, and all queues anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from data.errors import ReviewError
from data.queues import refresh, refresh_members
from data.review_tables import suspicions
from data.reviews.records import Answered, Suspicion
from data.store_tables import answers, appeals

__all__ = ["AT_ONCE", "NewAnswer", "add_answers", "refresh_range", "suspect"]

AT_ONCE = 500  # appeals renewed in one go


@dataclass(frozen=True)
class NewAnswer(Answered):
    """What another model version answers to a stored appeal (later, or in the shadow)."""

    appeal_number: int = field(kw_only=True)


def suspect(
    connection: Connection, queue: str, found: Sequence[Suspicion], source: str, now: datetime
) -> None:
    """Add suspicions and renew the queues of their appeals. Raises ReviewError for another queue."""
    if queue not in ("suspected", "disagreement"):
        raise ReviewError(f"expected the queue suspected or disagreement, got '{queue}'")
    rows = [{**vars(one), "queue": queue, "source": source, "created_at": now} for one in found]
    if rows:
        connection.execute(insert(suspicions), rows)
        _refresh_all(connection, [one.appeal_number for one in found])


def add_answers(connection: Connection, new: Sequence[NewAnswer]) -> int:
    """Add the answers that a model version had not given yet, renew the queues; how many are new."""
    if not new:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    unseen = dialect.insert(answers).on_conflict_do_nothing(index_elements=["appeal_number", "model_version"])
    rows = [dict(vars(answer)) for answer in new]
    added = connection.execute(unseen.returning(answers.c.appeal_number), rows).scalars().all()
    _refresh_all(connection, added)
    return len(added)


def refresh_range(connection: Connection, first: int, last: int) -> int:
    """Renew the queues and the audit slice of the appeals numbered so (inclusive); how many there are."""
    within = appeals.c.number.between(first, last)
    numbers = list(connection.execute(select(appeals.c.number).where(within)).scalars())
    refresh(connection, numbers)
    refresh_members(connection, numbers)
    return len(numbers)


def _refresh_all(connection: Connection, numbers: Sequence[int]) -> None:
    unique = sorted(set(numbers))
    for start in range(0, len(unique), AT_ONCE):
        refresh(connection, unique[start : start + AT_ONCE])
