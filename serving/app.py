"""The application, built by one factory from named steps. Nothing is created at import."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving.errors import (
    InvalidInput,
    ServingError,
    UnknownPath,
    WrongMethod,
    problem_body,
    status_of,
)
from serving.faults import faults_of
from serving.logs import log
from serving.metrics import Metrics
from serving.models import Model, load_model
from serving.observed import Observed
from serving.requests import CLIENT_CLOSED
from serving.routes import appeals, health, model
from serving.service import Service
from serving.settings import Settings

__all__ = ["create_app"]

STATIC = Path(__file__).parent / "static"
DESCRIPTION = """诉求分类与派单服务：事项分类、诉求性质、紧急程度、责任层级、承办单位与派单决定。

Every error has the body `{"error": {code, message, field, expected, got, hint, more}}`."""


def create_app(settings: Settings, load: Callable[[Settings], Model] = load_model) -> FastAPI:
    """The service as an ASGI application; `load` gives the model (tests give a fake)."""
    app = FastAPI(
        title="jiesu 接诉",
        version="1",
        description=DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,  # both pages load scripts from elsewhere, which a closed network and our CSP refuse
        redoc_url=None,
        redirect_slashes=False,
    )
    metrics = Metrics()
    app.state.service = Service(settings, metrics, load)
    _add_routes(app)
    _add_page(app)
    _add_errors(app)
    app.add_middleware(Observed, metrics=metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    await service.start()
    try:
        yield
    finally:
        await service.stop()


def _add_routes(app: FastAPI) -> None:
    for part in (appeals, model, health):
        app.include_router(part.router)


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=STATIC), name="static")


def _add_errors(app: FastAPI) -> None:
    app.add_exception_handler(ServingError, _on_serving_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    app.add_exception_handler(Exception, _on_unexpected)


def _problem(error: ServingError, status: int | None = None) -> Response:
    body = orjson.dumps(problem_body(error))
    return Response(body, status or status_of(error), headers=error.headers, media_type="application/json")


async def _on_serving_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    return _problem(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _problem(InvalidInput(faults_of(error.errors()), hint="接口说明见 /openapi.json"))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        told = WrongMethod("该地址不支持这种请求方法", expected=allowed, got=request.method[:20])
        told.headers = {"Allow": allowed} if allowed else {}
        return _problem(told)
    if error.status_code == 404:
        return _problem(UnknownPath("没有这个地址", hint="接口说明见 /openapi.json"))
    return _problem(ServingError("请求无法处理"), error.status_code)


async def _on_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    log("unexpected", logging.ERROR, error=type(error).__name__)
    return _problem(ServingError("服务内部错误", hint="请把 X-Request-ID 告知运维人员"), 500)
