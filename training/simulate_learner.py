"""One update of the model in a simulated loop, cheap enough to be done in every round.

The encoder is fine-tuned once, on what is labelled before the loop begins, and then stays as it is. In every
round its heads are refitted on its embeddings and the lexical part is refitted, with the base rows and all
labels bought so far, and both are calibrated and joined as the product joins them. A full retraining also
tunes the encoder; how much that adds is measured once, at the end (training.simulate).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file
from scipy import sparse

from classifier.calibration import HeadCalibration
from classifier.folder import open_folder
from classifier.ngrams import Occurrences
from classifier.predictor import Predictor
from data.appeals import Row
from data.progress import Progress
from training.calibrate import fit_head
from training.config import Config, LexicalConfig
from training.dataset import Dataset, Targets, build_dataset
from training.lexical_stage import Vectoriser, find_ngrams, train_lexical
from training.losses import HeadLoss, head_loss
from training.weights import champion_weights

__all__ = ["Heads", "Learner", "Update"]

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_BATCH = 256
_STEPS = 40  # of L-BFGS; the loss no longer falls visibly after 20 to 30


@dataclass(frozen=True)
class Heads:
    """The encoder's heads: per head weights [labels, hidden] and bias [labels]."""

    weights: Mapping[str, F32]
    bias: Mapping[str, F32]


@dataclass(frozen=True)
class Update:
    """A model after a round: per head the probabilities [rows, labels] of all rows, and its calibration."""

    probabilities: Mapping[str, F32]
    calibration: Mapping[str, HeadCalibration]


@dataclass(frozen=True)
class Learner:
    """All rows of a simulation as both parts see them, read once.

    ``pooled``: the start's embeddings [rows, hidden]; None for a model without an encoder. ``found``: n-grams
    of the rows; empty for a model without a lexical part. ``pull`` holds the refitted heads near the start's.
    """

    rows: Sequence[Row]
    config: Config
    dataset: Dataset
    pooled: F32 | None
    heads: Heads | None
    found: Sequence[Occurrences]
    pull: float = 1e-3
    losses: Mapping[str, HeadLoss] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        config: Config,
        start: Path,
        heads: Mapping[str, Sequence[str]],
        progress: Progress | None = None,
        pull: float = 1e-3,
    ) -> Learner:
        """Read the rows with the model folder of the start; ``heads`` are those that are simulated."""
        dataset = build_dataset(rows, heads)
        predictor = Predictor.load(start)
        pooled, own = None, None
        if predictor.encoder is not None:
            pooled = _embedded(predictor, dataset.texts, progress)
            own = _heads(start, heads)
        lexical = None if config.lexical_off else config.lexical
        found = find_ngrams(dataset.texts, lexical) if lexical else []
        return cls(rows, config, dataset, pooled, own, found, pull)

    @property
    def lexical(self) -> LexicalConfig | None:
        """How the lexical part is trained; None where there is none."""
        return None if self.config.lexical_off else self.config.lexical

    def update(self, train: Ints, validation: Ints, bought: Ints) -> Update:
        """Fit on the rows ``train`` (labels that were ``bought`` weigh more), calibrate on ``validation``."""
        weights = self.dataset.weights.copy()
        weights[bought] *= self.config.retrain.new_weight
        encoder = self._encoder_scores(train, weights)
        lexical = self._lexical_scores(train, weights, encoder)
        probabilities, calibration = {}, {}
        for head, targets in self.dataset.targets.items():
            parts = encoder.get(head), lexical.get(head)
            known = Targets(targets.mask[validation])
            held_out = [None if part is None else part[validation] for part in parts]
            fitted = fit_head(held_out[0], held_out[1], known, self.config.target_accuracy)
            calibration[head] = fitted
            probabilities[head] = fitted.apply(*parts)
        return Update(probabilities, calibration)

    def _encoder_scores(self, train: Ints, weights: F32) -> dict[str, F32]:
        """Logits [rows, labels] per head after its refit."""
        if self.pooled is None or self.heads is None:
            return {}
        settings, scores = self.config.encoder, {}
        for head, targets in self.dataset.targets.items():
            rows = train[targets.labelled[train]]
            some = Targets(targets.mask[rows])
            smoothing = settings.smoothing if settings else 0.0
            loss = head_loss(some, weights[rows], 1.0, smoothing, settings.balance if settings else 0.0)
            matrix, bias = _refit(
                self.pooled[rows], loss, self.heads.weights[head], self.heads.bias[head], self.pull
            )
            scores[head] = np.asarray(self.pooled @ matrix.T + bias, np.float32)
        return scores

    def _lexical_scores(self, train: Ints, weights: F32, encoder: Mapping[str, F32]) -> dict[str, F32]:
        """Margins [rows, labels] per head of a lexical part trained anew."""
        if self.lexical is None:
            return {}
        side = _some(self.dataset, train, weights)
        teacher = {head: matrix[train] for head, matrix in encoder.items()} or None
        found = [self.found[row] for row in train.tolist()]
        part = train_lexical(side, self.lexical, lambda message: None, teacher, found)
        features = Vectoriser(part.features, part.hashes, part.idf).weighted(self.found)
        scores = _product(features, part.weights.astype(np.float32) * part.scale, part.bias)
        return {head: scores[:, piece] for head, piece in part.slices.items()}


def _some(dataset: Dataset, rows: Ints, weights: F32) -> Dataset:
    places = rows.tolist()
    return Dataset(
        [dataset.texts[row] for row in places],
        {head: Targets(targets.mask[rows]) for head, targets in dataset.targets.items()},
        weights[rows],
        [dataset.groups[row] for row in places],
    )


def _product(features: sparse.csr_matrix, weights: F32, bias: F32) -> F32:
    result: F32 = np.asarray(features @ weights + bias, np.float32)
    return result


def _embedded(predictor: Predictor, texts: Sequence[str], progress: Progress | None) -> F32:
    """Embeddings [texts, hidden] by the encoder as it is served."""
    assert predictor.encoder is not None
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    parts = []
    for start in range(0, len(order), _BATCH):
        parts.append(predictor.encoder.run([texts[row] for row in order[start : start + _BATCH]])[1])
        if progress:
            progress("embedding", min(start + _BATCH, len(order)), len(order))
    result: F32 = np.concatenate(parts)[np.argsort(np.array(order))]
    return result


def _heads(start: Path, heads: Mapping[str, Sequence[str]]) -> Heads:
    """The encoder's own heads, in full precision where its run is still there."""
    run = start.parent
    target, _ = champion_weights(open_folder(start), run.parent, heads, run / "heads.safetensors")
    assert target is not None  # asked of a model with an encoder only
    weights = load_file(target)
    return Heads(
        {head: weights[f"heads.{head}.weight"] for head in heads},
        {head: weights[f"heads.{head}.bias"] for head in heads},
    )


def _refit(pooled: F32, loss: HeadLoss, weights: F32, bias: F32, pull: float) -> tuple[F32, F32]:
    """The head with the least loss plus ``pull`` times its squared distance from where it started.

    The base rows are known to the encoder by heart, so that nearly all the gradient comes from new labels;
    the pull keeps these few from turning the whole head.
    """
    first = torch.from_numpy(np.array(weights)), torch.from_numpy(np.array(bias))
    matrix, offset = (part.clone().requires_grad_() for part in first)
    inputs, every = torch.from_numpy(pooled), np.arange(len(pooled))
    optimiser = torch.optim.LBFGS([matrix, offset], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        away = ((matrix - first[0]) ** 2).sum() + ((offset - first[1]) ** 2).sum()
        total = loss(inputs @ matrix.T + offset, every.tolist()) + pull * away
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return matrix.detach().numpy(), offset.detach().numpy()
