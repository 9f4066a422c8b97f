"""Many appeals in one request: NDJSON in, NDJSON out, line by line."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from data.store import Store
from serving.bulk.ndjson import MEDIA_TYPE, Lines, Unzip
from serving.bulk.source import Source
from serving.bulk.stream import BulkResponse, answer_lines
from serving.errors import Overloaded, WrongMediaType
from serving.examples import ANSWER, APPEAL
from serving.routes import EMPTY, EXAMPLES, problems, service_of
from serving.security.roles import needs

__all__ = ["router"]

MEDIA_TYPES = (MEDIA_TYPE, "application/ndjson")
router = APIRouter(prefix="/v1", tags=["appeals"])


def _lines(*bodies: dict[str, Any]) -> str:
    return b"".join(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE) for body in bodies).decode()


TOLD = _lines(
    {"line": 1, "id": APPEAL["id"], "status": 201, "answer": ANSWER},
    {"line": 2, "id": None, "status": 422, "error": {**EMPTY, **EXAMPLES[422][1]}},
    {"end": {"rows": 2, "statuses": {"201": 1, "422": 1}, "complete": True}},
)
ASKED = {
    "required": True,
    "description": "One appeal a line, as POST /v1/appeals takes it; may be sent with Content-Encoding: gzip",
    "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _lines(APPEAL)}},
}
ANSWERED = {
    "description": "An answer a line, in the order of the input, while it is still being sent",
    "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": TOLD}},
}


@router.post(
    "/appeals:bulk",
    response_class=Response,
    responses={200: ANSWERED, **problems(401, 403, 413, 415, 422, 429, 503)},
    openapi_extra={"requestBody": ASKED},
    summary="Take up many appeals, streamed",
    dependencies=[needs("intake", counted=False)],  # it is slowed down by its own back-pressure
)
async def take_appeals(request: Request) -> Response:
    """Classify, decide, store and answer each line as POST /v1/appeals would.

    Each line that is not blank is answered by one line, in the order of the input:
    `{"line", "id", "status", "answer"}`, or `{"line", "id", "status", "error"}` with the status and the
    error that a single request would have got; `line` counts from 1. 201: new, and on disk; 200: the
    same appeal came before; 409: its id did, with another body. The last line is
    `{"end": {"rows", "statuses", "complete"}}`; when `complete` is false, `error` beside it says why
    the stream ended early. A stream without a last line was cut off. Send what was not answered (or
    everything) again: no row is stored twice.

    The body may be of any length; each line may have as many bytes as another request's body.
    Read the answers while you send: the service reads no faster than it stores and than its answers are
    taken, and gives up a client that neither sends nor takes for a minute. Lines wait for room in the
    queue instead of being refused, after single requests; urgent ones go first. When the database or
    the model is away, lines wait as long as a single request may take, then they get 503, and the
    stream goes on.
    """
    service = service_of(request)
    source = Source(
        request.receive,
        Lines(service.settings.max_body_bytes),
        Unzip() if _zipped(request) else None,
        service.bulk,
        service.settings.bulk_idle_seconds,
    )
    service.model()
    await service.in_store(Store.check)
    try:
        service.bulk.enter()
    except Overloaded:
        service.metrics.shed.labels("bulk_streams").inc()
        raise
    try:
        await source.first()
    except BaseException:
        source.close()
        service.bulk.leave()
        raise
    return BulkResponse(answer_lines(service, source), service.bulk.leave, service.settings.bulk_idle_seconds)


def _zipped(request: Request) -> bool:
    """Whether the body is gzipped. Raises WrongMediaType for what we do not read."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in MEDIA_TYPES:
        raise WrongMediaType(kind, MEDIA_TYPE)
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        raise WrongMediaType(coding, "gzip", "Content-Encoding")
    return coding == "gzip"
