"""How long work tells that it goes on: a function that is told what is done, how much, out of how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "progress_bars"]

Progress = Callable[[str, int, int], None]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A progress bar on stderr for each kind of work; they vanish when all is done."""
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    tasks: dict[str, TaskID] = {}
    console = Console(stderr=True)
    bars = Bars(console=console, transient=True, disable=not console.is_terminal)

    def show(what: str, done: int, total: int) -> None:
        bars.start()  # only now: work that ends at once leaves no empty line
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done, total=total)

    try:
        yield show
    finally:
        if tasks:
            bars.stop()
