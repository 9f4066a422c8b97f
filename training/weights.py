"""Weights to go on from: the champion's, for the heads that a challenger will have.

The run that made the champion has them in full precision. Where it is gone, they are read back from the
exported graph, int8 weights dequantised: within half a step of quantisation, and fine-tuning goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from classifier.folder import ModelFolder
from evaluation.errors import WeightsDiffer
from evaluation.speed.graph import read_graph
from training.errors import ConfigError

__all__ = ["champion_weights", "for_heads", "from_onnx", "run_of"]

F32 = npt.NDArray[np.float32]
Weights = dict[str, F32]
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
        found = dict(read_graph(path).state)
    except WeightsDiffer as error:
        raise ConfigError(
            f"{error}; the champion's weights can't be read back, give the run that made it (--runs)"
        ) from error
    return found | _split_heads(found.pop("head.weight"), found.pop("head.bias"), heads)


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
