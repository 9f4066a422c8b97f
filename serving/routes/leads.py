"""Figures for leads: progress, agreement, the estimated quality of automatic dispatch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from data.database import Database
from data.reviews.overview import Overview, overview
from serving.review.figures import figures, period
from serving.review.figures_words import FiguresOut
from serving.routes import json_response, problems, service_of
from serving.security.roles import needs

__all__ = ["router"]

router = APIRouter(prefix="/v1/review", tags=["review"])


@router.get(
    "/figures",
    response_model=FiguresOut,
    responses=problems(401, 403, 422, 429, 503),
    summary="Figures for leads",
    dependencies=[needs("review", roles=("lead",))],
)
async def read_figures(
    request: Request,
    days: Annotated[int, Query(ge=1, le=366, description="The last days, today among them")] = 30,
) -> Response:
    """Progress, throughput, agreement, label errors, and how good automatic dispatch is."""
    service = service_of(request)
    model = service.model()
    asked = period(days, datetime.now(UTC), service.zone)

    def read(database: Database) -> Overview:
        return overview(database, asked.since, asked.until, asked.zone, model.scheme)

    found = await service.in_database(read)
    target = model.predictor.target_accuracy
    return json_response(await service.run(figures, found, asked, model.scheme, target))
