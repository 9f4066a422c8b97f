"""What a model costs: size on disk, memory, and latency beside another one's.

Latency is compared within one run, the two models taking turns text by text, so that whatever else the
machine does falls on both. Memory is the peak of a process that loads the folder and answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifier.predictor import Predictor
from evaluation.errors import CostError
from evaluation.scoring import Stage, silent

__all__ = ["Costs", "latencies", "measure", "memory_mb", "size_mb"]

MEGABYTE = 1e6
ROUNDS = 3
MOST_TEXTS = 60


@dataclass(frozen=True)
class Costs:
    """Megabytes (10^6) on disk and in memory, median milliseconds for one text with its evidence."""

    size_mb: float
    memory_mb: float
    latency_ms: float


def measure(
    champion: Predictor, challenger: Predictor, texts: Sequence[str], stage: Stage = silent
) -> tuple[Costs, Costs]:
    """Costs of both models on the same prepared texts. Raises CostError when a model's process dies."""
    chosen = _spread(texts)
    first, second = latencies(champion, challenger, chosen, stage)
    advance = stage("measuring memory", 2)
    found = []
    for predictor, latency in ((champion, first), (challenger, second)):
        folder = predictor.folder.path
        found.append(Costs(size_mb(folder), memory_mb(folder, chosen), latency))
        advance(1)
    return found[0], found[1]


def latencies(
    one: Predictor, other: Predictor, texts: Sequence[str], stage: Stage = silent
) -> tuple[float, float]:
    """Median milliseconds a text of both, in turns; who goes first changes with every text."""
    for predictor in (one, other):
        predictor.predict(list(texts[:2]))  # what is made ready at first use is not counted
    took: tuple[list[float], list[float]] = ([], [])
    advance = stage("timing both", ROUNDS * len(texts))
    for turn in range(ROUNDS * len(texts)):
        pair = [(one, took[0]), (other, took[1])]
        for predictor, kept in pair if turn % 2 else reversed(pair):
            start = time.perf_counter()
            predictor.predict([texts[turn % len(texts)]])
            kept.append(1000 * (time.perf_counter() - start))
        advance(1)
    return float(np.median(took[0])), float(np.median(took[1]))


def size_mb(folder: Path) -> float:
    """Megabytes of a model folder's files."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / MEGABYTE


def memory_mb(folder: Path, texts: Sequence[str]) -> float:
    """Peak resident megabytes of a process that loads the folder and answers. Raises CostError."""
    command = [sys.executable, "-m", "evaluation.memory", str(folder)]
    root = Path(__file__).parent.parent
    done = subprocess.run(
        command, input=json.dumps(list(texts)), capture_output=True, text=True, cwd=root, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise CostError(f"{folder}: expected a model that answers in its own process, got: {last[0]}")
    return int(done.stdout) / MEGABYTE


def _spread(texts: Sequence[str]) -> list[str]:
    """At most `MOST_TEXTS`, evenly from the shortest to the longest."""
    ordered = sorted(texts, key=len)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_TEXTS)).astype(int))
    return [ordered[place] for place in places]
