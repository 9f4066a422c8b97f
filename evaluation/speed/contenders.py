"""Who is measured: how each server is started and asked, and in which set-up it is at its best.

A layout is processes × threads of one matrix product. Which of them serves best differs between servers
and machines, so each server is tried in all its layouts and measured in its best (see run).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.errors import SpeedError

__all__ = ["Contender", "Layout", "Place", "chosen", "contenders", "cores", "taught_by"]

OURS, PLAIN, BATCHING, TEACHER = "ours", "plain", "batching", "teacher"
BULK = 32
BATCH = 32
WAIT_MS = 5  # how long a batch may wait to fill: more delays without gain, since the queue fills it


@dataclass(frozen=True)
class Layout:
    """Worker processes, and threads of each for one matrix product; zero: the server's own default."""

    workers: int = 0
    threads: int = 0

    def __str__(self) -> str:
        if not self.workers:
            return "as it starts"
        processes = f"{self.workers} process{'es' if self.workers > 1 else ''}"
        threads = f" × {self.threads} thread{'s' if self.threads > 1 else ''}" if self.threads else ""
        return processes + threads


@dataclass(frozen=True)
class Place:
    """Where a server is to run: port, model folder, the same model for torch, a folder of its own."""

    port: int
    model: Path
    torch_folder: Path
    folder: Path
    layout: Layout


@dataclass(frozen=True)
class Contender:
    """One row of the table. ``body`` makes a request of ``texts`` texts and a number never used before.

    ``command`` gives the arguments and the environment of the process; ``meaning`` says what it is.
    ``best`` reads the likeliest label out of an answer, for those that must all give the same.
    """

    name: str
    kind: str
    meaning: str
    path: str
    ready: str
    command: Callable[[Place], tuple[list[str], dict[str, str]]]
    body: Callable[[Sequence[str], str], object]
    best: Callable[[Any], str] | None = None
    texts: int = 1
    layouts: tuple[Layout, ...] = (Layout(),)
    needs_torch: bool = True

    def request(self, texts: Sequence[str], number: str) -> bytes:
        """The body of one request, on one line."""
        return json.dumps(self.body(texts, number), ensure_ascii=False).encode()


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def contenders() -> list[Contender]:
    """All of them, in the order of the table."""
    batching = tuple(dict.fromkeys((Layout(cores(), 1), Layout(1, cores()))))
    return [
        *_all_ours(1),
        *(_all_ours(cores()) if cores() > 1 else ()),
        _plain("plain", PLAIN, "FastAPI + transformers pipeline, fp32, one request at a time"),
        _batching("mosec", "Mosec", "MOSEC_PORT", "/inference", "/", batching),
        _batching("litserve", "LitServe", "SPEED_PORT", "/predict", "/health", batching),
    ]


def taught_by(torch_folder: Path, version: str) -> Contender:
    """The plain way with the weights of the model that ours was distilled from."""
    return _plain("teacher", TEACHER, f"the plain way with the weights of {version}", torch_folder)


def chosen(names: Sequence[str], known: Sequence[Contender]) -> list[Contender]:
    """Those named, by name or by kind (all if none is). Raises SpeedError for an unknown name."""
    every = {one.name for one in known} | {one.kind for one in known}
    unknown = [name for name in names if name not in every]
    if unknown:
        raise SpeedError(f"--only: expected some of {', '.join(sorted(every))}, got {', '.join(unknown)}")
    return [one for one in known if not names or one.name in names or one.kind in names]


def _all_ours(processes: int) -> list[Contender]:
    """Our service as one process or several: operators choose between memory and throughput."""
    several = (f"-{processes}", f"; {processes} processes") if processes > 1 else ("", "")
    asked: tuple[tuple[str, str, str, Callable[[Sequence[str], str], object], int], ...] = (
        ("classify", "POST /v1/classify, one text a request", "/v1/classify", _texts, 1),
        ("appeals", "POST /v1/appeals, one appeal a request, stored", "/v1/appeals", _appeal, 1),
        ("bulk", f"POST /v1/classify, {BULK} texts a request", "/v1/classify", _texts, BULK),
    )
    layouts = (Layout(processes),)
    return [
        Contender(
            name + several[0], OURS, meaning + several[1], path, "/readyz", _service, body,
            texts=texts, layouts=layouts, needs_torch=False,
        )
        for name, meaning, path, body, texts in asked
    ]  # fmt: skip


def _plain(name: str, kind: str, meaning: str, torch_folder: Path | None = None) -> Contender:
    """With the model that all others run, or one of its own, which then gives other answers."""

    def command(place: Place) -> tuple[list[str], dict[str, str]]:
        folder = torch_folder or place.torch_folder
        given = (str(folder), str(place.port), str(place.layout.threads))
        return [*_python("evaluation.speed.plain_server"), *given], {}

    layouts = tuple(dict.fromkeys((Layout(1, cores()), Layout(1, 1))))
    best = None if torch_folder else _first_label
    return Contender(name, kind, meaning, "/classify", "/ready", command, _text, best, layouts=layouts)


def _service(place: Place) -> tuple[list[str], dict[str, str]]:
    """Our service with its own defaults (JIESU_* of the caller's environment apply), and a new database."""
    database = f"sqlite:///{place.folder / 'jiesu.db'}"
    variable = "JIESU_DATABASE_URL" if "JIESU_DATABASE_URL" in os.environ else "DATABASE_URL"
    address = ["--host", "127.0.0.1", "--port", str(place.port)]
    command = [*_python("serving"), "run", *address, "--processes", str(place.layout.workers)]
    # Development asks for no key, and so has no rate limit.
    free = {"JIESU_ENVIRONMENT": "development"}
    return command, {variable: database, "JIESU_MODEL_DIR": str(place.model), **free}


def _batching(
    name: str, title: str, port: str, path: str, ready: str, layouts: tuple[Layout, ...]
) -> Contender:
    meaning = f"{title}, the same fp32 torch model, batches of up to {BATCH}, waiting at most {WAIT_MS} ms"
    return Contender(
        name,
        BATCHING,
        meaning,
        path,
        ready,
        lambda place: (_python(f"evaluation.speed.{name}_server"), _options(place, port)),
        _text,
        _first_label,
        layouts=layouts,
    )


def _options(place: Place, port: str) -> dict[str, str]:
    given: Mapping[str, object] = {
        "SPEED_FOLDER": place.torch_folder,
        "SPEED_WORKERS": place.layout.workers,
        "SPEED_THREADS": place.layout.threads,
        "SPEED_BATCH": BATCH,
        "SPEED_WAIT_MS": WAIT_MS,
        port: place.port,
        # Mosec's workers and the torch in them read this before our code runs.
        "OMP_NUM_THREADS": place.layout.threads,
        "MOSEC_ADDRESS": "127.0.0.1",
        "MOSEC_LOG_LEVEL": "warning",
        "MOSEC_TIMEOUT": 60_000,
        "MOSEC_CAPACITY": 100_000,
    }
    return {name: str(value) for name, value in given.items()}


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _texts(texts: Sequence[str], number: str) -> object:
    return {"texts": list(texts)}


def _appeal(texts: Sequence[str], number: str) -> object:
    return {"id": f"speed-{number}", "text": texts[0]}


def _first_label(answer: Any) -> str:
    labels = answer["labels"] if isinstance(answer, dict) else answer
    best = labels[0][0] if isinstance(labels[0], list) else labels[0]  # the pipeline nests one text's answer
    return str(best["label"])


def _text(texts: Sequence[str], number: str) -> object:
    return {"text": texts[0]}
