"""What a person sees of a long run, and how they end it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from serving.bulk.journal import Done
from serving.errors import ServingError

__all__ = ["Stop", "Stopped", "Watch", "until_signalled"]

LINE_SECONDS = 30.0  # between two lines where there is no terminal


class Stopped(ServingError):
    """A signal ended the run; what was done is noted."""

    code = "stopped"


class Stop:
    """Set by the first signal; `number` is the signal's."""

    def __init__(self) -> None:
        self.number = 0
        self.event = Event()

    def check(self) -> None:
        """Raise Stopped after a signal."""
        if self.event.is_set():
            raise Stopped("stopped by a signal")

    def wait(self, seconds: float) -> None:
        """Sleep, unless a signal comes. Raises Stopped."""
        self.event.wait(seconds)
        self.check()


@contextmanager
def until_signalled() -> Iterator[Stop]:
    """SIGINT and SIGTERM end the run between two batches instead of anywhere; for the main thread."""
    stop = Stop()

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.number = number
        stop.event.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Watch:
    """A bar with rows, rows per second and the time left; without a terminal a line now and then."""

    def __init__(self, total_bytes: int) -> None:
        self._console = Console(stderr=True)
        self._total, self._start, self._last = total_bytes, time.monotonic(), time.monotonic()
        self._first_rows: int | None = None
        self._first_bytes = 0
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bars.add_task("bulk", total=max(1, total_bytes), told="")

    def __enter__(self) -> Watch:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, words: str) -> None:
        """A line above the bar."""
        self._console.print(words, highlight=False, markup=False, soft_wrap=True)

    def begin(self, done: Done, position: int) -> None:
        """The clock starts: what was done before does not count."""
        self._start = time.monotonic()
        self._first_rows, self._first_bytes = done.rows, position
        self._bars.reset(self._task, completed=position)

    def show(self, done: Done, position: int) -> None:
        """So much is done, up to this byte of the file."""
        rate = self.rate(done)
        told = f"{done.rows:,} rows, {rate:.1f} rows/s, {done.rejected:,} rejected"
        self._bars.update(self._task, completed=position, told=told)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last >= LINE_SECONDS:
            self._last = now
            self.say(f"{told}, {self._left(position, now)}")

    def rate(self, done: Done) -> float:
        """Rows per second since the clock started."""
        return (done.rows - (self._first_rows or 0)) / max(1e-9, time.monotonic() - self._start)

    def _left(self, position: int, now: float) -> str:
        read = position - self._first_bytes
        if read <= 0:
            return "time left unknown"
        seconds = round((now - self._start) * (self._total - position) / read)
        return f"about {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"
