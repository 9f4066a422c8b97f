"""Several processes at one port, for boxes with several cores: one Python holds hardly more than one busy.

Each is a whole service, a replica, as those behind a proxy are: what they share is the port and the
database. The one that begins them begins one anew that died, and passes on the word to stop.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

import typer

from serving.errors import StartError
from serving.logs import log, set_up_logs
from serving.server import listen, serve
from serving.settings import Settings
from serving.terminal import REFUSALS
from serving.together import Together

__all__ = ["run_processes"]

LOOK_SECONDS = 0.2  # between two looks at whether one is due to begin anew
YOUNG_SECONDS = 10.0  # one that dies younger is begun anew after a pause, which doubles
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
MORE_SECONDS = 15.0  # beyond the grace, until those that do not end are killed
REFUSED = 2  # exit status of a process that will not start, as of every command


@dataclass
class _Place:
    """One process's place: who holds it, since when, and when it is filled again."""

    number: int
    process: SpawnProcess | None = None
    since: float = 0.0
    pause: float = 0.0
    due: float = field(default=0.0)  # on the monotonic clock


class _Processes:
    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._context = get_context("spawn")  # a fork would share what threads hold at that moment
        self._places = [_Place(number) for number in range(settings.processes)]
        self._stop: int | None = None

    def run(self) -> int:
        """Until stopped; returns the signal that did it. Raises StartError when they will not start."""
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, self._asked_to_stop)
        try:
            while self._stop is None:
                self._fill()
                connection.wait(self._sentinels(), timeout=LOOK_SECONDS)
                self._look()
            return self._stop
        finally:
            self._end_all()

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = number

    def _sentinels(self) -> list[int]:
        return [place.process.sentinel for place in self._places if place.process]

    def _fill(self) -> None:
        for place in self._places:
            if place.process is None and time.monotonic() >= place.due:
                arguments = (self._settings, Together(place.number, self._folder))
                place.process = self._context.Process(
                    target=_one, args=arguments, name=f"jiesu-{place.number}"
                )
                place.process.start()
                place.since = time.monotonic()

    def _look(self) -> None:
        for place in self._places:
            if place.process is not None and place.process.exitcode is not None:
                self._died(place, place.process.exitcode)

    def _died(self, place: _Place, status: int) -> None:
        if self._stop is not None:
            return
        if not Together.any_of(self._folder):
            raise StartError(
                f"expected a process that answers, got one that ended with status {status}; why is told above"
            )
        young = time.monotonic() - place.since < YOUNG_SECONDS
        place.pause = min(max(2 * place.pause, SHORTEST_PAUSE), LONGEST_PAUSE) if young else 0.0
        place.process, place.due = None, time.monotonic() + place.pause
        log("process_died", logging.ERROR, number=place.number, status=status, again_in=place.pause)

    def _end_all(self) -> None:
        left = [place.process for place in self._places if place.process and place.process.exitcode is None]
        for process in left:
            process.terminate()
        end = time.monotonic() + self._settings.grace_seconds + MORE_SECONDS
        for process in left:
            process.join(max(0.0, end - time.monotonic()))
            if process.exitcode is None:
                log("process_killed", logging.ERROR, process_id=process.pid)
                process.kill()
                process.join()


def run_processes(settings: Settings) -> None:
    """Answer with ``settings.processes`` processes until stopped; ends by the signal that stopped it.

    Raises StartError when the port is taken, or where the kernel deals no connections out.
    """
    if not sys.platform.startswith("linux"):
        raise StartError("JIESU_PROCESSES: expected 1 on this system: Linux alone deals connections out")
    set_up_logs(settings.log_level, settings.log_format)
    # First as any program takes it, which another one of ours that shares its port would not notice;
    # then to be shared. It never listens: it holds the port while a process is begun anew.
    with listen(settings.host, settings.port) as tried:
        port = tried.getsockname()[1]
    with (
        listen(settings.host, port, shared=True),
        tempfile.TemporaryDirectory(prefix="jiesu-") as folder,
    ):
        number = _Processes(settings.model_copy(update={"port": port}), Path(folder)).run()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _one(settings: Settings, together: Together) -> None:
    """What each process does; ends with exit status 2 when it will not start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches all at a terminal: the first passes it on
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        with listen(settings.host, settings.port, shared=True) as listener:
            serve(settings, listener, together)
    except REFUSALS as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(REFUSED)


def _end_with_parent() -> None:
    """Nobody would begin us anew, nor tell us to stop."""
    parent = parent_process()
    if parent is not None:
        with suppress(OSError):
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
