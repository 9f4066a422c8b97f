"""What answers: the label scheme and the model in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from serving.messages import HeadOut, LabelOut, ModelOut, SchemeOut
from serving.models import Model
from serving.routes import json_response, problems, service_of
from serving.security.roles import needs

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["model"])


@router.get(
    "/scheme",
    response_model=SchemeOut,
    responses=problems(401, 403, 429, 503),
    summary="The label scheme in force",
    dependencies=[needs()],
)
async def read_scheme(request: Request) -> Response:
    """Every head with its labels, in the order of the classifier's outputs."""
    model = service_of(request).model()
    scheme = model.scheme
    heads = [_head(model, name) for name in model.predictor.heads]
    return json_response(
        SchemeOut(name=scheme.name, version=scheme.version, sha256=scheme.sha256, heads=heads)
    )


@router.get(
    "/model",
    response_model=ModelOut,
    responses=problems(401, 403, 429, 503),
    summary="The model in force",
    dependencies=[needs()],
)
async def read_model(request: Request) -> Response:
    """Its version, the scores it was measured at, and the thresholds of automatic dispatch."""
    model = service_of(request).model()
    predictor = model.predictor
    return json_response(
        ModelOut(
            version=model.version,
            scheme=model.scheme.name,
            scheme_version=model.scheme.version,
            heads={name: len(head.codes) for name, head in predictor.heads.items()},
            thresholds=dict(predictor.thresholds),
            target_accuracy=predictor.target_accuracy,
            card=_plain(predictor.card),
        )
    )


def _head(model: Model, name: str) -> HeadOut:
    head = model.predictor.heads[name]
    paths = model.paths[name]
    labels = [LabelOut(code=code, name=head.names[code], path=list(paths[code])) for code in head.codes]
    return HeadOut(name=name, title=head.title, kind=head.kind, labels=labels)


def _plain(card: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in card.items()}
