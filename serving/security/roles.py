"""Scopes, the roles that hold them, and how a route says which it needs.

A route that declares nothing is closed to everybody outside of development: see serving.security.guard.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from serving.errors import NotAllowed, NotSignedIn

__all__ = [
    "ANONYMOUS",
    "DEVELOPER",
    "ROLES",
    "SCOPES",
    "Caller",
    "Needs",
    "Scope",
    "current_caller",
    "may_see",
    "needs",
    "public",
]

Scope = Literal["intake", "review", "train", "operate"]
SCOPES: frozenset[str] = frozenset(get_args(Scope))

ROLES: Mapping[str, frozenset[str]] = {
    "reviewer": frozenset({"review"}),
    "lead": frozenset({"intake", "review"}),  # also takes appeals up by hand when the intake system is away
    "trainer": frozenset({"train"}),
    "operator": frozenset({"operate"}),
}


@dataclass(frozen=True)
class Caller:
    """Who sent a request. `name`: a key's client, or a user; `id`: what may stand in a log.

    `role`: a user's; keys have none.
    """

    kind: Literal["key", "user", "developer", "anonymous"]
    scopes: frozenset[str]
    name: str = ""
    id: str = ""
    role: str = ""

    @property
    def actor(self) -> str:
        """How the audit log names them."""
        return f"{self.kind}:{self.id or self.name}" if self.kind in ("key", "user") else self.kind

    def may(self, *scopes: str) -> bool:
        """Whether they hold one of the scopes."""
        return bool(self.scopes & set(scopes))

    def has_role(self, *roles: str) -> bool:
        """Whether they have one of the roles. A key has none; the developer has all."""
        return self.kind == "developer" or self.role in roles


# Who sent the request that is being answered; nobody outside of one.
current_caller: ContextVar[Caller | None] = ContextVar("current_caller", default=None)
ANONYMOUS = Caller("anonymous", frozenset())
DEVELOPER = Caller("developer", SCOPES)  # everybody without a key, in development only


class Needs:
    """What a route asks for: one of `scopes`, or, when there are none, any caller who is signed in.

    roles: of the people who hold a scope, those with one of these roles alone; no key gets in then.
    public: nobody is refused, and unless `asks_who` nobody is asked who they are. page: people without a
    session are sent to the login page. spares_urgent: over the rate limit, the body is read all the same
    and an urgent appeal answered. counted: whether the rate limits count requests of this route.
    """

    def __init__(
        self,
        *scopes: str,
        roles: Collection[str] = (),
        public: bool = False,
        asks_who: bool = True,
        page: bool = False,
        spares_urgent: bool = False,
        counted: bool = True,
    ) -> None:
        self.scopes, self.public, self.asks_who, self.page = frozenset(scopes), public, asks_who, page
        self.spares_urgent, self.counted, self.roles = spares_urgent, counted, frozenset(roles)

    async def __call__(self, request: Request) -> None:
        """The guard has checked before the body was read; what got around it fails here."""
        self.check(getattr(request.state, "caller", ANONYMOUS))

    def check(self, caller: Caller) -> None:
        """Raises NotSignedIn (401) or NotAllowed (403)."""
        if self.public or caller.kind == "developer":
            return
        if caller.kind == "anonymous":
            raise NotSignedIn()
        if self.scopes and not caller.may(*self.scopes):
            raise NotAllowed(sorted(self.scopes), sorted(caller.scopes))
        if self.roles and not caller.has_role(*self.roles):
            raise NotAllowed(sorted(self.roles), [caller.role] if caller.role else [], field="role")


class NeedsKey(Needs, SecurityBase):
    """The same, and OpenAPI says so; of a public route it must not."""

    model = HTTPBearer(description="`Authorization: Bearer jiesu_…`, or the cookie of a session")
    scheme_name = "key"


def may_see(taken_by: str) -> bool:
    """Whether the caller may see an appeal that a client sent; nobody's (sent without a key) is everybody's.

    A key without the scope review sees its own client's. Outside of a request, all are seen.
    """
    caller = current_caller.get()
    if caller is None or caller.kind == "developer" or caller.may("review") or not taken_by:
        return True
    return caller.kind == "key" and caller.name == taken_by


def needs(
    *scopes: Scope,
    roles: Collection[str] = (),
    page: bool = False,
    spares_urgent: bool = False,
    counted: bool = True,
) -> Any:
    """A route's dependency that asks for one of the scopes; without any, for a caller who is signed in.

    `roles`: people alone, and of them those with one of these roles (`needs("review", roles=("lead",))`).
    """
    asked = NeedsKey(*scopes, roles=roles, page=page, spares_urgent=spares_urgent, counted=counted)
    return Security(asked, scopes=sorted(scopes))


def public(*, asks_who: bool = False, counted: bool = True) -> Any:
    """A route's dependency that lets everybody in; say so on purpose."""
    return Depends(Needs(public=True, asks_who=asks_who, counted=counted))
