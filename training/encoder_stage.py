"""Stage one of a run: fine-tune the encoder, or pick up where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

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
from training.losses import HeadLoss, Taught, head_loss
from training.quantise import SAMPLE
from training.start import go_on_from
from training.teacher import taught_by

__all__ = ["TrainedEncoder", "train_encoder"]

NOBODY: Mapping[str, Taught] = MappingProxyType({})


@dataclass(frozen=True)
class TrainedEncoder:
    """A fine-tuned network with what is needed to run and export it.

    ``sample`` holds token ids of some training texts, within the window: 8-bit scales are set by them.
    """

    network: Network
    base: BaseEncoder
    window: EncoderWindow
    device: torch.device
    precision: torch.dtype | None
    history: list[dict[str, float]]
    sample: Sequence[Sequence[int]] = ()

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
    network = Network(base.model, base.hidden, sizes, settings.dropout, settings.pooling)
    start = start_from or (Path(settings.start) / "encoder" / "best.safetensors" if settings.start else None)
    if start is not None:
        tell(f"encoder: goes on from {start}, {go_on_from(network, start)} heads with it")
    # Eager attention trains 1.7 times faster than PyTorch's fused CPU kernel, whose backward pass is slow.
    base.model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")  # type: ignore[operator]
    if device.type == "cpu":
        install(network, settings.dropout, np.random.Generator(np.random.SFC64(config.seed)))
    network.to(device)
    window = EncoderWindow(
        base.prompt if settings.prompt is None else settings.prompt,
        settings.head_tokens,
        settings.tail_tokens,
        base.pad_id,
        settings.pooling,
    )
    tell(
        f"encoder: {base.source}, {settings.layers} layers, {_millions(network)} M parameters, "
        f"{device}, {precision}"
    )
    encoded = {
        name: Encoded([window_ids(base.tokenizer, window, text) for text in side.texts], base.pad_id)
        for name, side in (("train", train), ("validation", validation))
    }
    tell(f"encoder: {len(train)} rows, {sum(map(len, encoded['train'].ids))} tokens an epoch")
    taught = _taught(settings, train, device, precision, tell)
    trainer = Trainer(network, settings, config.seed, folder, device, precision)
    history = trainer.run(
        encoded["train"],
        _losses(config, settings, train, taught),
        encoded["validation"],
        _losses(config, settings, validation),
        tell,
    )
    served = replace(
        window,
        head_tokens=settings.serve_head_tokens or window.head_tokens,
        tail_tokens=settings.serve_tail_tokens or window.tail_tokens,
    )
    sample = _sample(encoded["train"].ids, config.seed)
    return TrainedEncoder(network, base, served, device, precision, history, sample)


def _sample(ids: Sequence[Sequence[int]], seed: int) -> list[Sequence[int]]:
    chosen = np.random.default_rng(seed).choice(len(ids), min(SAMPLE, len(ids)), replace=False)
    return [ids[row] for row in chosen]


def _taught(
    settings: EncoderConfig,
    train: Dataset,
    device: torch.device,
    precision: torch.dtype | None,
    tell: Callable[[str], None],
) -> dict[str, Taught]:
    """The teacher's answers to the training texts. Raises ConfigError for one with other labels."""
    if not settings.teacher:
        return {}
    tell(f"teacher: {settings.teacher} answers {len(train)} training texts")
    taught = taught_by(settings, train.texts, device, precision)
    for name in taught.keys() & train.targets.keys():
        expected, got = train.targets[name].mask.shape[1], taught[name].logits.shape[1]
        if got != expected:
            raise ConfigError(
                f"encoder.teacher: head {name}: expected {expected} labels in {settings.teacher}, got {got}; "
                "teach with a run of the same label scheme"
            )
    return taught


def _losses(
    config: Config, settings: EncoderConfig, side: Dataset, taught: Mapping[str, Taught] = NOBODY
) -> Mapping[str, HeadLoss]:
    return {
        name: head_loss(
            targets,
            side.weights,
            config.heads.get(name, 1.0),
            settings.smoothing,
            settings.balance,
            taught.get(name),
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
