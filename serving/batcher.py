"""Dynamic batching: many callers, one model, two lanes.

Texts that the urgency rules raise wait in the urgent lane: it goes first and is never shed. The rest
waits in a bounded lane; a request that does not fit is refused whole (429). A batch holds texts of
like length within a budget of padded characters, so that a long text does not slow short ones. The
model runs in a thread. A batch that fails is tried again one by one, so that one bad text harms
nobody; callers that left are dropped before the model sees their text.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from classifier.predictor import Prediction
from serving.errors import ModelFailed, Overloaded, ServingError, Stopping
from serving.logs import log
from serving.metrics import Metrics
from serving.models import Model

__all__ = ["Batcher", "Classified", "Limits", "Request"]

LONGEST = 1024  # characters of a text that count for padding; the predictor windows longer ones


@dataclass(frozen=True)
class Limits:
    """Sizes of a batch and of the queue, in texts and characters."""

    batch_texts: int = 32
    batch_chars: int = 8192
    queue_texts: int = 1024
    queue_chars: int = 4_000_000
    workers: int = 1


@dataclass(frozen=True)
class Request:
    """A prepared text, and whether a rule raised it."""

    text: str
    urgent: bool = False


@dataclass(frozen=True)
class Classified:
    """A prediction and the model that made it (the champion may change between two batches)."""

    prediction: Prediction
    model: Model


@dataclass(eq=False)
class _Waiting:
    text: str
    answer: asyncio.Future[Classified]
    since: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        return max(1, min(len(self.text), LONGEST))


class Batcher:
    """`model()` gives the model for the next batch, or raises why there is none."""

    def __init__(self, model: Callable[[], Model], limits: Limits, metrics: Metrics) -> None:
        self._model, self._limits, self._metrics = model, limits, metrics
        self._urgent: deque[_Waiting] = deque()
        self._rest: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="model")
        self._workers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._seconds_per_text = 0.02  # running mean, for Retry-After

    def start(self) -> None:
        """Begin to answer; needs a running event loop."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._limits.workers)]

    async def stop(self, grace: float) -> None:
        """Refuse new texts, answer the accepted ones for at most `grace` seconds, then give up."""
        self._stopping = True
        self._wake.set()
        if self._workers:
            await asyncio.wait(self._workers, timeout=grace)
        for worker in self._workers:
            worker.cancel()
        for waiting in (*self._urgent, *self._rest):
            _fail(waiting, Stopping("服务正在停止"))
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def classify(self, requests: Sequence[Request]) -> list[Classified]:
        """One answer per text, in order. Raises Overloaded, Stopping, ModelNotReady or ModelFailed."""
        self._admit(requests)
        loop = asyncio.get_running_loop()
        queued = [(_Waiting(request.text, loop.create_future()), request.urgent) for request in requests]
        for waiting, urgent in queued:
            (self._urgent if urgent else self._rest).append(waiting)
        self._wake.set()
        try:
            return list(await asyncio.gather(*(waiting.answer for waiting, _ in queued)))
        finally:  # when one failed or the caller left, nobody waits for the others any more
            for waiting, _ in queued:
                waiting.answer.cancel()

    def _admit(self, requests: Sequence[Request]) -> None:
        if self._stopping:
            raise Stopping("服务正在停止")
        coming = [len(request.text) for request in requests if not request.urgent]
        if coming:
            self._within("queue_texts", self._limits.queue_texts, len(self._rest), len(coming))
            chars = sum(len(waiting.text) for waiting in self._rest)
            self._within("queue_chars", self._limits.queue_chars, chars, sum(coming))

    def _within(self, name: str, limit: int, waiting: int, coming: int) -> None:
        # A request larger than the limit itself is let in when nobody waits: else it never could be.
        if waiting and waiting + coming > limit:
            self._metrics.shed.labels(name).inc(coming if name == "queue_texts" else 1)
            seconds = self._seconds_per_text * (len(self._rest) + len(self._urgent))
            raise Overloaded(name, limit, waiting, min(60, max(1, math.ceil(seconds))))

    async def _work(self) -> None:
        while True:
            batch = self._take()
            if batch:
                await self._answer(batch)
            elif self._stopping:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def _take(self) -> list[_Waiting]:
        """The next batch: the oldest text of the first lane, and those nearest to it in length."""
        lane = self._urgent if self._drop_gone(self._urgent) else self._rest
        if not self._drop_gone(lane):
            return []
        first = lane[0]
        nearest = sorted(lane, key=lambda waiting: abs(waiting.size - first.size))
        batch: list[_Waiting] = []
        longest = first.size
        for waiting in nearest[: self._limits.batch_texts]:
            longest = max(longest, waiting.size)
            if batch and longest * (len(batch) + 1) > self._limits.batch_chars:
                break
            batch.append(waiting)
        self._keep(lane, set(batch))
        return batch

    def _keep(self, lane: deque[_Waiting], taken: set[_Waiting]) -> None:
        left = [waiting for waiting in lane if waiting not in taken]
        lane.clear()
        lane.extend(left)
        self._metrics.queue.labels("urgent").set(len(self._urgent))
        self._metrics.queue.labels("rest").set(len(self._rest))

    def _drop_gone(self, lane: deque[_Waiting]) -> bool:
        gone = {waiting for waiting in lane if waiting.answer.done()}
        if gone:
            self._metrics.dropped.inc(len(gone))
            self._keep(lane, gone)
        return bool(lane)

    async def _answer(self, batch: list[_Waiting]) -> None:
        start = time.monotonic()
        for waiting in batch:
            self._metrics.stage_seconds.labels("queue").observe(start - waiting.since)
        try:
            await self._predict(batch)
        except ServingError as error:  # there is no model: trying one by one would not help
            for waiting in batch:
                _fail(waiting, error)
        except Exception as error:
            await self._after_failure(batch, error)
        else:
            spent = (time.monotonic() - start) / len(batch)
            self._seconds_per_text += 0.1 * (spent - self._seconds_per_text)

    async def _predict(self, batch: list[_Waiting]) -> None:
        model = self._model()
        texts = [waiting.text for waiting in batch]
        self._metrics.batch_texts.observe(len(texts))
        with self._metrics.stage("model"):
            loop = asyncio.get_running_loop()
            predictions = await loop.run_in_executor(self._pool, model.predict, texts)
        if len(predictions) != len(texts):
            raise ModelFailed("模型返回的结果数量不对", f"{len(predictions)} / {len(texts)}")
        for waiting, prediction in zip(batch, predictions, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(Classified(prediction, model))

    async def _after_failure(self, batch: list[_Waiting], error: Exception) -> None:
        self._metrics.failed.inc()
        log("model_failed", logging.ERROR, texts=len(batch), error=type(error).__name__)
        if len(batch) == 1:
            _fail(batch[0], ModelFailed("模型未能处理这条诉求", type(error).__name__))
            return
        for waiting in batch:
            if not waiting.answer.done():
                await self._answer([waiting])


def _fail(waiting: _Waiting, error: ServingError) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
