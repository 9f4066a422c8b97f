"""The gate of one application: who a caller is, and what the secrets in the settings are for.

It lives as long as the application: `start` reads the key files, looks at the circumstances (and refuses
insecure ones), and keeps the API keys in memory fresh.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from fastapi import Request

from data.access import Access, OpenSession
from data.database import Database
from data.originals import Originals
from serving.errors import NoOriginal, NotSignedIn, OriginalSealed, ServingError, StoreNotReady
from serving.logs import log
from serving.requests import sent
from serving.security.keys import KeyRing
from serving.security.limits import RateLimits
from serving.security.passwords import Passwords
from serving.security.roles import ANONYMOUS, DEVELOPER, ROLES, Caller
from serving.security.sealing import Sealer, read_secret
from serving.security.sessions import idle_limit, token_of, token_sha256
from serving.security.starting import Circumstances, refuse_insecure, warnings
from serving.service import Service
from serving.settings import Settings

__all__ = ["Gate", "gate_of"]

T = TypeVar("T")
KEYS_LAST = 24 * 3600.0  # seconds that known keys work without the database: a night's repair, not for ever
USED_EVERY = 60.0  # seconds between two notes of when keys were last used


class Gate:
    """One per application; `limits` and `passwords` are its rate limits and its password hasher."""

    def __init__(self, settings: Settings, service: Service) -> None:
        self.settings, self.service = settings, service
        self.limits = RateLimits(settings)
        self.passwords = Passwords()
        self._keys = KeyRing()
        self._read_at, self._noted_at = time.monotonic(), time.monotonic()
        self._audit_key: bytes | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the key files and the API keys. Raises StartError when the circumstances are insecure."""
        if self.settings.audit_key:
            self._audit_key = read_secret(self.settings.audit_key, "JIESU_AUDIT_KEY")
        if self.settings.originals_key:
            self.service.sealer = Sealer.read(self.settings.originals_key)
        found = Circumstances(self.settings, await self._renew())
        for problem in warnings(found):
            log("insecure", logging.WARNING, problem=problem)
        refuse_insecure(found)
        self._renewing = asyncio.create_task(self._keep_renewing())

    async def stop(self) -> None:
        """Stop reading the keys, and note when they were last used."""
        if self._renewing:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        with suppress(ServingError):  # the database is away: a time of last use is no loss
            await self._note_used()

    # --- who ------------------------------------------------------------------------------------

    async def caller(self, request: Request) -> Caller:
        """Who sent a request, by its key, else by its session.

        Raises NotSignedIn for a key that is wrong or ended, StoreNotReady when nobody can tell.
        """
        given = sent(request.scope, b"authorization")
        if given is not None:
            return self._key_caller(given)
        token = token_of(request, self.settings) if sent(request.scope, b"cookie") else ""
        session = await self.session(token) if token else None
        if session is not None:
            return Caller("user", ROLES.get(session.role, frozenset()), session.user, role=session.role)
        return DEVELOPER if self.settings.environment == "development" else ANONYMOUS

    async def session(self, token: str) -> OpenSession | None:
        """The open session of a token. Raises StoreNotReady."""
        idle, now = idle_limit(self.settings), datetime.now(UTC)
        return await self.in_access(lambda access: access.find_session(token_sha256(token), now, idle))

    def _key_caller(self, given: str) -> Caller:
        scheme, _, shown = given.partition(" ")
        if not self._keys.read:
            raise StoreNotReady("数据库尚未就绪，暂时无法核对密钥")
        key = self._keys.find(shown.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            raise NotSignedIn()
        return Caller("key", key.scopes, key.name, key.prefix)

    # --- what they do ---------------------------------------------------------------------------

    async def original(self, appeal_id: str, actor: str) -> tuple[str, str]:
        """Title and text as they were sent; audited. Raises NoOriginal or OriginalSealed."""
        sealed = await self.service.in_database(
            lambda database: Originals(database, self._audit_key).read(appeal_id, actor)
        )
        if sealed is None:
            raise NoOriginal()
        if self.service.sealer is None:
            raise OriginalSealed("未设置 JIESU_ORIGINALS_KEY")
        return self.service.sealer.open(appeal_id, sealed)

    async def in_access(self, work: Callable[[Access], T]) -> T:
        """Do something with keys, users or sessions. Raises StoreNotReady, without telling why."""
        return await self.in_database(lambda database: work(Access(database, self._audit_key)))

    async def in_database(self, work: Callable[[Database], T]) -> T:
        """Do something for a caller who is not known yet. Raises StoreNotReady, without telling why."""
        try:
            return await self.service.in_database(work)
        except StoreNotReady as error:  # its reason may name hosts, and who asks is not known yet
            raise StoreNotReady("数据库暂时不可用") from error

    async def audit(self, actor: str, action: str, object: str) -> None:
        """One entry in the audit log; on disk when it returns. Raises StoreNotReady."""
        await self.in_access(lambda access: access.note(actor, action, object))

    # --- keys in memory -------------------------------------------------------------------------

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(self.settings.key_refresh_seconds)
            try:
                if await self._renew() is not None and time.monotonic() - self._noted_at > USED_EVERY:
                    await self._note_used()
            except Exception as error:  # told, and tried again: a revoked key must not live on in silence
                log("keys_not_renewed", logging.ERROR, error=type(error).__name__)

    async def _renew(self) -> int | None:
        """Read the live keys; how many, None when the database is away."""
        now = datetime.now(UTC)
        try:
            live = await self.in_access(lambda access: access.live_keys(now))
        except ServingError:  # the service tells that the database is away
            if self._keys.read and time.monotonic() - self._read_at > KEYS_LAST:
                self._keys.forget()
            return None
        self._keys.renew(live)
        self.service.metrics.keys_in_force((key.scopes, key.expires_at) for key in live)
        self._read_at = time.monotonic()
        return len(live)

    async def _note_used(self) -> None:
        self._noted_at = time.monotonic()
        used = self._keys.take_used()
        if used:
            await self.in_access(lambda access: access.keys_used(used))


def gate_of(request: Request) -> Gate:
    """The application's gate."""
    gate: Gate = request.app.state.gate
    return gate
