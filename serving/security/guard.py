"""The guard: every request passes it before a byte of its body is read.

It finds the route, reads what the route declares (serving.security.roles.needs), finds out who calls,
counts the request against their rate limit, and checks scope and origin. A route that declares nothing
does not let the application start; an address without a route is answered here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import NotAllowed, NotSignedIn, ServingError, UnknownPath, problem_response, status_of
from serving.security.gate import Gate
from serving.security.limits import over_limit
from serving.security.roles import ANONYMOUS, Caller, Needs, current_caller
from serving.security.sessions import check_csrf, token_of
from serving.security.throttling import client_network

__all__ = ["LOGIN_PAGE", "Declared", "Guard", "declared_routes"]

LOGIN_PAGE = "/login"
NOT_ALLOWED = Path(__file__).parent.parent / "static" / "not-allowed.html"

# Routes that FastAPI and Starlette make themselves and that can declare nothing.
MADE_BY_OTHERS: Mapping[str, Needs] = {
    "/openapi.json": Needs(),
    "/static": Needs(public=True, asks_who=False, counted=False),
}


@dataclass(frozen=True)
class Declared:
    """A route and what it asks for; None: it does not say."""

    route: Any
    needs: Needs | None

    @property
    def path(self) -> str:
        """The route's template."""
        return str(self.route.path)

    def matches(self, path: str) -> bool:
        """Whether the router would take this route for a path, by the router's own expression."""
        return self.route.path_regex.match(path) is not None

    def takes(self, method: str) -> bool:
        """Whether the router would take this route for a method."""
        methods = getattr(self.route, "methods", None)
        return methods is None or method in methods


def declared_routes(routes: Iterable[BaseRoute]) -> Iterator[Declared]:
    """Every route of an application, those of included routers as well, with what it declares."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from declared_routes(included.routes)
        else:
            yield Declared(route, _needs(route))


def _needs(route: BaseRoute) -> Needs | None:
    if not isinstance(route, APIRoute):
        return MADE_BY_OTHERS.get(getattr(route, "path", ""))
    found = [one.dependency for one in route.dependencies if isinstance(one.dependency, Needs)]
    return found[0] if len(found) == 1 else None


class Guard:
    """ASGI middleware around the router."""

    def __init__(self, app: ASGIApp, gate: Gate, routes: list[BaseRoute]) -> None:
        self._app, self._gate = app, gate
        self._declared = list(declared_routes(routes))
        # Most paths are written out: looking one up costs less than matching it against every template.
        written_out = {one.path for one in self._declared if "{" not in one.path}
        self._by_path = {path: self._matching(path) for path in written_out}
        silent = [one.path for one in self._declared if one.needs is None]
        if silent:  # a bug of ours, found by the first start and by the tests
            raise RuntimeError(f"expected every route to declare needs(…) or public(), got none: {silent}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        assert scope["type"] == "http", "there are no websockets"
        caller_token, over_token = current_caller.set(None), over_limit.set(None)
        try:
            await self._answer(scope, receive, send)
        finally:
            current_caller.reset(caller_token)
            over_limit.reset(over_token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        declared = self._find(scope)
        try:
            caller = await self._admit(request, declared.needs if declared else None)
        except ServingError as error:
            if declared is not None:
                scope["route"] = declared.route  # for the log and the metrics: the router never sees it
            if isinstance(error, NotSignedIn) and declared and declared.needs and declared.needs.page:
                await RedirectResponse(LOGIN_PAGE, 303)(scope, receive, send)
                return
            self._gate.service.metrics.refused(error.code, _label(declared.needs if declared else None))
            await _refusal(request, error, declared)(scope, receive, send)
            return
        if declared is not None:
            scope["route"] = declared.route  # mounts and plain routes do not note themselves
        current_caller.set(caller)
        await self._app(scope, receive, send)

    def _find(self, scope: Scope) -> Declared | None:
        """The route the router will take, or one for another method, which the router answers with 405."""
        path, method = scope["path"], scope["method"]
        matching = self._by_path.get(path)
        if matching is None:
            matching = self._matching(path)
        for one in matching:
            if one.takes(method):
                return one
        return matching[0] if matching else None

    def _matching(self, path: str) -> list[Declared]:
        return [one for one in self._declared if one.matches(path)]

    async def _admit(self, request: Request, needs: Needs | None) -> Caller:
        """Who calls, if they may. Raises what the caller is told instead of an answer."""
        if needs is None:
            self._count(ANONYMOUS, request, None)
            raise UnknownPath("没有这个地址", hint="接口说明见 /openapi.json")
        caller = await self._who(request, needs)
        request.scope.setdefault("state", {})["caller"] = caller  # for the log, also when they may not
        self._count(caller, request, needs)
        needs.check(caller)
        if caller.kind == "user" and not needs.public:
            check_csrf(request, token_of(request, self._gate.settings))
        return caller

    async def _who(self, request: Request, needs: Needs) -> Caller:
        if needs.public:
            if needs.asks_who:
                with suppress(ServingError):  # they may come in without being known
                    return await self._gate.caller(request)
            return ANONYMOUS
        try:
            return await self._gate.caller(request)
        except NotSignedIn:
            self._count(ANONYMOUS, request, None)
            raise

    def _count(self, caller: Caller, request: Request, needs: Needs | None) -> None:
        if needs is not None and not needs.counted:
            return
        if caller is ANONYMOUS and self._gate.settings.environment == "development":
            return
        error = self._gate.limits.exceeded(caller, _address(request) if caller.kind == "anonymous" else "")
        if error is None:
            return
        self._gate.service.metrics.rate_limited.labels(error.fault.field, _label(needs)).inc()
        if needs is None or not needs.spares_urgent:
            raise error
        over_limit.set(error)


def _address(request: Request) -> str:
    return client_network(request.client.host if request.client else "")


def _refusal(request: Request, error: ServingError, declared: Declared | None) -> Response:
    """In JSON for programs; a page for people who may not see a page."""
    page = declared is not None and declared.needs is not None and declared.needs.page
    if page and isinstance(error, NotAllowed) and request.state.caller.kind == "user":
        return FileResponse(NOT_ALLOWED, status_of(error), headers={"Cache-Control": "no-store"})
    return problem_response(error)


def _label(needs: Needs | None) -> str:
    """What a route asks for, as metrics tell it; routes are few, so are these."""
    if needs is None or needs.public:
        return "unknown" if needs is None else "session"
    return "|".join(sorted(needs.scopes)) or "any"
