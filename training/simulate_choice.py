"""Which of the waiting appeals are labelled next: the product's rule, random, and cures that were tried.

Certainty and the audit slice are those of data.suggestions and data.queues. Every strategy but ``random``
labels the audit slice first, then the appeals with the highest score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

from data.queues import Rules, audit_slot
from data.suggestions import Suggested, Suggestion

__all__ = ["STRATEGIES", "Waiting", "audited", "choose", "uncertainties"]

F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Score = Callable[["Waiting"], Floats]

_NEIGHBOURS = 10
_SHORTLIST = 3  # times as many as are wanted, from which the diverse ones are taken


@dataclass(frozen=True)
class Waiting:
    """The n appeals that arrived and are not labelled yet, in the order of their arrival.

    ``stored``: the uncertainty of the answer that each got when it arrived, by which the product queues it;
    ``now``: that of the model as it is now, which made ``probabilities`` (head → [n, labels]). ``vectors``
    [n, hidden] and ``known`` [m, hidden] are embeddings of length 1 of the appeals and of labelled rows, of
    which ``said`` [m] are the label numbers of the first head. Without an encoder both have no columns.
    """

    stored: Floats
    now: Floats
    probabilities: Mapping[str, F32]
    groups: Sequence[str]
    audit: Bools
    vectors: F32
    known: F32
    said: Ints

    def __len__(self) -> int:
        return len(self.stored)


@dataclass(frozen=True)
class Strategy:
    """``told``: what it does, for reports. ``one_a_group``: near-duplicates are labelled once."""

    told: str
    score: Score | None
    one_a_group: bool = False
    spread: bool = False
    random_share: float = 0.0


def choose(name: str, waiting: Waiting, count: int, random: np.random.Generator) -> Ints:
    """Places of the appeals to label, ``count`` or all that wait."""
    strategy = STRATEGIES[name]
    count = min(count, len(waiting))
    if strategy.score is None:
        return np.sort(random.permutation(len(waiting))[:count])
    audit = np.flatnonzero(waiting.audit)[:count]
    free = np.setdiff1d(random.permutation(len(waiting)), audit)
    drawn = random.permutation(free)[: round(strategy.random_share * (count - len(audit)))]
    taken = np.concatenate([audit, drawn])
    order = np.setdiff1d(np.argsort(-strategy.score(waiting), kind="stable"), taken, assume_unique=True)
    # setdiff1d keeps the order of its first argument where both are told to be unique
    order = _once_a_group(order, taken, waiting.groups) if strategy.one_a_group else order
    wanted = count - len(taken)
    if strategy.spread:
        order = _spread(order[: _SHORTLIST * wanted], wanted, waiting, random)
    return np.sort(np.concatenate([taken, order[:wanted]]))


def uncertainties(probabilities: Mapping[str, F32]) -> Floats:
    """How open each answer is, as the queue `uncertain` orders by it (data.suggestions)."""
    heads = {head: _two_likeliest(matrix) for head, matrix in probabilities.items()}
    rows = len(next(iter(heads.values())))
    return np.array([_suggested(heads, row).uncertainty for row in range(rows)])


def audited(ids: Sequence[str], share: float, salt: str) -> Bools:
    """Who is in the random slice (data.queues)."""
    rules = Rules(share, 0.0, (), salt, "simulation", datetime(2000, 1, 1, tzinfo=UTC))
    return np.array([audit_slot(rules, id) < share for id in ids], dtype=bool)


def _two_likeliest(matrix: F32) -> Floats:
    return np.asarray(-np.sort(-matrix, axis=1)[:, :2], np.float64)


def _suggested(heads: Mapping[str, Floats], row: int) -> Suggested:
    return Suggested(
        {
            head: Suggestion("first", float(shares[row, 0]), (("second", float(shares[row, 1])),))
            for head, shares in heads.items()
        }
    )


# -- scores ----------------------------------------------------------------------------------------


def stored(waiting: Waiting) -> Floats:
    """As the product: 1 − margin, mean over heads, of the answer that the appeal got on arrival."""
    return waiting.stored


def now(waiting: Waiting) -> Floats:
    """The same of the newest model's answer."""
    return waiting.now


def entropy(waiting: Waiting) -> Floats:
    """Entropy of the newest answer by the largest possible one, mean over heads."""
    return _mean([_entropy(matrix) for matrix in waiting.probabilities.values()])


def least_confident(waiting: Waiting) -> Floats:
    """1 − the best label's probability, mean over heads."""
    return _mean([1.0 - matrix.max(axis=1) for matrix in waiting.probabilities.values()])


def dense(waiting: Waiting) -> Floats:
    """Uncertain where appeals are many: times the mean similarity to the nearest other waiting ones
    (information density: Settles and Craven 2008, "An analysis of active learning strategies for sequence
    labeling tasks")."""
    if not waiting.vectors.shape[1] or len(waiting) <= _NEIGHBOURS:
        return waiting.now
    similar = _similarities(waiting.vectors, waiting.vectors, _NEIGHBOURS + 1)[0][:, 1:]
    result: Floats = waiting.now * np.maximum(similar.mean(axis=1), 0.0)
    return result


def agreed(waiting: Waiting) -> Floats:
    """Uncertain though labelled look-alikes agree: times the share of the commonest label among them.

    Where they contradict each other the label itself is in doubt, and one more teaches little.
    """
    if not waiting.vectors.shape[1] or len(waiting.known) < _NEIGHBOURS:
        return waiting.now
    places = _similarities(waiting.vectors, waiting.known, _NEIGHBOURS)[1]
    labels = waiting.said[places]
    share = [np.bincount(row).max() / len(row) for row in labels]
    result: Floats = waiting.now * np.array(share)
    return result


def _entropy(matrix: F32) -> Floats:
    shares = np.maximum(matrix.astype(np.float64), 1e-12)
    return np.asarray(-(shares * np.log(shares)).sum(axis=1) / np.log(matrix.shape[1]))


def _mean(parts: Sequence[npt.NDArray[np.floating]]) -> Floats:
    result: Floats = np.mean(np.stack(parts), axis=0, dtype=np.float64)
    return result


def _similarities(vectors: F32, among: F32, count: int) -> tuple[Floats, Ints]:
    found = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(among)
    distances, places = found.kneighbors(vectors)
    return 1.0 - distances, places


# -- diversity -------------------------------------------------------------------------------------


def _once_a_group(order: Ints, taken: Ints, groups: Sequence[str]) -> Ints:
    seen = {groups[place] for place in taken.tolist()}
    first: list[int] = []
    repeated: list[int] = []
    for place in order.tolist():
        (repeated if groups[place] in seen else first).append(place)
        seen.add(groups[place])
    return np.array([*first, *repeated], np.int64)


def _spread(shortlist: Ints, wanted: int, waiting: Waiting, random: np.random.Generator) -> Ints:
    """One of each cluster of the shortlist, weighted by uncertainty (Zhdanov 2019, "Diverse mini-batch
    active learning"); filled up with the most uncertain."""
    if not waiting.vectors.shape[1] or wanted >= len(shortlist):
        return shortlist
    vectors = waiting.vectors[shortlist]
    clusters = MiniBatchKMeans(wanted, random_state=int(random.integers(2**31)), n_init=1, batch_size=1024)
    away = clusters.fit_transform(vectors, sample_weight=waiting.now[shortlist])
    nearest = shortlist[np.unique(away.argmin(axis=0))]
    rest = np.setdiff1d(shortlist, nearest, assume_unique=True)
    return np.concatenate([nearest, rest])


STRATEGIES: Mapping[str, Strategy] = {
    "product": Strategy("least certain when it arrived, and the audit slice: as the queues do", stored),
    "random": Strategy("drawn at random from what waits", None),
    "refreshed": Strategy("least certain by the newest model, and the audit slice", now),
    "entropy": Strategy("largest entropy by the newest model, and the audit slice", entropy),
    "least_confident": Strategy("lowest best probability by the newest model, and the audit slice",
                                least_confident),
    "once": Strategy("as refreshed, each near-duplicate group once", now, one_a_group=True),
    "dense": Strategy("as refreshed, weighted by how many look-alikes wait", dense, one_a_group=True),
    "agreed": Strategy("as refreshed, less where labelled look-alikes disagree", agreed, one_a_group=True),
    "spread": Strategy("as refreshed, one of each cluster of the three times as many", now, spread=True),
    "half": Strategy("half refreshed, half random", now, random_share=0.5),
}  # fmt: skip
