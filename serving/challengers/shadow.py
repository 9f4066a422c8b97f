"""The shadow: a challenger that answers appeals once their callers were answered, seen by nobody.

It works while nothing waits for the models that answer, on one core and a few texts at a time; what
cannot wait any more is dropped and counted. Its answers are stored beside the champion's, where
`serving.challengers.report` compares them; contradictions enter the queue of disagreements.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson

from classifier.registry import Canary as Share
from classifier.registry import Registry
from data.database import Database
from data.errors import StoreError
from data.reviews import NewAnswer, ReviewStore
from data.store import Store
from serving.answer import Understood, tell
from serving.challengers.standby import Standby
from serving.errors import ServingError
from serving.health import Health
from serving.loading import Load, registry_dir
from serving.logs import log
from serving.messages import Told, in_json
from serving.metrics import Metrics
from serving.model_thread import ModelThread
from serving.models import Model
from serving.settings import Settings

__all__ = ["Shadow"]

TEXTS = 4  # of one batch: a caller that comes meanwhile shares the processor with so many at the most
CHARS = 500_000  # of all texts that wait: a long one takes the place of many
LONGEST = 2_000  # characters of a text that is shown to the shadow with others
STORED_AT_ONCE = 64
STORED_AFTER = 2.0  # seconds: answers that wait so long are stored, however few
PAUSE = 0.02  # seconds between two looks whether the machine has nothing else to do
TIMED = 10  # every tenth batch is also given to the champion, to compare their speed on the same texts

Work = Callable[[Database], int]


class Shadow:
    """`idle` tells whether callers leave time; `champion` is the model that answers them."""

    def __init__(
        self, settings: Settings, load: Load, health: Health, metrics: Metrics, idle: Callable[[], bool],
        champion: Callable[[], Model], in_database: Callable[[Work], Awaitable[int]],
    ) -> None:  # fmt: skip
        self._settings, self._metrics, self._idle, self._champion = settings, metrics, idle, champion
        self._in_database = in_database
        # One core, whatever the machine: a hundredth of a second later is early enough.
        alone = settings.model_copy(update={"model_workers": 64})
        self._standby = Standby("shadow", alone, load, self._wanted, health, metrics)
        self._queue: deque[Understood] = deque()
        self._chars = self._batches = 0
        self._answered: list[tuple[str, Told, dict[str, float]]] = []
        self._stored_at = time.monotonic()
        self._wake = asyncio.Event()
        self.comparing = asyncio.Lock()  # held while its stored answers are compared
        self._worker: asyncio.Task[None] | None = None
        metrics.shadow_queue.set_function(lambda: len(self._queue))

    @property
    def version(self) -> str:
        """The version that answers; empty where none does."""
        model = self._standby.model
        return model.version if model else ""

    def look(self) -> None:
        """Load what the registry's pointer names, or let go."""
        self._standby.look()

    def start(self) -> None:
        """Begin to work; needs a running event loop."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Leave what waits, store what was answered."""
        if self._worker:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        await self._store()

    def offer(self, understood: Understood, answer: Told) -> None:
        """An appeal that was just answered and stored. Drops it where too many wait."""
        version, id = self.version, understood.asked.id
        if not version or id is None or not Share(version, self._settings.shadow_share).takes(id):
            return
        if answer["model_version"] != self._champion().version:  # the canary's, or one of before a swap
            return
        chars = len(understood.prepared.text)
        if len(self._queue) >= self._settings.shadow_texts or self._chars + chars > CHARS:
            self._metrics.shadow_texts.labels("dropped").inc()
            return
        self._queue.append(understood)
        self._chars += chars
        self._wake.set()

    async def _work(self) -> None:
        thread = ModelThread("shadow")
        try:
            while True:
                if not self._queue and not self._answered:
                    self._wake.clear()
                    await self._wake.wait()
                await asyncio.sleep(PAUSE)
                model = self._standby.model
                if model is None:
                    self._drop_all()
                elif self._queue and self._idle():
                    await self._answer(thread, model, self._take())
                if self._is_time_to_store():
                    await self._store()
        finally:
            thread.close()

    def _take(self) -> list[Understood]:
        batch: list[Understood] = []
        while self._queue and len(batch) < TEXTS:
            if batch and len(self._queue[0].prepared.text) > LONGEST:
                break
            batch.append(self._queue.popleft())
            self._chars -= len(batch[-1].prepared.text)
        return batch

    def _drop_all(self) -> None:
        self._metrics.shadow_texts.labels("dropped").inc(len(self._queue))
        self._queue.clear()
        self._chars = 0

    async def _answer(self, thread: ModelThread, model: Model, batch: Sequence[Understood]) -> None:
        self._batches += 1
        beside = self._champion() if self._batches % TIMED == 1 else None
        try:
            told = await thread.run(lambda: _answers(model, batch, beside), self._settings.batch_seconds)
        except Exception as error:  # nobody waits for it: told on /readyz when it goes on
            self._metrics.shadow_texts.labels("failed").inc(len(batch))
            log("shadow_failed", logging.WARNING, raised=error, texts=len(batch))
            self._standby.failed(type(error).__name__)
            return
        self._standby.worked()
        answers, timed = told
        ids = [str(one.asked.id) for one in batch]
        self._answered += [(id, answer, timed) for id, answer in zip(ids, answers, strict=True)]

    def _is_time_to_store(self) -> bool:
        late = time.monotonic() - self._stored_at > STORED_AFTER
        return len(self._answered) >= STORED_AT_ONCE or (bool(self._answered) and late)

    async def _store(self) -> None:
        answered, self._answered, self._stored_at = self._answered, [], time.monotonic()
        if not answered:
            return
        now = datetime.now(UTC)
        try:
            stored = await self._in_database(lambda database: _add(database, answered, now))
        except (ServingError, StoreError):  # it is away, which the service tells
            self._metrics.shadow_texts.labels("failed").inc(len(answered))
        else:
            self._metrics.shadow_texts.labels("answered").inc(stored)

    def _wanted(self) -> str:
        folder = registry_dir(self._settings)
        found = Registry(folder).shadow() if folder else None
        return found.name if found else ""


def _answers(
    model: Model, batch: Sequence[Understood], beside: Model | None
) -> tuple[list[Told], dict[str, float]]:
    """Answers, and how long a text took: the challenger, and where it is given the champion as well."""
    texts = [one.prepared.text for one in batch]
    start = time.perf_counter()
    predictions = model.predict(texts)
    timed = {"challenger_ms": _per_text(start, texts)}
    if beside is not None:
        start = time.perf_counter()
        beside.predict(texts)
        timed["champion_ms"] = _per_text(start, texts)
    answers = [tell(model, one, found) for one, found in zip(batch, predictions, strict=True)]
    return answers, timed


def _per_text(start: float, texts: Sequence[str]) -> float:
    return round(1000 * (time.perf_counter() - start) / len(texts), 3)


def _add(database: Database, answered: Sequence[tuple[str, Told, dict[str, float]]], now: datetime) -> int:
    """Store the answers of appeals that are there (they may have been purged); how many are new."""
    numbers = Store(database).numbers([id for id, _, _ in answered])
    rows = [_row(numbers[id], answer, timed, now) for id, answer, timed in answered if id in numbers]
    return ReviewStore(database).add_answers(rows)


def _row(number: int, answer: Told, timed: dict[str, float], now: datetime) -> NewAnswer:
    body: dict[str, Any] = {**orjson.loads(in_json(answer)), "timed": timed}
    return NewAnswer(
        appeal_number=number,
        model_version=answer["model_version"],
        scheme_version=answer["scheme_version"],
        action=answer["decision"]["action"],
        urgency=answer["urgency"]["level"],
        body=orjson.dumps(body).decode(),
        answered_at=now,
    )
