"""The trainable network: one encoder, one linear head per label column.

Needs torch, so nothing that serves may import it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

__all__ = ["Network", "masked_mean"]


def masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over real tokens: states [batch, tokens, hidden], mask [batch, tokens] → [batch, hidden]."""
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1e-6)


class Network(nn.Module):
    """Encoder, masked mean pooling, dropout, and a linear head for every label column.

    ``sizes`` maps a head to its number of labels. ``forward`` returns one [batch, labels] tensor of
    logits per head, in the order of ``sizes``.
    """

    def __init__(
        self, encoder: nn.Module, hidden: int, sizes: Mapping[str, int], dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, size) for name, size in sizes.items()})
        for head in self.heads.values():
            nn.init.normal_(head.weight, std=0.02)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pooled text vectors [batch, hidden] for token ids and mask, both [batch, tokens]."""
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return masked_mean(states, mask)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = self.dropout(self.embed(ids, mask))
        return {name: head(pooled) for name, head in self.heads.items()}
