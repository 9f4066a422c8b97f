"""Keeps the correction memory up to date, and finds the look-alikes of a batch of answers.

Corrections of this process are poked in; those of other replicas are found by asking the database every
`JIESU_CORRECTION_MEMORY_SECONDS`. A new model version begins with what it has embeddings of; for the other
corrected appeals they are made one by one in the queue's rest lane, while nothing else waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from classifier.neighbours import Neighbour
from classifier.predictor import Prediction
from data.corrected import Corrected
from data.database import Database
from data.reviews import ReviewStore
from serving.batcher import Batcher, Request
from serving.errors import ModelFailed, ServingError
from serving.logs import log
from serving.memory.kept import Kept
from serving.metrics import Metrics
from serving.settings import Settings

__all__ = ["CorrectionMemory", "Wanted"]

PIECE = 8  # embeddings made between two looks at what was corrected
PATIENCE = 2.0  # seconds that one of them waits for an idle queue before it is made all the same
PAUSE = 0.05

Nearby = tuple[Neighbour, ...]
Wanted = Callable[[], "list[tuple[str, str]]"]  # (model version, label scheme's version), the champion first


class InDatabase(Protocol):
    """Does something with the database in a thread. Raises StoreNotReady."""

    def __call__(self, work: Callable[[Database], None]) -> Awaitable[None]: ...


class CorrectionMemory:
    """One per application. Off, it recalls nothing and costs nothing."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.on = settings.correction_memory
        self._seconds, self._most = settings.correction_memory_seconds, settings.correction_memory_appeals
        self._kept: dict[str, Kept] = {}  # replaced as a whole, never changed: model threads read it
        self._wake = asyncio.Event()
        self._looked = time.monotonic()
        self._follower: asyncio.Task[None] | None = None
        metrics.watch_memory(self._appeals, self._bytes, self._age)

    def start(self, wanted: Wanted, in_database: InDatabase, batcher: Batcher) -> None:
        """Begin to follow; needs a running event loop."""
        if self.on:
            self._follower = asyncio.create_task(self._follow(_Parts(wanted, in_database, batcher)))

    async def stop(self) -> None:
        """End; what is remembered is made anew from the database at the next start."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)

    def poke(self) -> None:
        """A correction was stored: look now. From the event loop."""
        self._wake.set()

    def recall(self, version: str, predictions: Sequence[Prediction]) -> list[Nearby]:
        """The corrected look-alikes of each text that a model version answered; one matrix product."""
        kept = self._kept.get(version)
        return kept.recall(version, predictions) if kept else [()] * len(predictions)

    async def _follow(self, parts: _Parts) -> None:
        while True:
            self._wake.clear()
            more = False
            try:
                more = await self._step(parts)
            except ServingError:
                pass  # no model or no database: told on /readyz, and looked at again
            except Exception as error:  # whatever it is, answers go on without what came since
                log("memory_failed", logging.ERROR, raised=error)
            if not more:
                await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _step(self, parts: _Parts) -> bool:
        """Look at what was said; make some embeddings. Whether there is more to be made at once."""
        wanted = parts.wanted()
        self._kept = {
            version: self._kept.get(version) or Kept(version, scheme, self._most)
            for version, scheme in wanted
        }
        for kept in self._kept.values():
            first = not kept.filled
            await parts.in_database(kept.look)
            if first and not kept.unable:
                log(
                    "memory_filled",
                    version=kept.version,
                    appeals=len(kept.neighbours),
                    missing=len(kept.missing),
                )
        self._looked = time.monotonic()
        return await self._make_some(parts, self._kept[wanted[0][0]])

    async def _make_some(self, parts: _Parts, kept: Kept) -> bool:
        made: dict[int, bytes] = {}
        texts = await parts.texts_of(kept.newest_missing(PIECE))
        for one, text in texts:
            if text is None:  # purged since
                kept.missing.pop(one.number, None)
                continue
            if kept.unable or self._wake.is_set() or not await self._turn(parts.batcher):
                break
            try:
                [found] = await parts.batcher.classify([Request(text)])
            except ModelFailed:
                kept.missing.pop(one.number, None)  # until something is said of it again
                continue
            if found.model.version != kept.version:
                break
            kept.put(one, found.prediction.embedding)
            made[one.number] = found.prediction.embedding.astype("<f2").tobytes()
        if made and not kept.unable:
            await parts.in_database(lambda database: _store(database, kept.version, made))
        return bool(made) and bool(kept.missing)

    async def _turn(self, batcher: Batcher) -> bool:
        """Wait until nothing else is in the queue, but not for ever; False when a correction came."""
        end = time.monotonic() + PATIENCE
        while not batcher.idle and time.monotonic() < end and not self._wake.is_set():
            await asyncio.sleep(PAUSE)
        return not self._wake.is_set()

    def _appeals(self, state: str) -> int:
        kept = list(self._kept.values())[:1]
        return sum(len(one.neighbours) if state == "kept" else len(one.missing) for one in kept)

    def _bytes(self) -> int:
        return sum(one.neighbours.bytes for one in self._kept.values())

    def _age(self) -> float:
        return time.monotonic() - self._looked if self.on else 0.0


class _Parts:
    """What the memory needs of the service."""

    def __init__(self, wanted: Wanted, in_database: InDatabase, batcher: Batcher) -> None:
        self.wanted, self.in_database, self.batcher = wanted, in_database, batcher

    async def texts_of(self, some: Sequence[Corrected]) -> list[tuple[Corrected, str | None]]:
        """The appeals with their stored texts, flagged characters covered; None where one is gone."""
        texts: dict[int, str] = {}

        def read(database: Database) -> None:
            found = ReviewStore(database).appeals([one.number for one in some])
            texts.update({appeal.number: appeal.text for appeal in found})

        if some:
            await self.in_database(read)
        return [(one, texts.get(one.number)) for one in some]


def _store(database: Database, version: str, made: dict[int, bytes]) -> None:
    ReviewStore(database).add_embeddings(version, made)
