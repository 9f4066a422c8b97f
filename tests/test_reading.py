"""Who reads the rules: short texts at once, long ones aside, and none of them in the way of another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from serving.reading import PIECE, Readers

T = TypeVar("T")


def run(test: Callable[[Readers], Awaitable[T]]) -> T:
    async def wrapped() -> T:
        readers = Readers()
        try:
            return await asyncio.wait_for(test(readers), 20)
        finally:
            readers.close()

    return asyncio.run(wrapped())


def where(text: str) -> str:
    return f"{threading.current_thread().name}:{text[:1]}"


def test_a_short_text_is_read_at_once_and_a_long_one_aside() -> None:
    async def both(readers: Readers) -> list[str]:
        return [*await readers.each(where, ["短"], [60]), *await readers.each(where, ["长"], [20_000])]

    assert run(both) == ["MainThread:短", "reader:长"]


def test_answers_come_in_order_whatever_the_pieces() -> None:
    texts = ["字" * (n * 997 % 3000) for n in range(100)]

    async def many(readers: Readers) -> list[int]:
        return await readers.each(len, texts, [len(text) for text in texts])

    assert run(many) == [len(text) for text in texts]


class Slow:
    """Work that begins when it is told to, and notes in which order it was done."""

    def __init__(self) -> None:
        self.go, self.done = threading.Event(), list[str]()
        self.begun = threading.Semaphore(0)

    def __call__(self, text: str) -> str:
        self.begun.release()
        self.go.wait(10)
        self.done.append(text)
        return text


async def occupied(readers: Readers, slow: Slow) -> list[asyncio.Task[list[str]]]:
    """Both threads at work on something."""
    first = [asyncio.create_task(readers.each(slow, ["占住"], [PIECE])) for _ in range(2)]
    for _ in first:
        await asyncio.to_thread(slow.begun.acquire)
    return first


def test_a_shorter_text_passes_a_longer_one_and_an_urgent_one_passes_all() -> None:
    slow = Slow()

    async def queued(readers: Readers) -> None:
        first = await occupied(readers, slow)
        given = (("很长", 20_000, False), ("较短", 1_000, False), ("紧急", 50_000, True))
        tasks = [
            asyncio.create_task(readers.each(slow, [text], [size], urgent)) for text, size, urgent in given
        ]
        await asyncio.sleep(0.01)
        slow.go.set()
        await asyncio.gather(*first, *tasks)

    run(queued)
    assert slow.done.index("紧急") < slow.done.index("很长")
    assert slow.done.index("较短") < slow.done.index("很长")


def test_a_short_text_is_read_while_every_thread_is_at_a_long_one() -> None:
    slow = Slow()

    async def beside(readers: Readers) -> list[str]:
        first = await occupied(readers, slow)
        found = await readers.each(where, ["短"], [60])
        slow.go.set()
        await asyncio.gather(*first)
        return found

    assert run(beside) == ["MainThread:短"]


def test_work_whose_caller_left_is_not_begun() -> None:
    slow = Slow()

    async def leaving(readers: Readers) -> None:
        first = await occupied(readers, slow)
        gone = asyncio.create_task(readers.each(slow, ["走了"], [PIECE]))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        slow.go.set()
        await asyncio.gather(*first)
        await readers.each(slow, ["还在"], [PIECE])

    run(leaving)
    assert slow.done == ["占住", "占住", "还在"]


@pytest.mark.parametrize("size", [60, 20_000])
def test_what_the_work_raises_reaches_the_caller_alone(size: int) -> None:
    def fails(text: str) -> str:
        raise ValueError(text)

    async def failing(readers: Readers) -> list[str]:
        with pytest.raises(ValueError, match="坏"):
            await readers.each(fails, ["坏"], [size])
        return await readers.each(where, ["好"], [size])

    assert len(run(failing)) == 1
