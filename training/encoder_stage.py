"""Stage one of a run: fine-tune the encoder, or pick up where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from classifier.encoder import window_ids
from classifier.folder import EncoderWindow
from classifier.network import Network
from training.base_encoder import BaseEncoder, load_base_encoder
from training.config import Config, EncoderConfig
from training.cpu import cpu_has
from training.dataset import Dataset
from training.dropout import install
from training.errors import ConfigError
from training.loop import Encoded, Trainer, encode_logits
from training.losses import HeadLoss, head_loss

__all__ = ["TrainedEncoder", "train_encoder"]


@dataclass(frozen=True)
class TrainedEncoder:
    """A fine-tuned network with what is needed to run and export it."""

    network: Network
    base: BaseEncoder
    window: EncoderWindow
    device: torch.device
    precision: torch.dtype | None
    history: list[dict[str, float]]

    def logits(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Logits [texts, labels] per head, computed by torch."""
        ids = [window_ids(self.base.tokenizer, self.window, text) for text in texts]
        return encode_logits(self.network, Encoded(ids, self.base.pad_id), self.device, self.precision)


def train_encoder(
    config: Config,
    settings: EncoderConfig,
    train: Dataset,
    validation: Dataset,
    folder: Path,
    tell: Callable[[str], None],
    start_from: Path | None = None,
) -> TrainedEncoder:
    """Fine-tune on ``train``, stop on ``validation``; checkpoints and resume in ``folder``.

    ``start_from`` is a weights file of an earlier run to go on from, instead of ``settings.start``.
    """
    device, precision = _device(settings)
    torch.manual_seed(config.seed)
    base = load_base_encoder(settings.base, settings.layers, settings.vocabulary)
    sizes = {name: targets.mask.shape[1] for name, targets in train.targets.items()}
    network = Network(base.model, base.hidden, sizes, settings.dropout)
    start = start_from or (Path(settings.start) / "encoder" / "best.safetensors" if settings.start else None)
    if start is not None:
        tell(f"encoder: goes on from {start}, {_start(network, start)} heads with it")
    # Eager attention trains 1.7 times faster than PyTorch's fused CPU kernel, whose backward pass is slow.
    base.model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")  # type: ignore[operator]
    if device.type == "cpu":
        install(network, settings.dropout, np.random.Generator(np.random.SFC64(config.seed)))
    network.to(device)
    window = EncoderWindow(base.prompt, settings.head_tokens, settings.tail_tokens, base.pad_id)
    tell(
        f"encoder: {base.source}, {settings.layers} layers, {_millions(network)} M parameters, "
        f"{device}, {precision}"
    )
    encoded = {
        name: Encoded([window_ids(base.tokenizer, window, text) for text in side.texts], base.pad_id)
        for name, side in (("train", train), ("validation", validation))
    }
    tell(f"encoder: {len(train)} rows, {sum(map(len, encoded['train'].ids))} tokens an epoch")
    trainer = Trainer(network, settings, config.seed, folder, device, precision)
    history = trainer.run(
        encoded["train"],
        _losses(config, settings, train),
        encoded["validation"],
        _losses(config, settings, validation),
        tell,
    )
    served = replace(
        window,
        head_tokens=settings.serve_head_tokens or window.head_tokens,
        tail_tokens=settings.serve_tail_tokens or window.tail_tokens,
    )
    return TrainedEncoder(network, base, served, device, precision, history)


def _start(network: Network, weights: Path) -> int:
    """Load an earlier run's encoder, and its heads of the same name and size; gives how many of these.

    Raises ConfigError where there are no weights or those of another encoder.
    """
    if not weights.exists():
        raise ConfigError(
            f"encoder.start: expected the weights of a finished run, found no {weights}; fit that run first"
        )
    ours = network.state_dict()
    fitting = {name: value for name, value in load_file(weights).items()
               if name in ours and value.shape == ours[name].shape}  # fmt: skip
    missing = [name for name in ours if name.startswith("encoder.") and name not in fitting]
    if missing:
        raise ConfigError(
            f"encoder.start: expected an encoder of the same base, vocabulary and layers in {weights}, "
            f"found {len(missing)} weights missing or of another size, the first {missing[0]}"
        )
    network.load_state_dict(fitting, strict=False)
    return sum(name.endswith(".weight") and name.startswith("heads.") for name in fitting)


def _losses(config: Config, settings: EncoderConfig, side: Dataset) -> Mapping[str, HeadLoss]:
    return {
        name: head_loss(
            targets, side.weights, config.heads.get(name, 1.0), settings.smoothing, settings.balance
        )
        for name, targets in side.targets.items()
    }


def _device(settings: EncoderConfig) -> tuple[torch.device, torch.dtype | None]:
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and _fast_bf16(device))
    return device, torch.bfloat16 if bf16 else None


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return cpu_has("avx512_bf16")


def _millions(network: Network) -> str:
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}"
