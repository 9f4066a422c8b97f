"""The load generator: ``python -m evaluation.speed.generator PLAN.json RESULT.json``, a process of its own.

Open loop: every request is sent when it is due, whether or not earlier ones were answered, and its time
runs from when it was due, so that queueing is never hidden (no coordinated omission). The load tools on
PyPI (locust and its kin) are closed loops: a user waits for its answer before it sends again, and a slow
server slows its own load. Those that are open are not on PyPI. Hence these few lines.

Closed loop (for saturation alone): a fixed number of requests is always under way; for throughput only.
There is a standard tool for that, and where it is installed it is asked too (see wrk).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.speed.connections import Client

__all__ = ["Load", "Outcome", "perform"]


@dataclass(frozen=True)
class Load:
    """What to send. ``bodies`` is a file with one request body a line.

    With ``due`` (seconds after the start) an open loop; without it a closed one with ``in_flight``
    requests under way for ``seconds``. A request that takes longer than ``timeout`` seconds fails.
    """

    url: str
    bodies: str
    due: tuple[float, ...] = ()
    in_flight: int = 1
    seconds: float = 1.0
    timeout: float = 30.0


@dataclass
class Outcome:
    """What came of it, of answers with status 2xx only but for ``late`` and ``failed``.

    ``took``: seconds from due to the last byte. ``ended``: seconds from the start to the last byte.
    ``late``: seconds from due to really sent. ``failed``: counts by status or by kind of error.
    ``full``: seconds that the load was up (until the last request was sent). ``cpu_seconds`` and
    ``wall_seconds`` of the generator.
    """

    took: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    full: float = 0.0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def throughput(self) -> float:
        """Answers a second while the load was up; until the last answer where none came before that."""
        in_time = sum(end <= self.full for end in self.ended)
        if in_time:
            return in_time / self.full
        return len(self.ended) / max(self.ended) if self.ended else 0.0


async def perform(load: Load) -> Outcome:
    """Send it all and wait for every answer."""
    bodies = Path(load.bodies).read_bytes().splitlines()
    outcome = Outcome()
    client = Client(load.url, load.timeout)
    sender = _Sender(client, outcome)
    try:
        await (_open(sender, load, bodies) if load.due else _closed(sender, load, bodies))
    finally:
        client.close()
    return outcome


@dataclass
class _Sender:
    client: Client
    outcome: Outcome
    start: float = 0.0

    async def send(self, body: bytes, due: float) -> None:
        """Send now what was due ``due`` seconds after the start, and note what came."""
        outcome = self.outcome
        outcome.full = time.perf_counter() - self.start
        outcome.late.append(outcome.full - due)
        try:
            status = await self.client.post(body)
        except OSError as error:  # TimeoutError is one
            outcome.failed[type(error).__name__] += 1
            return
        if 200 <= status < 300:
            ended = time.perf_counter() - self.start
            outcome.ended.append(ended)
            outcome.took.append(ended - due)
        else:
            outcome.failed[str(status)] += 1


async def _open(sender: _Sender, load: Load, bodies: list[bytes]) -> None:
    sender.start = time.perf_counter() + 0.05
    sent = []
    for due, body in zip(load.due, bodies, strict=True):
        await asyncio.sleep(max(0.0, sender.start + due - time.perf_counter()))
        sent.append(asyncio.create_task(sender.send(body, due)))
    await asyncio.gather(*sent)


async def _closed(sender: _Sender, load: Load, bodies: list[bytes]) -> None:
    sender.start = time.perf_counter()
    left = iter(bodies)
    await asyncio.gather(*(_keep_sending(sender, left, load.seconds) for _ in range(load.in_flight)))


async def _keep_sending(sender: _Sender, left: Iterator[bytes], seconds: float) -> None:
    for body in left:
        now = time.perf_counter() - sender.start
        if now >= seconds:
            return
        await sender.send(body, now)


def _main(plan: str, result: str) -> None:
    content = json.loads(Path(plan).read_text(encoding="utf-8"))
    load = Load(**{**content, "due": tuple(content["due"])})
    cpu, wall = time.process_time(), time.perf_counter()
    outcome = _run(load)
    outcome.cpu_seconds = time.process_time() - cpu
    outcome.wall_seconds = time.perf_counter() - wall
    Path(result).write_text(json.dumps(vars(outcome)), encoding="utf-8")


def _run(load: Load) -> Outcome:
    try:
        import uvloop
    except ImportError:  # it only spares CPU that the generator takes from the server
        return asyncio.run(perform(load))
    return uvloop.run(perform(load))


if __name__ == "__main__":
    _main(*sys.argv[1:])
