"""What operators ask: alive, ready, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from serving.health import NEEDED
from serving.messages import Ready
from serving.metrics import CONTENT_TYPE_LATEST
from serving.routes import json_response, problems, service_of
from serving.security.roles import needs, public

__all__ = ["router"]

router = APIRouter(tags=["health"])


ALIVE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": {"alive": True}}}}
}


@router.get(
    "/livez", responses=ALIVE, summary="The process answers", dependencies=[public(counted=False)]
)
async def livez() -> dict[str, bool]:
    """Always 200 while the process can answer at all: restart it when this fails."""
    return {"alive": True}


@router.get(
    "/readyz",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "No appeal can be taken up; `problems` says why"}},
    summary="Model and database work",
    dependencies=[public(asks_who=True, counted=False)],
)
async def readyz(request: Request) -> Response:
    """200 when an appeal can be taken up; 503 with the reasons when not.

    `problems` may hold more while appeals are taken up: `champion`, when a promoted model does not
    load and the earlier one answers; `clock`, when the machine's year cannot be. What a problem is,
    which may name hosts and folders, is told to callers with the scope operate alone.
    """
    found = await service_of(request).check()
    works = {part: part not in found for part in NEEDED}
    told = found if request.state.caller.may("operate") else dict.fromkeys(found, "")
    message = Ready(ready=all(works.values()), problems=told, **works)
    return json_response(message, 200 if message.ready else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses=problems(401, 403, 429),
    summary="Prometheus metrics",
    dependencies=[needs("operate")],
)
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(service_of(request).metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
