"""Killed at random moments under load, the service loses nothing it acknowledged and doubles nothing.

The long version (`make soak`) kills ten times as often.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from data.store import Store
from data.store_tables import answers, appeals
from tests.served import Life, Lives

THREADS = 6
KILLS = {"sqlite": 50, "postgresql": 20}
LONG_KILLS = 500
MOST_ANSWERS = 40  # of one life
DIES_YOUNG = 0.2  # share of lives that end while they begin: in the migration, before the first answer
HEADERS = {"Content-Type": "application/json"}


@dataclass
class Ledger:
    """What the callers know. `told`: id → answer, `unknown`: id → body that got no answer."""

    told: dict[str, bytes] = field(default_factory=dict)
    unknown: dict[str, bytes] = field(default_factory=dict)
    sent_again: int = 0
    was_stored: int = 0
    kills: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, id: str, body: bytes, status: int, answer: bytes) -> None:
        """An answer: acknowledged, or refused for now (the row may still be there)."""
        assert status in (200, 201, 503), (status, answer)
        with self.lock:
            if status == 503:
                self.unknown[id] = body
                return
            again = self.unknown.pop(id, None) is not None
            self.sent_again += again
            self.was_stored += again and status == 200
            assert self.told.setdefault(id, answer) == answer, id  # never two answers for one id

    def lost(self, id: str, body: bytes) -> None:
        """No answer: the process was gone."""
        with self.lock:
            if id not in self.told:
                self.unknown[id] = body


class Caller(threading.Thread):
    """Posts one appeal after the other, to the replicas in turn, until the first of them is gone."""

    def __init__(self, name: str, lives: list[Life], ledger: Ledger, again: dict[str, bytes]) -> None:
        super().__init__(name=name)
        self._lives, self._ledger, self._again = lives, ledger, again
        self.wrong: BaseException | None = None

    def run(self) -> None:
        try:
            self._call()
        except BaseException as error:  # told by the main thread
            self.wrong = error

    def _call(self) -> None:
        with ExitStack() as open_lines:
            lines = [
                open_lines.enter_context(closing(HTTPConnection("127.0.0.1", life.port, timeout=60)))
                for life in self._lives
            ]
            for n, (id, body) in enumerate(self._bodies()):
                line = lines[n % len(lines)]
                try:
                    line.request("POST", "/v1/appeals", body, HEADERS)
                    with line.getresponse() as response:
                        self._ledger.note(id, body, response.status, response.read())
                except (OSError, HTTPException):
                    self._ledger.lost(id, body)
                    return

    def _bodies(self) -> Iterator[tuple[str, bytes]]:
        yield from self._again.items()
        for n in range(10_000):
            id = f"{self.name}-{n}"
            body = json.dumps({"id": id, "text": f"柳荫街道{n}号门前井盖不见了，请尽快派人处理。"}).encode()
            yield id, body
            if n % 3 == 0:  # the intake system sends some twice, to another replica where there is one
                yield id, body


def one_life(
    lives: Lives, settings: dict[str, object], replicas: int, ledger: Ledger, chance: random.Random
) -> None:
    """Begin, load, kill one of the replicas at random; the other ones after it."""
    begun = [lives.begin(**settings) for _ in range(replicas)]
    if chance.random() < DIES_YOUNG:
        time.sleep(chance.uniform(0, 0.4))
        kill(begun, ledger, chance)
        return
    for life in begun:
        life.wait_ready()
    still_there(begun[0], ledger, chance)
    again = dict(ledger.unknown)
    callers = [Caller(f"K{ledger.kills}-{n}", begun, ledger, again) for n in range(THREADS)]
    for caller in callers:
        caller.start()
    wait_for_answers(ledger, len(ledger.told) + chance.randrange(MOST_ANSWERS))
    time.sleep(chance.uniform(0, 0.05))
    kill(begun, ledger, chance)
    for caller in callers:
        caller.join(60)
        if caller.wrong:
            raise caller.wrong


def wait_for_answers(ledger: Ledger, wanted: int) -> None:
    """A moment that is random but has work before it, however slow the machine is."""
    end = time.monotonic() + 60
    while len(ledger.told) < wanted and time.monotonic() < end:
        time.sleep(0.002)


def kill(begun: list[Life], ledger: Ledger, chance: random.Random) -> None:
    for life in chance.sample(begun, len(begun)):
        life.end(signal.SIGKILL)
        ledger.kills += 1


def still_there(life: Life, ledger: Ledger, chance: random.Random) -> None:
    """A sample of all that was acknowledged, asked for over HTTP, byte for byte."""
    with httpx.Client(base_url=life.address, timeout=30, verify=False) as client:
        for id in chance.sample(sorted(ledger.told), min(20, len(ledger.told))):
            response = client.get(f"/v1/appeals/{id}")
            assert (response.status_code, response.content) == (200, ledger.told[id])


def check_all(url: str, ledger: Ledger) -> int:
    """Every acknowledged answer is stored as it was told; nothing is half, nothing twice. Rows stored."""
    store = Store.open(url)
    found = store.find_many(list(ledger.told))
    assert {id: stored.answer.encode() for id, stored in found.items()} == ledger.told
    with store.database.connect() as connection:
        rows = connection.execute(select(func.count()).select_from(appeals)).scalar_one()
        whole = connection.execute(
            select(func.count(appeals.c.id.distinct()), func.count()).join_from(appeals, answers)
        ).one()
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
    store.close()
    assert tuple(whole) == (rows, rows)
    assert len(ledger.told) <= rows <= len(ledger.told) + len(ledger.unknown)
    return int(rows)


def test_nothing_acknowledged_is_lost_by_a_kill(
    database_url: str, soak: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = database_url.partition(":")[0]
    wanted = LONG_KILLS if soak else KILLS[kind]
    # Several processes of one box share a SQLite file; replicas always have a PostgreSQL.
    counts = (1, 2) if kind == "sqlite" else (2,)
    seed = int.from_bytes(os.urandom(4), "big")
    chance, ledger = random.Random(seed), Ledger()
    settings: dict[str, object] = {"database_url": database_url, "heal_seconds": 0.2}
    with Lives(tmp_path / "log") as lives:
        while ledger.kills < wanted:
            one_life(lives, settings, chance.choice(counts), ledger, chance)
        last = lives.begin(**settings)
        last.wait_ready()
        for id, body in list(ledger.unknown.items()):  # what got no answer is sent again: stored once
            response = httpx.post(f"{last.address}/v1/appeals", content=body, headers=HEADERS, timeout=30)
            ledger.note(id, body, response.status_code, response.content)
        assert ledger.unknown == {}
        last.end(signal.SIGTERM)
    rows = check_all(database_url, ledger)
    assert rows == len(ledger.told) > wanted
    with capsys.disabled():
        print(
            f"\n{kind}: {ledger.kills} kills, {rows} appeals acknowledged, 0 lost, 0 doubled, 0 half; "
            f"{ledger.sent_again} had no answer and were sent again ({ledger.was_stored} had been stored); "
            f"seed {seed}"
        )
