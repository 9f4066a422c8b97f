"""The trainable network: one encoder, one linear head per label column.

Needs torch, so nothing that serves may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertLayer

__all__ = ["Network", "masked_mean", "pool"]


def masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over real tokens: states [batch, tokens, hidden], mask [batch, tokens] → [batch, hidden]."""
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1e-6)


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """A text's vector [batch, hidden] of its tokens' [batch, tokens, hidden]: their mean, or the first."""
    return states[:, 0] if pooling == "first" else masked_mean(states, mask)


class _FirstToken(BertLayer):  # type: ignore[no-untyped-call]
    """A last layer that works for the first token alone: it reads all tokens, and is asked about one.

    Five sixths of the layer's products fall away: keys and values are all that the other tokens need.
    """

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> torch.Tensor:
        reader = self.attention.self
        first = hidden_states[:, :1]
        query, keys, values = (
            product(states).unflatten(-1, (reader.num_attention_heads, -1)).transpose(1, 2)
            for product, states in (
                (reader.query, first), (reader.key, hidden_states), (reader.value, hidden_states)
            )
        )  # fmt: skip
        scores = query @ keys.transpose(-1, -2) * reader.attention_head_size**-0.5
        if attention_mask is not None:
            scores = _masked(scores, attention_mask[:, :, :1])
        read = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
        attended: torch.Tensor = self.attention.output(read, first)
        return self.feed_forward_chunk(attended)  # type: ignore[no-any-return,no-untyped-call]


def _masked(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The scores without hidden tokens; masks are what is added, or where it is true what may be seen."""
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores + mask


def _spare_last_layer(encoder: Any) -> None:
    """Let the last layer of a BERT work for the first token alone; other encoders stay as they are."""
    layers = getattr(getattr(encoder, "encoder", None), "layer", None)
    if layers is None or type(layers[-1]) is not BertLayer:
        return
    shorter = _FirstToken(encoder.config, layer_idx=len(layers) - 1)  # type: ignore[no-untyped-call]
    shorter.load_state_dict(layers[-1].state_dict())
    layers[-1] = shorter


class Network(nn.Module):
    """Encoder, pooling (``mean`` or ``first``), dropout, and a linear head for every label column.

    ``sizes`` maps a head to its number of labels. ``forward`` returns one [batch, labels] tensor of
    logits per head, in the order of ``sizes``.
    """

    def __init__(
        self,
        encoder: nn.Module,
        hidden: int,
        sizes: Mapping[str, int],
        dropout: float = 0.1,
        pooling: str = "mean",
    ) -> None:
        super().__init__()
        if pooling == "first":
            _spare_last_layer(encoder)
        self.pooling = pooling
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, size) for name, size in sizes.items()})
        for head in self.heads.values():
            nn.init.normal_(head.weight, std=0.02)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pooled text vectors [batch, hidden] for token ids and mask, both [batch, tokens]."""
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return pool(states, mask, self.pooling)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = self.dropout(self.embed(ids, mask))
        return {name: head(pooled) for name, head in self.heads.items()}
