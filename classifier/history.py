"""What was done with a registry's versions: one JSON line an event, only ever added to.

The line is on the disk before the pointer is moved, so no move goes unrecorded; a line whose move was
cut off in between changes nothing, because the pointers say what is in force.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from classifier.errors import RegistryError

__all__ = ["HISTORY", "Action", "Event", "append", "locked", "read"]

HISTORY = "history.jsonl"
Action = Literal["add", "verdict", "promote", "rollback", "shadow", "canary"]


@dataclass(frozen=True)
class Event:
    """One event. ``at``: ISO 8601 in UTC; ``version``: empty where a shadow or canary ended.

    ``earlier``: for a new champion, the version that a rollback returns to. ``share``: of a canary, 0 to 1.
    ``sha256``: of the verdict's file, or of the added version's manifest.
    """

    at: str
    action: Action
    version: str
    by: str = ""
    why: str = ""
    earlier: str = ""
    share: float = 0.0
    sha256: str = ""

    @classmethod
    def now(cls, action: Action, version: str, **more: Any) -> Event:
        """An event of this moment."""
        return cls(datetime.now(UTC).isoformat(timespec="seconds"), action, version, **more)

    @property
    def crowns(self) -> bool:
        """Whether it made its version the champion."""
        return self.action in ("promote", "rollback")


def append(root: Path, event: Event) -> None:
    """Add a line and wait until it is on the disk. Call it under `locked`."""
    line = json.dumps(asdict(event), ensure_ascii=False) + "\n"
    with (root / HISTORY).open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else f"\n{line}"  # a writer died within its line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read(root: Path) -> list[Event]:
    """All events, oldest first; a line that a dying writer left unfinished is passed over.

    Raises RegistryError when the file cannot be read.
    """
    try:
        lines = (root / HISTORY).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RegistryError(f"{root / HISTORY}: expected the registry's history, got {error}") from error
    return [event for line in lines if (event := _event(line)) is not None]


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other writers of the registry out; the system lets go of the lock if this process dies."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        file = (root / ".lock").open("ab")
    except OSError as error:
        raise RegistryError(
            f"{root}: expected a registry that can be written to, got {error}; "
            "run the command as the registry's owner"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _event(line: str) -> Event | None:
    try:
        return Event(**json.loads(line))
    except (ValueError, TypeError):
        return None
