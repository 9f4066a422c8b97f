"""The page's session: sign in, sign out, who am I."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field

from data.reviews import ReviewStore
from serving.examples import LOGIN, SESSION
from serving.messages import Message
from serving.requests import JsonRoute
from serving.routes import json_response, problems
from serving.security.gate import gate_of
from serving.security.login import SignedIn, sign_in, sign_out
from serving.security.passwords import LONGEST
from serving.security.roles import ROLES, Caller, needs, public
from serving.security.sessions import check_own_origin, clear_cookie, csrf_of, set_cookie, token_of
from serving.security.throttling import client_network

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["session"], route_class=JsonRoute)


class LoginIn(Message):
    """Name and password."""

    model_config = ConfigDict(json_schema_extra={"examples": [LOGIN]})

    name: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=LONGEST, repr=False)


class SessionOut(Message):
    """Who the caller is. `csrf` goes into the header X-CSRF-Token of everything that changes something."""

    model_config = ConfigDict(json_schema_extra={"examples": [SESSION]})

    environment: str
    kind: str = Field(description="user, key, developer (everybody, in development) or anonymous")
    name: str = ""
    role: str = ""
    scopes: list[str]
    csrf: str = ""
    expires_at: datetime | None = None


@router.post(
    "/session",
    status_code=201,
    response_model=SessionOut,
    responses=problems(401, 403, 413, 415, 422, 429, 503),
    summary="Sign in",
    dependencies=[public()],
)
async def open_session(given: LoginIn, request: Request) -> Response:
    """Open a session and set its cookie. From our own page only; slowed down after failures (429)."""
    check_own_origin(request)
    gate = gate_of(request)
    address = client_network(request.client.host if request.client else "")
    old = token_of(request, gate.settings)
    signed_in = await sign_in(gate, given.name, given.password, address, old)
    response = json_response(_told(gate.settings.environment, signed_in), 201)
    set_cookie(response, gate.settings, signed_in.token)
    return response


@router.get(
    "/session",
    response_model=SessionOut,
    responses=problems(429),
    summary="Who am I",
    dependencies=[public(asks_who=True)],
)
async def read_session(request: Request) -> Response:
    """Who the key or the session belongs to; `anonymous` when there is none that is in force."""
    gate = gate_of(request)
    caller: Caller = request.state.caller
    token = token_of(request, gate.settings)
    session = await gate.session(token) if caller.kind == "user" else None
    return json_response(
        SessionOut(
            environment=gate.settings.environment,
            kind=caller.kind,
            name=caller.name,
            role=session.role if session else "",
            scopes=sorted(caller.scopes),
            csrf=csrf_of(token) if session else "",
            expires_at=session.expires_at if session else None,
        )
    )


@router.delete(
    "/session",
    status_code=204,
    responses=problems(401, 403, 429, 503),
    summary="Sign out",
    dependencies=[needs()],
)
async def end_session(request: Request) -> Response:
    """End the session of the cookie, at once and everywhere."""
    gate, caller = gate_of(request), request.state.caller
    if caller.kind == "user":  # what they hold goes to others at once, not in a quarter of an hour
        now = datetime.now(UTC)
        await gate.in_database(lambda database: ReviewStore(database).release_all(caller.actor, now=now))
    await sign_out(gate, token_of(request, gate.settings))
    response = Response(status_code=204)
    clear_cookie(response, gate.settings)
    return response


def _told(environment: str, signed_in: SignedIn) -> SessionOut:
    user = signed_in.user
    return SessionOut(
        environment=environment,
        kind="user",
        name=user.name,
        role=user.role,
        scopes=sorted(ROLES.get(user.role, frozenset())),
        csrf=csrf_of(signed_in.token),
        expires_at=signed_in.expires_at,
    )
