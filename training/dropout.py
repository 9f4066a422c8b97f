"""Dropout that does not starve the matrix products on a CPU.

PyTorch's CPU dropout draws its mask from a serial Mersenne Twister: a sixth of a training step here.
Drawing bytes from numpy's SFC64 costs next to nothing; the rate is rounded to 1/256.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

__all__ = ["ByteDropout", "install"]


class ByteDropout(nn.Module):
    """Drop-in for nn.Dropout; ``p`` is read by attention code and so kept."""

    def __init__(self, p: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.p = p
        self.cut = round(p * 256)
        self.rng = rng

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.cut == 0:
            return x
        drawn = np.frombuffer(self.rng.bytes(x.numel()), dtype=np.uint8).copy()
        keep = torch.from_numpy(drawn).view(x.shape) >= self.cut
        return x * (keep.to(x.dtype) * (256 / (256 - self.cut)))


def install(network: nn.Module, p: float, rng: np.random.Generator) -> None:
    """Replace every nn.Dropout: attention probabilities are not dropped, all else at rate ``p``."""
    for path, module in list(network.named_modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout):
                rate = 0.0 if path.endswith("attention.self") else p
                setattr(module, name, ByteDropout(rate, rng))
