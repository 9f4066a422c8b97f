"""The walk of every appeal, shared by all routes: understand, ask the model, decide, make the row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from zoneinfo import ZoneInfo

from classifier.neighbours import Neighbour
from classifier.predictor import Prediction
from data.store import NewAppeal
from serving.answer import Asked, Understood, tell, understand
from serving.batcher import Classified
from serving.batcher import Request as Queued
from serving.errors import ServingError
from serving.messages import AppealIn, Told, in_json
from serving.security.limits import over_limit
from serving.security.roles import current_caller, may_see
from serving.security.sealing import Sealer
from serving.service import Service

__all__ = ["Walked", "answer_all", "answer_each", "asked_appeal", "new_appeal", "received_at"]

Classify = Callable[[Queued], Awaitable[Classified]]


class Walked(NamedTuple):
    """One appeal at the end of the walk."""

    understood: Understood
    answer: Told
    prediction: Prediction


async def answer_all(service: Service, asked: list[Asked]) -> list[Walked]:
    """Prepare and read the rules, ask the model, decide: the walk of every appeal."""
    deadline = time.monotonic() + service.settings.answer_seconds
    understood = await _understand_all(service, asked)
    _spare_urgent(understood)
    classified = await _classify_all(service, understood, deadline)
    answers = await _respond_all(service, understood, classified)
    found = [one.prediction for one in classified]
    return [Walked(*one) for one in zip(understood, answers, found, strict=True)]


async def answer_each(
    service: Service, asked: list[Asked], classify: Classify
) -> list[Walked | ServingError]:
    """The same walk for texts that have nothing to do with each other: one that fails harms no other.

    `classify` puts one text into the queue; it may wait before it does.
    """
    understood = await _understand_all(service, asked)
    waiting = (_classify_one(service, one, classify) for one in understood)
    found = await asyncio.gather(*waiting, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, ServingError):
            raise one
    good = [(one, each) for one, each in zip(understood, found, strict=True) if isinstance(each, Classified)]
    answers = await _respond_all(service, [one for one, _ in good], [each for _, each in good])
    told = iter(answers)
    return [
        Walked(one, next(told), each.prediction) if isinstance(each, Classified) else each
        for one, each in zip(understood, found, strict=True)
        if isinstance(each, Classified | ServingError)
    ]


async def _classify_all(
    service: Service, understood: list[Understood], deadline: float
) -> list[Classified]:
    """Texts for the champion go into the queue together; an appeal may be the canary's."""
    if not service.canary.version or all(one.asked.id is None for one in understood):
        return await service.batcher.classify([_queued(one) for one in understood], deadline)
    by_canary = await asyncio.gather(*(service.canary.answer(one, deadline) for one in understood))
    left = [_queued(one) for one, found in zip(understood, by_canary, strict=True) if found is None]
    rest = iter(await service.batcher.classify(left, deadline) if left else [])
    return [found or next(rest) for found in by_canary]


async def _classify_one(service: Service, understood: Understood, classify: Classify) -> Classified:
    deadline = time.monotonic() + service.settings.answer_seconds
    return await service.canary.answer(understood, deadline) or await classify(_queued(understood))


def _spare_urgent(understood: list[Understood]) -> None:
    """Refuse what is over its rate limit, now that it is known not to be urgent."""
    error = over_limit.get()
    if error is not None and not any(one.urgent for one in understood):
        raise error


async def _understand_all(service: Service, asked: list[Asked]) -> list[Understood]:
    """What the rules say of each text. Raises ModelNotReady before any work when there is no model."""
    work = partial(understand, model=service.model())
    with service.metrics.stage("understand"):
        return await service.readers.each(work, asked, [len(one.text) for one in asked])


def _queued(understood: Understood) -> Queued:
    return Queued(understood.prepared.text, understood.urgent, understood.tokens)


async def _respond_all(
    service: Service, understood: list[Understood], classified: list[Classified]
) -> list[Told]:
    pairs = list(zip(understood, classified, strict=True))
    sizes = [len(one.prepared.text) for one in understood]
    urgent = any(one.urgent for one in understood)
    with service.metrics.stage("decide"):
        answers = await service.readers.each(_tell, pairs, sizes, urgent)
    _count(service, answers)
    return answers


def _tell(pair: tuple[Understood, Classified]) -> Told:
    understood, found = pair
    return tell(found.model, understood, found.prediction, [_shown(one) for one in found.alike])


def _shown(alike: Neighbour) -> Neighbour:
    """The look-alike without its id where the caller may not see that appeal."""
    if may_see(alike.corrected.taken_by):
        return alike
    return replace(alike, corrected=replace(alike.corrected, id=None))


def asked_appeal(zone: ZoneInfo, appeal: AppealIn) -> Asked:
    """What is asked about an appeal; clocks start in `zone`."""
    return Asked(
        text=appeal.text,
        received_at=received_at(zone, appeal.received_at),
        title=appeal.title,
        place=appeal.place.place(),
        declared_type=appeal.declared_type,
        id=appeal.id,
    )


def received_at(zone: ZoneInfo, given: datetime | None) -> datetime:
    """When the clocks start, in the service's zone: now unless told; local time unless it has a zone."""
    if given is None:
        return datetime.now(zone).replace(microsecond=0)
    return given.replace(tzinfo=zone) if given.tzinfo is None else given.astimezone(zone)


def new_appeal(appeal: AppealIn, sha256: str, walked: Walked, sealer: Sealer | None) -> NewAppeal:
    """The row to be stored: the prepared text, and the one that was sent only when there is a sealer."""
    caller, (understood, answer, prediction) = current_caller.get(), walked
    return NewAppeal(
        id=appeal.id,
        body_sha256=sha256,
        text=understood.prepared.text,
        place=understood.asked.place,
        channel=appeal.channel,
        declared_type=appeal.declared_type,
        received_at=understood.asked.received_at,
        answered_at=datetime.now(UTC),
        answer=in_json(answer).decode(),
        action=answer["decision"]["action"],
        urgency=answer["urgency"]["level"],
        model_version=answer["model_version"],
        scheme_version=answer["scheme_version"],
        taken_by=caller.name if caller is not None and caller.kind == "key" else "",
        original=sealer.seal(appeal.id, appeal.title, appeal.text) if sealer else None,
        embedding=prediction.embedding.astype("<f2").tobytes(),
    )


def _count(service: Service, answers: list[Told]) -> None:
    for answer in answers:
        service.metrics.answered(answer)
