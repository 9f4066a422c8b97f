"""How far a run has come, on disk: so that it can be killed at any moment and goes on where it was.

After each group of rows: rows are committed to the database, then answers and rejects are on disk, then
the journal says so. A run that goes on cuts both files back to what the journal says; rows that are in
the database already are found there by their ids. So no file ever has half a line or a line twice.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import orjson

from data.disk import to_disk
from serving.errors import StartError

__all__ = ["Done", "Journal"]

OURS = b'{"line":'  # how the lines of a file of ours begin


@dataclass(frozen=True)
class Done:
    """What is done: rows of the file from the first on, and what became of them."""

    file: str  # hash of the file and of how it is read: another file begins anew
    out: str = ""  # where its answers are
    rows: int = 0
    answered: int = 0
    known: int = 0  # of those answered: stored before
    rejected: int = 0
    answers_bytes: int = 0
    rejects_bytes: int = 0
    last_id: str = ""  # of the last row stored: if the database lacks it, it is another one


class Journal:
    """The files of a run. Raises StartError when another run has them, or one is not ours to write.

    `earlier` is what an earlier run noted, if it was not finished.
    """

    def __init__(self, answers: Path | None, rejects: Path) -> None:
        self.path = rejects.with_name(rejects.name + ".progress")
        self.rejects_path = rejects
        self.earlier = self._earlier()
        self._answers: BinaryIO | None = None
        self._rejects = _append(rejects)
        try:
            _lock(self._rejects, rejects)
            self._refuse_others(answers)
            self._answers = _append(answers) if answers else None
        except StartError:
            self.close()
            raise
        self.done = Done("", str(answers.resolve()) if answers else "")

    def begin(self, file: str, still_stored: bool) -> bool:
        """Go on with what was done of this very file, or begin anew; whether it goes on."""
        before = self.earlier
        same = before is not None and (before.file, before.out) == (file, self.done.out)
        goes_on = same and still_stored and self._holds(before)
        self.done = before if goes_on and before else replace(self.done, file=file)
        self._rejects.truncate(self.done.rejects_bytes)
        if self._answers:
            self._answers.truncate(self.done.answers_bytes)
        _replace(self.path, orjson.dumps(asdict(self.done)))
        return goes_on

    def _earlier(self) -> Done | None:
        with suppress(FileNotFoundError, orjson.JSONDecodeError, TypeError):
            return Done(**orjson.loads(self.path.read_bytes()))
        return None

    def _refuse_others(self, answers: Path | None) -> None:
        """Files with content are written over only where an earlier run wrote them."""
        earlier = self.earlier.out if self.earlier else ""
        if answers and str(answers.resolve()) != earlier and answers.exists() and answers.stat().st_size:
            raise StartError(
                f"expected no file at {answers}, got one of a finished run or of something else; "
                "remove it or choose another --out"
            )
        with self.rejects_path.open("rb") as file:
            if file.read(len(OURS)) not in (b"", OURS):
                raise StartError(
                    f"expected no file or earlier rejects at {self.rejects_path}, got something else; "
                    "choose another --rejects"
                )

    def note(self, done: Done, answers: Sequence[bytes], rejects: Sequence[bytes]) -> None:
        """Put the lines of a group on disk, then that they are."""
        answers_bytes = _written(self._answers, answers) if self._answers else 0
        self.done = replace(done, answers_bytes=answers_bytes, rejects_bytes=_written(self._rejects, rejects))
        _replace(self.path, orjson.dumps(asdict(self.done)))

    def finish(self) -> None:
        """All rows are done: forget how far we were."""
        self.path.unlink(missing_ok=True)
        if not self.done.rejected:
            self.rejects_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files."""
        for file in (self._answers, self._rejects):
            if file:
                file.close()

    def _holds(self, earlier: Done | None) -> bool:
        """Whether the files hold at least what the journal says."""
        answers = self._answers.tell() if self._answers else 0  # opened at their ends
        return earlier is not None and (
            answers >= earlier.answers_bytes and self._rejects.tell() >= earlier.rejects_bytes
        )


def _append(path: Path) -> BinaryIO:
    try:
        return path.open("ab")
    except OSError as error:
        raise StartError(f"expected to write {path}, got: {error.strerror or error}") from error


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the system when the process dies
    except BlockingIOError as error:
        file.close()
        raise StartError(
            f"another run is at work with {path}; wait for it, or name other --rejects"
        ) from error


def _written(file: BinaryIO, lines: Sequence[bytes]) -> int:
    file.write(b"".join(lines))
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        _written(file, [content])
    new.replace(path)
    to_disk(path.parent)
