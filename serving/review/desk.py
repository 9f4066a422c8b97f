"""The desk of one application: what reviewing needs that outlives a request.

It keeps the store's rules in step with the model's label scheme (at the start, and whenever the database
comes back), counts the queues for pages and metrics, and holds what is dear to make: labels with their
pinyin, what speaks for an answer, vectors of look-alikes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from fastapi import Request

from data.database import Database
from data.queues import Rules
from data.reviews import ReviewStore
from data.reviews.standing import QueueCount, queue_counts
from serving.errors import ServingError
from serving.logs import log
from serving.review.evidence import Explainer
from serving.review.labels import Pickers, pickers
from serving.review.naming import Names
from serving.review.similar import Looks
from serving.review.sitting import Reviewer, Sitting
from serving.review.tasks import Seen, task_of
from serving.review.words import Task
from serving.security.roles import Caller
from serving.service import Service

__all__ = ["Board", "Desk", "desk_of", "sitting_of"]

T = TypeVar("T")
COUNTED_EVERY = 15.0  # seconds, for the metrics
COUNTS_LAST = 1.0  # seconds that pages share one count


@dataclass(frozen=True)
class Board:
    """What waits, and the rules in force, as the database had them at `at` (monotonic)."""

    counts: tuple[QueueCount, ...]
    rules: Rules
    at: float


class Desk:
    """One per application."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.explainer = Explainer(service)
        self.looks = Looks()
        self._pickers: Pickers | None = None
        self._board: Board | None = None
        self._told: tuple[str, ...] | None = None  # urgency levels that the store was told
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Tell the store the urgency levels, as far as model and database are there; then keep doing so."""
        await self._keep()
        self._keeping = asyncio.create_task(self._keep_on())

    async def stop(self) -> None:
        """Stop looking after the rules and the counts."""
        if self._keeping:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping

    # --- for routes -----------------------------------------------------------------------------

    def names(self) -> Names:
        """Names under the label scheme in force. Raises ModelNotReady."""
        return Names(self.service.model().scheme)

    async def in_reviews(self, work: Callable[[ReviewStore], T]) -> T:
        """Do something with the reviews in a thread. Raises StoreNotReady, and ReviewError from the work."""
        return await self.service.in_database(lambda database: work(ReviewStore(database)))

    def sitting(self, reviewer: Reviewer) -> Sitting:
        """One request of a reviewer, under the label scheme in force. Raises ModelNotReady."""
        return Sitting(reviewer, self.names(), datetime.now(UTC), self.service.settings.lease_minutes)

    async def task(self, seen: Seen, names: Names) -> Task:
        """What a reviewer sees, with what speaks for the suggestions as far as the model can be asked now."""
        return task_of(seen, names, await self.explainer.explain(seen.appeal), self.service.zone)

    async def pickers(self) -> Pickers:
        """The labels of the scheme in force. Raises ModelNotReady."""
        scheme = self.service.model().scheme
        if self._pickers is None or self._pickers.scheme != scheme.sha256:
            self._pickers = await self.service.run(pickers, scheme)
        return self._pickers

    async def board(self) -> Board:
        """What waits, at most a second old. Raises StoreNotReady."""
        if self._board is None or time.monotonic() - self._board.at > COUNTS_LAST:
            await self._look()
        assert self._board is not None
        return self._board

    def forget_board(self) -> None:
        """The rules were changed: the next to ask is told the new ones."""
        self._board = None

    # --- kept while the application lives ---------------------------------------------------------

    async def _keep_on(self) -> None:
        while True:
            await asyncio.sleep(self.service.settings.heal_seconds)
            await self._keep()

    async def _keep(self) -> None:
        if "store" in self.service.problems:
            self._told = None  # what comes back may be another database
            return
        try:
            await self._tell_levels()
            if self._board is None or time.monotonic() - self._board.at > COUNTED_EVERY:
                await self._look()
        except ServingError:
            pass  # model or database are away, which the service tells
        except Exception as error:  # told, and tried again: reviewing itself does not depend on it
            log("reviews_not_kept", logging.ERROR, raised=error)

    async def _tell_levels(self) -> None:
        """Without its levels, the store cannot tell which appeals go first."""
        head = self.service.model().predictor.heads.get("urgency")
        levels = head.codes if head else ()
        if levels and levels != self._told:
            now = datetime.now(UTC)
            await self.in_reviews(lambda store: store.set_rules("service", now=now, urgency_levels=levels))
            self._told = levels

    async def _look(self) -> None:
        counts, rules = await self.service.in_database(_board)
        self._board = Board(counts, rules, time.monotonic())
        metrics = self.service.metrics
        for one in counts:
            metrics.review_waiting.labels(one.queue).set(one.waiting)
            metrics.review_held.labels(one.queue).set(one.held)


def _board(database: Database) -> tuple[tuple[QueueCount, ...], Rules]:
    return queue_counts(database, datetime.now(UTC)), ReviewStore(database).rules()


def desk_of(request: Request) -> Desk:
    """The application's desk."""
    desk: Desk = request.app.state.desk
    return desk


def sitting_of(request: Request) -> Sitting:
    """A request of its caller: who reviews is never what a client says, always who it is."""
    caller: Caller = request.state.caller
    return desk_of(request).sitting(Reviewer(caller.actor, caller.has_role("lead")))
