"""Dynamic batching: many callers, one model, two lanes.

Texts that the urgency rules raise wait in the urgent lane: it goes first and is never shed; a batch of it is
filled up with texts of the rest that do not make it longer. The rest waits in a bounded lane; a request that
does not fit is refused whole (429), unless it holds an urgent text. After `URGENT_BATCHES` urgent batches in
a row the rest gets one, so neither lane is starved. A batch holds texts of like length within a budget of
padded tokens, so that a long text does not slow short ones.

The model runs in threads. A batch that fails or hangs is asked again text by text, beside the lanes and in
a thread of its own, so that one bad text harms nobody and holds nobody up. Texts whose caller left or whose
deadline has passed are dropped before the model sees them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from classifier.neighbours import Neighbour
from classifier.predictor import Prediction, Tokens
from serving.errors import ModelFailed, Overloaded, ServingError, Stopping, TooSlow
from serving.lanes import Classified, Lane, Request, Waiting
from serving.logs import log
from serving.metrics import Metrics
from serving.model_thread import Hung, ModelThread
from serving.models import Model

__all__ = ["Batcher", "Classified", "Limits", "Recall", "Request", "nothing_recalled"]

Recall = Callable[[str, Sequence[Prediction]], list[tuple[Neighbour, ...]]]

URGENT_BATCHES = 8  # in a row, while the rest waits: the rest gets a ninth of the model at the least


@dataclass(frozen=True)
class Limits:
    """Sizes of a batch (texts, padded tokens, seconds until it counts as hung) and of the queue."""

    batch_texts: int = 32
    batch_tokens: int = 1024
    batch_seconds: float = 10.0
    queue_texts: int = 1024
    queue_chars: int = 4_000_000
    answer_seconds: float = 30.0
    workers: int = 1


def nothing_recalled(version: str, predictions: Sequence[Prediction]) -> list[tuple[Neighbour, ...]]:
    """Of no answer is there a look-alike."""
    return [()] * len(predictions)


class Batcher:
    """`model()` gives the model for the next batch, or raises why there is none.

    `lane` is what metrics call the lane of texts that are not urgent; only `rest` has an urgent one beside
    it. `recall(version, predictions)` finds corrected appeals like those of a batch, in the model's thread.
    """

    def __init__(
        self,
        model: Callable[[], Model],
        limits: Limits,
        metrics: Metrics,
        lane: str = "rest",
        recall: Recall = nothing_recalled,
    ) -> None:
        self._model, self._limits, self._metrics, self._lane = model, limits, metrics, lane
        self._recall = recall
        self._urgent, self._rest = Lane(), Lane()
        if lane == "rest":
            metrics.watch_lane("urgent", lambda: self._urgent.texts, self._urgent.waits)
        metrics.watch_lane(lane, lambda: self._rest.texts, self._rest.waits)
        self._suspects: deque[Waiting] = deque()
        self._urgent_in_a_row = self._in_hand = 0
        self._wake, self._doubt = asyncio.Event(), asyncio.Event()  # a text came; a batch failed
        self._workers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._seconds_per_text = 0.02  # running mean, for Retry-After

    @property
    def idle(self) -> bool:
        """Whether no text waits and none is in the model."""
        return not (self._urgent or self._rest or self._suspects or self._in_hand)

    def start(self) -> None:
        """Begin to answer; needs a running event loop."""
        works = [self._work(self._next_batch, self._wake) for _ in range(self._limits.workers)]
        works.append(self._work(self._next_suspect, self._doubt))
        self._workers = [asyncio.create_task(work) for work in works]

    async def stop(self, grace: float) -> None:
        """Refuse new texts, answer the accepted ones for at most `grace` seconds, then give up."""
        self._stopping = True
        self._look_again()
        if self._workers:
            await asyncio.wait(self._workers, timeout=grace)
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        for waiting in (*self._urgent, *self._rest, *self._suspects):
            _fail(waiting, Stopping("服务正在停止"))

    async def classify(self, requests: Sequence[Request], deadline: float | None = None) -> list[Classified]:
        """One answer per text, in order; `deadline` is on the monotonic clock (default: in answer_seconds).

        Raises Overloaded, Stopping, TooSlow, ModelNotReady or ModelFailed.
        """
        self._admit(requests)
        loop, end = asyncio.get_running_loop(), deadline or time.monotonic() + self._limits.answer_seconds
        queued = [Waiting(request, loop.create_future(), end) for request in requests]
        for waiting in queued:
            (self._urgent if waiting.request.urgent else self._rest).add(waiting)
        self._wake.set()
        try:
            if len(queued) == 1:
                return [await queued[0].answer]
            return list(await asyncio.gather(*(waiting.answer for waiting in queued)))
        finally:  # when one failed or the caller left, nobody waits for the others any more
            for waiting in queued:
                self._leave(waiting)
            if self._metrics.tracing.on:
                self._draw(queued)

    def _leave(self, waiting: Waiting) -> None:
        waiting.answer.cancel()  # gather has done so already where the caller left
        if waiting.lane:
            waiting.lane.leave(waiting)
            self._metrics.dropped.inc()

    def _admit(self, requests: Sequence[Request]) -> None:
        if self._stopping:
            raise Stopping("服务正在停止")
        # A refusal would take the urgent texts of the request along: it is let in with all it holds.
        if not any(request.urgent for request in requests):
            chars = sum(len(request.text) for request in requests)
            self._within("queue_texts", self._limits.queue_texts, self._rest.texts, len(requests), requests)
            self._within("queue_chars", self._limits.queue_chars, self._rest.chars, chars, requests)

    def _within(self, name: str, limit: int, waiting: int, coming: int, requests: Sequence[Request]) -> None:
        # A request larger than the limit itself is let in when nobody waits: else it never could be.
        if waiting and waiting + coming > limit:
            self._metrics.shed.labels(name).inc(len(requests))
            seconds = self._seconds_per_text * (self._rest.texts + self._urgent.texts)
            raise Overloaded(name, limit, waiting, min(60, max(1, math.ceil(seconds))))

    def _look_again(self) -> None:
        self._wake.set()
        self._doubt.set()

    async def _work(self, take: Callable[[], list[Waiting]], wake: asyncio.Event) -> None:
        thread = ModelThread("model")
        try:
            while not self._done():
                if batch := take():
                    await self._answer(thread, batch)
                else:
                    wake.clear()
                    await wake.wait()
        finally:
            thread.close()

    def _done(self) -> bool:
        return self._stopping and not (self._urgent or self._rest or self._suspects or self._in_hand)

    def _next_batch(self) -> list[Waiting]:
        """A batch of the urgent lane, or of the rest where nothing is urgent or it is its turn."""
        while self._urgent or self._rest:
            turn = bool(self._rest) and self._urgent_in_a_row >= URGENT_BATCHES
            urgent = bool(self._urgent) and not turn
            self._urgent_in_a_row = self._urgent_in_a_row + 1 if urgent else 0
            batch = self._in_time(self._take(self._urgent if urgent else self._rest))
            if batch:
                return batch
        return []

    def _take(self, lane: Lane) -> list[Waiting]:
        """A batch of a lane. The rest joins a small urgent one: urgent texts come one by
        one, and batches of one text would cost the machine a third of what it can do.
        """
        batch = lane.take(self._limits.batch_texts, self._limits.batch_tokens)
        if lane is self._urgent and batch:
            self._rest.join(batch, self._limits.batch_texts, self._limits.batch_tokens)
        return batch

    def _next_suspect(self) -> list[Waiting]:
        """One text of a batch that failed."""
        while self._suspects:
            if batch := self._in_time([self._suspects.popleft()]):
                return batch
        return []

    def _in_time(self, batch: list[Waiting]) -> list[Waiting]:
        now = time.monotonic()
        for waiting in batch:
            if waiting.deadline <= now and not waiting.answer.done():
                self._metrics.expired.inc()
                _fail(waiting, TooSlow("未能在规定时间内作答", f"等待了 {now - waiting.since:.1f} 秒"))
        return [waiting for waiting in batch if not waiting.answer.done()]

    async def _answer(self, thread: ModelThread, batch: list[Waiting]) -> None:
        start = time.monotonic()
        for waiting in batch:
            if not waiting.taken:  # not when it is asked again
                waiting.taken = start
                lane = "urgent" if waiting.request.urgent else self._lane
                self._metrics.waited(lane, start - waiting.since)
        self._in_hand += 1
        try:
            await self._predict(thread, batch)
        except ServingError as error:  # there is no model: trying one by one would not help
            for waiting in batch:
                _fail(waiting, error)
        except Exception as error:
            self._after_failure(batch, error)
        else:
            spent = (time.monotonic() - start) / len(batch)
            self._seconds_per_text += 0.1 * (spent - self._seconds_per_text)
        finally:
            self._in_hand -= 1
            if self._stopping:  # the other workers may be done too
                self._look_again()

    async def _predict(self, thread: ModelThread, batch: list[Waiting]) -> None:
        model = self._model()
        texts = [waiting.request.text for waiting in batch]
        tokens = [waiting.request.tokens for waiting in batch]
        self._metrics.batch_texts.observe(len(texts))
        self._metrics.batch_tokens.observe(len(texts) * max(waiting.size for waiting in batch))
        with self._metrics.stage("model"):
            work = partial(self._ask, model, texts, tokens)
            classified = await thread.run(work, self._limits.batch_seconds)
        for waiting, found in zip(batch, classified, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(found)

    def _ask(self, model: Model, texts: Sequence[str], tokens: Sequence[Tokens | None]) -> list[Classified]:
        predictions = model.predict(texts, tokens)
        if len(predictions) != len(texts):
            raise RuntimeError(f"expected {len(texts)} predictions, got {len(predictions)}")
        alike = self._recall(model.version, predictions)
        return [Classified(one, model, some) for one, some in zip(predictions, alike, strict=True)]

    def _after_failure(self, batch: list[Waiting], error: Exception) -> None:
        self._metrics.failed.inc()
        event = "model_hung" if isinstance(error, Hung) else "model_failed"
        log(event, logging.ERROR, raised=error, texts=len(batch))
        if len(batch) == 1:
            _fail(batch[0], ModelFailed("模型未能处理这条诉求", type(error).__name__))
            return
        for waiting in batch:
            if not waiting.answer.done():
                (self._suspects.appendleft if waiting.request.urgent else self._suspects.append)(waiting)
        self._doubt.set()

    def _draw(self, queued: Sequence[Waiting]) -> None:
        """The caller's spans of what is behind it: in the queue, and in the model."""
        taken = [waiting.taken for waiting in queued if waiting.taken]
        if taken:
            tracing, began = self._metrics.tracing, min(waiting.since for waiting in queued)
            tracing.past("queue", began, max(taken), texts=len(queued))
            tracing.past("model", min(taken), time.monotonic(), texts=len(queued))


def _fail(waiting: Waiting, error: ServingError) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
