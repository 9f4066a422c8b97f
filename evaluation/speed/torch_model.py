"""The encoder of a model folder as an ordinary transformers model; for processes that have torch.

One linear layer over the masked mean gives the logits of all heads side by side, as encoder.onnx does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from classifier.network import pool

__all__ = ["BEST", "EncoderConfig", "EncoderForClassification", "Loaded"]

BEST = 5  # labels that every other server answers with, best first
GROUP = 8
Label = dict[str, Any]  # {"label": "category:0101", "score": 3.2}, as transformers' pipeline gives it


class EncoderConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """A BertConfig as a dictionary, the prompt put before every text, and how its vector is made."""

    model_type = "jiesu_encoder"

    def __init__(
        self, bert: dict[str, Any] | None = None, prompt: str = "", pooling: str = "mean", **rest: Any
    ) -> None:
        self.bert = bert or {}
        self.prompt, self.pooling = prompt, pooling
        super().__init__(**rest)


class EncoderForClassification(PreTrainedModel):  # type: ignore[no-untyped-call]
    """BERT without its pooler, the mean of the tokens or the first, one linear layer."""

    config_class = EncoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.encoder = BertModel(BertConfig(**config.bert), add_pooling_layer=False)
        self.head = nn.Linear(int(config.bert["hidden_size"]), int(config.num_labels or 0))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any
    ) -> SequenceClassifierOutput:
        """Logits [texts, outputs] for ids and mask [texts, tokens]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return SequenceClassifierOutput(logits=self.head(pool(states, attention_mask, self.config.pooling)))


class Loaded:
    """Model and tokenizer of a folder that torch_weights wrote; ``threads`` for one matrix product."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        AutoConfig.register(EncoderConfig.model_type, EncoderConfig, exist_ok=True)
        AutoModelForSequenceClassification.register(EncoderConfig, EncoderForClassification, exist_ok=True)
        self.model = EncoderForClassification.from_pretrained(folder, dtype=torch.float32)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.prompt: str = self.model.config.prompt
        self.names: list[str] = list(dict(self.model.config.id2label or {}).values())

    def best(self, texts: Sequence[str]) -> list[list[Label]]:
        """The likeliest labels of each text of a batch.

        Texts of like length together, ``GROUP`` at a time: padded to the longest of 32, an ordinary batch
        would be half padding, and a processor gains nothing from more rows.
        """
        ids = self.tokenizer([self.prompt + text for text in texts], truncation=True)["input_ids"]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        found: dict[int, list[Label]] = {}
        for start in range(0, len(order), GROUP):
            places = order[start : start + GROUP]
            found |= zip(places, self._labels([ids[place] for place in places]), strict=True)
        return [found[place] for place in range(len(ids))]

    def _labels(self, ids: list[list[int]]) -> list[list[Label]]:
        given = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(given["input_ids"], given["attention_mask"]).logits
            scores, places = logits.topk(min(BEST, logits.shape[1]), dim=-1)
        return [
            [{"label": self.names[i], "score": score} for i, score in zip(*pair, strict=True)]
            for pair in zip(places.tolist(), scores.tolist(), strict=True)
        ]
