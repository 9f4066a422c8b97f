"""The weights of an exported encoder as 32-bit floats, read from its ONNX graph.

Quantisation (training/quantise.py) renames weights and keeps biases, so a weight is found by its bias:
``X.bias`` is added to a matrix product, and the product's constant is ``X.weight``. The 8-bit weights
are exact multiples of their scales, so nothing is lost in this direction. What was multiplied into an
activation, and divided out of the weights, to ease quantisation goes back into the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from evaluation.errors import WeightsDiffer

__all__ = ["EncoderGraph", "Product", "read_graph"]

Array = npt.NDArray[Any]
PREFIX = "encoder."
EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")
_QUANTISED = re.compile(r"q_output_(.+)_\d+")  # how the quantiser names what it made of a constant


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
        self._eight_bits = _floated(model)

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
        if name not in self.constants:
            raise WeightsDiffer(
                f"encoder.onnx: expected the constant {name}, as floats or in 8 bits, found neither. "
                "Weights are read back from BERT encoders as this project exports them"
            )
        return self.constants[name].astype(np.float32)


def read_graph(path: Path) -> EncoderGraph:
    """Read an encoder.onnx. Raises WeightsDiffer when it can't be read."""
    try:
        return EncoderGraph(onnx.load(str(path)))
    except (OSError, ValueError, DecodeError) as error:
        raise WeightsDiffer(f"{path}: expected the encoder of a model folder: {error}") from error


def _floated(model: Any) -> set[str]:
    """Make a graph of 8-bit products one of floats, in place; the names of the constants made float.

    Raises WeightsDiffer for products in 8 bits of another kind than the export writes.
    """
    graph = model.graph
    strange = sorted({node.op_type for node in graph.node} & {"MatMulInteger", "QLinearMatMul"})
    if strange:
        raise WeightsDiffer(
            f"encoder.onnx: expected (De)QuantizeLinear around float products, got {strange}; "
            "export the model again"
        )
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    sources = {name: node for node in graph.node for name in node.output}
    undone, tables = _undone(graph.node, constants, sources)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = undone.get(name, name)
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in tables:
            _take_back(node, sources.get(node.input[0]), constants, tables)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tables.items())
    _drop_dead(graph)
    return set(tables)


def _undone(
    nodes: Iterable[Any], constants: Mapping[str, Array], sources: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, Array]]:
    """What each DequantizeLinear's output stands for, and the float constants among these, by name."""
    undone: dict[str, str] = {}
    tables: dict[str, Array] = {}
    for node in nodes:
        if node.op_type != "DequantizeLinear":
            continue
        source = node.input[0]
        if source not in constants:
            undone[node.output[0]] = sources[source].input[0]
            continue
        found = _QUANTISED.fullmatch(source)
        name = undone[node.output[0]] = found[1] if found else f"{source}_floats"
        axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
        tables[name] = _floats(constants[source], constants[node.input[1]], constants[node.input[2]], axis)
    return undone, tables


def _floats(values: Array, scale: Array, zero: Array, axis: int) -> npt.NDArray[np.float32]:
    """(value − zero point) · scale, per tensor or along an axis."""
    shape = [1] * values.ndim
    if scale.ndim:
        shape[axis] = -1
    whole = values.astype(np.int32) - zero.astype(np.int32).reshape(shape)
    result: npt.NDArray[np.float32] = whole.astype(np.float32) * scale.astype(np.float32).reshape(shape)
    return result


def _take_back(
    product: Any, before: Any, constants: Mapping[str, Array], tables: dict[str, Array]
) -> None:
    """Multiply into a product's weight what its input was multiplied by before it was quantised."""
    if before is None or before.op_type != "Mul" or before.input[1] not in constants:
        return
    factor = constants[before.input[1]].reshape(-1)
    turned = any(one.name == "transB" and one.i for one in product.attribute)
    name = product.input[1]
    if len(factor) == tables[name].shape[1 if turned else 0]:
        tables[name] = tables[name] * (factor[None, :] if turned else factor[:, None])
        product.input[0] = before.input[0]


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
