"""Look-alikes that people corrected, and how they adjust a model's answer to the next one.

A corrected appeal is kept as its embedding and its labels. A new appeal's neighbours are the corrected ones
whose embedding has a cosine of at least ``threshold`` with its own. Per head, the ``most`` nearest vote:

    s_j = (cosine_j − threshold) / (1 − threshold)                        strength of one vote, 0 to 1
    v   = Σ s_j · onehot(label_j) / Σ s_j                                 the votes as a distribution
    w   = bound · (max v)^agreement · Σ s_j / (Σ s_j + half)              how far they are followed
    p'  = (1 − w) · p + w · v

so that w < ``bound`` whatever comes, grows with similarity and number, and shrinks where neighbours
contradict each other. Of an ordinal head that must not be lowered (urgency) the chance of each level or a
higher one is at least the model's own. A code the model does not know has no vote. The numbers in ``Rule``
were chosen on validation rows, answered in the order of time as `python -m evaluation memory-effect` does;
see docs/correction-memory.md.

Pure: numpy, no I/O.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from classifier.predictor import Prediction
from data.corrected import Corrected

__all__ = ["LEAST_DIMENSIONS", "Adjusted", "Neighbour", "Neighbours", "Rule", "Vote", "adjust"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

LEAST_DIMENSIONS = 8  # fewer cannot tell texts apart: every cosine would be near one
ALIKE = 64  # neighbours of one text that are looked at, all heads together
MOVED = 1e-3  # a head whose probabilities move by less is left as it was
FIRST_ROWS = 256
SKETCH = 48  # dimensions
ROUNDING = 1e-3  # of float32 sums, in a squared distance
SMALL = 200_000  # multiplications: larger products take threads of cores that answer other texts


@dataclass(frozen=True)
class Rule:
    """How look-alikes are found and how far they are followed; see the module's text."""

    threshold: float = 0.98
    bound: float = 0.6
    half: float = 0.5
    agreement: float = 2.0
    most: int = 8
    never_lowered: frozenset[str] = frozenset({"urgency"})


STANDARD = Rule()


@dataclass(frozen=True)
class Neighbour:
    """A corrected look-alike and the cosine of both embeddings."""

    corrected: Corrected
    similarity: float


@dataclass(frozen=True)
class Vote:
    """What one neighbour said of one head, and how much of the answer's probability is its."""

    neighbour: Neighbour
    head: str
    code: str
    weight: float


@dataclass(frozen=True)
class Adjusted:
    """An answer with the votes that moved it; ``alone`` is what the model says without them."""

    prediction: Prediction
    alone: Prediction
    votes: tuple[Vote, ...]

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads whose probabilities moved."""
        return tuple(dict.fromkeys(vote.head for vote in self.votes))

    @property
    def changed(self) -> tuple[str, ...]:
        """Heads whose best label is another one now."""
        return tuple(
            head for head in self.heads if self.prediction.top(head)[0][0] != self.alone.top(head)[0][0]
        )


# -- the store -------------------------------------------------------------------------------------


class Neighbours:
    """At most ``most`` corrected appeals, the newest corrections; adding and removing cost the same always.

    Thread-safe. The first embedding decides the dimension. Of unit vectors u, v the squared distance is
    2 − 2 cos, and a projection makes no distance longer: so a product of `SKETCH` dimensions rules nearly all
    rows out, exactly, at an eighth of the cost, and cosines are computed for the rest.
    """

    def __init__(self, most: int, rule: Rule = STANDARD) -> None:
        self.most, self.rule = most, rule
        self._matrix: F32 = np.zeros((0, 0), np.float32)
        self._sketches: F32 = np.zeros((0, 0), np.float32)  # the same rows, projected; then |row|² / 2
        self._projection: F32 = np.zeros((0, 0), np.float32)
        self._rows: list[Corrected] = []  # row i of the matrix is the embedding of rows[i]
        self._at: dict[int, int] = {}  # number → row
        self._oldest: list[tuple[int, int]] = []  # heap of (last, number), stale ones among them
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, number: int) -> bool:
        return number in self._at

    @property
    def numbers(self) -> list[int]:
        """The appeals' numbers."""
        with self._lock:
            return list(self._at)

    @property
    def bytes(self) -> int:
        """Memory of the embeddings."""
        return int(self._matrix.nbytes + self._sketches.nbytes)

    def put(self, corrected: Corrected, embedding: npt.NDArray[np.floating]) -> bool:
        """Add an appeal, or replace what is kept under its number; False where its embedding is none.

        Over ``most``, the appeal whose last correction is oldest goes.
        """
        unit = _unit_rows(embedding.reshape(1, -1))[0]
        with self._lock:
            sound = len(unit) >= LEAST_DIMENSIONS and unit.any()
            if not sound or (len(self._rows) and len(unit) != self._matrix.shape[1]):
                self._remove(corrected.number)
                return False
            self._set(corrected, unit)
            while len(self._rows) > self.most:
                self._remove(self._pop_oldest())
        return True

    def remove(self, number: int) -> None:
        """Forget an appeal; one that is not kept is fine."""
        with self._lock:
            self._remove(number)

    def nearest(self, embeddings: F32) -> list[tuple[Neighbour, ...]]:
        """For each row of [texts, hidden] the neighbours, the most alike first, newer ones before older."""
        nobody: list[tuple[Neighbour, ...]] = [()] * len(embeddings)
        with self._lock:
            count = len(self._rows)
            if not count or embeddings.ndim != 2 or embeddings.shape[1] != self._matrix.shape[1]:
                return nobody
            units = _unit_rows(embeddings)
            near = self._possible(units, count)
            return [
                self._alike(unit, np.flatnonzero(some)) if some.any() else ()
                for unit, some in zip(units, near, strict=True)
            ]

    def _possible(self, units: F32, count: int) -> npt.NDArray[np.bool_]:
        """[texts, rows]: which rows the sketch does not rule out."""
        sketches, limit = units @ self._projection, 2.0 * (1.0 - self.rule.threshold) + ROUNDING
        # |u − v|² = |u|² + |v|² − 2 u·v, each row with a one so that |v|² / 2 is a part of the product.
        sides = np.hstack([-sketches, np.ones((len(sketches), 1), np.float32)])
        most = ((limit - (sketches * sketches).sum(axis=1)) / 2.0)[:, None]
        step = max(64, SMALL // sides.size)
        near = np.empty((len(units), count), np.bool_)
        for start in range(0, count, step):
            rows = self._sketches[start : min(start + step, count)]
            near[:, start : start + step] = sides @ rows.T <= most
        return near

    def _alike(self, unit: F32, rows: npt.NDArray[np.int64]) -> tuple[Neighbour, ...]:
        cosines = self._matrix[rows] @ unit
        found = [
            Neighbour(self._rows[row], round(min(1.0, cosine), 4))
            for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True)
            if cosine >= self.rule.threshold
        ]
        return tuple(sorted(found, key=_nearness)[:ALIKE])

    def _set(self, corrected: Corrected, unit: F32) -> None:
        row = self._at.get(corrected.number)
        if row is None:
            row = len(self._rows)
            self._make_room(len(unit))
            self._rows.append(corrected)
            self._at[corrected.number] = row
        self._rows[row], self._matrix[row] = corrected, unit
        sketch = unit @ self._projection
        self._sketches[row, :-1], self._sketches[row, -1] = sketch, (sketch @ sketch) / 2.0
        if len(self._oldest) > 2 * len(self._rows) + FIRST_ROWS:
            self._oldest = [(one.last, one.number) for one in self._rows]
            heapq.heapify(self._oldest)
        heapq.heappush(self._oldest, (corrected.last, corrected.number))

    def _make_room(self, size: int) -> None:
        have = len(self._matrix)
        if len(self._rows) < have and self._matrix.shape[1] == size:
            return
        if not len(self._rows):
            self._projection = _projection(size)
        # One more than may stay: a new one is in before the oldest goes.
        rows = min(self.most + 1, max(FIRST_ROWS, 2 * have))
        self._matrix = _grown(self._matrix, len(self._rows), (rows, size))
        self._sketches = _grown(self._sketches, len(self._rows), (rows, self._projection.shape[1] + 1))

    def _remove(self, number: int) -> None:
        row = self._at.pop(number, None)
        if row is None:
            return
        last = self._rows.pop()
        if last.number != number:
            self._rows[row], self._at[last.number] = last, row
            self._matrix[row] = self._matrix[len(self._rows)]
            self._sketches[row] = self._sketches[len(self._rows)]

    def _pop_oldest(self) -> int:
        while True:
            last, number = heapq.heappop(self._oldest)
            row = self._at.get(number)
            if row is not None and self._rows[row].last == last:
                return number


def _grown(rows: F32, filled: int, shape: tuple[int, int]) -> F32:
    grown = np.zeros(shape, np.float32)
    if filled:
        grown[:filled] = rows[:filled]
    return grown


def _projection(size: int) -> F32:
    """[size, at most SKETCH]: orthonormal columns, the same on every machine."""
    random = np.random.default_rng(0).normal(size=(size, min(size, SKETCH)))
    columns: F32 = np.linalg.qr(random)[0].astype(np.float32)
    return columns


def _nearness(neighbour: Neighbour) -> tuple[float, int, int]:
    return -neighbour.similarity, -neighbour.corrected.last, neighbour.corrected.number


def _unit_rows(rows: npt.NDArray[np.floating]) -> F32:
    """Each row divided by its length; rows that are zero or broken are zero, and like nothing."""
    wide = np.asarray(rows, np.float32)
    wide = np.where(np.isfinite(wide).all(axis=1, keepdims=True), wide, np.float32(0.0))
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    units: F32 = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return units


# -- the answer ------------------------------------------------------------------------------------


def adjust(
    prediction: Prediction, neighbours: Sequence[Neighbour], rule: Rule = STANDARD
) -> Adjusted | None:
    """The prediction as its neighbours move it; None where they move nothing.

    Evidence of a head whose best label changes is dropped: it spoke for the other label.
    """
    moved: dict[str, F32] = {}
    votes: list[Vote] = []
    for head, shares in prediction.probabilities.items():
        cast, after = _of_head(head, shares, prediction.codes[head], neighbours, rule)
        if np.abs(after - shares).max(initial=0.0) >= MOVED:
            moved[head] = after
            votes += cast
    if not moved:
        return None
    evidence = {
        head: spans
        for head, spans in prediction.evidence.items()
        if head not in moved or moved[head].argmax() == prediction.probabilities[head].argmax()
    }
    after_all: Mapping[str, F32] = {**prediction.probabilities, **moved}
    return Adjusted(
        replace(prediction, probabilities=after_all, evidence=evidence), prediction, tuple(votes)
    )


def _of_head(
    head: str, shares: F32, codes: tuple[str, ...], neighbours: Sequence[Neighbour], rule: Rule
) -> tuple[list[Vote], F32]:
    said = list(_voters(head, codes, neighbours))[: rule.most]
    strength = np.array([_strength(one.similarity, rule) for one, _ in said])
    total = float(strength.sum())
    if total <= 0.0:
        return [], shares
    votes: F64 = np.bincount([place for _, place in said], strength, len(codes)) / total
    followed = rule.bound * float(votes.max()) ** rule.agreement * total / (total + rule.half)
    mixed: F64 = (1.0 - followed) * shares + followed * votes
    if head in rule.never_lowered:
        mixed = _not_lowered(np.asarray(shares, np.float64), mixed)
    cast = [
        Vote(one, head, codes[place], round(followed * float(each) / total, 4))
        for (one, place), each in zip(said, strength, strict=True)
        if each > 0.0
    ]
    return cast, mixed.astype(np.float32)


def _voters(
    head: str, codes: tuple[str, ...], neighbours: Sequence[Neighbour]
) -> Iterable[tuple[Neighbour, int]]:
    for one in neighbours:
        code = one.corrected.labels.get(head)
        if code in codes:
            yield one, codes.index(code)


def _strength(similarity: float, rule: Rule) -> float:
    return min(1.0, max(0.0, (similarity - rule.threshold) / (1.0 - rule.threshold)))


def _not_lowered(alone: F64, mixed: F64) -> F64:
    """Of levels from the lowest to the highest: the chance of each or a higher one is the greater of both."""
    reach = np.maximum(alone[::-1].cumsum()[::-1], mixed[::-1].cumsum()[::-1])
    after: F64 = np.maximum(0.0, -np.diff(reach, append=0.0))
    return after
