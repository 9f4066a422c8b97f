"""Reviewing: take the next appeal, say what is right, look around it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response

from data.reviews import Filters
from serving.errors import NotAllowed
from serving.logs import log
from serving.messages import ID_PATTERN
from serving.requests import JsonRoute
from serving.review.asking import (
    HIGHEST,
    CorrectionIn,
    FiltersIn,
    FlagsIn,
    SkipIn,
    TakeIn,
    TokenIn,
)
from serving.review.desk import desk_of, sitting_of
from serving.review.history import events_out, skip_reason
from serving.review.looking import look_alikes, similar_out, words_of_evidence
from serving.review.refusals import check_categories, check_labels
from serving.review.sitting import Sitting
from serving.review.tasks import Seen, flags_out
from serving.review.telling import done_words, note_done, queues_out
from serving.review.words import (
    DoneOut,
    ExtendedOut,
    FlagsOut,
    HistoryOut,
    LabelsOut,
    Nothing,
    QueuesOut,
    SimilarOut,
    TaskOut,
)
from serving.routes import json_response, problems, service_of
from serving.security.roles import needs
from serving.walk import received_at

__all__ = ["Id", "Number", "router"]

Id = Annotated[str, Path(pattern=ID_PATTERN, max_length=128)]
Number = Annotated[int, Path(ge=1, le=HIGHEST)]
router = APIRouter(prefix="/v1/review", tags=["review"], route_class=JsonRoute)


# --- what to begin with ---------------------------------------------------------------------------


@router.get(
    "/queues",
    response_model=QueuesOut,
    responses=problems(401, 403, 429, 503),
    summary="The queues, and who reviews",
    dependencies=[needs("review")],
)
async def read_queues(request: Request) -> Response:
    """What waits in each queue (counted up to 20,000), the shares in force, the reasons for skipping."""
    desk, reviewer = desk_of(request), sitting_of(request).reviewer
    board = await desk.board()
    return json_response(queues_out(board.counts, board.rules, reviewer, desk.service.settings.lease_minutes))


@router.get(
    "/labels",
    response_model=LabelsOut,
    responses={304: {"description": "Nothing else since this ETag"}, **problems(401, 403, 422, 429, 503)},
    summary="All labels, for pickers",
    dependencies=[needs("review")],
)
async def read_labels(request: Request, if_none_match: Annotated[str, Header()] = "") -> Response:
    """Every label that may be given, with its pinyin; If-None-Match with the ETag spares the transfer."""
    found = await desk_of(request).pickers()
    headers = {"ETag": found.etag, "Cache-Control": "private, no-cache"}
    if found.etag in [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers, media_type="application/json")


# --- taking ---------------------------------------------------------------------------------------


@router.post(
    "/take",
    response_model=TaskOut,
    responses=problems(401, 403, 413, 415, 422, 429, 503),
    summary="The next appeal of a queue",
    dependencies=[needs("review")],
)
async def take(wish: TakeIn, request: Request) -> Response:
    """The next appeal, leased to the caller alone; null when nothing waits for them.

    A lease that the page does not hold (`holding`) is handed out again before a new one: an answer that
    was lost, or a page loaded anew, loses nothing. The queue `disputed` is for leads.
    """
    sitting = sitting_of(request)
    if wish.queue == "disputed" and not sitting.reviewer.lead:
        raise NotAllowed(["lead"], [], field="role")
    filters = _filters(request, sitting, wish.filters)
    seen = await service_of(request).in_database(
        lambda database: sitting.take(database, wish.queue, filters, wish.holding)
    )
    return await _told(request, sitting, seen)


@router.post(
    "/appeals/{id}/take",
    response_model=TaskOut,
    responses=problems(401, 403, 404, 409, 422, 429, 503),
    summary="This very appeal",
    dependencies=[needs("review")],
)
async def take_this(id: Id, request: Request) -> Response:
    """This appeal, leased to the caller, whether it waits or not; 409 while others have it."""
    sitting = sitting_of(request)
    seen = await service_of(request).in_database(lambda database: sitting.take_this(database, id))
    return await _told(request, sitting, seen)


@router.post(
    "/leases/{number}/extend",
    response_model=ExtendedOut,
    responses=problems(401, 403, 409, 422, 429, 503),
    summary="Keep an appeal",
    dependencies=[needs("review")],
)
async def extend(number: Number, request: Request) -> Response:
    """From now on for as long as a new lease; 409 once it has ended."""
    desk, sitting = desk_of(request), sitting_of(request)
    until: datetime = await desk.in_reviews(
        lambda store: store.extend(number, sitting.reviewer.name, now=sitting.now, minutes=sitting.minutes)
    )
    return json_response(ExtendedOut(expires_at=until.astimezone(desk.service.zone)))


@router.post(
    "/leases/{number}/release",
    response_model=Nothing,
    responses=problems(401, 403, 409, 422, 429, 503),
    summary="Give an appeal back",
    dependencies=[needs("review")],
)
async def release(number: Number, request: Request) -> Response:
    """It goes to whoever comes next; twice is fine."""
    sitting = sitting_of(request)
    await desk_of(request).in_reviews(
        lambda store: store.release(number, sitting.reviewer.name, now=sitting.now)
    )
    return json_response(Nothing())


# --- saying ---------------------------------------------------------------------------------------


@router.post(
    "/leases/{number}/labels",
    response_model=DoneOut,
    responses=problems(401, 403, 409, 413, 415, 422, 429, 503),
    summary="Say what is right",
    dependencies=[needs("review")],
)
async def correct(number: Number, said: CorrectionIn, request: Request) -> Response:
    """Labels of an appeal, against what the page showed: the answer of `shown_version`.

    The same token with the same labels writes once, however often it is sent (`again`); with other labels
    it is 409. Taken also when the lease has run out meanwhile: work is never thrown away.
    """
    sitting, service = sitting_of(request), service_of(request)
    check_labels(sitting.names.scheme, said.labels)
    done = await service.in_database(lambda database: sitting.correct(database, number, said))
    note_done(service.metrics, done, said.seconds)
    service.memory.poke()
    return json_response(DoneOut(done=done_words(done)))


@router.post(
    "/leases/{number}/skip",
    response_model=Nothing,
    responses=problems(401, 403, 409, 413, 415, 422, 429, 503),
    summary="Pass an appeal on",
    dependencies=[needs("review")],
)
async def skip(number: Number, why: SkipIn, request: Request) -> Response:
    """It goes to others, and does not come back to the caller. Codes of reasons: GET /v1/review/queues."""
    sitting, reason = sitting_of(request), skip_reason(why.reason, why.comment)
    await desk_of(request).in_reviews(
        lambda store: store.skip(number, sitting.reviewer.name, reason, now=sitting.now, seconds=why.seconds)
    )
    service_of(request).metrics.review_labels.labels("skipped").inc()
    log("review_skipped", reason=why.reason, seconds=why.seconds)
    return json_response(Nothing())


@router.post(
    "/leases/{number}/undo",
    response_model=TaskOut,
    responses=problems(401, 403, 409, 413, 415, 422, 429, 503),
    summary="Take back what was last said",
    dependencies=[needs("review")],
)
async def undo(number: Number, again: TokenIn, request: Request) -> Response:
    """Withdraw what was last said, or skipped, under a lease, and have the appeal again.

    409 when somebody else has taken the appeal meanwhile.
    """
    sitting, service = sitting_of(request), service_of(request)
    seen = await service.in_database(lambda database: sitting.undo(database, number, again.token))
    service.metrics.review_labels.labels("undone").inc()
    log("review_undone")
    service.memory.poke()
    return await _told(request, sitting, seen)


# --- looking --------------------------------------------------------------------------------------


@router.get(
    "/appeals/{id}",
    response_model=TaskOut,
    responses=problems(401, 403, 404, 422, 429, 503),
    summary="An appeal as a task",
    dependencies=[needs("review")],
)
async def read_task(id: Id, request: Request) -> Response:
    """The same as a task, without a lease."""
    sitting = sitting_of(request)
    seen = await service_of(request).in_database(lambda database: sitting.look(database, id))
    return await _told(request, sitting, seen)


@router.get(
    "/appeals/{id}/history",
    response_model=HistoryOut,
    responses=problems(401, 403, 404, 422, 429, 503),
    summary="What happened to an appeal",
    dependencies=[needs("review")],
)
async def read_history(id: Id, request: Request) -> Response:
    """Who, when, from, to, why, under which model and label scheme, and how long it took."""
    sitting, service = sitting_of(request), service_of(request)
    seen, events = await service.in_database(lambda database: sitting.history(database, id))
    told = events_out(events, sitting.names, service.zone, sitting.reviewer.name, seen.blind)
    return json_response(HistoryOut(events=told, blind=seen.blind))


@router.get(
    "/appeals/{id}/similar",
    response_model=SimilarOut,
    responses=problems(401, 403, 404, 422, 429, 503),
    summary="Look-alikes of an appeal",
    dependencies=[needs("review")],
)
async def read_similar(id: Id, request: Request, limit: Annotated[int, Query(ge=1, le=50)] = 8) -> Response:
    """The nearest of the newest 50,000 appeals by the model's vectors, with the labels they have."""
    desk, sitting = desk_of(request), sitting_of(request)
    seen = await desk.service.in_database(lambda database: sitting.look(database, id))
    explained = await desk.explainer.explain(seen.appeal)
    found = await desk.service.in_database(
        lambda database: look_alikes(database, desk.looks, seen.appeal, explained, limit)
    )
    words, zone = words_of_evidence(seen.appeal.text, explained), desk.service.zone
    told = [similar_out(one, sitting.names, seen.standing, words, zone) for one in found]
    return json_response(SimilarOut(similar=told))


# --- flags ----------------------------------------------------------------------------------------


@router.post(
    "/appeals/{id}/flags",
    response_model=FlagsOut,
    responses=problems(401, 403, 404, 413, 415, 422, 429, 503),
    summary="Flag personal data",
    dependencies=[needs("review")],
)
async def flag(id: Id, found: FlagsIn, request: Request) -> Response:
    """From now on these characters are covered wherever the text is handed out; offsets stay."""
    sitting = sitting_of(request)
    flags = await service_of(request).in_database(lambda database: sitting.flag(database, id, found.spans))
    log("flagged", spans=len(found.spans))
    return json_response(FlagsOut(flags=flags_out(flags)))


@router.delete(
    "/flags/{number}",
    response_model=Nothing,
    responses=problems(401, 403, 422, 429, 503),
    summary="Take a flag back",
    dependencies=[needs("review")],
)
async def unflag(number: Number, request: Request) -> Response:
    """Twice is fine."""
    sitting = sitting_of(request)
    await desk_of(request).in_reviews(
        lambda store: store.unflag(number, sitting.reviewer.name, now=sitting.now)
    )
    return json_response(Nothing())


async def _told(request: Request, sitting: Sitting, seen: Seen | None) -> Response:
    task = await desk_of(request).task(seen, sitting.names) if seen else None
    return json_response(TaskOut.model_construct(task=task))


def _filters(request: Request, sitting: Sitting, wish: FiltersIn) -> Filters:
    zone = service_of(request).zone
    leaves = check_categories(sitting.names.scheme, wish.categories)
    since, until = (received_at(zone, moment) if moment else None for moment in (wish.since, wish.until))
    return wish.filters(leaves, since, until)
