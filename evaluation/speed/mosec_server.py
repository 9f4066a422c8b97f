"""Mosec (Rust HTTP and batching, Python workers) with the same torch model.

``SPEED_FOLDER=… SPEED_WORKERS=2 SPEED_THREADS=1 SPEED_BATCH=32 SPEED_WAIT_MS=5 MOSEC_PORT=…
python -m evaluation.speed.mosec_server``. It takes its own options from the environment, and so do we:
its workers are new processes that see nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mosec import Server, Worker

from evaluation.speed.torch_model import Loaded

__all__ = ["Encoder"]


class Encoder(Worker):
    """Answers a batch of {"text": …}."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.loaded = Loaded(Path(os.environ["SPEED_FOLDER"]), int(os.environ["SPEED_THREADS"]))

    def forward(self, data: list[dict[str, str]]) -> list[Any]:
        """The likeliest labels of each text."""
        return self.loaded.best([asked["text"] for asked in data])


if __name__ == "__main__":
    server = Server()  # type: ignore[no-untyped-call]
    server.append_worker(
        Encoder,
        num=int(os.environ["SPEED_WORKERS"]),
        max_batch_size=int(os.environ["SPEED_BATCH"]),
        max_wait_time=int(os.environ["SPEED_WAIT_MS"]),
        timeout=60,
    )
    server.run()  # type: ignore[no-untyped-call]
