"""Around every request: an id, security headers, metrics, a span and one log line without any text."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.masking import find_personal_data
from serving.errors import ServingError, problem_response
from serving.logs import log, request_id
from serving.metrics import Metrics
from serving.requests import CLIENT_CLOSED, sent
from serving.tracing import Named

__all__ = ["Observed"]

SAFE_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
DIGITS = re.compile(r"\d{7}")  # fewer are no telephone number
METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"})
ASKED_ALL_THE_TIME = frozenset({"/livez", "/readyz", "/metrics"})
Header = tuple[bytes, bytes]
ID = b"x-request-id"
NOT_KEPT: Header = (b"cache-control", b"no-store")


class Observed:
    """ASGI middleware; outermost, so that it also sees errors, and answers those that nobody expected."""

    def __init__(self, app: ASGIApp, metrics: Metrics, headers: Mapping[str, str]) -> None:
        self._app, self._metrics = app, metrics
        self._headers = [
            (name.lower().encode("latin-1"), told.encode("latin-1")) for name, told in headers.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own, path = _request_id(sent(scope, ID) or ""), str(scope["path"])
        token = request_id.set(own)
        self._metrics.under_way += 1
        try:
            with self._metrics.tracing.request(sent(scope, b"traceparent") or "", path) as named:
                await self._watched(scope, receive, _Told(send, own, self._headers, path), named)
        finally:
            self._metrics.under_way -= 1
            request_id.reset(token)

    async def _watched(self, scope: Scope, receive: Receive, told: _Told, named: Named) -> None:
        start = time.perf_counter()
        try:
            await self._answer(scope, receive, told)
        finally:
            status, method, route = told.status or CLIENT_CLOSED, _method(scope), _route(scope)
            self._note(method, route, status, time.perf_counter() - start, _caller(scope))
            named(method, route, status)

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

    def _note(self, method: str, route: str, status: int, seconds: float, caller: dict[str, str]) -> None:
        self._metrics.responded(method, route, status, seconds)
        level = logging.DEBUG if route in ASKED_ALL_THE_TIME and status < 400 else logging.INFO
        facts = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
        log("request", level, None, **facts, **caller)


class _Told:
    """`send`, with our headers added to the answer's; remembers its status, 0 before there is one."""

    def __init__(self, send: Send, own: str, headers: Sequence[Header], path: str) -> None:
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
        return secrets.token_hex(16)
    return given


def _add_headers(message: Message, own: str, given: Sequence[Header], path: str) -> None:
    """The request's id, and of the others what the answer does not say itself."""
    headers: list[Header] = [one for one in message.get("headers", ()) if one[0] != ID]
    said = {name for name, _ in headers}
    headers.append((ID, own.encode()))
    headers += [one for one in given if one[0] not in said]
    # All but our own files may hold residents' words, or who is signed in.
    if NOT_KEPT[0] not in said and not path.startswith("/static/"):
        headers.append(NOT_KEPT)
    message["headers"] = headers


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
