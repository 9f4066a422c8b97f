"""Weights to go on from: the champion's, for the heads that a challenger will have.

The run that made the champion has them in full precision. Where it is gone, they are read back from the
exported graph, int8 weights dequantised: within half a step of quantisation, and fine-tuning goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from classifier.folder import ModelFolder
from training.errors import ConfigError

__all__ = ["champion_weights", "for_heads", "from_onnx", "run_of"]

F32 = npt.NDArray[np.float32]
Weights = dict[str, F32]
_QUANTISED = "_quantized"
_LONGEST_WAY = 6  # nodes between a product and the sum that adds its bias
_NEW_LABEL = 0.02  # standard deviation of a new label's weights, as of a fresh head's


def champion_weights(
    champion: ModelFolder, runs: Path, heads: Mapping[str, Sequence[str]], target: Path
) -> tuple[Path | None, str]:
    """Write weights to start from to ``target``; where they came from, in words.

    (None, …) for a champion without an encoder. Raises ConfigError when neither source can be read.
    """
    if champion.manifest.window is None:
        return None, "the champion has no encoder: the challenger's starts from the base encoder"
    run = run_of(champion.manifest.version, runs)
    if run is not None:
        weights, source = _read(run / "encoder" / "best.safetensors"), f"{run}, in full precision"
    else:
        weights = from_onnx(champion.path / "encoder.onnx", champion.manifest.heads)
        source = f"{champion.manifest.version}, read back from its exported weights"
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(for_heads(weights, champion.manifest.heads, heads), target)
    return target, source


def run_of(version: str, runs: Path) -> Path | None:
    """The run among ``runs`` that made a model version and still has its weights; None where none is left."""
    for manifest in sorted(runs.glob("*/model/manifest.json")):
        run = manifest.parent.parent
        if (run / "encoder" / "best.safetensors").exists() and _version(manifest) == version:
            return run
    return None


def for_heads(
    weights: Weights, old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]
) -> Weights:
    """The same encoder with heads for other labels: a label that stays keeps its weights, wherever it moves.

    A new label of an old head starts small and as unlikely as the rarest one; a new head is left out, and
    starts afresh.
    """
    found = {name: value for name, value in weights.items() if not name.startswith("heads.")}
    random = np.random.default_rng(0)
    for head, codes in new.items():
        if head not in old:
            continue
        matrix, bias = weights[f"heads.{head}.weight"], weights[f"heads.{head}.bias"]
        place = {code: i for i, code in enumerate(old[head])}
        rows = [place.get(code, -1) for code in codes]
        fresh = random.normal(0, _NEW_LABEL, (len(codes), matrix.shape[1])).astype(np.float32)
        kept = np.array(rows) >= 0
        found[f"heads.{head}.weight"] = np.where(kept[:, None], matrix[rows], fresh)
        found[f"heads.{head}.bias"] = np.where(kept, bias[rows], bias.min()).astype(np.float32)
    return found


def from_onnx(path: Path, heads: Mapping[str, Sequence[str]]) -> Weights:
    """The network's weights by name, from an exported encoder, quantised or not.

    Raises ConfigError when the file cannot be read, or is not an encoder that this project exported.
    """
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's errors have no class in common
        raise ConfigError(f"{path}: expected the champion's exported encoder, got: {error}") from error
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    found = {name: value for name, value in constants.items() if _is_weight(name, value)}
    found |= {name: value.astype(np.float32) for name, value in _embeddings(constants)}
    found |= dict(_products(graph, constants))
    if "head.weight" not in found or "head.bias" not in found:
        raise ConfigError(
            f"{path}: expected an encoder that this project exported, found no weights of its heads; "
            "give the run that made the champion (--runs)"
        )
    return found | _split_heads(found.pop("head.weight"), found.pop("head.bias"), heads)


def _is_weight(name: str, value: npt.NDArray[np.generic]) -> bool:
    named = name.startswith("encoder.") or name == "head.bias"
    return named and value.dtype == np.float32 and not name.endswith(("_scale", "_zero_point"))


def _embeddings(constants: Mapping[str, npt.NDArray[np.generic]]) -> Iterator[tuple[str, F32]]:
    """Quantised tables that keep their names."""
    for name in constants:
        plain = name.removesuffix(_QUANTISED)
        if plain != name and plain.startswith("encoder."):
            yield plain, _dequantised(name, constants)


def _products(
    graph: onnx.GraphProto, constants: Mapping[str, npt.NDArray[np.generic]]
) -> Iterator[tuple[str, F32]]:
    """Matrices that the exporter renamed, by the name of the bias that is added to their product."""
    readers = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type not in ("MatMulInteger", "MatMul", "Gemm") or node.input[1] not in constants:
            continue
        bias = node.input[2] if node.op_type == "Gemm" else _bias(node, readers, constants)
        if bias:
            name = node.input[1]
            quantised = node.op_type == "MatMulInteger"
            matrix = _dequantised(name, constants) if quantised else constants[name].astype(np.float32)
            turned = matrix if _is_turned(node) else matrix.T  # torch keeps [outputs, inputs]
            yield bias.removesuffix("bias") + "weight", np.ascontiguousarray(turned)


def _bias(
    node: onnx.NodeProto,
    readers: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, npt.NDArray[np.generic]],
) -> str:
    for _ in range(_LONGEST_WAY):
        following = readers.get(node.output[0])
        if following is None:
            return ""
        node = following
        named = [name for name in node.input if name in constants and name.endswith(".bias")]
        if node.op_type == "Add" and named:
            return str(named[0])
    return ""


def _is_turned(node: onnx.NodeProto) -> bool:
    return any(one.name == "transB" and one.i == 1 for one in node.attribute)


def _dequantised(name: str, constants: Mapping[str, npt.NDArray[np.generic]]) -> F32:
    """(q − zero point) · scale, per tensor or per output (the last axis)."""
    plain = name.removesuffix(_QUANTISED)
    scale = constants[f"{plain}_scale"].astype(np.float32)
    zero = constants[f"{plain}_zero_point"].astype(np.float32)
    result: F32 = (constants[name].astype(np.float32) - zero) * scale
    return result


def _split_heads(weight: F32, bias: F32, heads: Mapping[str, Sequence[str]]) -> Weights:
    found, at = {}, 0
    for head, codes in heads.items():
        found[f"heads.{head}.weight"] = np.ascontiguousarray(weight[at : at + len(codes)])
        found[f"heads.{head}.bias"] = bias[at : at + len(codes)].copy()
        at += len(codes)
    return found


def _read(path: Path) -> Weights:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{path}: expected the champion's weights, got: {error}; delete the file to read them back "
            "from the exported model"
        ) from error


def _version(manifest: Path) -> str:
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # a folder that a broken run left behind is no champion's
