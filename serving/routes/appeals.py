"""Appeals: classify, decide, store, answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from data.store import StoredAnswer
from serving.answer import Asked
from serving.errors import AppealConflict, UnknownAppeal
from serving.messages import ID_PATTERN, Answer, AppealIn, ClassifyIn, ClassifyOut, Original, in_json
from serving.requests import JsonRoute
from serving.routes import json_response, problems, service_of
from serving.security.gate import gate_of
from serving.security.roles import Caller, may_see, needs
from serving.service import Service
from serving.walk import answer_all, asked_appeal, new_appeal, received_at

__all__ = ["router"]

Id = Annotated[str, Path(pattern=ID_PATTERN, max_length=128)]
router = APIRouter(prefix="/v1", tags=["appeals"], route_class=JsonRoute)


@router.post(
    "/appeals",
    status_code=201,
    response_model=Answer,
    responses={
        200: {"model": Answer, "description": "The same appeal came before: the answer given then"},
        **problems(401, 403, 409, 413, 415, 422, 429, 503),
    },
    summary="Take up one appeal",
    dependencies=[needs("intake", spares_urgent=True)],
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
    service.must_store()
    [walked] = await answer_all(service, [asked_appeal(service.zone, appeal)])
    row = new_appeal(appeal, sha256, walked, service.sealer)
    with service.metrics.stage("store"):
        stored, created = await service.store_answer(row, urgent=walked.understood.urgent)
    if created:
        service.shadow.offer(walked.understood, walked.answer)
    return _stored(stored, sha256, 201 if created else 200)


@router.post(
    "/classify",
    response_model=ClassifyOut,
    responses=problems(401, 403, 413, 415, 422, 429, 503),
    summary="Classify texts without storing anything",
    dependencies=[needs("intake", "review", "train", spares_urgent=True)],
)
async def classify(texts: ClassifyIn, request: Request) -> Response:
    """The same answers as for appeals, in the order of the texts; works without a database."""
    service = service_of(request)
    answers = await answer_all(service, _asked_texts(service, texts))
    told = in_json({"results": [one.answer for one in answers]})  # ClassifyOut
    return Response(told, media_type="application/json")


@router.get(
    "/appeals/{id}",
    response_model=Answer,
    responses=problems(401, 403, 404, 422, 429, 503),
    summary="The answer given to an appeal",
    dependencies=[needs("intake", "review")],
)
async def read_appeal(id: Id, request: Request) -> Response:
    """The stored answer, byte for byte as it was given.

    A key without the scope review reads what its own client sent, and 404 for all else. When a person
    reads, the audit log says so.
    """
    stored = await service_of(request).in_store(lambda store: store.find(id))
    if stored is None or not may_see(stored.taken_by):
        raise UnknownAppeal()
    caller: Caller = request.state.caller
    if caller.kind == "user":
        await gate_of(request).audit(caller.actor, "appeal.read", id)
    return Response(stored.answer, media_type="application/json")


@router.get(
    "/appeals/{id}/original",
    response_model=Original,
    responses=problems(401, 403, 404, 422, 429, 503),
    summary="An appeal as it was sent, personal data included",
    dependencies=[needs("review")],
)
async def read_original(id: Id, request: Request) -> Response:
    """The original, where the deployment keeps them (encrypted); each reading is in the audit log."""
    title, text = await gate_of(request).original(id, request.state.caller.actor)
    return json_response(Original(id=id, title=title, text=text))


def _asked_texts(service: Service, texts: ClassifyIn) -> list[Asked]:
    received, place = received_at(service.zone, texts.received_at), texts.place.place()
    return [Asked(text=text, received_at=received, place=place) for text in texts.texts]


def _stored(stored: StoredAnswer, sha256: str, status: int) -> Response:
    if stored.body_sha256 != sha256 or not may_see(stored.taken_by):
        raise AppealConflict()
    return Response(stored.answer, status, media_type="application/json")
