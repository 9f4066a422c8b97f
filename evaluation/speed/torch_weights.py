"""A model folder's encoder for transformers, in a process of its own (it needs torch).

``python -m evaluation.speed.torch_weights build MODEL_FOLDER TARGET`` writes config, weights and tokenizer;
``… answer MODEL_FOLDER TARGET TEXTS.json LOGITS.npy`` answers texts with them.

Nothing is written before showing that they are the same model: first the
graph of encoder.onnx with float products against torch (the same arithmetic: hardly any difference is
allowed), then encoder.onnx itself (8-bit activations: a small one). A mismatch is an error.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from transformers import PreTrainedTokenizerFast

from classifier.encoder import EncoderPart, load_encoder
from classifier.folder import EncoderWindow, ModelFolder, open_folder
from classifier.lexical import head_slices
from data.cleaning import prepare
from evaluation.errors import EvaluationError, WeightsDiffer
from evaluation.speed.graph import EncoderGraph, read_graph
from evaluation.speed.texts import sample_texts
from evaluation.speed.torch_model import EncoderConfig, EncoderForClassification

__all__ = ["AGREEMENT", "Agreement", "build"]

AGREEMENT = "agreement.json"
CHECKED = 64  # texts
EXACT = 1e-3  # logits; float against float, another order of summation
ROUNDED = 0.25  # root mean square difference of 8-bit logits by their standard deviation
HEAD_SIZES = (64, 32, 128, 16, 8, 96, 256)  # usual ones first; the graph has it in the shape of a reshape

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How far apart the logits are: at most (floats), and on the mean as a share of their spread (8 bits).

    ``same_best``: share of texts and heads with the same likeliest label in 8 bits.
    """

    texts: int
    float_most: float
    eight_bit_mean: float
    same_best: float


def build(source: Path, target: Path) -> Agreement:
    """Write the transformers model. Raises WeightsDiffer when it is not shown to be the same."""
    folder = open_folder(source)
    window = folder.manifest.window
    if window is None:
        raise WeightsDiffer(f"{source}: expected a model with an encoder, this one has a lexical part alone")
    graph = read_graph(source / "encoder.onnx")
    part = load_encoder(source, window, threads=1)
    texts = [prepare(text).text for text in sample_texts()[:CHECKED]]
    expected = EncoderPart(_session(graph), part.tokenizer, window).run(texts)[0]
    model, most = _closest(folder, graph, part, texts, expected)
    agreement = _compared(folder, most, expected, part.run(texts)[0])
    model.save_pretrained(target)
    _tokenizer(source, window).save_pretrained(target)
    (target / AGREEMENT).write_text(json.dumps(asdict(agreement)), encoding="utf-8")
    return agreement


def _session(graph: EncoderGraph) -> Any:
    return onnxruntime.InferenceSession(graph.plain.SerializeToString(), providers=["CPUExecutionProvider"])


def _closest(
    folder: ModelFolder, graph: EncoderGraph, part: EncoderPart, texts: Sequence[str], expected: Array
) -> tuple[EncoderForClassification, float]:
    """The model whose number of attention heads gives the graph's logits, and the largest difference."""
    hidden = len(graph.state["encoder.embeddings.LayerNorm.bias"])
    tried: dict[int, float] = {}
    for size in (size for size in HEAD_SIZES if hidden % size == 0):
        model = EncoderForClassification(_config(folder, graph, hidden // size))
        model.train(False)
        _fill(model, graph.state)
        tried[size] = float(np.abs(_logits(model, part, texts) - expected).max())
        if tried[size] <= EXACT:
            return model, tried[size]
    raise WeightsDiffer(
        f"{folder.path}: expected logits of the rebuilt torch model within {EXACT} of encoder.onnx with "
        f"float products, got differences of {tried} by size of attention head; the graph is no BERT as "
        "training/export.py writes it, so nothing is compared"
    )


def _config(folder: ModelFolder, graph: EncoderGraph, heads: int) -> EncoderConfig:
    state, window = graph.state, folder.manifest.window
    assert window is not None
    table = "encoder.embeddings.{}_embeddings.weight"
    layers = {int(found[1]) for name in state if (found := re.search(r"\.layer\.(\d+)\.", name))}
    bert = {
        "vocab_size": len(state[table.format("word")]),
        "hidden_size": state[table.format("word")].shape[1],
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "intermediate_size": len(state["encoder.encoder.layer.0.intermediate.dense.bias"]),
        "max_position_embeddings": len(state[table.format("position")]),
        "type_vocab_size": len(state[table.format("token_type")]),
        "layer_norm_eps": graph.epsilon,
        "hidden_act": "gelu",
        "pad_token_id": window.pad_id,
    }
    names = [f"{head}:{code}" for head, codes in folder.manifest.heads.items() for code in codes]
    labels = dict(enumerate(names))
    return EncoderConfig(
        bert, window.prompt, window.pooling, id2label=labels, label2id={name: i for i, name in labels.items()}
    )


def _fill(model: torch.nn.Module, state: Mapping[str, Array]) -> None:
    found = model.load_state_dict(
        {name: torch.from_numpy(value) for name, value in state.items()}, strict=False
    )
    missing = [name for name in found.missing_keys if not name.endswith(("position_ids", "token_type_ids"))]
    if missing or found.unexpected_keys:
        raise WeightsDiffer(
            f"encoder.onnx: expected every weight of a BERT with one linear head; missing {missing[:3]}, "
            f"left over {found.unexpected_keys[:3]}"
        )


def _logits(model: EncoderForClassification, part: EncoderPart, texts: Sequence[str]) -> Array:
    """Through the same tokenizer, windows and batches as the exported encoder."""
    return EncoderPart(_AsSession(model), part.tokenizer, part.window).run(texts)[0]


class _AsSession:
    """A torch model behind the two arguments of an ONNX session."""

    def __init__(self, model: EncoderForClassification) -> None:
        self.model = model

    def run(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[np.int64]]) -> list[Array]:
        with torch.inference_mode():
            given = [torch.from_numpy(inputs[name]) for name in ("ids", "mask")]
            logits: Array = self.model(*given).logits.numpy()
        return [logits, logits[:, :1]]


def _compared(folder: ModelFolder, most: float, exact: Array, served: Array) -> Agreement:
    mean = float(np.sqrt(((served - exact) ** 2).mean()) / exact.std())
    if mean > ROUNDED:
        raise WeightsDiffer(
            f"{folder.path}: expected encoder.onnx within {ROUNDED:.0%} of the same weights as floats (root "
            f"mean square by spread of the logits), got {mean:.1%}: this machine multiplies 8-bit numbers "
            "wrongly, or the graph holds other weights than it uses"
        )
    slices = head_slices([(name, len(codes)) for name, codes in folder.manifest.heads.items()]).values()
    same = [exact[:, piece].argmax(1) == served[:, piece].argmax(1) for piece in slices]
    return Agreement(len(exact), most, mean, float(np.mean(same)))


def _tokenizer(source: Path, window: EncoderWindow) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(source / "tokenizer.json"),
        model_max_length=window.head_tokens + window.tail_tokens,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(window.pad_id)
    return tokenizer


def answer(model: Path, torch_folder: Path, texts: Sequence[str]) -> Array:
    """Logits [texts, outputs] of the float model for prepared texts, windowed as the service does."""
    window = open_folder(model, verify=False).manifest.window
    assert window is not None
    part = load_encoder(model, window, threads=1)
    loaded = EncoderForClassification.from_pretrained(torch_folder, dtype=torch.float32)
    pieces = [_logits(loaded, part, texts[i : i + 64]) for i in range(0, len(texts), 64)]
    return np.concatenate(pieces)


def _main(task: str, model: str, target: str, *files: str) -> None:
    if task == "build":
        build(Path(model), Path(target))
    else:
        texts = json.loads(Path(files[0]).read_text(encoding="utf-8"))
        np.save(files[1], answer(Path(model), Path(target), texts))


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except EvaluationError as error:
        sys.exit(f"error: {error}")
