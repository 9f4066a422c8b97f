"""Sessions of the page: the cookie's token, and the proof that a request comes from our own page.

The token is 256 random bits, new at each login; the database holds its SHA-256 only. The cookie is
HttpOnly and SameSite=Strict, and outside of development Secure with the prefix __Host-, which makes
browsers refuse it from another host or without TLS.

Against requests forged by other sites there are two more locks on everything that changes something:
the browser must say that the request comes from our own origin (Sec-Fetch-Site, or Origin where a
browser does not send it), and the request must carry a token in a header. That token is an HMAC under
the session's own secret, so it needs no store, dies with the session, and only a page of our origin
can read it (GET /v1/session).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from fastapi import Request, Response

from serving.errors import ForeignRequest
from serving.settings import Settings

__all__ = [
    "CSRF_HEADER",
    "check_csrf",
    "check_own_origin",
    "clear_cookie",
    "csrf_of",
    "expiry",
    "idle_limit",
    "make_token",
    "set_cookie",
    "token_of",
    "token_sha256",
]

CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
TOKEN_BYTES = 32
LONGEST = 128


def make_token() -> str:
    """A fresh random token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_sha256(token: str) -> str:
    """What the database keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def csrf_of(token: str) -> str:
    """The token that requests of this session must carry in `X-CSRF-Token`."""
    return hmac.new(token.encode("utf-8", "surrogateescape"), b"jiesu csrf", hashlib.sha256).hexdigest()


def token_of(request: Request, settings: Settings) -> str:
    """The session token that the cookie holds; empty without one."""
    token = request.cookies.get(cookie_name(settings), "")
    return token if len(token) <= LONGEST else ""


def cookie_name(settings: Settings) -> str:
    """The cookie's name; with its prefix browsers insist on TLS and on this very host."""
    return "__Host-jiesu" if settings.secure_cookie else "jiesu"


def set_cookie(response: Response, settings: Settings, token: str) -> None:
    """Hand the token to the browser until the session's absolute end."""
    response.set_cookie(
        cookie_name(settings),
        token,
        max_age=round(settings.session_hours * 3600),
        path="/",
        secure=settings.secure_cookie,
        httponly=True,
        samesite="strict",
    )


def clear_cookie(response: Response, settings: Settings) -> None:
    """Take the token back."""
    response.delete_cookie(
        cookie_name(settings), path="/", secure=settings.secure_cookie, httponly=True, samesite="strict"
    )


def expiry(settings: Settings) -> datetime:
    """The absolute end of a session that begins now."""
    return datetime.now(UTC) + timedelta(hours=settings.session_hours)


def idle_limit(settings: Settings) -> timedelta:
    """How long a session may lie unused."""
    return timedelta(minutes=settings.session_idle_minutes)


def check_own_origin(request: Request) -> None:
    """Raise ForeignRequest unless the browser says that the request comes from our own origin."""
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    if site is None:
        origin = urlsplit(request.headers.get("origin", "")).netloc
        if not origin or origin != request.headers.get("host"):
            raise ForeignRequest("Origin", "与本服务同源的页面")
    elif site != "same-origin":
        raise ForeignRequest("Sec-Fetch-Site", "same-origin")


def check_csrf(request: Request, token: str) -> None:
    """Raise ForeignRequest unless a changing request of a session proves that it comes from our own page."""
    if request.method in SAFE_METHODS:
        return
    check_own_origin(request)
    given = request.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), csrf_of(token).encode()):
        raise ForeignRequest(CSRF_HEADER, "GET /v1/session 返回的 csrf")
