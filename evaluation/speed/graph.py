"""The weights of an exported encoder as 32-bit floats, read from its ONNX graph.

Quantisation (training/export.py) renames weights and keeps biases, so a weight is found by its bias:
``X.bias`` is added to a matrix product, and the product's constant is ``X.weight``. The 8-bit weights
are exact multiples of their scales, so nothing is lost in this direction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from evaluation.errors import WeightsDiffer

__all__ = ["EncoderGraph", "Product", "read_graph"]

Array = npt.NDArray[Any]
PREFIX = "encoder."
EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")


@dataclass(frozen=True)
class Product:
    """One product with a constant matrix [inner, outer]: name of its weight, and whether in 8 bits."""

    weight: str
    inner: int
    outer: int
    eight_bits: bool

    @property
    def operations(self) -> int:
        """Multiplications and additions for one row."""
        return 2 * self.inner * self.outer


class EncoderGraph:
    """An encoder.onnx, quantised or not; raises WeightsDiffer where it is no BERT with one linear head."""

    def __init__(self, model: Any) -> None:
        self.plain = model
        self._eight_bits = _dequantised(model)

    @cached_property
    def constants(self) -> dict[str, Array]:
        """Constants of the graph without 8-bit products, by name."""
        return {item.name: numpy_helper.to_array(item) for item in self.plain.graph.initializer}

    @cached_property
    def products(self) -> list[Product]:
        """All products with constant weights, in the order in which they run."""
        found = [(name, self._weight(name)) for name in self.constants if name.endswith(".bias")]
        return [
            Product(f"{name[:-5]}.weight", len(made[1]), made[1].shape[1], made[0] in self._eight_bits)
            for name, made in found
            if made is not None
        ]

    @cached_property
    def state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Weights by the names that torch gives them: ``encoder.…`` of a BertModel, and ``head.…``."""
        state = {
            name: value.astype(np.float32)
            for name, value in self.constants.items()
            if name.endswith((".bias", "LayerNorm.weight"))
        }
        for name in list(state):
            if name.endswith(".bias") and (made := self._weight(name)) is not None:
                state[f"{name[:-5]}.weight"] = np.ascontiguousarray(made[1].T, np.float32)
        for name in EMBEDDINGS:
            full = f"{PREFIX}embeddings.{name}.weight"
            state[full] = self._table(full)
        return state

    @property
    def epsilon(self) -> float:
        """Of the layer normalisations."""
        found = {a.f for n in self._of("LayerNormalization") for a in n.attribute if a.name == "epsilon"}
        if len(found) != 1:
            raise WeightsDiffer(f"encoder.onnx: expected one epsilon of LayerNormalization, got {found}")
        return float(found.pop())

    def _of(self, kind: str) -> Iterable[Any]:
        return (node for node in self.plain.graph.node if node.op_type == kind)

    @cached_property
    def _products_by_output(self) -> dict[str, Any]:
        return {node.output[0]: node for node in self._of("MatMul")}

    @cached_property
    def _added(self) -> dict[str, Any]:
        """Which node adds a constant."""
        return {name: node for kind in ("Add", "Gemm") for node in self._of(kind) for name in node.input}

    def _weight(self, bias: str) -> tuple[str, Array] | None:
        """Name and value [inner, outer] of the constant multiplied before this bias is added."""
        node = self._added.get(bias)
        if node is None:
            return None
        if node.op_type == "Gemm":
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            value = self.constants[node.input[1]]
            return node.input[1], value.T if turned else value
        for name in node.input:
            product = self._products_by_output.get(name)
            if product is not None and product.input[1] in self.constants:
                return product.input[1], self.constants[product.input[1]]
        return None

    def _table(self, name: str) -> npt.NDArray[np.float32]:
        if name in self.constants:
            return self.constants[name].astype(np.float32)
        parts = [self.constants.get(f"{name}_{part}") for part in ("quantized", "zero_point", "scale")]
        if parts[0] is None or parts[1] is None or parts[2] is None:
            raise WeightsDiffer(
                f"encoder.onnx: expected the constant {name} or its 8-bit form; this graph has neither. "
                "The speed comparison rebuilds BERT encoders as this project exports them"
            )
        return _floats(parts[0], parts[1], parts[2])


def read_graph(path: Path) -> EncoderGraph:
    """Read an encoder.onnx. Raises WeightsDiffer when it can't be read."""
    try:
        return EncoderGraph(onnx.load(str(path)))
    except (OSError, ValueError) as error:
        raise WeightsDiffer(f"{path}: expected the encoder of a model folder: {error}") from error


def _floats(values: Array, zero: Array, scale: Array) -> npt.NDArray[np.float32]:
    whole = values.astype(np.int32) - zero.astype(np.int32)
    return whole.astype(np.float32) * scale.astype(np.float32)


def _dequantised(model: Any) -> set[str]:
    """Replace 8-bit products by float ones, in place; returns the names of the weights made float."""
    graph = model.graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    sources = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    made: set[str] = set()
    for node in [node for node in graph.node if node.op_type == "MatMulInteger"]:
        floats, quantised, _, zero = node.input
        scaled = users[users[node.output[0]][0].output[0]][0]  # the product → Cast → Mul by both scales
        weight = quantised.removesuffix("_quantized")
        value = _floats(constants[quantised], constants[zero], constants[f"{weight}_scale"])
        if weight not in made:
            graph.initializer.append(numpy_helper.from_array(value, weight))
            made.add(weight)
        node.op_type = "MatMul"
        output = scaled.output[0]
        scaled.output[0] = f"{output}_unused"
        del node.input[:], node.output[:]
        node.input.extend([sources[floats].input[0], weight])
        node.output.append(output)
    _drop_dead(graph)
    return made


def _drop_dead(graph: Any) -> None:
    """Remove nodes and constants that nothing uses any more."""
    wanted = {item.name for item in graph.output}
    kept = []
    for node in reversed(graph.node):  # nodes are in order: users come after their sources
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [item for item in graph.initializer if item.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(constants)
