"""The part of the queue that bulk streams may take, all of them together: they wait for it, in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.errors import Overloaded, Stopping

__all__ = ["BulkShare"]


class BulkShare:
    """Counts streams (refused beyond the limit) and texts (waited for); for one event loop."""

    def __init__(self, streams: int, texts: int, chars: int) -> None:
        """`chars` is what `texts` texts may hold together: a long text takes the place of several."""
        self.streams = 0
        self.stopping = asyncio.Event()
        self.free = texts
        self._most, self._texts = streams, texts
        self._chars_per_text = max(1, chars // texts)
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def enter(self) -> None:
        """Take the place of a stream; `leave` gives it back. Raises Overloaded when all are taken."""
        self.check()
        if self.streams >= self._most:
            refused = Overloaded("bulk_streams", self._most, self.streams, retry_after=30)
            refused.hint = "请等已有的批量提交结束，或在 30 秒后重试"
            raise refused
        self.streams += 1

    def leave(self) -> None:
        """Give the place of a stream back."""
        self.streams -= 1

    def stop(self) -> None:
        """End all streams after the lines in hand, with a word; begin no more."""
        self.stopping.set()

    def check(self) -> None:
        """Raise Stopping when the service is being stopped."""
        if self.stopping.is_set():
            raise Stopping("服务正在停止")

    @asynccontextmanager
    async def room(self, chars: int) -> AsyncIterator[None]:
        """Hold a text's place in the queue; waits until there is one, first come first served."""
        cost = min(self._texts, 1 + chars // self._chars_per_text)
        await self._take(cost)
        try:
            yield
        finally:
            self._give(cost)

    async def _take(self, cost: int) -> None:
        if not self._waiting and cost <= self.free:
            self.free -= cost
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, turn))
        try:
            await turn
        except asyncio.CancelledError:
            self._forget(cost, turn)
            raise

    def _forget(self, cost: int, turn: asyncio.Future[None]) -> None:
        if not turn.cancelled():  # its turn came as the caller left
            self._give(cost)
        elif (cost, turn) in self._waiting:
            self._waiting.remove((cost, turn))
            self._give(0)

    def _give(self, cost: int) -> None:
        self.free += cost
        while self._waiting and self._waiting[0][0] <= self.free:
            taken, turn = self._waiting.popleft()
            if not turn.done():
                self.free -= taken
                turn.set_result(None)
