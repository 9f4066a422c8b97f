"""What this machine can multiply, what one text needs, and so how many texts a second are possible at all.

The rates are measured with ONNX Runtime, whose kernels for a lone product were the fastest here, on as many
threads as there are processors: 8-bit integers as MatMulInteger does them, and 32-bit floats; at the
encoder's own shapes, and at one large shape that any cache-blocked kernel is good at. numpy's own product is
measured as well, so that the 32-bit limit is not that of one library.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from classifier.encoder import window_ids
from classifier.folder import EncoderWindow
from evaluation.speed.contenders import cores
from evaluation.speed.graph import EncoderGraph, Product, read_graph

__all__ = ["Limits", "Rate", "Work", "measure_limits", "work_of"]

LARGE = (2048, 2048, 2048)
READ_OF_ALL = ("attention.self.key.weight", "attention.self.value.weight")
_LAYER = re.compile(r"\.layer\.(\d+)\.")
ROWS = 1024  # tokens of one batch: 32 texts of 32 tokens
REPEATS = 5


@dataclass(frozen=True)
class Rate:
    """Billions of multiplications and additions a second for [rows, inner] × [inner, outer]."""

    rows: int
    inner: int
    outer: int
    eight_bit: float
    float32: float


@dataclass(frozen=True)
class Work:
    """Billions of operations of one text of the mix, on the mean, without padding.

    ``constant``: products with weights (8-bit in our model where ``eight_bits``); ``attention``: products
    of activations (always 32-bit floats). ``tokens`` per text, on the mean.
    """

    tokens: float
    constant: float
    attention: float
    eight_bits: bool


@dataclass(frozen=True)
class Limits:
    """The machine's limits, in texts a second, if nothing but matrix products took time.

    ``as_served``: constant products at the best 8-bit rate (floats for a model that is not quantised) and
    attention in floats; ``floats``: everything in floats. ``own_shapes``: as served, with each product at
    the rate measured for its own shape instead of the best one.
    """

    threads: int
    rates: tuple[Rate, ...]
    work: Work
    as_served: float
    own_shapes: float
    floats: float

    @property
    def eight_bit_peak(self) -> float:
        """Best 8-bit rate measured."""
        return max(rate.eight_bit for rate in self.rates)

    @property
    def float_peak(self) -> float:
        """Best 32-bit rate measured."""
        return max(rate.float32 for rate in self.rates)


def measure_limits(model: Path, window: EncoderWindow, tokenizer: Any, texts: Sequence[str]) -> Limits:
    """Measure this machine, and reckon for texts like these."""
    graph = read_graph(model / "encoder.onnx")
    often = _per_token(graph, window.pooling)
    shapes = sorted({(ROWS, product.inner, product.outer) for product in often})
    rates = tuple(_rate(*shape) for shape in (*shapes, LARGE))
    work = work_of(graph, [len(window_ids(tokenizer, window, text)) for text in texts], window.pooling)
    eight, floats = max(rate.eight_bit for rate in rates), max(rate.float32 for rate in rates)
    served = work.constant / (eight if work.eight_bits else floats) + work.attention / floats
    return Limits(
        threads=cores(),
        rates=rates,
        work=work,
        as_served=1 / served,
        own_shapes=1 / (_own_seconds(often, rates, work) + work.attention / floats),
        floats=floats / (work.constant + work.attention),
    )


def work_of(graph: EncoderGraph, tokens: Sequence[int], pooling: str = "mean") -> Work:
    """Operations of texts with so many tokens.

    Per token every product with a weight: 2 · inner · outer; per text the head, and in every layer
    queries × keys and scores × values: 2 · 2 · tokens² · hidden (each is a product of [tokens, size] by
    [size, tokens] in every attention head; the sizes add up to hidden). A last layer that works for the
    first token alone multiplies once a text, but for its keys and values.
    """
    token = sum(product.operations for product in _per_token(graph, pooling))
    head = sum(product.operations for product in graph.products) - token
    hidden = len(graph.state["head.weight"][0])
    layers = sum(product.weight.endswith("attention.self.query.weight") for product in graph.products)
    mean, square = float(np.mean(tokens)), float(np.mean(np.square(tokens, dtype=np.float64)))
    eight_bits = all(product.eight_bits for product in graph.products)
    whole = layers - 1 if pooling == "first" else layers
    attention = 4 * hidden * (square * whole + mean * (layers - whole))
    return Work(mean, (token * mean + head) / 1e9, attention / 1e9, eight_bits)


def _per_token(graph: EncoderGraph, pooling: str) -> list[Product]:
    kept = [product for product in graph.products if not product.weight.startswith("head.")]
    numbers = [int(found[1]) for one in kept if (found := _LAYER.search(one.weight))]
    if pooling != "first" or not numbers:
        return kept
    last = f".layer.{max(numbers)}."
    return [one for one in kept if last not in one.weight or one.weight.endswith(READ_OF_ALL)]


def _own_seconds(products: Sequence[Product], rates: Sequence[Rate], work: Work) -> float:
    by_shape = {(rate.inner, rate.outer): rate for rate in rates}
    seconds = 0.0
    for product in products:
        rate = by_shape[product.inner, product.outer]
        speed = rate.eight_bit if product.eight_bits else rate.float32
        seconds += work.tokens * product.operations / 1e9 / speed
    return seconds


def _rate(rows: int, inner: int, outer: int) -> Rate:
    random = np.random.default_rng(0)
    left, right = (random.standard_normal(shape, np.float32) for shape in ((rows, inner), (inner, outer)))
    bytes_left = random.integers(0, 255, (rows, inner), np.uint8)
    # Within ±64, as a quantiser for processors without VNNI keeps them: kernels are as fast for all values.
    bytes_right = random.integers(-64, 64, (inner, outer), np.int8)
    operations = 2 * rows * inner * outer / 1e9
    eight = _session("MatMulInteger", right=bytes_right, left=TensorProto.UINT8, result=TensorProto.INT32)
    floats = _session("MatMul", right=right, left=TensorProto.FLOAT, result=TensorProto.FLOAT)
    return Rate(
        rows,
        inner,
        outer,
        operations / _fastest(lambda: eight.run(None, {"left": bytes_left})),
        operations / min(_fastest(lambda: floats.run(None, {"left": left})), _fastest(lambda: left @ right)),
    )


def _session(kind: str, right: Any, left: int, result: int) -> Any:
    node = helper.make_node(kind, ["left", "right"], ["result"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("left", left, ["rows", len(right)])],
        [helper.make_tensor_value_info("result", result, ["rows", right.shape[1]])],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest run: the machine's limit is what it can do, not what it does on the mean."""
    run()
    best, begin = float("inf"), time.perf_counter()
    while True:
        for _ in range(REPEATS):
            start = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - start)
        if time.perf_counter() - begin > 0.3:
            return best
