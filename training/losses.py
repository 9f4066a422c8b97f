"""The loss of one head, for sure and for partial labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.dataset import Targets

__all__ = ["HeadLoss", "Taught", "head_loss"]

TEMPERATURES = tuple(round(0.5 * 1.12**step, 3) for step in range(20))  # 0.5 to 4.3


@dataclass(frozen=True)
class Taught:
    """A teacher's answers for one head: ``logits`` [rows, labels] divided by ``temperature``, and the share
    of the loss that they have. Of a partial label the teacher chooses among the admissible ones only.

    The loss is the cross-entropy against the softened answers, times the temperature squared so that its
    gradients keep their size. Source: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural
    Network".
    """

    logits: torch.Tensor
    share: float
    temperature: float

    def each(self, logits: torch.Tensor, rows: torch.Tensor, admissible: torch.Tensor) -> torch.Tensor:
        """Loss of every row of a batch: ``logits`` [batch, labels], dataset ``rows`` and their masks."""
        soft = self.logits[rows].to(logits.device).float().masked_fill(~_opened(admissible), -1e9)
        log_p = torch.log_softmax(logits / self.temperature, -1)
        return -(torch.softmax(soft, -1) * log_p).sum(-1) * self.temperature**2


@dataclass(frozen=True)
class HeadLoss:
    """Cross-entropy against "one of the admissible labels": −log Σ p(admissible).

    For a sure label this is the usual cross-entropy, smoothed by ``smoothing``. Rows without a label of this
    head learn from the teacher alone where there is one (``taught``), else they add nothing. ``weights``
    [rows] scales rows, ``weight`` the head. Source of the partial-label form: Jin & Ghahramani 2002,
    "Learning with Multiple Labels".
    """

    mask: torch.Tensor
    weights: torch.Tensor
    weight: float
    smoothing: float
    taught: Taught | None = None

    def __call__(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Loss of a batch: logits [batch, labels] for dataset ``rows``; the mean over the batch's rows."""
        index = torch.as_tensor(np.asarray(rows), dtype=torch.long)
        admissible = self.mask[index].to(logits.device)
        each, labelled = self._each(logits, admissible)
        if self.taught is not None:
            share = self.taught.share
            each = (1 - share) * each * labelled + share * self.taught.each(logits, index, admissible)
            labelled = torch.ones_like(labelled)
        weights = self.weights[index].to(logits.device) * labelled
        return self.weight * (each * weights).sum() / len(rows)

    def score(self, logits: torch.Tensor) -> dict[str, float]:
        """Unsmoothed mean loss and admissible accuracy over all rows that have a label.

        The loss is the one at the temperature that suits the rows best: a model is calibrated before it
        serves, so how sure it sounds must not decide when training stops or which epoch is kept.
        """
        labelled = self.mask.any(1)
        if not bool(labelled.any()):
            return {"loss": 0.0, "accuracy": 0.0, "rows": 0.0}
        admissible = self.mask[labelled]
        kept = logits[labelled]
        loss = min(float(_partial(torch.log_softmax(kept / t, -1), admissible).mean()) for t in TEMPERATURES)
        right = admissible.gather(1, kept.argmax(1, keepdim=True)).float()
        return {"loss": loss, "accuracy": float(right.mean()), "rows": float(labelled.sum())}

    def _each(self, logits: torch.Tensor, admissible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_p = torch.log_softmax(logits, -1)
        count = admissible.sum(1)
        sharp = _partial(log_p, admissible)
        smooth = torch.where(count == 1, self.smoothing, 0.0)
        return (1 - smooth) * sharp - smooth * log_p.mean(-1), (count > 0).to(logits.dtype)


def _partial(log_p: torch.Tensor, admissible: torch.Tensor) -> torch.Tensor:
    return -torch.logsumexp(log_p.masked_fill(~_opened(admissible), -1e9), -1)


def _opened(admissible: torch.Tensor) -> torch.Tensor:
    """A row without labels gets all of them: its loss is then 0, and no infinity meets a gradient."""
    return admissible | ~admissible.any(1, keepdim=True)


def head_loss(
    targets: Targets,
    weights: np.ndarray,
    weight: float,
    smoothing: float,
    balance: float,
    taught: Taught | None = None,
) -> HeadLoss:
    """HeadLoss over a dataset's targets; ``balance`` b scales sure rows by (mean count / label's count)^b."""
    scaled = weights.astype(np.float32).copy()
    if balance > 0:
        codes = targets.codes()
        counts = np.bincount(codes[codes >= 0], minlength=targets.mask.shape[1]).astype(np.float64)
        mean = counts[counts > 0].mean() if (counts > 0).any() else 1.0
        factor = np.clip((mean / np.maximum(counts, 1)) ** balance, 0.3, 3.0)
        scaled = np.where(codes >= 0, scaled * factor[np.maximum(codes, 0)], scaled).astype(np.float32)
    return HeadLoss(torch.from_numpy(targets.mask), torch.from_numpy(scaled), weight, smoothing, taught)
