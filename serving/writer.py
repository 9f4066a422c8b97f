"""Group commit: appeals that arrive while one group is written to disk share the next transaction.

A commit costs one wait for the disk, however many rows it holds. A row that comes alone is written at
once. A group that the database refuses is tried again one by one, so that one bad row harms nobody; a
database that is away is told to every caller of the group.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from data.errors import RowRefused, StoreError
from data.store import NewAppeal, StoredAnswer
from serving.errors import Overloaded, ServingError, Stopping
from serving.metrics import Metrics

__all__ = ["Result", "Writer"]

GROUP_ROWS = 256  # of one transaction: about a megabyte, which a disk takes in milliseconds
Result = tuple[StoredAnswer, bool]  # what is stored, whether we stored it


@dataclass(eq=False)
class _Waiting:
    row: NewAppeal
    result: asyncio.Future[Result]


class Writer:
    """`write` stores rows in one transaction, in a thread of the writer's own; all of them or none."""

    def __init__(
        self, write: Callable[[Sequence[NewAppeal]], list[Result]], queue_rows: int, metrics: Metrics
    ) -> None:
        self._write, self._queue_rows, self._metrics = write, queue_rows, metrics
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        metrics.store_queue.set_function(lambda: len(self._queue))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._worker: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin to write; needs a running event loop."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self, grace: float) -> None:
        """Refuse new rows, write the accepted ones for at most `grace` seconds, then give up."""
        self._stopping = True
        self._wake.set()
        if self._worker:
            await asyncio.wait([self._worker], timeout=grace)
            self._worker.cancel()
        for waiting in self._queue:
            _fail(waiting, Stopping("服务正在停止"))
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def add(self, row: NewAppeal, *, urgent: bool = False) -> Result:
        """Store an appeal with its answer; on disk when this returns. An urgent one is never refused.

        Raises Overloaded, Stopping, or what `write` raised for this row.
        """
        if self._stopping:
            raise Stopping("服务正在停止")
        if len(self._queue) >= self._queue_rows and not urgent:
            self._metrics.shed.labels("queue_rows").inc()
            raise Overloaded("queue_rows", self._queue_rows, len(self._queue), retry_after=1)
        waiting = _Waiting(row, asyncio.get_running_loop().create_future())
        (self._queue.appendleft if urgent else self._queue.append)(waiting)
        self._wake.set()
        return await waiting.result

    async def _work(self) -> None:
        while True:
            group = self._take()
            if group:
                await self._store(group)
            elif self._stopping:
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def _take(self) -> list[_Waiting]:
        """The next group; a caller that left was told nothing, so its row need not be stored."""
        group: list[_Waiting] = []
        while self._queue and len(group) < GROUP_ROWS:
            waiting = self._queue.popleft()
            if not waiting.result.done():
                group.append(waiting)
        return group

    async def _store(self, group: list[_Waiting]) -> None:
        rows = [waiting.row for waiting in group]
        self._metrics.group_rows.observe(len(rows))
        try:
            with self._metrics.commit_seconds.time():
                results = await asyncio.get_running_loop().run_in_executor(self._pool, self._write, rows)
        except asyncio.CancelledError:  # the grace is over
            for waiting in group:
                _fail(waiting, Stopping("服务正在停止"))
            raise
        except Exception as error:  # each caller is told: none may wait for ever
            await self._after_failure(group, error)
        else:
            for waiting, result in zip(group, results, strict=True):
                if not waiting.result.done():
                    waiting.result.set_result(result)

    async def _after_failure(self, group: list[_Waiting], error: Exception) -> None:
        away = isinstance(error, (StoreError, ServingError, OSError)) and not isinstance(error, RowRefused)
        if away or len(group) == 1:
            for waiting in group:
                _fail(waiting, error)
            return
        for waiting in group:
            await self._store([waiting])


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.result.done():
        waiting.result.set_exception(error)
