"""Weights of an earlier run as a start: the same encoder, or a shallower one made of some of its layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from classifier.network import Network
from training.errors import ConfigError

__all__ = ["go_on_from", "layers_in", "thinned"]

_LAYER = re.compile(r"(encoder\.encoder\.layer\.)(\d+)(\..+)")

Weights = Mapping[str, torch.Tensor]


def go_on_from(network: Network, file: Path) -> int:
    """Load an earlier run's encoder, and its heads of the same name and size; gives how many of these.

    Raises ConfigError where there are no weights or those of another encoder.
    """
    if not file.exists():
        raise ConfigError(
            f"encoder.start: expected the weights of a finished run, found no {file}; fit that run first"
        )
    ours = network.state_dict()
    theirs = thinned(load_file(file), layers_in(ours))
    fitting = {name: value for name, value in theirs.items()
               if name in ours and value.shape == ours[name].shape}  # fmt: skip
    missing = [name for name in ours if name.startswith("encoder.") and name not in fitting]
    if missing:
        raise ConfigError(
            f"encoder.start: expected an encoder of the same base and vocabulary with as many layers or more "
            f"in {file}, found {len(missing)} weights missing or of another size, the first {missing[0]}"
        )
    network.load_state_dict(fitting, strict=False)
    return sum(name.endswith(".weight") and name.startswith("heads.") for name in fitting)


def layers_in(weights: Weights) -> int:
    """How many layers an encoder's weights hold."""
    return len({found[2] for name in weights if (found := _LAYER.match(name))})


def thinned(weights: Weights, layers: int) -> dict[str, torch.Tensor]:
    """The weights with ``layers`` of their layers: the first, the last, and the others evenly between."""
    have = layers_in(weights)
    if layers >= have:
        return dict(weights)
    step = (have - 1) / max(1, layers - 1)
    place = {round(at * step): at for at in range(layers)}
    kept: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        found = _LAYER.match(name)
        if found is None:
            kept[name] = value
        elif int(found[2]) in place:
            kept[f"{found[1]}{place[int(found[2])]}{found[3]}"] = value
    return kept
