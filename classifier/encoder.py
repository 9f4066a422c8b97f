"""The encoder part: tokenizer and ONNX graph, in length-sorted batches, run by OpenVINO. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from classifier.errors import ModelError
from classifier.folder import EncoderWindow
from classifier.packing import laid_out
from classifier.session import Session

__all__ = ["EncoderPart", "Tokens", "load_encoder", "padded_length", "window_ids"]

F32 = npt.NDArray[np.float32]
MAX_CHARS = 6_000
BATCH_TOKENS = 1024  # padded; what is fixed for a batch no longer counts then
# Padded rows are a multiple of this many tokens long: the runtime makes code for every shape anew and keeps
# it. A shape for every length would cost a third of the time and hundreds of MB.
LENGTH_STEP = 16


def padded_length(tokens: int) -> int:
    """The tokens that a text of so many takes in a batch of its own."""
    return -(-tokens // LENGTH_STEP) * LENGTH_STEP


def window_ids(tokenizer: Tokenizer, window: EncoderWindow, text: str) -> list[int]:
    """Token ids of a text: all of them, or its first and last ones when it is longer than the window.

    The end of a letter often holds the request itself, so it is never the part that is lost.
    """
    if len(text) > MAX_CHARS:  # far outside any window: spare the tokenizer the middle
        text = text[: MAX_CHARS // 2] + text[-MAX_CHARS // 2 :]
    # The quick way leaves out what nobody asks for: where in the text each token stands.
    ids: list[int] = tokenizer.encode_batch_fast([window.prompt + text])[0].ids
    if len(ids) <= window.head_tokens + window.tail_tokens:
        return ids
    return ids[: window.head_tokens] + ids[len(ids) - window.tail_tokens :]


@dataclass(frozen=True, eq=False)
class Tokens:
    """A text as one encoder sees it: the ids within its window, and whose tokenizer made them."""

    ids: list[int]
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class EncoderPart:
    """Runs the exported encoder. Safe to call from several threads, as its ``session`` is.

    ``session.run(outputs, inputs)`` gives the named outputs of a graph; ``packs`` says whether it takes the
    texts laid end to end (classifier.packing) or as padded rows.
    """

    session: Any
    tokenizer: Tokenizer
    window: EncoderWindow
    packs: bool = False

    def tokenise(self, text: str) -> Tokens:
        """The text's ids within the window, to be handed to ``run``."""
        return Tokens(window_ids(self.tokenizer, self.window, text), self.tokenizer)

    def run(self, texts: Sequence[str], tokens: Sequence[Tokens | None] | None = None) -> tuple[F32, F32]:
        """Logits [texts, outputs] and embeddings [texts, hidden], in the order given.

        ``tokens`` spares tokenising; those of another model (the champion changed meanwhile) don't count.
        """
        given = tokens if tokens is not None else [None] * len(texts)
        ids = [self._ids(text, each) for text, each in zip(texts, given, strict=True)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        done = [self._batch([ids[i] for i in some]) for some in _batches(order, ids)]
        logits, embeddings = (np.concatenate(parts) for parts in zip(*done, strict=True))
        back = np.argsort(np.array(order))
        return logits[back], embeddings[back]

    def _ids(self, text: str, tokens: Tokens | None) -> list[int]:
        if tokens is not None and tokens.tokenizer is self.tokenizer:
            return tokens.ids
        return window_ids(self.tokenizer, self.window, text)

    def _batch(self, ids: list[list[int]]) -> tuple[F32, F32]:
        given = laid_out(ids, self.window.pad_id) if self.packs else _padded(ids, self.window.pad_id)
        logits, embedding = self.session.run(["logits", "pooled"], given)
        return logits, embedding


def _padded(texts: list[list[int]], padding: int) -> dict[str, npt.NDArray[np.int64]]:
    """``ids`` and ``mask`` [texts, longest]."""
    ids = np.full((len(texts), padded_length(max(map(len, texts)))), padding, np.int64)
    mask = np.zeros_like(ids)
    for row, some in enumerate(texts):
        ids[row, : len(some)] = some
        mask[row, : len(some)] = 1
    return {"ids": ids, "mask": mask}


def _batches(order: list[int], ids: list[list[int]]) -> list[list[int]]:
    """Cut the length-sorted order so that no batch holds more than BATCH_TOKENS padded tokens."""
    batches: list[list[int]] = [[]]
    for i in order:
        if batches[-1] and (len(batches[-1]) + 1) * padded_length(len(ids[i])) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(i)
    return batches


def load_encoder(folder: Path, window: EncoderWindow, threads: int, at_once: int = 1) -> EncoderPart:
    """Open encoder.onnx and tokenizer.json of a model folder. Raises ModelError when either can't be used.

    ``at_once`` batches run side by side, each with ``threads`` for one matrix product; more have to wait.
    """
    try:
        session = Session(folder / "encoder.onnx", threads, at_once)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # both libraries raise their own bare Exception subclasses
        raise ModelError(f"{folder}: encoder.onnx or tokenizer.json can't be loaded: {error}") from error
    return EncoderPart(session, tokenizer, window, session.packs)
