"""Who reads the rules: work on texts that holds the interpreter, kept from delaying other texts.

A few short texts are worked on at once, on the event loop: two hops to a thread would cost more than the
work. The rest goes to threads in pieces, and the piece that is due first goes first: due when it came, plus
a head start of others that grows with its length. So a letter of 20,000 characters, or a request full of
them, is passed by what is shorter, but not for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from queue import PriorityQueue
from typing import TypeVar

__all__ = ["Readers"]

A = TypeVar("A")
B = TypeVar("B")
PER_ITEM = 60  # characters that the fixed work on one text is worth
AT_ONCE = 500  # characters: about three milliseconds
PIECE = 2_000  # characters of one piece; a longer text is a piece of its own
PER_SECOND = 20_000  # a piece of so many characters may be passed for a second by shorter ones
THREADS = 2  # so that what is being read never holds up all that comes after it
Job = tuple[float, int, Callable[[], None] | None]


class Readers:
    """Threads that begin with the first long text and end with `close`."""

    def __init__(self) -> None:
        self._jobs: PriorityQueue[Job] = PriorityQueue()
        self._count = itertools.count()
        self._threads: list[threading.Thread] = []

    async def each(
        self, work: Callable[[A], B], items: Sequence[A], sizes: Sequence[int], urgent: bool = False
    ) -> list[B]:
        """The work done on each item, in order; `sizes` in characters. What the work raises is raised.

        Urgent work goes before all other.
        """
        costs = [size + PER_ITEM for size in sizes]
        if sum(costs) <= AT_ONCE:
            return [work(item) for item in items]
        parts = [self._begin(work, items[a:b], sum(costs[a:b]), urgent) for a, b in _pieces(costs)]
        return [one for part in await asyncio.gather(*parts) for one in part]

    def close(self) -> None:
        """End the threads when they have done what they are at."""
        for _ in self._threads:
            self._jobs.put((-1.0, next(self._count), None))

    def _begin(
        self, work: Callable[[A], B], items: Sequence[A], cost: int, urgent: bool
    ) -> asyncio.Future[list[B]]:
        while len(self._threads) < THREADS:
            self._threads.append(threading.Thread(target=self._serve, name="reader", daemon=True))
            self._threads[-1].start()
        result: Future[list[B]] = Future()
        context = contextvars.copy_context()  # the request's id, for the log

        def job() -> None:
            if result.set_running_or_notify_cancel():  # else the caller left
                context.run(_settle, result, work, items)

        due = 0.0 if urgent else time.monotonic() + cost / PER_SECOND
        self._jobs.put((due, next(self._count), job))
        return asyncio.wrap_future(result)

    def _serve(self) -> None:
        while (job := self._jobs.get()[2]) is not None:
            job()


def _settle(result: Future[list[B]], work: Callable[[A], B], items: Sequence[A]) -> None:
    try:
        result.set_result([work(item) for item in items])
    except BaseException as error:  # told to the caller; the thread goes on
        result.set_exception(error)


def _pieces(costs: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Bounds [start, end) of consecutive items that make up a piece."""
    start = total = 0
    for at, cost in enumerate(costs):
        if at > start and total + cost > PIECE:
            yield start, at
            start, total = at, 0
        total += cost
    yield start, len(costs)
