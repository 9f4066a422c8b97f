"""Signing in and out: throttled, with constant work, a fresh token each time."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime

from data.access import User
from data.logins import count_login
from serving.errors import LoginWait, WrongLogin
from serving.security.gate import Gate
from serving.security.sessions import expiry, make_token, token_sha256
from serving.security.throttling import subjects, wait

__all__ = ["SignedIn", "plain_name", "sign_in", "sign_out"]


@dataclass(frozen=True)
class SignedIn:
    """A session that was just opened; `token` goes into the cookie and nowhere else."""

    token: str
    user: User
    expires_at: datetime


async def sign_in(gate: Gate, name: str, password: str, address: str, old_token: str = "") -> SignedIn:
    """Open a session. Raises LoginWait, WrongLogin (whichever of the two is wrong), StoreNotReady.

    An unknown or disabled name costs as much work as a wrong password. A session that the browser
    still had ends: a token that was planted there is worth nothing after the login.
    """
    name, now = plain_name(name), datetime.now(UTC)
    counted = subjects(name, address)
    seconds = await gate.in_database(lambda database: count_login(database, counted, now, wait))
    if seconds > 0:
        raise LoginWait(max(1, math.ceil(seconds)))
    user = await gate.in_access(lambda access: access.find_user(name))
    usable = user is not None and user.disabled_at is None
    stored = user.password if user is not None and usable else None
    if not await gate.passwords.check(gate.service.run, stored, password) or user is None:
        if user is not None:  # an unknown name is not noted: it may be a password in the wrong field
            await gate.audit("anonymous", "session.refused", user.name)
        raise WrongLogin()
    return await _open(gate, user, password, counted, old_token)


async def sign_out(gate: Gate, token: str) -> None:
    """End the session of a token."""
    await gate.in_access(lambda access: access.end_session(token_sha256(token)))


def plain_name(name: str) -> str:
    """A user's name in one form: the same characters typed another way are the same name."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


async def _open(
    gate: Gate, user: User, password: str, counted: tuple[str, str, str], old_token: str
) -> SignedIn:
    now, ends, token = datetime.now(UTC), expiry(gate.settings), make_token()
    if old_token:
        await sign_out(gate, old_token)
    if gate.passwords.outdated(user.password):
        fresh = await gate.service.run(gate.passwords.hash, password)
        await gate.in_access(lambda access: access.rehash(user.number, fresh))
    await gate.in_access(lambda access: access.open_session(user, token_sha256(token), now, ends, counted))
    return SignedIn(token, user, ends)
