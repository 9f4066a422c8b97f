"""Several processes at one port: whoever is asked answers for all, one that dies is begun anew, all end."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from serving import settings as settings_module
from serving.settings import Settings
from serving.together import Together
from tests.running import appeal, until

ROOT = Path(__file__).parent.parent
SECONDS = 90.0  # a machine that does much else at once
PROCESSES = 2


@dataclass
class Box:
    """`python -m serving run` with several processes."""

    first: subprocess.Popen[str]
    address: str
    log: Path

    @property
    def processes(self) -> list[psutil.Process]:
        """Those that answer."""
        children = psutil.Process(self.first.pid).children()
        return [one for one in children if "spawn_main" in " ".join(one.cmdline())]

    def answering(self) -> set[str]:
        """The numbers of those whose metrics are told."""
        return set(self.requests_by_process())

    def requests_by_process(self) -> dict[str, float]:
        """Requests that each has answered, as one of them tells it."""
        text = httpx.get(f"{self.address}/metrics", timeout=SECONDS).text
        counted: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                number = sample.labels["process"]  # every sample has it
                counted.setdefault(number, 0.0)
                if sample.name == "jiesu_http_requests_total":
                    counted[number] += sample.value
        return counted

    def is_ready(self) -> bool:
        """Whether one of them answers that it is ready."""
        try:
            return httpx.get(f"{self.address}/readyz", timeout=SECONDS).status_code == 200
        except httpx.HTTPError:
            return False


def begin(folder: Path, port: int, **changes: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JIESU_")}
    command = [sys.executable, "-m", "serving", "run", "--port", str(port), "--processes", str(PROCESSES)]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            command, cwd=folder, env={**kept, "PYTHONPATH": str(ROOT), **changes}, text=True,
            stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    first = begin(tmp_path, 0)
    try:
        assert first.stdout is not None
        address = next(line.split()[1].rstrip("/") for line in first.stdout if line.startswith("page"))
        begun = Box(first, address, tmp_path / "log")
        until(lambda: len(begun.answering()) == PROCESSES, SECONDS)
        yield begun
    finally:
        first.terminate()
        first.communicate(timeout=SECONDS)


def test_all_of_them_answer_and_one_tells_the_metrics_of_all(box: Box) -> None:
    for _ in range(40):  # a connection each: the kernel gives it to one or the other
        assert httpx.get(f"{box.address}/livez", timeout=SECONDS).status_code == 200

    def told() -> bool:
        counts = box.requests_by_process()
        return len(counts) == PROCESSES and min(counts.values()) > 0 and sum(counts.values()) >= 40

    until(told, SECONDS)  # the others' counts are up to two seconds old


async def posted(address: str, bodies: list[dict[str, object]]) -> list[httpx.Response]:
    """All at once, each on a connection of its own."""

    async def one(body: dict[str, object]) -> httpx.Response:
        async with httpx.AsyncClient(timeout=SECONDS) as client:
            return await client.post(f"{address}/v1/appeals", json=body)

    return await asyncio.gather(*(one(body) for body in bodies))


def test_an_id_is_stored_once_whichever_of_them_it_reaches(box: Box) -> None:
    answers = asyncio.run(posted(box.address, [appeal("A-1") for _ in range(16)]))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    assert len({answer.content for answer in answers}) == 1
    others = asyncio.run(posted(box.address, [appeal("A-1", "井盖又不见了") for _ in range(8)]))
    assert {answer.status_code for answer in others} == {409}


def test_one_that_is_killed_is_begun_anew_while_the_other_answers(box: Box) -> None:
    killed, other = box.processes
    killed.kill()
    until(lambda: not killed.is_running(), SECONDS)
    for n in range(10):
        assert httpx.post(f"{box.address}/v1/appeals", json=appeal(f"K-{n}"), timeout=SECONDS).is_success
    until(lambda: len(box.processes) == PROCESSES, SECONDS)
    assert other in box.processes and killed not in box.processes
    events = [json.loads(line) for line in box.log.read_text().splitlines() if line.startswith("{")]
    (died,) = [event for event in events if event["event"] == "process_died"]
    assert died["status"] == -signal.SIGKILL
    until(lambda: "model" in ready_parts(box.log, died["number"], 2), SECONDS)


def ready_parts(log: Path, number: int, times: int) -> set[str]:
    """Parts that this process told to be ready so often."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    parts = [line["part"] for line in lines if line["event"] == "ready" and line.get("process") == number]
    return {part for part in parts if parts.count(part) >= times}


def test_a_stop_answers_what_was_accepted_and_ends_them_all(box: Box) -> None:
    processes = box.processes
    with httpx.Client(base_url=box.address, timeout=SECONDS) as client:
        client.get("/livez")
        box.first.send_signal(signal.SIGTERM)
        box.first.wait(SECONDS)
    assert box.first.returncode == -signal.SIGTERM
    assert not any(process.is_running() for process in processes)
    told = [line for line in box.log.read_text().splitlines() if not line.startswith("{")]
    assert [line for line in told if "DEVELOPMENT" not in line] == []  # no word of leaks, no traceback


def test_they_end_when_the_first_one_is_gone(box: Box) -> None:
    processes = box.processes
    box.first.kill()
    until(lambda: not any(process.is_running() for process in processes), SECONDS)


def test_a_taken_port_is_told_whoever_has_it(box: Box, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    port = int(box.address.rsplit(":", 1)[1])
    second = begin(tmp_path / "second", port)
    second.communicate(timeout=SECONDS)
    assert second.returncode == 2
    assert "expected a free port" in (tmp_path / "second" / "log").read_text()
    with pytest.raises(OSError), socket.socket() as plain:
        plain.bind(("127.0.0.1", port))


def test_what_does_not_start_is_not_begun_again_and_again(tmp_path: Path) -> None:
    start = time.monotonic()
    first = begin(tmp_path, 0, JIESU_ORIGINALS_KEY=str(tmp_path / "nothing"))
    first.communicate(timeout=SECONDS)
    assert first.returncode == 2
    log = (tmp_path / "log").read_text()
    assert "JIESU_ORIGINALS_KEY: expected a readable file" in log and "Traceback" not in log
    assert "expected a process that answers" in log.splitlines()[-1]
    assert time.monotonic() - start < SECONDS


def registry_of(requests: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("asked_total", "Requests", ["route"], registry=registry).labels("/a").inc(requests)
    Gauge("ends", "When", registry=registry).set(math.inf)
    Histogram("took", "Seconds", buckets=(1, 2), registry=registry).observe(requests)
    return registry


def test_metrics_of_all_are_told_in_one_family_each(tmp_path: Path) -> None:
    for number, requests in enumerate((1, 2, 3)):
        Together(number, tmp_path).write(registry_of(requests))
    text = Together(1, tmp_path).text(registry_of(20)).decode()  # its own are those of this moment
    assert text.count("# TYPE asked_total counter") == 1
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    asked = {one.labels["process"]: one.value for one in samples if one.name == "asked_total"}
    assert asked == {"0": 1, "1": 20, "2": 3}
    assert {one.value for one in samples if one.name == "ends"} == {math.inf}
    buckets = {(one.labels["process"], one.labels["le"]): one.value for one in samples if "le" in one.labels}
    assert buckets["0", "1.0"] == 1 and buckets["2", "2.0"] == 0 and buckets["2", "+Inf"] == 1


def test_what_cannot_be_written_down_costs_no_answer(tmp_path: Path) -> None:
    together = Together(0, tmp_path / "gone")

    async def kept() -> None:
        task = asyncio.create_task(together.keep(registry_of(1)))
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()

    asyncio.run(kept())
    assert b'asked_total{process="0",route="/a"} 1.0' in together.text(registry_of(1))


def test_each_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "_cores", lambda: 8)
    shares = {
        (processes, workers): (one.workers, one.worker_threads)
        for processes, workers in ((1, 0), (1, 2), (4, 0), (4, 1), (16, 0))
        if (one := Settings(processes=processes, model_workers=workers))
    }
    assert shares == {(1, 0): (8, 1), (1, 2): (2, 4), (4, 0): (2, 1), (4, 1): (1, 2), (16, 0): (1, 1)}
