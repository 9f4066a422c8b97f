"""An exported encoder, compiled for this machine's processor by OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from classifier.packing import packed

__all__ = ["Session"]


class Session:
    """A compiled graph. Safe to call from several threads: ``at_once`` run side by side, more have to wait.

    Each has ``threads`` for one matrix product. ``packs``: it takes texts as ``classifier.packing.laid_out``
    gives them, not as padded rows.
    """

    def __init__(self, file: Path, threads: int, at_once: int = 1) -> None:
        options = {
            "INFERENCE_NUM_THREADS": threads * at_once,
            "NUM_STREAMS": at_once,
            # What the graph leaves in floats stays in 32 bits: bf16 gains nothing beside 8-bit products.
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # the event loop and the database need the cores as well
        }
        core = openvino.Core()
        without_padding = packed(core.read_model(str(file)))
        self.packs = without_padding is not None
        compiled = core.compile_model(without_padding or core.read_model(str(file)), "CPU", options)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(at_once):
            self._idle.put(compiled.create_infer_request())

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[np.float32]]:
        """The named outputs of the graph."""
        request = self._idle.get()
        try:
            found = request.infer(dict(inputs))
            return [found[name] for name in outputs]
        finally:
            self._idle.put(request)
