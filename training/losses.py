"""The loss of one head, for sure and for partial labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.dataset import Targets

__all__ = ["HeadLoss", "head_loss"]


@dataclass(frozen=True)
class HeadLoss:
    """Cross-entropy against "one of the admissible labels": −log Σ p(admissible).

    For a sure label this is the usual cross-entropy, smoothed by ``smoothing``. Rows without a label of this
    head add nothing. ``weights`` [rows] scales rows, ``weight`` the head. Source of the partial-label form:
    Jin & Ghahramani 2002, "Learning with Multiple Labels".
    """

    mask: torch.Tensor
    weights: torch.Tensor
    weight: float
    smoothing: float

    def __call__(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Loss of a batch: logits [batch, labels] for dataset ``rows``; the mean over the batch's rows."""
        index = torch.as_tensor(np.asarray(rows), dtype=torch.long)
        each, labelled = self._each(logits, self.mask[index].to(logits.device))
        weights = self.weights[index].to(logits.device) * labelled
        return self.weight * (each * weights).sum() / len(rows)

    def score(self, logits: torch.Tensor) -> dict[str, float]:
        """Unsmoothed mean loss and admissible accuracy over all rows that have a label."""
        labelled = self.mask.any(1)
        if not bool(labelled.any()):
            return {"loss": 0.0, "accuracy": 0.0, "rows": 0.0}
        admissible = self.mask[labelled]
        kept = logits[labelled]
        loss = _partial(torch.log_softmax(kept, -1), admissible)
        right = admissible.gather(1, kept.argmax(1, keepdim=True)).float()
        return {"loss": float(loss.mean()), "accuracy": float(right.mean()), "rows": float(labelled.sum())}

    def _each(self, logits: torch.Tensor, admissible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_p = torch.log_softmax(logits, -1)
        count = admissible.sum(1)
        sharp = _partial(log_p, admissible)
        smooth = torch.where(count == 1, self.smoothing, 0.0)
        return (1 - smooth) * sharp - smooth * log_p.mean(-1), (count > 0).to(logits.dtype)


def _partial(log_p: torch.Tensor, admissible: torch.Tensor) -> torch.Tensor:
    # A row without admissible labels gets all of them: its loss is then 0, and no infinity meets a gradient.
    open_rows = admissible | ~admissible.any(1, keepdim=True)
    return -torch.logsumexp(log_p.masked_fill(~open_rows, -1e9), -1)


def head_loss(
    targets: Targets, weights: np.ndarray, weight: float, smoothing: float, balance: float
) -> HeadLoss:
    """HeadLoss over a dataset's targets; ``balance`` b scales sure rows by (mean count / label's count)^b."""
    scaled = weights.astype(np.float32).copy()
    if balance > 0:
        codes = targets.codes()
        counts = np.bincount(codes[codes >= 0], minlength=targets.mask.shape[1]).astype(np.float64)
        mean = counts[counts > 0].mean() if (counts > 0).any() else 1.0
        factor = np.clip((mean / np.maximum(counts, 1)) ** balance, 0.3, 3.0)
        scaled = np.where(codes >= 0, scaled * factor[np.maximum(codes, 0)], scaled).astype(np.float32)
    return HeadLoss(torch.from_numpy(targets.mask), torch.from_numpy(scaled), weight, smoothing)
