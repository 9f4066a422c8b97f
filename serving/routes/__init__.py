"""The routes, by what they are about."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from serving.messages import Problem
from serving.service import Service

__all__ = ["json_response", "problems", "service_of"]

# status -> (meaning, example of the error's fields)
EXAMPLES: dict[int, tuple[str, dict[str, Any]]] = {
    401: (
        "No valid key and no session",
        {"code": "not_signed_in", "message": "需要身份验证", "field": "Authorization"},
    ),
    403: (
        "The key or user lacks the scope, or a session's request is not from our own page",
        {"code": "not_allowed", "message": "没有权限", "field": "scope", "expected": "其中之一：intake"},
    ),
    404: ("Not found", {"code": "appeal_not_found", "message": "没有这个编号的诉求", "field": "id"}),
    409: (
        "The id is taken by an appeal with another body",
        {"code": "appeal_conflict", "message": "该编号已登记了另一份内容不同的诉求", "field": "id"},
    ),
    413: (
        "Body over the limit",
        {"code": "body_too_large", "message": "请求体过大", "field": "body"},
    ),
    415: (
        "Body is not JSON",
        {"code": "wrong_media_type", "message": "请求体必须是 JSON", "field": "Content-Type"},
    ),
    422: (
        "A field is wrong",
        {"code": "invalid_input", "message": "缺少必填字段", "field": "text", "expected": "必填"},
    ),
    429: (
        "The queue is full, or too many requests of this caller; see Retry-After",
        {"code": "overloaded", "message": "服务繁忙，请稍后重试", "field": "queue_texts", "got": "已有 1024"},
    ),
    503: (
        "The model or the database is not ready, or no answer in time; see Retry-After",
        {"code": "store_not_ready", "message": "数据库暂时不可用", "hint": "可在 5 秒后重试；原因见 /readyz"},
    ),
}
EMPTY = {"code": "", "message": "", "field": "", "expected": "", "got": "", "hint": "", "more": []}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for the errors a route can answer, each with an example."""
    return {status: _problem(*EXAMPLES[status]) for status in statuses}


def _problem(meaning: str, fields: dict[str, Any]) -> dict[str, Any]:
    example = {"error": {**EMPTY, **fields}}
    return {"model": Problem, "description": meaning, "content": {"application/json": {"example": example}}}


def service_of(request: Request) -> Service:
    """The application's service."""
    service: Service = request.app.state.service
    return service


def json_response(message: BaseModel, status: int = 200) -> Response:
    """A message as JSON; serialised once, in Rust."""
    return Response(message.__pydantic_serializer__.to_json(message), status, media_type="application/json")
