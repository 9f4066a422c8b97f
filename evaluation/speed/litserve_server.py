"""LitServe (FastAPI and uvicorn, batching workers) with the same torch model.

Its options come from the environment, as those of mosec_server do, and SPEED_PORT.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from litserve import LitAPI, LitServer

from evaluation.speed.torch_model import Label, Loaded

__all__ = ["EncoderAPI"]


class EncoderAPI(LitAPI):  # type: ignore[misc]  # the package has no types
    """Answers a batch of {"text": …}."""

    def setup(self, device: str) -> None:
        """Load the model, once in each worker."""
        self.loaded = Loaded(Path(os.environ["SPEED_FOLDER"]), int(os.environ["SPEED_THREADS"]))

    def decode_request(self, request: dict[str, str]) -> str:
        """The text of one request."""
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        """Texts are padded by the tokenizer, all at once."""
        return inputs

    def predict(self, x: list[str]) -> list[list[Label]]:
        """The likeliest labels of each text."""
        return self.loaded.best(x)

    def unbatch(self, output: list[list[Label]]) -> list[list[Label]]:
        """One answer per request."""
        return output

    def encode_response(self, output: list[Label]) -> dict[str, Any]:
        """JSON of one answer."""
        return {"labels": output}


if __name__ == "__main__":
    api = EncoderAPI(
        max_batch_size=int(os.environ["SPEED_BATCH"]), batch_timeout=int(os.environ["SPEED_WAIT_MS"]) / 1000
    )
    server = LitServer(
        api, accelerator="cpu", workers_per_device=int(os.environ["SPEED_WORKERS"]), timeout=60
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["SPEED_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
