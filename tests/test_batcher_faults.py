"""The batcher in trouble: one bad text harms nobody, late ones are dropped, a stop answers all."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from classifier.predictor import Prediction
from serving.batcher import Batcher, Limits
from serving.errors import ModelFailed, ModelNotReady, Stopping, TooSlow
from serving.metrics import Metrics
from serving.models import Model
from tests.batching import fake, held, requests, run
from tests.fakes import FakePredictor, furnish, small_scheme


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
