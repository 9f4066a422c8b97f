"""A graceful stop: what was accepted is answered and stored, and nobody new is let in."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import orjson

from tests.running import MANHOLE
from tests.served import SLOW_START, Life, Lives

CALLERS = 30
TEXT_SECONDS = 0.2  # so that the last of them waits for six seconds


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SLOW_START
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def metric(life: Life, name: str) -> float:
    """The sum of a metric over its labels."""
    with closing(HTTPConnection("127.0.0.1", life.port, timeout=SLOW_START)) as line:
        line.request("GET", "/metrics")
        lines = line.getresponse().read().decode().splitlines()
    return sum(float(one.rsplit(" ", 1)[1]) for one in lines if one.startswith(name))


def refused(life: Life) -> bool:
    """Whether nobody listens any more."""
    with closing(socket.socket()) as line:
        return line.connect_ex(("127.0.0.1", life.port)) != 0


def post(life: Life, number: int) -> int:
    with closing(HTTPConnection("127.0.0.1", life.port, timeout=SLOW_START)) as line:
        body = orjson.dumps({"id": f"s-{number}", "text": f"{MANHOLE}第{number}处"})
        line.request("POST", "/v1/appeals", body, {"Content-Type": "application/json"})
        return line.getresponse().status


def test_everything_accepted_is_answered_and_stored_before_the_process_ends(tmp_path: Path) -> None:
    file = tmp_path / "jiesu.db"
    with Lives(tmp_path / "log") as lives, ThreadPoolExecutor(CALLERS) as callers:
        one_by_one = {"text_seconds": TEXT_SECONDS, "batch_texts": 1, "model_workers": 1}
        life = lives.begin(database_url=f"sqlite:///{file}", **one_by_one)
        life.wait_ready()
        asked = [callers.submit(post, life, number) for number in range(CALLERS)]
        # All are taken up: answered, in the queue, or the one that the model is at.
        until(lambda: metric(life, "jiesu_queue_texts{") + sum(one.done() for one in asked) >= CALLERS - 1)
        os.kill(life.pid, signal.SIGTERM)
        until(lambda: refused(life))
        assert not all(one.done() for one in asked)  # refused while others are still being answered
        assert [one.result(SLOW_START) for one in asked] == [201] * CALLERS
        until(lambda: not life.alive())
    with closing(sqlite3.connect(file)) as plain:
        assert plain.execute("SELECT count(*) FROM appeals").fetchone() == (CALLERS,)


def test_an_idle_service_ends_at_once_with_its_connections(tmp_path: Path) -> None:
    with Lives(tmp_path / "log") as lives:
        life = lives.begin(database_url=f"sqlite:///{tmp_path / 'jiesu.db'}")
        life.wait_ready()
        with closing(HTTPConnection("127.0.0.1", life.port, timeout=SLOW_START)) as idle:
            idle.request("GET", "/livez")
            assert idle.getresponse().read()
            os.kill(life.pid, signal.SIGTERM)
            until(lambda: not life.alive())
        assert refused(life)
