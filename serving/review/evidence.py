"""What in a prepared text speaks for its answer: the champion is asked again, on the text reviewers see.

The stored answer's spans speak of the text as it was sent, which is not kept. Asked is the covered text:
nothing that a reviewer flagged reaches the model, and no span tells of it. Kept for those appeals that
pages show now; a champion that is away or busy explains nothing rather than holding anybody up.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.reviews import ReviewAppeal
from data.reviews.records import COVER
from serving.batcher import Classified
from serving.batcher import Request as Queued
from serving.errors import ServingError
from serving.review.words import EvidenceOut, TriggerOut
from serving.service import Service
from serving.urgency import LEVELS, assess

__all__ = ["Explained", "Explainer"]

KEPT = 512  # appeals: a few kilobytes each
PATIENCE = 2.0  # seconds; pages fetch ahead, so nobody waits for as long
SPANS = 8  # of a head: more would colour the whole text

Key = tuple[int, str, bytes]  # appeal, model version, covered text


@dataclass(frozen=True)
class Explained:
    """A model's look at a covered text: head → its best label, and what spoke for it; urgency's triggers."""

    version: str
    best: Mapping[str, str]
    spans: Mapping[str, list[EvidenceOut]]
    triggers: list[TriggerOut]
    embedding: npt.NDArray[np.float32]

    def evidence(self, head: str, code: str) -> list[EvidenceOut]:
        """What spoke for a label; none where the model would choose another one now."""
        return self.spans.get(head, []) if code and self.best.get(head) == code else []


class Explainer:
    """One per application; the event loop's alone."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kept: OrderedDict[Key, Explained] = OrderedDict()

    async def explain(self, appeal: ReviewAppeal) -> Explained | None:
        """None where the champion could not be asked now."""
        text = appeal.text
        try:
            key = (appeal.number, self._service.model().version, _hash(text))
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            asked = self._service.batcher.classify([Queued(text)])
            [found] = await asyncio.wait_for(asked, PATIENCE)
            explained = await self._service.run(_explained, text, found)
        except (ServingError, TimeoutError):
            return None
        self._keep((appeal.number, found.model.version, key[2]), explained)
        return explained

    def _keep(self, key: Key, explained: Explained) -> None:
        self._kept[key] = explained
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def _explained(text: str, found: Classified) -> Explained:
    prediction = found.prediction
    return Explained(
        version=found.model.version,
        best={head: prediction.top(head)[0][0] for head in prediction.probabilities},
        spans={head: _spans(text, found, head) for head in prediction.evidence},
        triggers=_triggers(text, found),
        embedding=prediction.embedding,
    )


def _spans(text: str, found: Classified, head: str) -> list[EvidenceOut]:
    inside = [span for span in found.prediction.evidence[head] if _visible(text, span.start, span.end)]
    strongest = sorted(inside, key=lambda span: -span.weight)[:SPANS]
    told = [EvidenceOut(start=s.start, end=s.end, weight=round(float(s.weight), 4)) for s in strongest]
    return sorted(told, key=lambda span: span.start)


def _triggers(text: str, found: Classified) -> list[TriggerOut]:
    prediction, head = found.prediction, found.model.predictor.heads.get("urgency")
    answer = assess(
        text,
        prediction.distribution("urgency") if head else None,
        evidence=[(span.start, span.end) for span in prediction.evidence.get("urgency", ())],
        thresholds=found.model.urgency_cuts,
        levels=head.codes if head else LEVELS,
    )
    return [
        TriggerOut(
            kind=one.kind, name=one.name, start=one.start, end=one.end, source=one.source, level=one.level
        )
        for one in answer.triggers
        if _visible(text, one.start, one.end)
    ]


def _visible(text: str, start: int, end: int) -> bool:
    return 0 <= start < end <= len(text) and COVER not in text[start:end]
