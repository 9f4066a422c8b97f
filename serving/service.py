"""What lives as long as the process: model, database, queue; each heals without a restart."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from zoneinfo import ZoneInfo

from data.errors import StoreError
from data.store import Store
from serving.batcher import Batcher, Limits
from serving.errors import ModelNotReady, StoreNotReady
from serving.logs import log
from serving.metrics import Metrics
from serving.models import Model
from serving.settings import Settings

__all__ = ["Service"]

T = TypeVar("T")
THREADS = 4  # for the rules of long texts and for the database; the model has its own


class Service:
    """One per application. `problems` says why a part does not work; empty when all do."""

    def __init__(self, settings: Settings, metrics: Metrics, load: Callable[[Settings], Model]) -> None:
        self.settings, self.metrics = settings, metrics
        self.zone = ZoneInfo(settings.timezone)
        self.problems: dict[str, str] = {"model": "not loaded yet", "store": "not opened yet"}
        self._load = load
        self._model: Model | None = None
        self._store: Store | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="work")
        self._healer: asyncio.Task[None] | None = None
        self.batcher = Batcher(self.model, _limits(settings), metrics)

    async def start(self) -> None:
        """Load the model and open the database, as far as they can be; then begin to answer."""
        await asyncio.gather(self.run(self._try_model), self.run(self._try_store))
        self.batcher.start()
        self._healer = asyncio.create_task(self._heal())

    async def stop(self) -> None:
        """Answer what was accepted, then let go of everything."""
        if self._healer:
            self._healer.cancel()
        await self.batcher.stop(self.settings.grace_seconds)
        self._threads.shutdown(wait=True)
        if self._store:
            self._store.close()

    def model(self) -> Model:
        """The model that answers now. Raises ModelNotReady."""
        if self._model is None:
            raise ModelNotReady("模型尚未就绪", self.problems.get("model", ""))
        return self._model

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Do blocking work in a thread, with the request's id still known to the log."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, work, *args)

    async def in_store(self, work: Callable[[Store], T]) -> T:
        """Do something with the database in a thread. Raises StoreNotReady."""
        if self._store is None or "store" in self.problems:
            raise StoreNotReady("数据库尚未就绪", self.problems.get("store", ""))
        try:
            return await self.run(work, self._store)
        except StoreError as error:
            self._note("store", str(error))
            raise StoreNotReady("数据库暂时不可用", str(error)) from error

    async def check(self) -> dict[str, str]:
        """What does not work right now, by part; asks the database."""
        if "store" not in self.problems:
            with suppress(StoreNotReady):  # noted in `problems`
                await self.in_store(Store.check)
        return dict(self.problems)

    async def _heal(self) -> None:
        while True:
            await asyncio.sleep(self.settings.heal_seconds)
            if "model" in self.problems:
                await self.run(self._try_model)
            if "store" in self.problems:
                await self.run(self._try_store)

    def _try_model(self) -> None:
        try:
            self._model = self._load(self.settings)
        except Exception as error:  # whatever a damaged folder makes a library say: it is told on /readyz
            self._note("model", f"{type(error).__name__}: {error}")
        else:
            self._works("model", version=self._model.version)
            self.metrics.model.info({"version": self._model.version, "scheme": self._model.scheme.version})

    def _try_store(self) -> None:
        try:
            self._store = self._store or Store.open(self.settings.database_url)
            self._store.migrate()
            self._store.check()
        except StoreError as error:
            self._note("store", str(error))
        else:
            self._works("store")

    def _note(self, part: str, problem: str) -> None:
        if self.problems.get(part) != problem:
            log("not_ready", logging.ERROR, part=part, problem=problem[:500])
        self.problems[part] = problem
        self.metrics.ready.labels(part).set(0)

    def _works(self, part: str, version: str = "") -> None:
        self.problems.pop(part, None)
        self.metrics.ready.labels(part).set(1)
        log("ready", part=part, version=version)


def _limits(settings: Settings) -> Limits:
    return Limits(
        batch_texts=settings.batch_texts,
        batch_chars=settings.batch_chars,
        queue_texts=settings.queue_texts,
        queue_chars=settings.queue_chars,
        workers=settings.model_workers,
    )
