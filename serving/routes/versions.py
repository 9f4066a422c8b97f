"""Model versions: what is there, what the gate said, who answers; add, shadow, canary, promote, roll back.

Scope train looks, adds and puts into the shadow; scope operate decides who answers. Everything that is
done stands in the registry's history with who and why, and in the audit log.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from classifier.registry import Registry
from serving.challengers.report import LONGEST_DAYS, MOST, ShadowReport
from serving.requests import JsonRoute
from serving.routes import json_response, problems, service_of
from serving.security.gate import gate_of
from serving.security.roles import needs
from serving.version_desk import Deed, VersionDesk
from serving.version_messages import CanaryIn, PromoteIn, VersionDetails, VersionsOut, WhyIn
from serving.versions import add, promote, set_canary, set_shadow

__all__ = ["router"]

Version = Annotated[str, Path(pattern=r"^[A-Za-z0-9][\w.+-]{0,126}$")]
Why = Annotated[str, Query(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")]
TAR = "application/x-tar"
ARCHIVE = {
    "required": True,
    "description": "The files of one model folder as a tar archive without compression",
    "content": {TAR: {"schema": {"type": "string", "format": "binary"}}},
}
router = APIRouter(prefix="/v1", tags=["versions"], route_class=JsonRoute)


def _desk(request: Request) -> VersionDesk:
    return VersionDesk(service_of(request), gate_of(request), request.state.caller.actor)


@router.get(
    "/versions",
    response_model=VersionsOut,
    responses=problems(401, 403, 409, 429, 503),
    summary="All model versions",
    dependencies=[needs("train", "operate")],
)
async def read_versions(request: Request) -> Response:
    """Every version with its place and the gate's verdict, and the last 100 events."""
    return json_response(await _desk(request).all())


@router.get(
    "/versions/shadow",
    response_model=ShadowReport,
    responses=problems(401, 403, 404, 409, 422, 429, 503),
    summary="How the shadow's answers differ",
    dependencies=[needs("train", "operate")],
)
async def read_shadow(
    request: Request,
    version: Annotated[str, Query(pattern=r"^[A-Za-z0-9][\w.+-]{0,126}$|^$")] = "",
    days: Annotated[float, Query(gt=0, le=LONGEST_DAYS)] = 7.0,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 20_000,
) -> Response:
    """Compare stored answers of a challenger (default: the version in the shadow) with those callers got.

    Per head the share of different answers, decisions that would change, urgency raised or lowered, the
    worst cases by id, who was right where people have labelled since, and the time of both.
    """
    return json_response(await _desk(request).compare(version, days, limit))


@router.get(
    "/versions/{version}",
    response_model=VersionDetails,
    responses=problems(401, 403, 404, 409, 422, 429, 503),
    summary="One model version",
    dependencies=[needs("train", "operate")],
)
async def read_version(version: Version, request: Request) -> Response:
    """Its card, and everything that the gate found."""
    return json_response(await _desk(request).one(version))


@router.post(
    "/versions",
    status_code=201,
    response_model=VersionDetails,
    responses=problems(401, 403, 409, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": ARCHIVE},
    summary="Add a model version",
    dependencies=[needs("train")],
)
async def add_version(why: Why, request: Request) -> Response:
    """Unpack an archive, check every hash and the known answer, add it. It answers nobody yet."""
    desk = _desk(request)
    return json_response(await desk.receive(request, why, add), 201)


@router.post(
    "/versions/{version}/promote",
    response_model=VersionsOut,
    responses=problems(401, 403, 404, 409, 413, 415, 422, 429, 503),
    summary="Make a version the champion",
    dependencies=[needs("operate")],
)
async def promote_version(version: Version, given: PromoteIn, request: Request) -> Response:
    """Refused where the gate did, unless `force`. This replica swaps at once, others within seconds."""
    desk = _desk(request)

    def work(registry: Registry) -> str:
        promote(registry, version, desk.actor, given.why, given.force)
        return version

    return json_response(await desk.do(Deed("promoted", work, given.why, {"force": given.force})))


@router.post(
    "/versions/{version}/shadow",
    response_model=VersionsOut,
    responses=problems(401, 403, 404, 409, 413, 415, 422, 429, 503),
    summary="Let a version answer unseen",
    dependencies=[needs("train", "operate")],
)
async def shadow_version(version: Version, given: WhyIn, request: Request) -> Response:
    """It is shown appeals after their callers were answered, as far as the machine has time for it."""
    return json_response(await _place(_desk(request), "shadow", version, given.why))


@router.delete(
    "/versions:shadow",
    response_model=VersionsOut,
    responses=problems(401, 403, 409, 422, 429, 503),
    summary="End the shadow",
    dependencies=[needs("train", "operate")],
)
async def end_shadow(why: Why, request: Request) -> Response:
    """Its stored answers stay, and can be compared."""
    return json_response(await _place(_desk(request), "shadow", "", why))


@router.post(
    "/versions/{version}/canary",
    response_model=VersionsOut,
    responses=problems(401, 403, 404, 409, 413, 415, 422, 429, 503),
    summary="Let a version answer a share of the appeals",
    dependencies=[needs("operate")],
)
async def canary_version(version: Version, given: CanaryIn, request: Request) -> Response:
    """Always the same ones, by their ids; urgent ones stay with the champion."""
    return json_response(await _place(_desk(request), "canary", version, given.why, given.share))


@router.delete(
    "/versions:canary",
    response_model=VersionsOut,
    responses=problems(401, 403, 409, 422, 429, 503),
    summary="End the canary",
    dependencies=[needs("operate")],
)
async def end_canary(why: Why, request: Request) -> Response:
    """The champion answers all again."""
    return json_response(await _place(_desk(request), "canary", "", why))


@router.post(
    "/versions:rollback",
    response_model=VersionsOut,
    responses=problems(401, 403, 409, 413, 415, 422, 429, 503),
    summary="Make the version before the champion the champion again",
    dependencies=[needs("operate")],
)
async def roll_back(given: WhyIn, request: Request) -> Response:
    """Once more goes one further back. This replica swaps at once, others within seconds."""
    desk = _desk(request)

    def work(registry: Registry) -> str:
        return registry.rollback(desk.actor, given.why).name

    return json_response(await desk.do(Deed("rolled_back", work, given.why)))


async def _place(desk: VersionDesk, place: str, version: str, why: str, share: float = 0.0) -> VersionsOut:
    def work(registry: Registry) -> str:
        if place == "shadow":
            set_shadow(registry, version, desk.actor, why)
        else:
            set_canary(registry, version, share, desk.actor, why)
        return version

    details: dict[str, Any] = {"share": share} if share else {}
    return await desk.do(Deed(f"{place}_set" if version else f"{place}_ended", work, why, details))
