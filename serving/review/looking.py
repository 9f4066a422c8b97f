"""Look-alikes of an appeal with the labels they have: what people said, else what the model suggested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

import numpy as np

from data.database import Database
from data.in_force import InForce
from data.reviews import ReviewAppeal, ReviewStore
from data.reviews.records import COVER
from data.reviews.standing import Standing
from serving.review.evidence import Explained
from serving.review.naming import Names, shown_answer
from serving.review.similar import Looks, Nearest, Vectors
from serving.review.tasks import state_of
from serving.review.words import SimilarAppeal, SimilarLabel

__all__ = ["DUPLICATE", "look_alikes", "words_of_evidence"]

DUPLICATE = 0.97  # cosine from which two appeals are told to be the same matter in the same words
WIDER = 4  # of so many times as are asked for, labelled ones go first among those as alike
LONGEST_WORD = 20  # characters; longer evidence is a clause that no other appeal repeats


def look_alikes(
    database: Database,
    looks: Looks,
    appeal: ReviewAppeal,
    explained: Explained | None,
    limit: int,
) -> list[tuple[ReviewAppeal, Nearest, dict[str, InForce]]]:
    """The appeals nearest to this one, and the labels in force of each; blocking.

    By the vectors of the version that answered this appeal, or of the one that answers now, whichever
    has looked at more appeals.
    """
    store = ReviewStore(database)
    vectors, vector = _vectors(store, looks, appeal, explained)
    if vectors is None or vector is None:
        return []
    found = vectors.nearest(vector, limit * WIDER, without=appeal.number)
    labels = store.labels_of([one.number for one in found])
    ordered = sorted(found, key=lambda one: (-round(one.similarity, 2), one.number not in labels))[:limit]
    appeals = {one.number: one for one in store.appeals([one.number for one in ordered])}
    told = sorted(ordered, key=lambda one: -one.similarity)
    return [(appeals[one.number], one, labels.get(one.number, {})) for one in told if one.number in appeals]


def _vectors(
    store: ReviewStore, looks: Looks, appeal: ReviewAppeal, explained: Explained | None
) -> tuple[Vectors | None, np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None]:
    versions = dict.fromkeys(answer.model_version for answer in appeal.answers[:1])
    if explained is not None:
        versions |= {explained.version: None}
    best: Vectors | None = None
    vector = None
    for version in versions:
        stored = store.vectors_of(version, [appeal.number]).get(appeal.number)
        own = np.frombuffer(stored, "<f2").astype(np.float32) if stored else None
        if own is None and explained is not None and explained.version == version:
            own = explained.embedding
        if own is None or not own.size:
            continue
        vectors = looks.of(store.database, version)
        if best is None or len(vectors.numbers) > len(best.numbers):
            best, vector = vectors, own
    return best, vector


def similar_out(
    found: tuple[ReviewAppeal, Nearest, Mapping[str, InForce]],
    names: Names,
    standing: Standing,
    words: Sequence[str],
    zone: ZoneInfo,
) -> SimilarAppeal:
    """A look-alike in the page's words; `words` spoke for the labels of the appeal it is like."""
    appeal, near, labels = found
    return SimilarAppeal(
        id=appeal.id,
        text=appeal.text,
        similarity=round(near.similarity, 4),
        duplicate=near.similarity >= DUPLICATE,
        received_at=appeal.received_at.astimezone(zone),
        labels=_labels(appeal, labels, names, standing),
        same_evidence=[word for word in words if word in appeal.text],
    )


def words_of_evidence(text: str, explained: Explained | None) -> list[str]:
    """What in a text spoke for any of its labels, word by word, the strongest first."""
    spans = [span for some in (explained.spans.values() if explained else ()) for span in some]
    ordered = sorted(spans, key=lambda span: -span.weight)
    words = (text[span.start : span.end].strip() for span in ordered)
    return list(dict.fromkeys(word for word in words if 1 < len(word) <= LONGEST_WORD and COVER not in word))


def _labels(
    appeal: ReviewAppeal, labels: Mapping[str, InForce], names: Names, standing: Standing
) -> dict[str, SimilarLabel]:
    told: dict[str, SimilarLabel] = {}
    suggested = shown_answer(appeal.answers[0], names, standing.reading).codes if appeal.answers else {}
    for head in names.heads:
        label = labels.get(head)
        if label is not None and label.code is not None:
            name = names.label(head, label.code)
            told[head] = SimilarLabel(code=label.code, name=name, by="person", state=state_of(label))
        elif label is not None:
            name = "、".join(sorted(names.label(head, code) for code in label.codes))
            told[head] = SimilarLabel(code="", name=name, by="person", state=state_of(label))
        elif code := suggested.get(head):
            told[head] = SimilarLabel(code=code, name=names.label(head, code), by="model", state="suggested")
    return told
