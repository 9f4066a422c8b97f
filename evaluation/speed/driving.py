"""One stage of load on a running server: the generator's process, and what the server used meanwhile."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.errors import ServerFailed
from evaluation.speed.contenders import Contender
from evaluation.speed.generator import Load, Outcome
from evaluation.speed.processes import Running, run_module
from evaluation.speed.schedule import Arrivals, due_times, percentile
from evaluation.speed.texts import TextList
from evaluation.speed.wrk import Checked, drive

__all__ = ["Driver", "Stage"]

_USERS = 4  # least requests under way in a closed loop: a server must never wait for the next one
_ENOUGH = 3.0  # bodies for a closed loop, as a multiple of what the last stage's throughput would use


@dataclass(frozen=True)
class Stage:
    """What one stage showed. Rates and ``throughput`` in texts a second, times in seconds, memory in bytes.

    ``rate`` is None for a closed loop. ``late`` is the 99th percentile of how late the generator sent:
    where it is not small, the generator was the bottleneck. CPU counts the whole stage.
    """

    rate: float | None
    requests: int
    answered: int
    failed: dict[str, int]
    throughput: float
    p50: float
    p95: float
    p99: float
    late: float
    cpu_per_1000: float
    generator_per_1000: float
    cpu_share: float
    resident: int
    proportional: int

    @property
    def errors(self) -> int:
        """Requests without a good answer."""
        return sum(self.failed.values())


class Driver:
    """Sends one contender's requests; every text of the list once, in the order of the list."""

    def __init__(
        self, contender: Contender, running: Running, texts: TextList, folder: Path, arrivals: Arrivals
    ) -> None:
        self.contender, self.running, self.texts = contender, running, texts
        self.folder, self.arrivals = folder, arrivals
        self._used = 0
        self._stages = 0

    def closed(self, seconds: float, in_flight: int, guess: float) -> Stage:
        """Keep ``in_flight`` texts under way. ``guess``: expected texts a second."""
        users, bodies = self._crowd(seconds, in_flight, guess)
        return self._stage(Load(self._url(), str(bodies), (), users, seconds, 60.0), None)

    def open(self, rate: float, seconds: float) -> Stage:
        """Requests at ``rate`` texts a second for ``seconds``, whatever becomes of them."""
        # Another schedule for another rate, the same for every server.
        due = due_times(rate / self.contender.texts, seconds, self.arrivals, seed=round(rate * 1000))
        due = due or [0.0]
        load = Load(self._url(), str(self._bodies(len(due))), tuple(due), seconds=seconds)
        return self._stage(load, rate)

    def checked(self, seconds: float, in_flight: int, guess: float) -> Checked:
        """The closed loop again, by a standard tool. ``guess``: expected texts a second."""
        users, bodies = self._crowd(seconds, in_flight, guess)
        return drive(self._url(), bodies, self.contender.texts, users, seconds)

    def _crowd(self, seconds: float, in_flight: int, guess: float) -> tuple[int, Path]:
        """Requests to keep under way for ``in_flight`` texts, and more bodies than they will use."""
        size = self.contender.texts
        users = max(_USERS, round(in_flight / size))
        return users, self._bodies(users + int(_ENOUGH * guess * seconds / size))

    def _url(self) -> str:
        return self.running.url + self.contender.path

    def _bodies(self, requests: int) -> Path:
        size = self.contender.texts
        texts = self.texts.take(self._used, requests * size)
        numbers = range(self._used, self._used + len(texts), size)
        self._used += len(texts)
        path = self.folder / "bodies"
        with path.open("wb") as file:
            for start, number in zip(range(0, len(texts), size), numbers, strict=True):
                file.write(self.contender.request(texts[start : start + size], str(number)) + b"\n")
        return path

    def _stage(self, load: Load, rate: float | None) -> Stage:
        before = self.running.usage()
        outcome = self._generate(load)
        after = self.running.usage()
        cpu = after.cpu_seconds - before.cpu_seconds
        texts = len(outcome.took) * self.contender.texts
        if not texts:
            raise ServerFailed(
                f"{self.running.name}: expected answers from {load.url}, got {dict(outcome.failed)}; the "
                f"server's last lines:\n{self.running.tail()}"
            )
        return Stage(
            rate,
            len(outcome.late),
            len(outcome.took),
            dict(outcome.failed),
            outcome.throughput * self.contender.texts,
            percentile(outcome.took, 50),
            percentile(outcome.took, 95),
            percentile(outcome.took, 99),
            late=percentile(outcome.late, 99),
            cpu_per_1000=1000 * cpu / texts,
            generator_per_1000=1000 * outcome.cpu_seconds / texts,
            cpu_share=cpu / outcome.wall_seconds,
            resident=after.resident,
            proportional=after.proportional,
        )

    def _generate(self, load: Load) -> Outcome:
        self._stages += 1
        plan, result = self.folder / "plan.json", self.folder / "result.json"
        plan.write_text(json.dumps(asdict(load)), encoding="utf-8")
        run_module("evaluation.speed.generator", str(plan), str(result))
        content = json.loads(result.read_text(encoding="utf-8"))
        return Outcome(**content)
