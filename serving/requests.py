"""How a request is read: size, media type and JSON are checked before any route sees the body.

orjson refuses what the standard library lets through: NaN, lone surrogates, bytes that are not
UTF-8, and nesting deep enough to exhaust the stack.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any, get_type_hints

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from serving.errors import BodyTooLarge, Fault, InvalidInput, TooSlow, WrongMediaType
from serving.security.roles import Needs

__all__ = ["JsonRoute"]

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
CLIENT_CLOSED = 499  # nginx's number for a caller that left; nobody sees it but the log


class JsonRoute(APIRoute):
    """A route whose body is bounded JSON, with a deadline, and whose work ends when the caller leaves."""

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, wrapped; for a route that asks for its body alone, a direct one."""
        if self.body_field is None:
            return super().get_route_handler()
        handle = _direct(self) or super().get_route_handler()

        async def bounded(request: Request) -> Response:
            settings = request.app.state.service.settings
            body = await _read(request, settings.max_body_bytes)
            read = _ReadRequest(request.scope, request.receive, body)
            return await _in_time(handle(read), read, settings.answer_seconds)

        return bounded


def _direct(route: APIRoute) -> Handler | None:
    """A handler that validates the body and calls the route's function, and nothing else.

    FastAPI's own looks anew at each request for parameters, forms, streams and response models that a route
    may have: a tenth of the event loop's time under load. None for a route that has any of them.
    """
    wants, returns = route.dependant, get_type_hints(route.endpoint).get("return")
    others = wants.path_params + wants.query_params + wants.header_params + wants.cookie_params
    needs = [one.call for one in wants.dependencies if isinstance(one.call, Needs)]
    if others or len(wants.body_params) != 1 or not wants.request_param_name or returns is not Response:
        return None
    if len(needs) < len(wants.dependencies) or not iscoroutinefunction(route.endpoint):
        return None
    field, named, call = wants.body_params[0], wants.request_param_name, route.endpoint

    async def handle(request: Request) -> Response:
        for need in needs:
            await need(request)
        value, errors = field.validate(await request.json(), {}, loc=("body",))
        if errors:
            raise RequestValidationError(errors)
        answer: Response = await call(**{field.name: value, named: request})
        return answer

    return handle


class _ReadRequest(Request):
    """A request whose body was read and parsed already."""

    def __init__(self, scope: Any, receive: Any, body: bytes) -> None:
        super().__init__(scope, receive)
        self._body = body
        self._json = _parse(body)

    async def body(self) -> bytes:
        return self._body

    async def json(self) -> Any:
        return self._json


async def _read(request: Request, limit: int) -> bytes:
    _check_head(request, limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit, f"超过 {limit} 字节")
        chunks.append(chunk)
    return b"".join(chunks)


def _check_head(request: Request, limit: int) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise WrongMediaType(kind)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise BodyTooLarge(limit, f"{length[:20]} 字节")


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        got = f"第 {error.pos} 个字符处：{error.msg}"
        fault = Fault("body", "请求体不是有效的 JSON", "UTF-8 编码的 JSON", got)
        raise InvalidInput([fault], hint="请检查引号、逗号、编码；不接受 NaN 与不成对的代理字符") from error


async def _in_time(work: Coroutine[Any, Any, Response], request: Request, seconds: float) -> Response:
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if gone.done():
            return Response(status_code=CLIENT_CLOSED)
        raise TooSlow("未能在规定时间内作答", f"{seconds:g} 秒")
    finally:
        gone.cancel()
        working.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # an empty last part of the body
