"""How an appeal stands for whoever has it before them, and what waits: what pages ask beside `ReviewStore`.

Functions on a database, for reading. Raise ReviewError (LeaseLost) and StoreError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from data.database import Database
from data.in_force import InForce, Reading, in_force, live
from data.queues import QUEUES
from data.review_tables import embeddings, leases, queue_keys
from data.reviews.bulk import known_numbers
from data.reviews.corrections import said
from data.reviews.leases import lease_of
from data.reviews.records import ReviewAppeal
from data.reviews.views import appeals_by_number
from data.scheme_history import reading_under

__all__ = [
    "MOST_COUNTED", "QueueCount", "Standing", "appeal_under", "appeals_by_id", "count_vectors",
    "first_waiting", "newest_vectors", "queue_counts", "standing",
]  # fmt: skip

MOST_COUNTED = 20_000  # of a queue; counting on would read its whole index, for a figure nobody acts on


@dataclass(frozen=True)
class Standing:
    """What was said of an appeal so far, and how many more are asked for.

    `wanted`, `missing`: different reviewers asked for in all, and still to come; 1 and 0 where it waits
    in no queue. `mine`: head → what this reviewer last said. `reading` reads codes of older versions.
    """

    wanted: int
    missing: int
    labels: Mapping[str, InForce]
    mine: Mapping[str, str]
    reading: Reading

    @property
    def blind(self) -> bool:
        """Whether this reviewer is to say something that nobody else's word has coloured."""
        return self.wanted > 1 and self.missing > 0 and not self.mine


@dataclass(frozen=True)
class QueueCount:
    """What waits in a queue and what of it is before somebody; `more`: counting stopped at `waiting`."""

    queue: str
    waiting: int
    held: int
    more: bool


def standing(database: Database, number: int, reviewer: str, scheme_version: str) -> Standing:
    """How an appeal stands for a reviewer, in the codes of a version of the label scheme."""
    asked = select(func.max(queue_keys.c.wanted), func.max(queue_keys.c.missing))
    with database.connect() as connection:
        wanted, missing = connection.execute(asked.where(queue_keys.c.appeal_number == number)).one()
        words = said(connection, [number]).get(number, [])
        reading = reading_under(connection, scheme_version)
    own = [word for word in live(words) if word.reviewer == reviewer]
    mine = {word.head: _one(reading(word.head, word.code, word.scheme_version)) for word in own}
    return Standing(wanted or 1, missing or 0, in_force(words, reading), mine, reading)


def _one(codes: frozenset[str] | None) -> str:
    return next(iter(codes)) if codes is not None and len(codes) == 1 else ""


def appeal_under(database: Database, lease: int, reviewer: str) -> ReviewAppeal:
    """The appeal of a reviewer's lease, open or ended. Raises LeaseLost."""
    with database.connect() as connection:
        number = lease_of(connection, lease, reviewer).appeal_number
        return appeals_by_number(connection, [number])[0]


def appeals_by_id(database: Database, ids: Sequence[str]) -> dict[str, ReviewAppeal]:
    """Appeals by id, for at most some thousand; an id without one is left out."""
    with database.connect() as connection:
        numbers = known_numbers(connection, ids)
        return {one.id: one for one in appeals_by_number(connection, list(numbers.values()))}


def first_waiting(database: Database, queue: str, limit: int) -> list[int]:
    """Numbers of the appeals whose turn in a queue comes first, whether somebody has them or not."""
    query = select(queue_keys.c.appeal_number).where(queue_keys.c.queue == queue)
    ordered = query.order_by(queue_keys.c.turn, queue_keys.c.appeal_number).limit(limit)
    with database.connect() as connection:
        return list(connection.execute(ordered).scalars())


def queue_counts(database: Database, now: datetime, most: int = MOST_COUNTED) -> tuple[QueueCount, ...]:
    """Every queue, counted up to `most`: the cost does not grow with what waits."""
    open_ones = leases.c.ended_at.is_(None) & (leases.c.expires_at > now)
    with database.connect() as connection:
        held = select(leases.c.queue, func.count()).where(open_ones).group_by(leases.c.queue)
        of_queue = {row[0]: row[1] for row in connection.execute(held)}
        waiting = {queue: _count(connection, queue, most + 1) for queue in QUEUES}
    return tuple(
        QueueCount(queue, min(found, most), of_queue.get(queue, 0), found > most)
        for queue, found in waiting.items()
    )


def _count(connection: Connection, queue: str, most: int) -> int:
    some = select(queue_keys.c.appeal_number).where(queue_keys.c.queue == queue).limit(most).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar() or 0)


def newest_vectors(database: Database, model_version: str, most: int) -> int:
    """The lowest number of the newest appeals with a vector of a model version, at most `most`; 0: none."""
    mine = select(embeddings.c.appeal_number).where(embeddings.c.model_version == model_version)
    newest = mine.order_by(embeddings.c.appeal_number.desc()).limit(most).subquery()
    with database.connect() as connection:
        return connection.execute(select(func.min(newest.c.appeal_number))).scalar() or 0


def count_vectors(database: Database, model_version: str, first: int, last: int) -> int:
    """How many appeals numbered `first` to `last` (inclusive) have a vector of a model version."""
    here = embeddings.c.appeal_number.between(first, last) & (embeddings.c.model_version == model_version)
    with database.connect() as connection:
        return connection.execute(select(func.count()).select_from(embeddings).where(here)).scalar() or 0
