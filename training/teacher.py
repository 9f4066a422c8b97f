"""What a teacher says of the training texts: the answers of an earlier run's encoder, for distillation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from classifier.encoder import window_ids
from classifier.folder import open_folder
from classifier.network import Network
from training.base_encoder import load_base_encoder
from training.config import EncoderConfig
from training.errors import ConfigError
from training.loop import Encoded, encode_logits
from training.losses import Taught
from training.start import go_on_from, layers_in

__all__ = ["taught_by"]


def taught_by(
    settings: EncoderConfig, texts: Sequence[str], device: torch.device, precision: torch.dtype | None
) -> dict[str, Taught]:
    """The answers of ``settings.teacher``'s encoder to the training texts, softened, by head.

    Raises ConfigError where that run has no weights, ModelError where its model folder is damaged.
    """
    run = Path(settings.teacher)
    file = run / "encoder" / "best.safetensors"
    if not file.exists():
        raise ConfigError(f"encoder.teacher: expected the weights of a finished run, found no {file}")
    manifest = open_folder(run / "model").manifest
    if manifest.window is None:
        raise ConfigError(f"encoder.teacher: expected a model with an encoder in {run}, found none")
    base = load_base_encoder(settings.base, layers_in(load_file(file)), settings.vocabulary)
    sizes = {name: len(codes) for name, codes in manifest.heads.items()}
    network = Network(base.model, base.hidden, sizes, 0.0, manifest.window.pooling)
    go_on_from(network, file)
    ids = [window_ids(base.tokenizer, manifest.window, text) for text in texts]
    answers = encode_logits(network.to(device), Encoded(ids, base.pad_id), device, precision)
    return {name: _taught(values, settings) for name, values in answers.items()}


def _taught(logits: np.ndarray, settings: EncoderConfig) -> Taught:
    # Half precision: rows × labels of all heads stay in memory for the whole run.
    soft = torch.from_numpy(logits / settings.temperature).half()
    return Taught(soft, settings.teacher_share, settings.temperature)
