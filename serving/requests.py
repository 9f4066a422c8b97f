"""How a request is read: size, media type and JSON are checked before any route sees the body.

orjson refuses what the standard library lets through: NaN, lone surrogates, bytes that are not
UTF-8, and nesting deep enough to exhaust the stack.

A route that asks for its body alone is gone to straight from the guard, who knows the route already:
FastAPI's router, and its search for parameters, forms, streams and response models that a route may have,
cost more than everything else that a request of one short text passes on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from inspect import iscoroutinefunction
from typing import Any, get_type_hints

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import BodyTooLarge, Fault, InvalidInput, TooSlow, WrongMediaType
from serving.security.roles import ANONYMOUS, Needs

__all__ = ["CLIENT_CLOSED", "JsonRoute", "Straight", "Teller", "sent"]

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Teller = Callable[[Request, Exception], Awaitable[Response]]
CLIENT_CLOSED = 499  # nginx's number for a caller that left; nobody sees it but the log


def sent(scope: Scope, name: bytes) -> str | None:
    """The first header of a request with this name, in lower case; None: it was not sent."""
    for each, value in scope["headers"]:
        if each == name:
            return str(value, "latin-1")
    return None


class JsonRoute(APIRoute):
    """A route whose body is bounded JSON, with a deadline, and whose work ends when the caller leaves.

    `straight` answers a request without FastAPI's way to it; None where only that way leads to the route.
    """

    straight: Handler | None = None

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, wrapped; for a route that asks for its body alone, a direct one."""
        if self.body_field is None:
            return super().get_route_handler()
        direct = _direct(self)
        bounded = _bounded(direct or super().get_route_handler())
        self.straight = bounded if direct else None
        return bounded

    def takes_straight(self, method: str) -> Handler | None:
        """What answers a request of this method straight, if anything does."""
        return self.straight if method in (self.methods or ()) else None


class Straight:
    """ASGI app between the guard and the router: requests that need no router pass it by.

    `tellers` say how an error is told, by its class; the router's are the same ones.
    """

    def __init__(self, app: ASGIApp, tellers: Mapping[type[Exception], Teller]) -> None:
        self._app, self._tellers = app, tellers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope.get("route")
        handle = route.takes_straight(scope["method"]) if isinstance(route, JsonRoute) else None
        if handle is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await handle(request)
        except Exception as error:
            tell = self._teller(error)
            if tell is None:
                raise
            response = await tell(request, error)
        await response(scope, receive, send)

    def _teller(self, error: Exception) -> Teller | None:
        known = (self._tellers[kind] for kind in type(error).__mro__ if kind in self._tellers)
        return next(known, None)


def _bounded(handle: Handler) -> Handler:
    async def bounded(request: Request) -> Response:
        settings = request.app.state.service.settings
        body = await _read(request, settings.max_body_bytes)
        read = _ReadRequest(request.scope, request.receive, body)
        return await _in_time(handle(read), read, settings.answer_seconds)

    return bounded


def _direct(route: APIRoute) -> Handler | None:
    """A handler that validates the body and calls the route's function, and nothing else.

    None for a route that has more: parameters, an address with places to fill in, other dependencies.
    """
    wants, returns = route.dependant, get_type_hints(route.endpoint).get("return")
    others = wants.path_params + wants.query_params + wants.header_params + wants.cookie_params
    needs = [one.call for one in wants.dependencies if isinstance(one.call, Needs)]
    if others or len(wants.body_params) != 1 or not wants.request_param_name or returns is not Response:
        return None
    if route.param_convertors:
        return None
    if len(needs) < len(wants.dependencies) or not iscoroutinefunction(route.endpoint):
        return None
    field, named, call = wants.body_params[0], wants.request_param_name, route.endpoint

    async def handle(request: Request) -> Response:
        caller = request.scope.get("state", {}).get("caller", ANONYMOUS)
        for need in needs:  # the guard has checked before the body was read; what got around it fails here
            need.check(caller)
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
    _check_head(request.scope, limit)
    chunks, size, more = [], 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit, f"超过 {limit} 字节")
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _check_head(scope: Scope, limit: int) -> None:
    kind = (sent(scope, b"content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise WrongMediaType(kind)
    length = sent(scope, b"content-length") or ""
    if length.isdecimal() and int(length[:20]) > limit:
        raise BodyTooLarge(limit, f"{length[:20]} 字节")


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        got = f"第 {error.pos} 个字符处：{error.msg}"
        fault = Fault("body", "请求体不是有效的 JSON", "UTF-8 编码的 JSON", got)
        raise InvalidInput([fault], hint="请检查引号、逗号、编码；不接受 NaN 与不成对的代理字符") from error


class _End:
    """Ends the work of a task before it is done. `why`: what ended it first; empty: nothing yet."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task, self.why = task, ""

    def ends(self, why: str) -> None:
        """Now."""
        if not self.why:
            self.why = why
            self._task.cancel()

    async def ends_with_caller(self, receive: Receive) -> None:
        """Once the caller leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass  # an empty last part of the body
        self.ends("gone")

    def did_it(self) -> bool:
        """Whether the task was cancelled by this, and by nobody else; to be asked once."""
        return bool(self.why) and self._task.uncancel() == 0


async def _in_time(work: Coroutine[Any, Any, Response], request: Request, seconds: float) -> Response:
    """The work's answer, unless its time is over or the caller leaves before it is there."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    end = _End(task)
    clock = loop.call_later(seconds, end.ends, "late")
    caller = loop.create_task(end.ends_with_caller(request.receive))
    try:
        return await work
    except asyncio.CancelledError:
        if not end.did_it():
            raise
        if end.why == "gone":
            return Response(status_code=CLIENT_CLOSED)
        raise TooSlow("未能在规定时间内作答", f"{seconds:g} 秒") from None
    finally:
        clock.cancel()
        caller.cancel()
