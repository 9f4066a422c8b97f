"""Calibration: how the parts' scores become probabilities that mean what they say.

Per head an answer is softmax(w_e · logits + w_l · log σ(slope · margin + offset)). The encoder's weight is
its inverse temperature (Guo et al. 2017, "On Calibration of Modern Neural Networks"); the margins of the
one-against-the-rest SVMs become log-probabilities by Platt scaling first (Platt 1999), because a margin of
−2 says hardly more than one of −1; both weights together are a weighted geometric mean. All are fitted on
held-out rows, as are the thresholds for automatic dispatch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.errors import ModelError

__all__ = ["PARTS", "Calibration", "HeadCalibration", "SideBySide", "softmax"]

F32 = npt.NDArray[np.float32]
PARTS = ("joined", "encoder", "lexical")


def softmax(scores: F32) -> F32:
    """Row-wise softmax of [rows, labels]."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: F32 = (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)
    return result


@dataclass(frozen=True)
class HeadCalibration:
    """Weights of the two parts for one head, and where its answers may be trusted.

    ``slope`` and ``offset`` turn the lexical part's margins into log-probabilities.

    ``threshold`` is the least probability at which the head's answers were right at ``target`` accuracy on
    held-out rows; ``coverage`` the share of those rows at or above it. 1.01 means: never. ``cuts`` holds
    further operating points by name (for urgency: the least P(at least this level) that raises it).
    """

    encoder: float
    lexical: float
    slope: float = 4.0
    offset: float = 2.0
    threshold: float = 1.01
    coverage: float = 0.0
    rows: int = 0
    cuts: Mapping[str, float] = field(default_factory=dict)

    def apply(self, encoder: F32 | None, lexical: F32 | None) -> F32:
        """Calibrated probabilities [rows, labels] from either part's scores or both."""
        scores: Any = 0.0
        if encoder is not None:
            scores = scores + encoder * np.float32(self.encoder)
        if lexical is not None:
            platt = -np.logaddexp(0.0, -(lexical * self.slope + self.offset))
            scores = scores + np.asarray(platt * self.lexical, np.float32)
        return softmax(scores)


@dataclass(frozen=True)
class SideBySide:
    """The calibration of several heads, whose outputs stand side by side: one value per output.

    ``slices`` are the heads' outputs, ``firsts`` and ``sizes`` the first of them and their number.
    """

    slices: Sequence[slice]
    firsts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    encoder: F32
    lexical: F32
    slope: F32
    offset: F32

    @classmethod
    def of(cls, heads: Sequence[tuple[slice, HeadCalibration]]) -> SideBySide:
        """Of heads whose outputs follow each other without gaps."""
        slices = [piece for piece, _ in heads]
        sizes = np.array([piece.stop - piece.start for piece in slices])
        values = [(item.encoder, item.lexical, item.slope, item.offset) for _, item in heads]
        each = np.repeat(np.array(values, np.float32), sizes, axis=0).T
        return cls(slices, np.array([piece.start for piece in slices]), sizes, *each)

    def apply(self, encoder: F32 | None, lexical: F32 | None) -> F32:
        """What `HeadCalibration.apply` gives for each head, side by side: [rows, outputs]."""
        scores: Any = 0.0
        if encoder is not None:
            scores = scores + encoder * self.encoder
        if lexical is not None:
            scores = scores - np.logaddexp(0.0, -(lexical * self.slope + self.offset)) * self.lexical
        shifted = np.exp(
            scores - np.repeat(np.maximum.reduceat(scores, self.firsts, axis=1), self.sizes, axis=1)
        )
        sums = np.empty((len(shifted), len(self.slices)), np.float32)
        for column, piece in enumerate(self.slices):
            shifted[:, piece].sum(axis=1, out=sums[:, column])
        result: F32 = shifted / np.repeat(sums, self.sizes, axis=1)
        return result

    def claims(self, probabilities: F32) -> F32:
        """[rows, outputs]: 1 for each head's best label, and for every other its share of -1 as its rival.

        A little is added to all, so that a certain answer still has rivals to be explained against.
        """
        rows = np.arange(len(probabilities))
        best = [probabilities[:, piece].argmax(axis=1) + piece.start for piece in self.slices]
        rivals = probabilities + np.float32(1e-4)
        for outputs in best:
            rivals[rows, outputs] = 0.0
        sums = np.maximum(np.add.reduceat(rivals, self.firsts, axis=1), np.float32(1e-9))
        claims: F32 = rivals / np.repeat(-sums, self.sizes, axis=1)
        for outputs in best:
            claims[rows, outputs] = 1.0
        return claims


@dataclass(frozen=True)
class Calibration:
    """Calibration per part ("joined", "encoder", "lexical") and head, and the target accuracy."""

    target: float
    heads: Mapping[str, Mapping[str, HeadCalibration]]

    def of(self, part: str, head: str) -> HeadCalibration:
        """Calibration of one head under one part. Raises ModelError when the model has no such part."""
        try:
            return self.heads[part][head]
        except KeyError as error:
            have = ", ".join(sorted(self.heads))
            raise ModelError(
                f"part {part!r}, head {head!r}: expected one of the calibrated parts {have}"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "target_accuracy": self.target,
            "parts": {
                part: {head: {**vars(item), "cuts": dict(item.cuts)} for head, item in heads.items()}
                for part, heads in self.heads.items()
            },
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Calibration:
        """Back from JSON. Raises ModelError when keys are missing."""
        try:
            heads = {
                part: {head: HeadCalibration(**item) for head, item in items.items()}
                for part, items in content["parts"].items()
            }
            return cls(float(content["target_accuracy"]), heads)
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"calibration.json: expected target_accuracy and parts per head, got {error}"
            ) from error
