"""Metrics of several processes that answer at one port: each writes its own down, whoever is asked tells all.

A scrape reaches one of them by chance. So that no counter seems to jump, every sample has a label
``process``: each is a replica of its own, as Prometheus' functions expect it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest

__all__ = ["SECONDS", "Together"]

SECONDS = 2.0  # between two times that a process writes its metrics down: much less than between two scrapes


@dataclass(frozen=True)
class Together:
    """One process of several: its number, from 0 on, and the folder that they share while they run."""

    number: int
    folder: Path

    @staticmethod
    def any_of(folder: Path) -> bool:
        """Whether any of the processes has begun to answer."""
        return any(folder.glob("*.json"))

    async def keep(self, registry: CollectorRegistry) -> None:
        """Write the metrics down again and again."""
        while True:
            with suppress(OSError):  # a full disk is told by the database's part of /readyz
                await asyncio.to_thread(self.write, registry)
            await asyncio.sleep(SECONDS)

    def write(self, registry: CollectorRegistry) -> None:
        """Write the metrics down, so that others read the old ones or the new ones. Raises OSError."""
        own = self._file(self.number)
        draft = own.with_suffix(".draft")
        draft.write_text(json.dumps([_plain(family) for family in registry.collect()]), encoding="utf-8")
        os.replace(draft, own)

    def text(self, registry: CollectorRegistry) -> bytes:
        """Our metrics as they are, and what the others wrote last, in Prometheus' text format."""
        told = {self.number: [_plain(family) for family in registry.collect()]}
        for file in self.folder.glob("*.json"):
            number = int(file.stem)
            if number != self.number:
                with suppress(OSError):  # it has just ended
                    told[number] = json.loads(file.read_text(encoding="utf-8"))
        return generate_latest(_Collected(_merged(told)))  # all it asks for is `collect`

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.json"


@dataclass(frozen=True)
class _Collected:
    families: Iterable[Metric]

    def collect(self) -> Iterator[Metric]:
        yield from self.families


def _plain(family: Metric) -> dict[str, Any]:
    samples = [[one.name, one.labels, one.value] for one in family.samples]
    return {"name": family.name, "help": family.documentation, "type": family.type, "samples": samples}


def _merged(told: dict[int, list[dict[str, Any]]]) -> list[Metric]:
    """One family of each name: the text format allows no second one."""
    families: dict[str, Metric] = {}
    for number in sorted(told):
        for plain in told[number]:
            name = plain["name"]
            family = families.setdefault(name, Metric(name, plain["help"], plain["type"]))
            for sample, labels, value in plain["samples"]:
                family.add_sample(sample, {**labels, "process": str(number)}, value)
    return list(families.values())
