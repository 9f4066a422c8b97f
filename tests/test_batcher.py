"""The batcher: two lanes, bounded, like lengths together."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from classifier.predictor import Prediction, Tokens
from serving.batcher import URGENT_BATCHES, Batcher, Classified, Request
from serving.errors import Overloaded
from serving.lanes import HEAD_START, Lane, Waiting
from tests.batching import fake, held, requests, run
from tests.fakes import FakePredictor, small_scheme


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

    run(mixed, model, batch_tokens=2000)
    sizes = [sorted(len(text) for text in batch) for batch in model.batches[1:]]
    assert sizes == [[2] * 8, [900, 950]]


def test_padded_characters_stay_within_the_budget() -> None:
    model = fake()

    async def many(batcher: Batcher) -> None:
        await batcher.classify(requests(*("字" * (1 + n * 7 % 400) for n in range(200))))

    run(many, model, batch_tokens=1500)
    for batch in model.batches:
        assert len(batch) == 1 or max(map(len, batch)) * len(batch) <= 1500
    assert sum(map(len, model.batches)) == 200


def test_the_urgent_lane_goes_first() -> None:
    model = fake()

    async def both(batcher: Batcher) -> None:
        first = await held(batcher, model)
        rest = asyncio.create_task(batcher.classify(requests("平常的第一件" * 9, "平常的第二件" * 9)))
        await asyncio.sleep(0.01)
        urgent = asyncio.create_task(batcher.classify(requests("着火了", urgent=True)))
        await asyncio.sleep(0.01)
        model.held.set()
        await asyncio.gather(first, rest, urgent)

    run(both, model)
    assert model.batches == [["占住"], ["着火了"], ["平常的第一件" * 9, "平常的第二件" * 9]]


def test_the_rest_fills_up_an_urgent_batch_but_never_makes_it_longer() -> None:
    model = fake()

    async def both(batcher: Batcher) -> None:
        first = await held(batcher, model)
        texts = ["比着火的长" * 4, *["平常的"] * 4, "字" * 200]  # tokens come in steps of 16
        rest = asyncio.create_task(batcher.classify(requests(*texts)))
        await asyncio.sleep(0.01)
        urgent = asyncio.create_task(batcher.classify(requests("着火了", urgent=True)))
        await asyncio.sleep(0.01)
        model.held.set()
        await asyncio.gather(first, rest, urgent)

    run(both, model, batch_texts=4)
    urgent, *others = model.batches[1:]
    assert urgent == ["着火了", "平常的", "平常的", "平常的"]
    assert sorted(len(text) for batch in others for text in batch) == [3, 20, 200]


def test_an_urgent_batch_is_filled_up_to_its_budget() -> None:
    model = fake()

    async def both(batcher: Batcher) -> None:
        first = await held(batcher, model)
        rest = asyncio.create_task(batcher.classify(requests(*["平常"] * 6)))
        await asyncio.sleep(0.01)
        urgent = asyncio.create_task(batcher.classify(requests("着火了", urgent=True)))
        await asyncio.sleep(0.01)
        model.held.set()
        await asyncio.gather(first, rest, urgent)

    run(both, model, batch_texts=4)
    assert model.batches[1:] == [["着火了", "平常", "平常", "平常"], ["平常", "平常", "平常"]]


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


def test_the_rest_gets_a_batch_after_so_many_urgent_ones() -> None:
    model = fake()

    async def both(batcher: Batcher) -> None:
        first = await held(batcher, model)
        rest = asyncio.create_task(batcher.classify(requests("平常一", "平常二", "平常三")))
        urgent = asyncio.create_task(batcher.classify(requests(*["救命"] * 40, urgent=True)))
        await asyncio.sleep(0.01)
        model.held.set()
        await asyncio.gather(first, rest, urgent)

    run(both, model, batch_texts=2)
    rests = [place for place, batch in enumerate(model.batches) if batch[0].startswith("平常")]
    assert rests == [1 + URGENT_BATCHES, 2 + 2 * URGENT_BATCHES]


def test_a_request_that_holds_an_urgent_text_is_let_in_with_all_it_holds() -> None:
    model = fake()

    async def flood(batcher: Batcher) -> int:
        first = await held(batcher, model)
        fill = asyncio.create_task(batcher.classify(requests(*["占位"] * 4)))
        await asyncio.sleep(0.01)
        mixed = asyncio.create_task(
            batcher.classify([*requests("平常的"), *requests("着火了", urgent=True), *requests("也平常")])
        )
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await batcher.classify(requests("又一条"))
        model.held.set()
        await asyncio.gather(first, fill)
        return len(await mixed)

    assert run(flood, model, queue_texts=4) == 3
    # The rest joins: what is no longer than the urgent text, as it waits in line.
    assert model.batches[1] == ["着火了", *["占位"] * 4, "平常的", "也平常"]


def test_tokens_are_handed_to_the_model_with_their_texts() -> None:
    class Counting(FakePredictor):
        given: ClassVar[list[object]] = []

        def predict(
            self, texts: Sequence[str], evidence: bool = True, part: str = "", tokens: object = None
        ) -> list[Prediction]:
            self.given.append(tokens)
            return super().predict(texts, evidence, part)

    model, tokens = Counting(small_scheme()), Tokens([1, 2, 3], Tokenizer(WordLevel()))

    async def ask(batcher: Batcher) -> None:
        await batcher.classify([Request("一", tokens=tokens)])

    run(ask, model)
    assert model.given == [[tokens]]
    assert [Request("字" * size).size for size in (0, 1, 16, 17, 10_000)] == [16, 16, 16, 32, 1024]
    assert Request("字" * 17, tokens=tokens).size == 16  # as long as its tokens, where these are known


def waiting(text: str, since: float = 0.0) -> Waiting:
    loop = asyncio.new_event_loop()
    try:
        return Waiting(Request(text), loop.create_future(), since=since)
    finally:
        loop.close()


def test_short_texts_pass_long_ones_but_not_for_ever() -> None:
    lane, long = Lane(), waiting("长" * 160, since=0.0)
    patience = HEAD_START * (160 - 16)  # the rows of both
    lane.add(long)
    for late in (patience / 2, patience * 0.99, patience * 1.01):
        lane.add(waiting("短", since=late))
    assert [len(one.request.text) for one in lane.take(2, 512)] == [1, 1]  # both came soon enough to pass
    assert lane.take(2, 512) == [long]
    assert len(lane.take(2, 512)) == 1
    assert not lane


def calls(work: Callable[[], object]) -> int:
    """How many functions the work calls, those in C included."""
    counted = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counted


def test_a_batch_costs_the_same_with_ten_thousand_waiting() -> None:
    def spent(number: int) -> int:
        lane = Lane()
        for n in range(number):
            lane.add(waiting("字" * (1 + n * 37 % 200), since=float(n)))
        gone = waiting("走了")

        def turn() -> None:
            lane.take(16, 512)
            lane.add(gone)
            lane.leave(gone)

        return calls(turn)

    assert spent(10_000) <= spent(500) + 50


def test_a_lane_counts_who_still_waits() -> None:
    lane, gone = Lane(), waiting("走了")
    lane.add(gone)
    lane.add(waiting("还在这里"))
    lane.leave(gone)
    assert (lane.texts, lane.chars, [one.request.text for one in lane]) == (1, 4, ["还在这里"])
    assert [one.request.text for one in lane.take(16, 512)] == ["还在这里"]
    assert (lane.texts, lane.chars, lane.take(16, 512)) == (0, 0, [])


def test_several_workers_answer_side_by_side() -> None:
    model = fake()

    async def two(batcher: Batcher) -> int:
        first = await held(batcher, model)
        second = asyncio.create_task(batcher.classify(requests("并排")))
        while len(model.batches) < 2:
            await asyncio.sleep(0.001)
        model.held.set()
        return len(await first) + len(await second)

    assert run(two, model, workers=2) == 2
