"""A thread for the model, one that may be left behind: whatever hangs in it takes nobody else along."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["Hung", "ModelThread"]

T = TypeVar("T")
Job = Callable[[], None]
NICE = 5  # lower than the event loop's priority by a factor of three in the processor's shares


class Hung(Exception):
    """The work took longer than it may; its thread was left behind."""


class ModelThread:
    """Does one piece of work at a time, outside the event loop.

    The threads are daemons: one that hangs does not keep the process from ending, as a pool's would.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs = self._begin()

    async def run(self, work: Callable[[], T], seconds: float) -> T:
        """The result of the work, or what it raised. Raises Hung when it takes longer than ``seconds``.

        A caller that is cancelled waits no more; the work goes on, and the next waits for its end.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        self._jobs.put(lambda: _do(work, result, loop))
        try:
            done, _ = await asyncio.wait({result}, timeout=seconds)
            if done:
                return result.result()
        finally:
            result.cancel()  # a late result is for nobody
        self.close()  # should it ever come to an end, it ends for good
        self._jobs = self._begin()
        raise Hung(f"no result within {seconds:g} s")

    def close(self) -> None:
        """End the thread, once it has done what it was given."""
        self._jobs.put(None)

    def _begin(self) -> SimpleQueue[Job | None]:
        jobs: SimpleQueue[Job | None] = SimpleQueue()
        threading.Thread(target=_serve, args=(jobs,), name=self._name, daemon=True).start()
        return jobs


def _serve(jobs: SimpleQueue[Job | None]) -> None:
    _stand_back()
    while (job := jobs.get()) is not None:
        job()


def _stand_back() -> None:
    """Let the event loop go first where all want the processor: what it reads then fills the next batch.

    On Linux alone a priority belongs to a thread; elsewhere it would be the whole process's.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _do(work: Callable[[], T], result: asyncio.Future[T], loop: asyncio.AbstractEventLoop) -> None:
    try:
        value = work()
    except BaseException as error:  # even an exit asked for inside a library ends this work only
        told = error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
        _settle(loop, result, partial(result.set_exception, told))
    else:
        _settle(loop, result, partial(result.set_result, value))


def _settle(loop: asyncio.AbstractEventLoop, result: asyncio.Future[T], tell: Job) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_unless_done, result, tell)


def _unless_done(result: asyncio.Future[T], tell: Job) -> None:
    if not result.done():
        tell()
