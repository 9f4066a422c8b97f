"""Reviewing many at once, and what leads decide."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from serving.errors import NotAllowed
from serving.logs import log
from serving.requests import JsonRoute
from serving.review.asking import AdjudicationIn, BulkIn, PreviewIn, RulesIn, WithdrawIn
from serving.review.desk import desk_of, sitting_of
from serving.review.refusals import check_labels
from serving.review.sitting import Sitting
from serving.review.telling import dispute_out, done_words, note_done, preview_out, rules_out
from serving.review.words import DisputesOut, DoneOut, PreviewOut, RulesOut
from serving.routes import json_response, problems, service_of
from serving.routes.review import Id
from serving.security.gate import gate_of
from serving.security.roles import needs

__all__ = ["router"]

router = APIRouter(prefix="/v1/review", tags=["review"], route_class=JsonRoute)
LEADS = ("lead",)


# --- look-alikes at once --------------------------------------------------------------------------


@router.post(
    "/bulk/preview",
    response_model=PreviewOut,
    responses=problems(401, 403, 404, 413, 415, 422, 429, 503),
    summary="What one label for many appeals would change",
    dependencies=[needs("review")],
)
async def preview_bulk(wish: PreviewIn, request: Request) -> Response:
    """Nothing is written. `final` (a decision, as an adjudication is) is for leads."""
    sitting = _may(sitting_of(request), wish)
    plan, texts = await service_of(request).in_database(lambda database: sitting.preview(database, wish))
    return json_response(preview_out(plan, texts, sitting.names))


@router.post(
    "/bulk",
    response_model=DoneOut,
    responses=problems(401, 403, 404, 409, 413, 415, 422, 429, 503),
    summary="One label for many appeals",
    dependencies=[needs("review")],
)
async def label_many(wish: BulkIn, request: Request) -> Response:
    """Do what the preview with this fingerprint showed; 409 when labels changed since."""
    sitting, service = _may(sitting_of(request), wish), service_of(request)
    done = await service.in_database(lambda database: sitting.bulk(database, wish))
    note_done(service.metrics, done)
    service.memory.poke()
    if wish.final and not done.again:
        told = {"code": wish.code, "labels": len(done.rows), "token": wish.token}
        await gate_of(request).in_access(
            lambda access: access.note(sitting.reviewer.name, "review.adjudicated", wish.head, told)
        )
    return json_response(DoneOut(done=done_words(done)))


@router.post(
    "/bulk/withdraw",
    response_model=DoneOut,
    responses=problems(401, 403, 409, 413, 415, 422, 429, 503),
    summary="Take back what was said under a token",
    dependencies=[needs("review")],
)
async def withdraw(again: WithdrawIn, request: Request) -> Response:
    """All that the caller said under an earlier token, such as a bulk label."""
    sitting, service = sitting_of(request), service_of(request)
    done = await desk_of(request).in_reviews(
        lambda store: store.withdraw(
            again.said_under, sitting.reviewer.name, token=again.token, now=sitting.now
        )
    )
    note_done(service.metrics, done)
    service.memory.poke()
    return json_response(DoneOut(done=done_words(done)))


# --- leads ----------------------------------------------------------------------------------------


@router.post(
    "/appeals/{id}/adjudication",
    response_model=DoneOut,
    responses=problems(401, 403, 404, 409, 413, 415, 422, 429, 503),
    summary="Decide what is right",
    dependencies=[needs("review", roles=LEADS)],
)
async def adjudicate(id: Id, said: AdjudicationIn, request: Request) -> Response:
    """These labels are in force until a later adjudication, whatever reviewers say. For leads."""
    sitting, service = sitting_of(request), service_of(request)
    check_labels(sitting.names.scheme, said.labels)
    done = await service.in_database(lambda database: sitting.adjudicate(database, id, said))
    note_done(service.metrics, done, said.seconds)
    service.memory.poke()
    return json_response(DoneOut(done=done_words(done)))


@router.get(
    "/disputes",
    response_model=DisputesOut,
    responses=problems(401, 403, 422, 429, 503),
    summary="What reviewers disagree on",
    dependencies=[needs("review", roles=LEADS)],
)
async def read_disputes(request: Request, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Response:
    """Appeals whose reviewers disagree and that no lead has decided, the oldest dispute first. For leads."""
    sitting, service = sitting_of(request), service_of(request)
    found = await service.in_database(lambda database: sitting.disputes(database, limit))
    told = [dispute_out(appeal, labels, sitting.names, service.zone) for appeal, labels in found]
    return json_response(DisputesOut(disputes=told))


@router.put(
    "/rules",
    response_model=RulesOut,
    responses=problems(401, 403, 413, 415, 422, 429, 503),
    summary="Set the audit share and the double-review share",
    dependencies=[needs("review", roles=LEADS)],
)
async def change_rules(given: RulesIn, request: Request) -> Response:
    """For appeals stored from now on; what is left out stays. Stands in the audit log. For leads."""
    desk, sitting = desk_of(request), sitting_of(request)
    rules = await desk.in_reviews(
        lambda store: store.set_rules(
            sitting.reviewer.name,
            now=sitting.now,
            audit_share=given.audit_share,
            double_share=given.double_share,
        )
    )
    desk.forget_board()
    told = {"audit_share": rules.audit_share, "double_share": rules.double_share}
    await gate_of(request).in_access(
        lambda access: access.note(sitting.reviewer.name, "review.rules_changed", "rules", told)
    )
    log("review_rules", audit_share=rules.audit_share, double_share=rules.double_share)
    return json_response(rules_out(rules))


def _may(sitting: Sitting, wish: PreviewIn) -> Sitting:
    """Checked after the body was read: one field of it makes a reviewer's label a lead's decision."""
    if wish.final and not sitting.reviewer.lead:
        raise NotAllowed(list(LEADS), [], field="role")
    check_labels(sitting.names.scheme, {wish.head: wish.code}, field="code")
    return sitting
