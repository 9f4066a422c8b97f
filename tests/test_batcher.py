"""The batcher: two lanes, bounded, like lengths together, one bad text harms nobody."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, TypeVar

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from classifier.predictor import Prediction, Tokens
from serving.batcher import URGENT_BATCHES, Batcher, Classified, Limits, Request
from serving.errors import ModelFailed, ModelNotReady, Overloaded, Stopping, TooSlow
from serving.lanes import HEAD_START, Lane, Waiting
from serving.metrics import Metrics
from serving.models import Model
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
    assert model.batches[1] == ["着火了"]


def test_a_text_whose_deadline_has_passed_never_reaches_the_model() -> None:
    model = fake()

    async def late(batcher: Batcher) -> None:
        first = await held(batcher, model)
        soon = asyncio.create_task(batcher.classify(requests("来不及了"), time.monotonic() + 0.01))
        stays = asyncio.create_task(batcher.classify(requests("不着急")))
        await asyncio.sleep(0.05)
        model.held.set()
        with pytest.raises(TooSlow):
            await soon
        await asyncio.gather(first, stays)

    run(late, model)
    assert model.batches == [["占住"], ["不着急"]]


def test_a_text_that_hangs_the_model_holds_nobody_up() -> None:
    model = Hanging(small_scheme())

    async def hanging(batcher: Batcher) -> list[object]:
        first = await held(batcher, model)
        texts = ("好一", "卡死", "好二")
        tasks = [asyncio.create_task(batcher.classify(requests(text))) for text in texts]
        await asyncio.sleep(0.01)
        model.held.set()
        await first
        found: list[object] = list(await asyncio.gather(*tasks, return_exceptions=True))
        again = await batcher.classify(requests("之后的"))
        return [*found, len(again)]

    try:
        one, hung, two, again = run(hanging, model, batch_seconds=0.3)
    finally:
        model.freed.set()
    assert isinstance(hung, ModelFailed)
    assert (isinstance(one, list), isinstance(two, list), again) == (True, True, 1)


class Hanging(FakePredictor):
    """Never comes back from a batch that holds 卡死; asks for an exit at 退出."""

    freed = threading.Event()

    def predict(
        self, texts: Sequence[str], evidence: bool = True, part: str = "", tokens: object = None
    ) -> list[Prediction]:
        found = super().predict(texts, evidence, part)
        if "卡死" in texts:
            self.freed.wait(20)
        if "退出" in texts:
            raise SystemExit(3)
        return found


def test_an_exit_asked_for_inside_a_library_ends_nothing() -> None:
    async def exiting(batcher: Batcher) -> int:
        with pytest.raises(ModelFailed):
            await batcher.classify(requests("退出"))
        return len(await batcher.classify(requests("之后的")))

    assert run(exiting, Hanging(small_scheme())) == 1


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
    assert (Request("一", tokens=tokens).size, Request("一二").size, Request("").size) == (3, 2, 1)


def waiting(text: str, since: float = 0.0) -> Waiting:
    loop = asyncio.new_event_loop()
    try:
        return Waiting(Request(text), loop.create_future(), since=since)
    finally:
        loop.close()


def test_short_texts_pass_long_ones_but_not_for_ever() -> None:
    lane, long = Lane(), waiting("长" * 160, since=0.0)
    patience = HEAD_START * (192 - 16)  # the rows of both
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


def test_stopping_waits_for_texts_that_are_asked_again() -> None:
    model = fake(fail_on="坏")

    async def stopped() -> list[object]:
        batcher = Batcher(lambda: furnish(model), Limits(), Metrics())
        batcher.start()
        first = await held(batcher, model)
        tasks = [asyncio.create_task(batcher.classify(requests(text))) for text in ("好一", "坏的", "好二")]
        await asyncio.sleep(0.01)
        stop = asyncio.create_task(batcher.stop(5))
        model.held.set()
        await stop
        return list(await asyncio.gather(first, *tasks, return_exceptions=True))

    found = asyncio.run(stopped())
    assert [type(one) for one in found] == [list, list, ModelFailed, list]


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
