"""What operators ask: alive, ready, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from serving.messages import Ready
from serving.metrics import CONTENT_TYPE_LATEST
from serving.routes import json_response, service_of

__all__ = ["router"]

router = APIRouter(tags=["health"])


ALIVE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": {"alive": True}}}}
}


@router.get("/livez", responses=ALIVE, summary="The process answers")
async def livez() -> dict[str, bool]:
    """Always 200 while the process can answer at all: restart it when this fails."""
    return {"alive": True}


@router.get(
    "/readyz",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "A part does not work; `problems` says why"}},
    summary="Model and database work",
)
async def readyz(request: Request) -> Response:
    """200 when an appeal can be taken up; 503 with the reasons when not."""
    found = await service_of(request).check()
    ready = Ready(ready=not found, model="model" not in found, store="store" not in found, problems=found)
    return json_response(ready, 503 if found else 200)


@router.get("/metrics", response_class=Response, summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(service_of(request).metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
