"""Servers as processes: started on a free port, watched while they start, ended with all their children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from evaluation.errors import MissingExtra, ServerFailed

__all__ = ["Running", "Usage", "ended_in_order", "free_port", "run_module", "started"]

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 180.0
# Nothing may look for models elsewhere, or be slowed by a tokenizer's warning about forks.
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far, and memory now in bytes, of a process and all below it.

    ``resident`` counts a page that two processes share twice; ``proportional`` counts it once (0 where
    the system does not tell).
    """

    cpu_seconds: float
    resident: int
    proportional: int


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    name: str
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def usage(self) -> Usage:
        """What it has used. Raises ServerFailed when it is gone."""
        self.check()
        family = _family(self.process.pid)
        cpu = resident = proportional = 0.0
        for member in family:
            with suppress(psutil.NoSuchProcess):
                times, memory = member.cpu_times(), member.memory_full_info()
                cpu += times.user + times.system
                resident += memory.rss
                proportional += getattr(memory, "pss", 0)
        return Usage(cpu, int(resident), int(proportional))

    def check(self) -> None:
        """Raises ServerFailed when it has ended."""
        if self.process.poll() is not None:
            raise ServerFailed(
                f"{self.name}: expected a running server, it ended with status {self.process.returncode}; "
                f"its last lines:\n{self.tail()}"
            )

    def tail(self, lines: int = 12) -> str:
        """The last lines that it printed."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (none)"


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let SIGTERM end us as Ctrl+C does: through the blocks that end the servers we started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


@contextmanager
def started(
    name: str, command: Sequence[str], environment: Mapping[str, str], url: str, ready: str, folder: Path
) -> Iterator[Running]:
    """Start a server and wait until ``url + ready`` answers 200; at the end, end it and its children.

    Its output goes to a file in ``folder``. Raises ServerFailed when it ends or doesn't answer in time.
    """
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **QUIET, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl+C reaches us alone: the server is ended below, in order
        )
    running = Running(name, process, url, log)
    try:
        _wait(running, ready)
        yield running
    finally:
        _end(process)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def run_module(module: str, *arguments: str) -> None:
    """Run one of our modules to its end. Raises ServerFailed with what it said when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = "\n".join(done.stderr.splitlines()[-12:])
        if "ModuleNotFoundError" in last:
            raise MissingExtra(f"{last.splitlines()[-1]}; pip install 'jiesu[speed]'")
        raise ServerFailed(f"{module}: {last.removeprefix('error: ')}")


def _wait(running: Running, ready: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        running.check()
        with suppress(URLError, OSError), urlopen(running.url + ready, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise ServerFailed(
        f"{running.name}: expected {running.url}{ready} to answer 200 within {START_SECONDS:.0f} s; "
        f"its last lines:\n{running.tail()}"
    )


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []


def _end(process: subprocess.Popen[bytes]) -> None:
    family = _family(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(15)
    for member in family:  # what outlived it
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=15)  # the next server must not share the machine with this one
