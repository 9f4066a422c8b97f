"""Begins lives of the real service, with a fake model, in processes of their own.

    python -m tests.served    reads a line of settings (JSON), forks a life, answers {"pid", "port"}

Beside the service's settings a line may hold `text_seconds`: how long the model takes for a text.

All is imported before the first fork: a life then begins in a fraction of a second, not in several,
and can be ended by SIGKILL like any other process. The lives end with the one that began them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from classifier.predictor import Prediction
from serving.models import Model
from tests.fakes import FakePredictor

__all__ = ["Life", "Lives"]

ROOT = Path(__file__).parent.parent
SLOW_START = 60.0  # seconds; a machine that does much else at once


@dataclass(frozen=True)
class Life:
    """One process of the service."""

    pid: int
    port: int

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self) -> None:
        """Until /readyz says 200."""
        end = time.monotonic() + SLOW_START
        while (told := self._told()) != "ready":
            assert time.monotonic() < end, told
            time.sleep(0.01)

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal, and wait until the process is gone."""
        os.kill(self.pid, how)
        end = time.monotonic() + SLOW_START
        while self.alive():
            assert time.monotonic() < end, "the service did not end"
            time.sleep(0.005)

    def alive(self) -> bool:
        """Whether the process is there."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _told(self) -> str:
        try:
            with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as line:
                line.request("GET", "/readyz")
                response = line.getresponse()
                return "ready" if response.status == 200 else response.read().decode()
        except (OSError, HTTPException) as error:
            return str(error)


class Lives:
    """Begins lives; as a context manager it ends them all."""

    def __init__(self, log: Path) -> None:
        with log.open("ab") as errors:
            self._parent = subprocess.Popen(
                [sys.executable, "-m", "tests.served"],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith("JIESU_")},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def begin(self, **settings: Any) -> Life:
        """A process of the service with these settings; it is not ready yet."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(settings) + "\n")
        self._parent.stdin.flush()
        return Life(**json.loads(self._parent.stdout.readline()))

    def __enter__(self) -> Lives:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parent.communicate(timeout=SLOW_START)


def main() -> None:
    """Fork a life for every line of standard input; at its end, end them."""
    import alembic.command  # noqa: F401  (imported by the first migration otherwise)

    from serving.answer import Asked, answer_one
    from tests.fakes import furnish

    predictor = SlowPredictor()
    model = furnish(predictor)
    # Rules are made ready at their first use: here, once for all lives.
    answer_one(model, Asked("井盖不见了", datetime.now(UTC)))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: no zombies
    pids: list[int] = []
    for line in sys.stdin:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        pid = os.fork()
        if pid == 0:
            given = json.loads(line)
            predictor.seconds = given.pop("text_seconds", 0.0)
            _live(given, listener, model)
        pids.append(pid)
        print(json.dumps({"pid": pid, "port": listener.getsockname()[1]}), flush=True)
        listener.close()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


class SlowPredictor(FakePredictor):
    """Takes its time for every text."""

    seconds = 0.0

    def _one(self, text: str) -> Prediction:
        time.sleep(self.seconds)
        return super()._one(text)


def _live(given: dict[str, Any], listener: socket.socket, model: Model) -> None:
    from serving import app, server
    from serving.settings import Settings

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    try:
        app.create_app = partial(app.create_app, load=lambda _: model)
        server.serve(Settings(**given), listener)
    finally:
        os._exit(0)


if __name__ == "__main__":
    import serving.app  # noqa: F401

    main()
