"""The plain way: FastAPI and transformers' pipeline, 32-bit floats, one request at a time.

``python -m evaluation.speed.plain_server FOLDER PORT THREADS``. The route is async and the pipeline runs
in it: one request at a time without a lock, and without the hop to a thread that would cost it time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

from evaluation.speed.torch_model import BEST, Loaded

__all__ = ["create_app"]


class Text(BaseModel):
    """One text."""

    text: str


def create_app(folder: Path, threads: int) -> FastAPI:
    """The application with the model loaded."""
    loaded = Loaded(folder, threads)
    # The logits as they are: a softmax over all heads' labels at once would mean nothing.
    classify = pipeline(
        "text-classification",
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        function_to_apply="none",
        top_k=BEST,
        truncation=True,
        device="cpu",
    )
    app = FastAPI()

    @app.get("/ready")
    async def ready() -> bool:
        return True

    @app.post("/classify")
    async def answer(asked: Text) -> Any:
        return classify(loaded.prompt + asked.text)

    return app


if __name__ == "__main__":
    app = create_app(Path(sys.argv[1]), int(sys.argv[3]))
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
