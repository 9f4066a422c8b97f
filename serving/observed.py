"""Around every request: an id, security headers, metrics, a span and one log line without any text."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.masking import find_personal_data
from serving.errors import ServingError, problem_response
from serving.logs import log, request_id
from serving.metrics import Metrics
from serving.requests import CLIENT_CLOSED
from serving.tracing import Named

__all__ = ["Observed"]

SAFE_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
DIGITS = re.compile(r"\d{7}")  # fewer are no telephone number
METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"})
ASKED_ALL_THE_TIME = frozenset({"/livez", "/readyz", "/metrics"})


class Observed:
    """ASGI middleware; outermost, so that it also sees errors, and answers those that nobody expected."""

    def __init__(self, app: ASGIApp, metrics: Metrics, headers: Mapping[str, str]) -> None:
        self._app, self._metrics, self._headers = app, metrics, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope)
        own = _request_id(sent.get("x-request-id", ""))
        token = request_id.set(own)
        self._metrics.in_flight.inc()
        try:
            with self._metrics.tracing.request(sent.get("traceparent", ""), str(scope["path"])) as named:
                told = _Told(send, own, self._headers, str(scope["path"]))
                await self._watched(scope, receive, told, named)
        finally:
            self._metrics.in_flight.dec()
            request_id.reset(token)

    async def _watched(self, scope: Scope, receive: Receive, told: _Told, named: Named) -> None:
        start = time.perf_counter()
        try:
            await self._answer(scope, receive, told)
        finally:
            status = told.status or CLIENT_CLOSED
            self._note(scope, status, time.perf_counter() - start)
            named(_method(scope), _route(scope), status)

    async def _answer(self, scope: Scope, receive: Receive, told: _Told) -> None:
        try:
            await self._app(scope, receive, told)
        except Exception as error:
            log("unexpected", logging.ERROR, raised=error)
            self._metrics.refused("unexpected")
            if told.status:  # too late for another answer: the server closes the connection
                raise
            unexpected = ServingError("服务内部错误", hint="请把 X-Request-ID 告知运维人员")
            await problem_response(unexpected, 500)(scope, receive, told)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = _method(scope), _route(scope)
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        level = logging.DEBUG if route in ASKED_ALL_THE_TIME and status < 400 else logging.INFO
        facts = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
        log("request", level, None, **facts, **_caller(scope))


class _Told:
    """`send`, with our headers added to the answer's; remembers its status, 0 before there is one."""

    def __init__(self, send: Send, own: str, headers: Mapping[str, str], path: str) -> None:
        self._send, self._own, self._headers, self._path = send, own, headers, path
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            _add_headers(message, self._own, self._headers, self._path)
        await self._send(message)


def _request_id(given: str) -> str:
    """The caller's own id when it is sane: short, plain, and no telephone or identity number."""
    if not SAFE_ID.fullmatch(given) or (DIGITS.search(given) and find_personal_data(given)):
        return uuid.uuid4().hex
    return given


def _add_headers(message: Message, own: str, given: Mapping[str, str], path: str) -> None:
    headers = MutableHeaders(scope=message)
    headers["X-Request-ID"] = own
    for name, value in given.items():
        headers.setdefault(name, value)
    if not path.startswith("/static/"):  # all else may hold residents' words, or who is signed in
        headers.setdefault("Cache-Control", "no-store")


def _route(scope: Scope) -> str:
    """The route's template: an id in a label would make one time series per appeal."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", "")) or "unknown"


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in METHODS else "other"


def _caller(scope: Scope) -> dict[str, str]:
    """Of which kind, and a key's public prefix; who a person is stands in the audit log alone."""
    caller: Any = scope.get("state", {}).get("caller")
    if caller is None:
        return {}
    return {"caller": caller.kind, "key": caller.id} if caller.kind == "key" else {"caller": caller.kind}
