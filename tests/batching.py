"""Tests against a started batcher with a fake model that can be held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serving.batcher import Batcher, Classified, Limits, Request
from serving.metrics import Metrics
from tests.fakes import FakePredictor, furnish, small_scheme

T = TypeVar("T")


def run(test: Callable[[Batcher], Awaitable[T]], fake: FakePredictor, **limits: float) -> T:
    """Run a test against a started batcher, and stop it afterwards."""
    model = furnish(fake)

    async def wrapped() -> T:
        batcher = Batcher(lambda: model, Limits(**limits), Metrics())  # type: ignore[arg-type]
        batcher.start()
        try:
            return await asyncio.wait_for(test(batcher), 20)
        finally:
            fake.held.set()
            await batcher.stop(5)

    return asyncio.run(wrapped())


def fake(**given: object) -> FakePredictor:
    return FakePredictor(small_scheme(), **given)  # type: ignore[arg-type]


def requests(*texts: str, urgent: bool = False) -> list[Request]:
    return [Request(text, urgent) for text in texts]


async def held(batcher: Batcher, model: FakePredictor) -> asyncio.Task[list[Classified]]:
    """Occupy the model with one text until `model.held` is set."""
    model.held.clear()
    task = asyncio.create_task(batcher.classify(requests("占住")))
    while not model.batches:
        await asyncio.sleep(0.001)
    return task
