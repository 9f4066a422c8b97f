"""The writer: those who wait share a transaction, one bad row harms nobody, nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from data.errors import RowRefused, StoreError
from data.store import NewAppeal, StoredAnswer
from serving.errors import Overloaded, Stopping
from serving.metrics import Metrics
from serving.writer import GROUP_ROWS, Result, Writer
from tests.stored import appeal

T = TypeVar("T")


class Disk:
    """Stands in for the store: keeps the groups it was given, waits while `held` is cleared."""

    def __init__(self, refuses: str = "", error: Exception | None = None) -> None:
        self.refuses, self.error = refuses, error
        self.groups: list[list[str]] = []
        self.held = threading.Event()
        self.held.set()

    def write(self, rows: Sequence[NewAppeal]) -> list[Result]:
        self.groups.append([row.id for row in rows])
        self.held.wait(20)
        if self.error:
            raise self.error
        if any(row.id == self.refuses for row in rows):
            raise RowRefused("the database refused a row")
        return [(StoredAnswer(row.id, row.body_sha256, row.answer), True) for row in rows]


def run(test: Callable[[Writer], Awaitable[T]], disk: Disk, queue_rows: int = 4096) -> T:
    async def wrapped() -> T:
        writer = Writer(disk.write, queue_rows, Metrics())
        writer.start()
        try:
            return await asyncio.wait_for(test(writer), 20)
        finally:
            disk.held.set()
            await writer.stop(5)

    return asyncio.run(wrapped())


async def occupied(writer: Writer, disk: Disk) -> asyncio.Task[Result]:
    """One row is being written until `disk.held` is set."""
    disk.held.clear()
    task = asyncio.create_task(writer.add(appeal("first")))
    while not disk.groups:
        await asyncio.sleep(0.001)
    return task


async def waiting(writer: Writer, *ids: str, urgent: bool = False) -> list[asyncio.Task[Result]]:
    tasks = [asyncio.create_task(writer.add(appeal(id), urgent=urgent)) for id in ids]
    await asyncio.sleep(0)
    return tasks


def test_a_row_alone_is_written_at_once_and_those_that_wait_share_the_next_group() -> None:
    disk = Disk()

    async def many(writer: Writer) -> list[Result]:
        first = await occupied(writer, disk)
        rest = await waiting(writer, *(f"R-{n}" for n in range(GROUP_ROWS + 10)))
        disk.held.set()
        return await asyncio.gather(first, *rest)

    results = run(many, disk)
    assert [len(group) for group in disk.groups] == [1, GROUP_ROWS, 10]
    assert [stored.id for stored, _ in results] == ["first", *(f"R-{n}" for n in range(GROUP_ROWS + 10))]


def test_a_bad_row_harms_no_other_of_its_group() -> None:
    disk = Disk(refuses="R-1")

    async def many(writer: Writer) -> list[Result | BaseException]:
        first = await occupied(writer, disk)
        rest = await waiting(writer, "R-0", "R-1", "R-2")
        disk.held.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    _, zero, one, two = run(many, disk)
    assert isinstance(one, RowRefused)
    assert not isinstance(zero, BaseException)
    assert not isinstance(two, BaseException)
    assert disk.groups[1:] == [["R-0", "R-1", "R-2"], ["R-0"], ["R-1"], ["R-2"]]


def test_a_database_that_is_away_is_told_to_all_of_the_group_without_trying_each() -> None:
    disk = Disk(error=StoreError("disk I/O error"))

    async def many(writer: Writer) -> list[Result | BaseException]:
        first = await occupied(writer, disk)
        rest = await waiting(writer, "R-0", "R-1")
        disk.held.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    assert [str(told) for told in run(many, disk)] == ["disk I/O error"] * 3
    assert disk.groups == [["first"], ["R-0", "R-1"]]


def test_a_bug_is_told_to_its_callers_and_the_next_row_is_written() -> None:
    disk = Disk(error=TypeError("a bug"))

    async def twice(writer: Writer) -> Result:
        with pytest.raises(TypeError):
            await writer.add(appeal("R-1"))
        disk.error = None
        return await writer.add(appeal("R-2"))

    assert run(twice, disk)[0].id == "R-2"


def test_a_full_queue_refuses_but_never_an_urgent_one_which_goes_first() -> None:
    disk = Disk()

    async def crowded(writer: Writer) -> None:
        first = await occupied(writer, disk)
        calm = await waiting(writer, "R-0", "R-1")
        with pytest.raises(Overloaded) as told:
            await writer.add(appeal("R-2"))
        urgent = await waiting(writer, "U-1", urgent=True)
        disk.held.set()
        await asyncio.gather(first, *calm, *urgent)
        assert told.value.fault.expected == "queue_rows 不超过 2"
        assert told.value.headers["Retry-After"] == "1"

    run(crowded, disk, queue_rows=2)
    assert disk.groups[1] == ["U-1", "R-0", "R-1"]


def test_a_caller_that_left_is_not_written() -> None:
    disk = Disk()

    async def leave(writer: Writer) -> None:
        first = await occupied(writer, disk)
        gone, stays = await waiting(writer, "gone", "stays")
        gone.cancel()
        await asyncio.sleep(0)
        disk.held.set()
        await asyncio.gather(first, stays)

    run(leave, disk)
    assert disk.groups == [["first"], ["stays"]]


def test_a_stop_writes_what_was_accepted_and_refuses_the_rest() -> None:
    disk = Disk()

    async def stop(writer: Writer) -> list[Result]:
        first = await occupied(writer, disk)
        rest = await waiting(writer, "R-0", "R-1")
        stopping = asyncio.create_task(writer.stop(10))
        await asyncio.sleep(0)
        with pytest.raises(Stopping):
            await writer.add(appeal("late"))
        disk.held.set()
        await stopping
        return await asyncio.gather(first, *rest)

    assert [stored.id for stored, _ in run(stop, disk)] == ["first", "R-0", "R-1"]


def test_a_stop_does_not_wait_for_ever_and_tells_everyone() -> None:
    disk = Disk()

    async def stop(writer: Writer) -> list[Result | BaseException]:
        first = await occupied(writer, disk)
        rest = await waiting(writer, "R-0")
        await writer.stop(0.05)
        return await asyncio.gather(first, *rest, return_exceptions=True)

    assert [type(told) for told in run(stop, disk)] == [Stopping, Stopping]
