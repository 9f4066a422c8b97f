"""The corrected appeals of one model version: read from the database, then followed correction by correction.

Embeddings are those that the version computed when it answered. An appeal that it never saw (it was taken
up under an earlier version) waits in `missing` until its embedding is made; until then the memory is
smaller, never wrong.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from classifier.neighbours import LEAST_DIMENSIONS, Neighbour, Neighbours
from classifier.predictor import Prediction
from data.corrected import Corrected
from data.database import Database
from data.reviews import ReviewStore
from data.reviews.remembered import corrected, newest_corrected, present
from serving.batcher import Recall
from serving.logs import log
from serving.models import Model
from serving.settings import Settings

__all__ = ["Kept", "remembered"]

AT_ONCE = 500  # appeals read at a time
PAGE = 1000  # corrections read at a time
GONE_SECONDS = 600.0  # between two looks for appeals that were purged


class Kept:
    """`look` from one thread at a time; the neighbours may be asked from any."""

    def __init__(self, version: str, scheme_version: str, most: int) -> None:
        self.version, self.scheme_version, self.most = version, scheme_version, most
        self.neighbours = Neighbours(most)
        self.missing: OrderedDict[int, Corrected] = OrderedDict()  # the newest correction last
        self.filled = False
        self.unable = False  # the model computes no embeddings that tell texts apart
        self._after = 0  # the correction up to which all is known
        self._purged_at = time.monotonic()

    def look(self, database: Database) -> None:
        """Take up what was said since the last look; first the newest of all. Raises StoreError."""
        if self.unable:
            return
        if not self.filled:
            self._fill(database)
        while rows := ReviewStore(database).corrections_after(self._after, PAGE):
            touched = dict.fromkeys(row.appeal_number for row in rows)
            self._take(database, list(touched))
            self._after = rows[-1].number
        if time.monotonic() - self._purged_at > GONE_SECONDS:
            self.forget_purged(database)

    def recall(self, version: str, predictions: Sequence[Prediction]) -> list[tuple[Neighbour, ...]]:
        """The corrected look-alikes of each text that the version answered; none of another version's."""
        nobody: list[tuple[Neighbour, ...]] = [()] * len(predictions)
        if version != self.version or not len(self.neighbours):
            return nobody
        try:
            return self.neighbours.nearest(np.stack([one.embedding for one in predictions]))
        except Exception as error:  # an answer without its look-alikes is better than none
            log("memory_failed", logging.ERROR, raised=error)
            return nobody

    def put(self, one: Corrected, embedding: npt.NDArray[np.float32]) -> None:
        """Keep an appeal whose embedding was missing."""
        self.missing.pop(one.number, None)
        if len(embedding) < LEAST_DIMENSIONS:
            self.unable = True
            self.missing.clear()
        else:
            self.neighbours.put(one, embedding)

    def newest_missing(self, count: int) -> list[Corrected]:
        """Some that wait for an embedding, the newest correction first."""
        return list(self.missing.values())[: -count - 1 : -1]

    def forget_purged(self, database: Database) -> None:
        """Let go of appeals that are no longer stored. Raises StoreError."""
        for some in _pieces([*self.neighbours.numbers, *self.missing]):
            there = present(database, some)
            for number in some:
                if number not in there:
                    self._forget(number)
        self._purged_at = time.monotonic()

    def _fill(self, database: Database) -> None:
        # Asked first: what is said while the appeals are read is read again by the next page.
        after = ReviewStore(database).last_correction()
        for some in _pieces(newest_corrected(database, self.most)):
            self._take(database, some)
        self._after, self.filled = after, True

    def _take(self, database: Database, numbers: Sequence[int]) -> None:
        for some in _pieces(numbers):
            labelled = corrected(database, some, self.scheme_version)
            raw = ReviewStore(database).vectors_of(self.version, some)
            for number in some:
                self._forget(number)
                one = labelled.get(number)
                if one is not None and one.labels:
                    self._keep(one, raw.get(number, b""))

    def _keep(self, one: Corrected, raw: bytes) -> None:
        if not raw or not self.neighbours.put(one, np.frombuffer(raw, "<f2").astype(np.float32)):
            self.missing[one.number] = one
        while len(self.missing) > self.most:
            self.missing.popitem(last=False)

    def _forget(self, number: int) -> None:
        self.neighbours.remove(number)
        self.missing.pop(number, None)


def remembered(model: Model, settings: Settings, database: Database) -> Recall:
    """What is remembered at this moment, for a process of its own that answers a file. Raises StoreError."""
    kept = Kept(model.version, model.scheme.version, settings.correction_memory_appeals)
    kept.look(database)
    return kept.recall


def _pieces(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[start : start + AT_ONCE] for start in range(0, len(numbers), AT_ONCE))
