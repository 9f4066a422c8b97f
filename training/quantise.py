"""Stage of the export: an encoder's products in 8 bits, with scales fixed beforehand.

Scales of the activations are found on training texts, so that an answer does not depend on what else is in
its batch (scales measured while answering would), and large activations are first divided out of the
inputs into the weights. Source: Xiao et al. 2023, "SmoothQuant"; done by NNCF. The graph stays plain ONNX:
float products between QuantizeLinear and DequantizeLinear, which OpenVINO runs as 8-bit ones.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import onnx

from training.errors import TrainingError

__all__ = ["SAMPLE", "quantised"]

SAMPLE = 320  # training texts; the scales of the shipped model hardly moved from 200 on


def quantised(plain: Path, target: Path, sample: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Write the graph ``plain`` with int8 products to ``target``; ``sample`` are inputs to set the scales by.

    Raises TrainingError without any.
    """
    if not sample:
        raise TrainingError("quantise: expected some training texts to set the scales by, got none")
    with _quietly():
        import nncf  # takes a second, and only exports need it

        made = nncf.quantize(
            onnx.load(str(plain)),
            nncf.Dataset(list(sample)),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(sample),
        )
    onnx.save(made, str(target))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without NNCF's bars and remarks: it has three stages of a few seconds."""
    logger = logging.getLogger("nncf")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
