"""Appeals: classify, decide, store, answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from data.store import NewAppeal, StoredAnswer
from serving.answer import Asked, Understood, respond, understand
from serving.batcher import Classified
from serving.batcher import Request as Queued
from serving.errors import AppealConflict, UnknownAppeal
from serving.messages import ID_PATTERN, Answer, AppealIn, ClassifyIn, ClassifyOut
from serving.requests import JsonRoute
from serving.routes import json_response, problems, service_of
from serving.service import Service

__all__ = ["router"]

Id = Annotated[str, Path(pattern=ID_PATTERN, max_length=128)]
router = APIRouter(prefix="/v1", tags=["appeals"], route_class=JsonRoute)


@router.post(
    "/appeals",
    status_code=201,
    response_model=Answer,
    responses={
        200: {"model": Answer, "description": "The same appeal came before: the answer given then"},
        **problems(409, 413, 415, 422, 429, 503),
    },
    summary="Take up one appeal",
)
async def take_appeal(appeal: AppealIn, request: Request) -> Response:
    """Classify, decide, store and answer.

    201 when the appeal is new and now stored. The same id with the same body gives 200 and the very
    answer of the first time; the same id with another body gives 409. Personal data is masked before
    anything is stored. Offsets count Unicode code points of `text` as it was sent.
    """
    service, sha256 = service_of(request), appeal.sha256()
    known = await service.in_store(lambda store: store.find(appeal.id))
    if known is not None:
        return _stored(known, sha256, 200)
    [(understood, answer)] = await _answers(service, [_asked_appeal(service, appeal)])
    row = _row(appeal, sha256, understood, answer)
    with service.metrics.stage("store"):
        stored, created = await service.in_store(lambda store: store.add(row))
    return _stored(stored, sha256, 201 if created else 200)


@router.post(
    "/classify",
    response_model=ClassifyOut,
    responses=problems(413, 415, 422, 429, 503),
    summary="Classify texts without storing anything",
)
async def classify(texts: ClassifyIn, request: Request) -> Response:
    """The same answers as for appeals, in the order of the texts; works without a database."""
    service = service_of(request)
    answers = await _answers(service, _asked_texts(service, texts))
    return json_response(ClassifyOut.model_construct(results=[answer for _, answer in answers]))


@router.get(
    "/appeals/{id}",
    response_model=Answer,
    responses=problems(404, 422, 503),
    summary="The answer given to an appeal",
)
async def read_appeal(id: Id, request: Request) -> Response:
    """The stored answer, byte for byte as it was given."""
    stored = await service_of(request).in_store(lambda store: store.find(id))
    if stored is None:
        raise UnknownAppeal()
    return Response(stored.answer, media_type="application/json")


async def _answers(service: Service, asked: list[Asked]) -> list[tuple[Understood, Answer]]:
    """Prepare and read the rules, ask the model, decide: the walk of every appeal."""
    service.model()  # refuse before any work when there is none
    with service.metrics.stage("understand"):
        understood = await service.run(_understand_all, asked)
    queued = [Queued(one.prepared.text, one.urgent) for one in understood]
    classified = await service.batcher.classify(queued)
    with service.metrics.stage("decide"):
        answers = await service.run(_respond_all, understood, classified)
    _count(service, answers)
    return list(zip(understood, answers, strict=True))


def _understand_all(asked: list[Asked]) -> list[Understood]:
    return [understand(one) for one in asked]


def _respond_all(understood: list[Understood], classified: list[Classified]) -> list[Answer]:
    return [
        respond(found.model, one, found.prediction) for one, found in zip(understood, classified, strict=True)
    ]


def _asked_appeal(service: Service, appeal: AppealIn) -> Asked:
    return Asked(
        text=appeal.text,
        received_at=_received(service, appeal.received_at),
        title=appeal.title,
        place=appeal.place.place(),
        declared_type=appeal.declared_type,
        id=appeal.id,
    )


def _asked_texts(service: Service, texts: ClassifyIn) -> list[Asked]:
    received, place = _received(service, texts.received_at), texts.place.place()
    return [Asked(text=text, received_at=received, place=place) for text in texts.texts]


def _received(service: Service, given: datetime | None) -> datetime:
    """When the clocks start, in the service's zone: now unless told; local time unless it has a zone."""
    if given is None:
        return datetime.now(service.zone).replace(microsecond=0)
    return given.replace(tzinfo=service.zone) if given.tzinfo is None else given.astimezone(service.zone)


def _row(appeal: AppealIn, sha256: str, understood: Understood, answer: Answer) -> NewAppeal:
    return NewAppeal(
        id=appeal.id,
        body_sha256=sha256,
        text=understood.prepared.text,
        place=understood.asked.place,
        channel=appeal.channel,
        declared_type=appeal.declared_type,
        received_at=understood.asked.received_at,
        answered_at=datetime.now(UTC),
        answer=answer.model_dump_json(),
        action=answer.decision.action,
        urgency=answer.urgency.level if answer.urgency else "",
        model_version=answer.model_version,
        scheme_version=answer.scheme_version,
    )


def _stored(stored: StoredAnswer, sha256: str, status: int) -> Response:
    if stored.body_sha256 != sha256:
        raise AppealConflict()
    return Response(stored.answer, status, media_type="application/json")


def _count(service: Service, answers: list[Answer]) -> None:
    metrics = service.metrics
    for answer in answers:
        metrics.decisions.labels(answer.decision.action).inc()
        if answer.urgency:
            metrics.urgency.labels(answer.urgency.level).inc()
        if answer.category:
            metrics.confidence.labels("category").observe(answer.category.probability)
        if answer.unit:
            metrics.confidence.labels("unit").observe(answer.unit.probability)
