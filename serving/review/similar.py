"""Look-alikes of an appeal: nearest by the vectors that the model computed when they were taken up.

Of at most two model versions the newest appeals' vectors lie in memory as float16 rows of length one.
They are read page by page from the database, in a thread, at the first question and then as far as new
ones came; what came in between (a history that was filled in) is found by counting, now and then.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from data.database import Database
from data.reviews import ReviewStore
from data.reviews.standing import count_vectors, newest_vectors

__all__ = ["Looks", "Nearest", "Vectors"]

MOST = 50_000  # appeals of a version: at 384 dimensions 40 MB
PAGE = 2_000  # rows read at a time
OVERLAP = 500  # numbers read again: of transactions beside each other the later number may come first
COUNTED_EVERY = 60.0  # seconds
VERSIONS = 2
AT_ONCE = 8_192  # rows multiplied at a time: the float32 copies stay small

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Nearest:
    """A stored appeal and the cosine of both vectors."""

    number: int
    similarity: float


@dataclass
class Vectors:
    """The newest appeals of one model version; numbers[i] belongs to rows[i]."""

    version: str
    most: int = MOST
    numbers: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    rows: npt.NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    _known: set[int] = field(default_factory=set)
    _counted: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self, database: Database) -> None:
        """Read what came since; all anew where something came, or went, in between."""
        with self._lock:
            if not len(self.numbers) or not self._complete(database):
                self.numbers, self.rows, self._known = _none()
                after = newest_vectors(database, self.version, self.most) - 1
                self._counted = time.monotonic()
            else:
                after = int(self.numbers.max()) - OVERLAP
            self._read(ReviewStore(database), max(0, after))

    def _complete(self, database: Database) -> bool:
        if time.monotonic() - self._counted < COUNTED_EVERY:
            return True
        self._counted = time.monotonic()
        first = int(self.numbers.min()) if len(self.numbers) >= self.most else 0
        return count_vectors(database, self.version, first, int(self.numbers.max())) == len(self.numbers)

    def _read(self, store: ReviewStore, after: int) -> None:
        found: list[tuple[int, bytes]] = []
        while page := store.embeddings(self.version, after=after, limit=PAGE):
            found += [one for one in page if one[0] not in self._known]
            after = page[-1][0]
        self._add(found)

    def _add(self, found: list[tuple[int, bytes]]) -> None:
        size = self.rows.shape[1] or (len(found[0][1]) // 2 if found else 0)
        sound = [(number, raw) for number, raw in found if len(raw) == 2 * size and raw]
        if not sound:
            return
        fresh = np.frombuffer(b"".join(raw for _, raw in sound), "<f2").reshape(-1, size)
        numbers = np.concatenate([self.numbers, np.array([number for number, _ in sound], np.int64)])
        rows = np.concatenate([self.rows.reshape(-1, size), unit_rows(fresh)])
        newest = np.argsort(numbers)[-self.most :]
        self.numbers, self.rows = numbers[newest], rows[newest]
        self._known = set(self.numbers.tolist())

    def nearest(self, vector: F32, count: int, without: int) -> list[Nearest]:
        """The `count` most alike, the most alike first, the appeal itself left out."""
        numbers, rows = self.numbers, self.rows  # a refresh replaces both, it changes neither
        query = unit_rows(vector.reshape(1, -1)).astype(np.float32)[0]
        if not len(numbers) or rows.shape[1] != len(query) or not query.any():
            return []
        parts = (rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))
        alike = np.concatenate([part.astype(np.float32) @ query for part in parts])
        alike[numbers == without] = -np.inf
        best = np.argsort(-alike, kind="stable")[:count]
        return [
            Nearest(int(numbers[at]), float(min(1.0, alike[at]))) for at in best if np.isfinite(alike[at])
        ]


def _none() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float16], set[int]]:
    return np.zeros(0, np.int64), np.zeros((0, 0), np.float16), set()


class Looks:
    """Vectors by model version, those asked for last; thread-safe."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, database: Database, version: str) -> Vectors:
        """A version's vectors as the database has them now."""
        with self._lock:
            vectors = self._kept.setdefault(version, Vectors(version, self._most))
            self._kept.move_to_end(version)
            while len(self._kept) > VERSIONS:
                self._kept.popitem(last=False)
        vectors.refresh(database)
        return vectors


def unit_rows(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float16]:
    """Each row divided by its length, so that a product is a cosine; zero and broken rows are zero."""
    wide = np.nan_to_num(rows.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: F32 = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit.astype(np.float16)
