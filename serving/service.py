"""What lives as long as the process: model, database, queues; each heals without a restart."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from zoneinfo import ZoneInfo

from data.database import Database
from data.errors import RowRefused, StoreError
from data.store import NewAppeal, Store
from serving.batcher import Batcher, Limits
from serving.bulk.share import BulkShare
from serving.challengers.canary import Canary
from serving.challengers.shadow import Shadow
from serving.champion import Champion
from serving.errors import ServingError, StoreNotReady
from serving.health import Clock, Health
from serving.memory import CorrectionMemory
from serving.metrics import Metrics
from serving.models import Model
from serving.reading import Readers
from serving.scheme_watch import SchemeWatch
from serving.security.sealing import Sealer
from serving.settings import Settings
from serving.writer import Result, Writer

__all__ = ["Service"]

T = TypeVar("T")
THREADS = 4  # for what has no threads of its own, as texts, model, database and healing have
STORE_THREADS = 4  # one that hangs must not take those from /v1/classify
READY_SECONDS = 2.0  # how long /readyz waits for the database


class Service:
    """One per application. `problems` says why a part does not work; empty when all do."""

    def __init__(self, settings: Settings, metrics: Metrics, load: Callable[[Settings], Model]) -> None:
        self.settings, self.metrics = settings, metrics
        self.zone = ZoneInfo(settings.timezone)
        self.health = Health(metrics)
        self._checking: asyncio.Task[dict[str, str]] | None = None
        self.sealer: Sealer | None = None  # set where encrypted originals are kept
        self._champion = Champion(settings, load, self.health, metrics)
        self._clock = Clock(self.health, metrics)
        self._scheme = SchemeWatch(self.health)
        self._database: Database | None = None
        self._readable = False  # a full disk can still be read
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="work")
        self._store_threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._healing_threads = ThreadPoolExecutor(2, thread_name_prefix="heal")
        self.readers = Readers()
        self._healers: list[asyncio.Task[None]] = []
        self.bulk = BulkShare(
            settings.bulk_streams, min(settings.bulk_texts, settings.queue_texts), settings.queue_chars // 4
        )
        metrics.bulk_streams.set_function(lambda: self.bulk.streams)
        self.memory = CorrectionMemory(settings, metrics)
        self.batcher = Batcher(self.model, _limits(settings), metrics, recall=self.memory.recall)
        self.canary = Canary(settings, load, _limits(settings), self.health, metrics, self.memory.recall)
        self.shadow = Shadow(
            settings, load, self.health, metrics, lambda: self.batcher.idle and self.canary.idle, self.model,
            self.in_database,
        )  # fmt: skip
        self.writer = Writer(self._add_many, settings.queue_rows, metrics)

    @property
    def problems(self) -> dict[str, str]:
        """Why a part does not work, by part."""
        return self.health.problems

    async def start(self) -> None:
        """Load the model and open the database, as far as they can be; then begin to answer."""
        await asyncio.gather(self._aside(self._champion.look), self._aside(self._try_store))
        self._clock.look()
        self.batcher.start()
        self.writer.start()
        self.shadow.start()
        self.memory.start(self._remembering, self.in_database, self.batcher)
        self._healers = [asyncio.create_task(heal()) for heal in (self._heal_model, self._heal_store)]

    async def stop(self) -> None:
        """Answer and store what was accepted, then let go of everything."""
        for healer in self._healers:
            healer.cancel()
        await self.memory.stop()
        await asyncio.gather(
            self.batcher.stop(self.settings.grace_seconds), self.canary.stop(self.settings.grace_seconds)
        )
        await self.writer.stop(self.settings.grace_seconds)
        await self.shadow.stop()
        self.readers.close()
        for pool in (self._threads, self._store_threads, self._healing_threads):
            pool.shutdown(wait=True, cancel_futures=True)
        if self._database:
            self._database.close()

    def model(self) -> Model:
        """The model that answers now. Raises ModelNotReady."""
        return self._champion.model()

    def _remembering(self) -> list[tuple[str, str]]:
        """Versions that answer, the champion first, each with the scheme to read corrections in."""
        model = self.model()
        versions = dict.fromkeys((model.version, self.canary.version))
        return [(version, model.scheme.version) for version in versions if version]

    async def look_at_versions(self) -> None:
        """Let the versions in that the registry names now; also done every `heal_seconds`."""
        await self._aside(self._look_at_versions)

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Do blocking work in a thread, with the request's id still known to the log."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, work, *args)

    async def in_database(self, work: Callable[[Database], T]) -> T:
        """Do something with the database in a thread. Raises StoreNotReady, or RowRefused from the work.

        Tried while rows cannot be written as well: what is stored can be read from a full disk.
        """
        self._opened()
        try:
            loop, context = asyncio.get_running_loop(), contextvars.copy_context()
            # Looked up in the thread again: those that queued behind one that hung need not try as well.
            return await loop.run_in_executor(
                self._store_threads, context.run, lambda: work(self._opened())
            )
        except RowRefused:  # the database works
            self.metrics.store_errors.labels("refused").inc()
            raise
        except (StoreError, OSError) as error:
            self._readable = False
            raise self._away(error) from error

    async def in_store(self, work: Callable[[Store], T]) -> T:
        """Do something with the stored appeals in a thread. Raises StoreNotReady."""
        return await self.in_database(lambda database: work(Store(database)))

    async def store_answer(self, row: NewAppeal, *, urgent: bool = False) -> Result:
        """Store an appeal with its answer: (what is stored under its id, whether it was us who stored it).

        On disk when this returns. Raises StoreNotReady, Overloaded (never for an urgent one) or Stopping.
        """
        self.must_store()
        try:
            return await self.writer.add(row, urgent=urgent)
        except RowRefused:
            self.metrics.store_errors.labels("refused").inc()
            raise
        except (StoreError, OSError) as error:
            raise self._away(error) from error

    def must_store(self) -> None:
        """Raise StoreNotReady unless rows can be written, so far as is known."""
        if "store" in self.problems:
            raise StoreNotReady("数据库尚未就绪", self.problems["store"])

    async def check(self) -> dict[str, str]:
        """What does not work right now, by part; asks the database, once for all who ask at a time."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return dict(await asyncio.shield(self._checking))

    async def _check(self) -> dict[str, str]:
        late: dict[str, str] = {}
        if "store" not in self.problems:
            try:
                await asyncio.wait_for(self.in_database(Database.check), READY_SECONDS)
            except StoreNotReady:
                pass  # it is in `problems` now
            except TimeoutError:
                late["store"] = f"the database gave no answer within {READY_SECONDS:g} s"
        return late | self.problems

    def _add_many(self, rows: Sequence[NewAppeal]) -> list[Result]:
        self.must_store()
        return Store(self._opened()).add_many(rows)

    def _opened(self) -> Database:
        if self._database is None or not self._readable:
            raise StoreNotReady("数据库尚未就绪", self.problems.get("store", ""))
        return self._database

    def _away(self, error: StoreError | OSError) -> StoreNotReady:
        self.health.bad("store", str(error))
        self.metrics.store_errors.labels("away").inc()
        return StoreNotReady("数据库暂时不可用", str(error))

    async def _aside(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._healing_threads, work)

    async def _heal_model(self) -> None:
        while True:
            await asyncio.sleep(self.settings.heal_seconds)
            self._clock.look()
            await self._aside(self._look_at_versions)

    def _look_at_versions(self) -> None:
        self._champion.look()
        self.canary.look()
        self.shadow.look()
        with suppress(ServingError, StoreError):  # no model or no database: told already, looked at again
            self._scheme.look(self.model(), self._opened())

    async def _heal_store(self) -> None:
        while True:
            await asyncio.sleep(self.settings.heal_seconds)
            if "store" in self.problems:
                await self._aside(self._try_store)

    def _try_store(self) -> None:
        try:
            self._database = self._database or Database.open(self.settings.database_url)
            self._database.migrate()
            self._database.check()
            self._database.prove()
        except Exception as error:  # whatever a broken disk or driver says: it is told on /readyz
            told = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
            self._readable = self._can_be_read()
            self.health.bad("store", told)
        else:
            self._readable = True
            self.health.good("store")

    def _can_be_read(self) -> bool:
        if self._database is None:
            return False
        try:
            self._database.check()
        except StoreError:
            return False
        return True


def _limits(settings: Settings) -> Limits:
    return Limits(
        batch_texts=settings.batch_texts,
        batch_tokens=settings.batch_tokens,
        batch_seconds=settings.batch_seconds,
        queue_texts=settings.queue_texts,
        queue_chars=settings.queue_chars,
        answer_seconds=settings.answer_seconds,
        workers=settings.workers,
    )
