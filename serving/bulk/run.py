"""`python -m serving bulk`: a history file through the model into the database, group by group."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import orjson

from data.database import Database
from data.errors import ReadError, RowRefused, StoreError
from data.mapping import FileMapping, load_mapping
from data.store import NewAppeal, Store, StoredAnswer
from serving.batcher import nothing_recalled
from serving.bulk.files import Rows, look_at
from serving.bulk.journal import Done, Journal
from serving.bulk.offline import Answerer
from serving.bulk.rows import Outcome, Row, outcomes, store_all
from serving.bulk.watch import Stop, Stopped, Watch, until_signalled
from serving.errors import ServingError
from serving.memory import remembered
from serving.models import Model
from serving.security.sealing import Sealer
from serving.settings import Settings

__all__ = ["Files", "Report", "run"]

T = TypeVar("T")
GROUP_ROWS = 256  # what a kill can cost: the work on so many rows and model worker
GROUP_CHARS = 500_000
PATIENCE = 600.0  # seconds that a database may be away in the middle of a run
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # between two tries; the last one repeats


@dataclass(frozen=True)
class Files:
    """What the command was called with: what to read, how, and where answers and rejects go."""

    file: Path
    out: Path | None = None
    rejects: Path | None = None
    format: str | None = None
    mapping: str | None = None


@dataclass(frozen=True)
class Report:
    """How a run ended. `signal` is the number of the one that stopped it, 0 when all rows are done."""

    done: Done
    rejects: Path
    left_out: int
    rate: float
    signal: int = 0

    def told(self) -> list[str]:
        """What to print at the end."""
        done = self.done
        new = done.answered - done.known
        counts = f"{done.rows:,} rows at {self.rate:.1f} rows/s: {new:,} stored, {done.known:,} known before"
        lines = [f"{counts}, {done.rejected:,} refused, {self.left_out:,} left out by the mapping"]
        if done.rejected:
            lines.append(f"refused rows with their lines and reasons: {self.rejects}")
        if self.signal:
            lines.append("stopped; nothing is lost, and the same command goes on from here")
        return lines

    @property
    def exit_status(self) -> int:
        """0: all stored; 1: some rows were refused; 128 + signal: stopped."""
        return 128 + self.signal if self.signal else int(self.done.rejected > 0)


def run(
    files: Files, settings: Settings, load: Callable[[Settings], Model], patience: float = PATIENCE
) -> Report:
    """Answer and store every row of the file that is not stored yet.

    Raises ReadError for a file that is none of ours, StartError for files in the way, StoreError when
    the database stays away, ModelError or ModelFailed for a model that does not work.
    """
    rejects = files.rejects or files.file.with_name(files.file.name + ".rejects.ndjson")
    mapping = load_mapping(files.mapping) if files.mapping else None
    history = look_at(files.file, files.format)
    if mapping and history.format == "ndjson":
        raise ReadError(f"{files.file}: expected a CSV file for --mapping, got NDJSON")
    rows = Rows(history, mapping)
    store = Store.open(settings.database_url)
    store.migrate()
    journal = Journal(files.out, rejects)
    try:
        with until_signalled() as stop, Watch(history.size) as watch:
            answerer = _answerer(load(settings), settings, stop, store.database)
            work = _Work(rows, store, journal, answerer, watch, stop, patience)
            work.go(_key(history.sha256, history.format, mapping), settings.workers)
            return Report(journal.done, rejects, rows.left_out, watch.rate(journal.done), stop.number)
    finally:
        journal.close()
        store.close()


def _answerer(model: Model, settings: Settings, stop: Stop, database: Database) -> Answerer:
    zone = ZoneInfo(settings.timezone)
    sealer = Sealer.read(settings.originals_key) if settings.originals_key else None
    recall = remembered(model, settings, database) if settings.correction_memory else nothing_recalled
    return Answerer(model, zone, settings.batch_texts, settings.batch_tokens, sealer, stop.check, recall)


def _key(sha256: str, format: str, mapping: FileMapping | None) -> str:
    rules = mapping.model_dump_json() if mapping else ""
    return hashlib.sha256(f"{sha256} {format} {rules}".encode()).hexdigest()


@dataclass(frozen=True)
class _Answered:
    """A group with what was stored before and what is to be stored, by id."""

    rows: Sequence[Row]
    position: int
    known: dict[str, StoredAnswer]
    new: list[NewAppeal]
    failed: dict[str, ServingError]


@dataclass(frozen=True)
class _Work:
    """The parts of a run. Groups are answered in threads, and finished one after the other in order."""

    rows: Rows
    store: Store
    journal: Journal
    answerer: Answerer
    watch: Watch
    stop: Stop
    patience: float

    def go(self, key: str, workers: int) -> None:
        """All groups that are not done; ends early after a signal."""
        try:
            todo = self._begin(key)
            with ThreadPoolExecutor(workers, thread_name_prefix="bulk") as pool:
                try:
                    self._through(pool, todo, workers)
                finally:
                    pool.shutdown(wait=False, cancel_futures=True)
        except Stopped:
            return
        self.journal.finish()

    def _begin(self, key: str) -> Iterator[Row]:
        """Go to where an earlier run stopped: its rows are read again for the ids of those without one."""
        earlier = self.journal.earlier
        stored = earlier is None or not earlier.last_id or self.store.find(earlier.last_id) is not None
        goes_on = self.journal.begin(key, stored)
        done = self.journal.done
        todo = iter(self.rows)
        if goes_on and done.rows:
            self.watch.say(f"going on after {done.rows:,} rows that are done")
        for number, _ in enumerate(islice(todo, done.rows), start=1):
            if number % 1000 == 0:
                self.stop.check()
        self.watch.begin(done, self.rows.position)
        return todo

    def _through(self, pool: ThreadPoolExecutor, todo: Iterator[Row], workers: int) -> None:
        coming: deque[Future[_Answered]] = deque()
        for number, group in enumerate(self._groups(todo)):
            if number == 0 and self.rows.ignored:
                self.watch.say(f"columns that are not ours are left out: {', '.join(self.rows.ignored)}")
            coming.append(pool.submit(self._answer, group, self.rows.position))
            if len(coming) > workers:
                self._finish(coming.popleft().result())
            self.stop.check()
        while coming:
            self._finish(coming.popleft().result())

    def _groups(self, rows: Iterator[Row]) -> Iterator[list[Row]]:
        group: list[Row] = []
        chars = 0
        for row in rows:
            group.append(row)
            chars += len(row.appeal.text) if row.appeal else 0
            if len(group) >= GROUP_ROWS or chars >= GROUP_CHARS:
                yield group
                group, chars = [], 0
        if group:
            yield group

    def _answer(self, group: list[Row], position: int) -> _Answered:
        firsts: dict[str, Row] = {}
        for row in group:
            if row.appeal is not None:
                firsts.setdefault(row.appeal.id, row)
        known = self._patiently(lambda: self.store.find_many(list(firsts)))
        todo = [row for id, row in firsts.items() if id not in known]
        answered = self.answerer.answer(todo)
        failed = {
            str(row.id): one for row, one in zip(todo, answered, strict=True) if isinstance(one, ServingError)
        }
        new = [one for one in answered if isinstance(one, NewAppeal)]
        return _Answered(group, position, known, new, failed)

    def _finish(self, group: _Answered) -> None:
        """Commit, then write, then note: each only when the one before is on disk."""
        self.stop.check()
        stored = self._patiently(lambda: store_all(self.store, group.new))
        known = {id: (one, False) for id, one in group.known.items()}
        told = outcomes(group.rows, {**known, **group.failed, **stored})
        good = [one for one in told if one.error is None]
        bad = [one.told() for one in told if one.error is not None]
        before = self.journal.done
        done = replace(
            before,
            rows=before.rows + len(told),
            answered=before.answered + len(good),
            known=before.known + sum(one.status == 200 for one in good),
            rejected=before.rejected + len(bad),
            last_id=(good[-1].id if good else None) or before.last_id,
        )
        self.journal.note(done, [_line(one) for one in good], bad)
        self.watch.show(done, group.position)

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do what needs the database; wait for one that is away."""
        waited, pauses = 0.0, chain(PAUSES, repeat(PAUSES[-1]))
        while True:
            try:
                return work()
            except RowRefused:
                raise
            except StoreError as error:
                if waited >= self.patience:
                    raise
                pause = min(next(pauses), self.patience)
                self.watch.say(f"{error}; trying again in {pause:g} s")
            self.stop.wait(pause)
            waited += pause


def _line(one: Outcome) -> bytes:
    """An answer's line; without the status, which a run that was stopped in between would tell otherwise."""
    told = {"line": one.line, "id": one.id, "answer": orjson.Fragment(one.answer)}
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
