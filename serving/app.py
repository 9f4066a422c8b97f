"""The application, built by one factory from named steps. Nothing is created at import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from data.errors import ReviewError
from serving.errors import (
    InvalidInput,
    ServingError,
    UnknownPath,
    WrongMethod,
    problem_response,
)
from serving.faults import faults_of
from serving.metrics import Metrics
from serving.models import Model, load_model
from serving.observed import Observed
from serving.requests import CLIENT_CLOSED, Straight, Teller
from serving.review.desk import Desk
from serving.review.refusals import refusal
from serving.routes import appeals, bulk, health, leads, model, review, review_many, session, versions
from serving.security.gate import Gate
from serving.security.guard import LOGIN_PAGE, Guard, declared_routes
from serving.security.headers import security_headers
from serving.security.roles import needs, public
from serving.service import Service
from serving.settings import Settings
from serving.together import Together
from serving.tracing import Tracing

__all__ = ["create_app"]

STATIC = Path(__file__).parent / "static"
DESCRIPTION = """诉求分类与派单服务：事项分类、诉求性质、紧急程度、责任层级、承办单位与派单决定。

Every error has the body `{"error": {code, message, field, expected, got, hint, more}}`."""


class _Application(FastAPI):
    """FastAPI without its outermost layers: what they do is done by ours, at every request."""

    def build_middleware_stack(self) -> ASGIApp:
        """Observed answers what nobody expected, routes bound their bodies, telemetry is serving.tracing."""
        assert not self.user_middleware, "add_middleware has no effect: write it into build_middleware_stack"
        service: Service = self.state.service
        routed = ExceptionMiddleware(AsyncExitStackMiddleware(self.router), self.exception_handlers)
        guarded = Guard(Straight(routed, TELLERS), self.state.gate, self.router.routes)
        return Observed(guarded, service.metrics, security_headers(service.settings))


def create_app(
    settings: Settings, load: Callable[[Settings], Model] = load_model, together: Together | None = None
) -> FastAPI:
    """The service as an ASGI application; `load` gives the model (tests give a fake).

    `together`: this process is one of several that share a port.
    """
    app = _Application(
        title="jiesu 接诉",
        version="1",
        description=DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,  # both pages load scripts from elsewhere, which a closed network and our CSP refuse
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own would tell exceptions in their own words; ours is serving.tracing.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    metrics = Metrics(Tracing.of(settings), together)
    app.state.service = Service(settings, metrics, load)
    app.state.gate = Gate(settings, app.state.service)
    app.state.desk = Desk(app.state.service)
    _add_routes(app)
    _add_page(app)
    for kind, teller in TELLERS.items():
        app.add_exception_handler(kind, teller)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    gate: Gate = app.state.gate
    desk: Desk = app.state.desk
    await service.start()
    keeping = asyncio.create_task(service.metrics.keep())
    try:
        await gate.start()
        await desk.start()
        yield
    finally:
        keeping.cancel()
        await desk.stop()
        await gate.stop()
        await service.stop()
        await asyncio.to_thread(service.metrics.tracing.close)


def _add_routes(app: FastAPI) -> None:
    for part in (appeals, bulk, model, review, review_many, leads, session, versions, health):
        app.include_router(part.router)


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False, dependencies=[needs(page=True, counted=False)])
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/review", include_in_schema=False, dependencies=[needs("review", page=True, counted=False)])
    async def review_page() -> Response:
        return FileResponse(STATIC / "review.html", headers={"Cache-Control": "no-cache"})

    @app.get(LOGIN_PAGE, include_in_schema=False, dependencies=[public(counted=False)])
    async def login() -> Response:
        return FileResponse(STATIC / "login.html", headers={"Cache-Control": "no-cache"})

    @app.get(
        "/leads",
        include_in_schema=False,
        dependencies=[needs("review", roles=("lead",), page=True, counted=False)],
    )
    async def leads_page() -> Response:
        return FileResponse(STATIC / "leads.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=STATIC), name="static")


async def _on_serving_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    return _told(request, error)


async def _on_review_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ReviewError)
    return _told(request, refusal(error))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _told(request, InvalidInput(faults_of(error.errors()), hint="接口说明见 /openapi.json"))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = _methods_of(request)
        told = WrongMethod("该地址不支持这种请求方法", expected=allowed, got=request.method[:20])
        told.headers = {"Allow": allowed} if allowed else {}
        return _told(request, told)
    if error.status_code == 404:
        return _told(request, UnknownPath("没有这个地址", hint="接口说明见 /openapi.json"))
    return _told(request, ServingError("请求无法处理"), error.status_code)


def _methods_of(request: Request) -> str:
    """What may stand in Allow: the methods of all routes at the address, not of the first one alone."""
    matching = (one for one in declared_routes(request.app.router.routes) if one.matches(request.url.path))
    methods = (getattr(one.route, "methods", None) or {"GET", "HEAD"} for one in matching)
    return ", ".join(sorted(set().union(*methods)))


async def _on_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)


def _told(request: Request, error: ServingError, status: int | None = None) -> Response:
    service: Service = request.app.state.service
    service.metrics.refused(error.code)
    return problem_response(error, status)


TELLERS: Mapping[type[Exception], Teller] = {
    ServingError: _on_serving_error,
    ReviewError: _on_review_error,
    RequestValidationError: _on_invalid,
    HTTPException: _on_http_error,
    ClientDisconnect: _on_gone,
}
