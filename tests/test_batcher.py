"""The batcher: two lanes, bounded, like lengths together, one bad text harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from serving.batcher import Batcher, Classified, Limits, Request
from serving.errors import ModelFailed, ModelNotReady, Overloaded, Stopping
from serving.metrics import Metrics
from serving.models import Model
from tests.fakes import FakePredictor, furnish, small_scheme

T = TypeVar("T")


def run(test: Callable[[Batcher], Awaitable[T]], fake: FakePredictor, **limits: int) -> T:
    """Run a test against a started batcher, and stop it afterwards."""
    model = furnish(fake)

    async def wrapped() -> T:
        batcher = Batcher(lambda: model, Limits(**limits), Metrics())
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


def test_answers_come_in_order_and_from_few_batches() -> None:
    model = fake()

    async def many(batcher: Batcher) -> list[Classified]:
        first = await held(batcher, model)
        waiting = [asyncio.create_task(batcher.classify(requests(f"第{n}条"))) for n in range(32)]
        await asyncio.sleep(0.01)
        model.held.set()
        await first
        return [one for task in waiting for one in await task]

    found = run(many, model, batch_texts=32)
    assert len(found) == 32
    assert [len(batch) for batch in model.batches] == [1, 32]
    assert sorted(model.batches[1]) == sorted(f"第{n}条" for n in range(32))


def test_each_text_gets_its_own_answer() -> None:
    lengths = [3, 900, 1, 40, 41, 7, 500, 2]  # the fake puts a text's length into the embedding

    async def ask(batcher: Batcher) -> list[Classified]:
        return await batcher.classify(requests(*("字" * length for length in lengths)))

    found = run(ask, fake(), batch_texts=3)
    assert [int(one.prediction.embedding[0]) for one in found] == lengths


def test_long_texts_do_not_share_a_batch_with_short_ones() -> None:
    model = fake()

    async def mixed(batcher: Batcher) -> None:
        first = await held(batcher, model)
        both = asyncio.create_task(batcher.classify(requests("长" * 900, *["短短"] * 8, "长" * 950)))
        await asyncio.sleep(0.01)
        model.held.set()
        await asyncio.gather(first, both)

    run(mixed, model, batch_chars=2000)
    sizes = [sorted(len(text) for text in batch) for batch in model.batches[1:]]
    assert sizes == [[900, 950], [2] * 8]


def test_padded_characters_stay_within_the_budget() -> None:
    model = fake()

    async def many(batcher: Batcher) -> None:
        await batcher.classify(requests(*("字" * (1 + n * 7 % 400) for n in range(200))))

    run(many, model, batch_chars=1500)
    for batch in model.batches:
        assert len(batch) == 1 or max(map(len, batch)) * len(batch) <= 1500
    assert sum(map(len, model.batches)) == 200


def test_the_urgent_lane_goes_first() -> None:
    model = fake()

    async def both(batcher: Batcher) -> None:
        first = await held(batcher, model)
        rest = asyncio.create_task(batcher.classify(requests("平常一", "平常二")))
        await asyncio.sleep(0.01)
        urgent = asyncio.create_task(batcher.classify(requests("着火了", urgent=True)))
        await asyncio.sleep(0.01)
        model.held.set()
        await asyncio.gather(first, rest, urgent)

    run(both, model)
    assert model.batches == [["占住"], ["着火了"], ["平常一", "平常二"]]


def test_a_full_queue_refuses_the_rest_but_never_the_urgent() -> None:
    model = fake()

    async def flood(batcher: Batcher) -> Overloaded:
        first = await held(batcher, model)
        fill = asyncio.create_task(batcher.classify(requests(*["占位"] * 4)))
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded) as refused:
            await batcher.classify(requests("多出来的"))
        urgent = asyncio.create_task(batcher.classify(requests(*["救命"] * 50, urgent=True)))
        await asyncio.sleep(0.01)
        model.held.set()
        assert len(await urgent) == 50
        await asyncio.gather(first, fill)
        return refused.value

    refused = run(flood, model, queue_texts=4)
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.fault.field == "queue_texts"
    assert "多出来的" not in {text for batch in model.batches for text in batch}


def test_the_queue_is_bounded_in_characters_too() -> None:
    model = fake()

    async def flood(batcher: Batcher) -> None:
        first = await held(batcher, model)
        fill = asyncio.create_task(batcher.classify(requests("长" * 900)))
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded, match="繁忙") as refused:
            await batcher.classify(requests("长" * 200))
        assert refused.value.fault.field == "queue_chars"
        model.held.set()
        await asyncio.gather(first, fill)

    run(flood, model, queue_chars=1000)


def test_a_request_larger_than_the_queue_is_let_in_when_nobody_waits() -> None:
    async def large(batcher: Batcher) -> int:
        return len(await batcher.classify(requests(*["字"] * 20)))

    assert run(large, fake(), queue_texts=4) == 20


def test_one_bad_text_harms_nobody() -> None:
    model = fake(fail_on="坏")

    async def mixed(batcher: Batcher) -> list[object]:
        first = await held(batcher, model)
        tasks = [asyncio.create_task(batcher.classify(requests(text))) for text in ("好一", "坏的", "好二")]
        await asyncio.sleep(0.01)
        model.held.set()
        await first
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    one, bad, two = run(mixed, model)
    assert isinstance(bad, ModelFailed)
    assert isinstance(one, list)
    assert isinstance(two, list)
    assert model.batches[1:] == [["好一", "坏的", "好二"], ["好一"], ["坏的"], ["好二"]]


def test_a_caller_that_left_is_dropped() -> None:
    model = fake()

    async def leaving(batcher: Batcher) -> None:
        first = await held(batcher, model)
        gone = asyncio.create_task(batcher.classify(requests("走了")))
        stays = asyncio.create_task(batcher.classify(requests("还在")))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        model.held.set()
        await asyncio.gather(first, stays)

    run(leaving, model)
    assert model.batches == [["占住"], ["还在"]]


def test_a_caller_that_leaves_during_its_batch_harms_nobody() -> None:
    model = fake()

    async def leaving(batcher: Batcher) -> int:
        first = await held(batcher, model)
        first.cancel()
        await asyncio.sleep(0.01)
        model.held.set()
        return len(await batcher.classify(requests("下一个")))

    assert run(leaving, model) == 1


def test_without_a_model_every_caller_is_told() -> None:
    async def asked() -> None:
        def none() -> Model:
            raise ModelNotReady("模型尚未就绪", "folder missing")

        batcher = Batcher(none, Limits(), Metrics())
        batcher.start()
        with pytest.raises(ModelNotReady, match="尚未就绪"):
            await batcher.classify(requests("一", "二"))
        await batcher.stop(1)

    asyncio.run(asked())


def test_stopping_answers_what_was_accepted_and_refuses_the_rest() -> None:
    model = fake()

    async def stopped() -> None:
        batcher = Batcher(lambda: furnish(model), Limits(), Metrics())
        batcher.start()
        first = await held(batcher, model)
        second = asyncio.create_task(batcher.classify(requests("已接受")))
        await asyncio.sleep(0.01)
        stop = asyncio.create_task(batcher.stop(5))
        await asyncio.sleep(0.01)
        with pytest.raises(Stopping):
            await batcher.classify(requests("来晚了"))
        model.held.set()
        await stop
        assert [len(await first), len(await second)] == [1, 1]

    asyncio.run(stopped())


def test_stopping_gives_up_after_the_grace_period() -> None:
    model = fake()

    async def stopped() -> None:
        batcher = Batcher(lambda: furnish(model), Limits(), Metrics())
        batcher.start()
        first = await held(batcher, model)
        second = asyncio.create_task(batcher.classify(requests("等不到")))
        await asyncio.sleep(0.01)
        await batcher.stop(0.05)
        with pytest.raises(Stopping):
            await second
        model.held.set()
        first.cancel()

    asyncio.run(stopped())
