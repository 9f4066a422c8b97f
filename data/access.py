"""Who may come in: API keys, users and their sessions.

Only hashes of secrets come here; making and checking secrets is serving's work. Every change of a key,
a user or a session and its entry in the audit log are one transaction. Moments are given by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, delete, insert, select, update

from data.access_tables import api_keys, sessions, users
from data.audit import append
from data.database import Database
from data.errors import AccessError
from data.logins import forget_failures

__all__ = ["Access", "ApiKey", "NewKey", "OpenSession", "User"]

TOUCH = timedelta(minutes=1)  # a session's last use is written at most this often


@dataclass(frozen=True)
class NewKey:
    """A key to be stored: its public prefix and the hash of the whole of it."""

    prefix: str
    secret_sha256: str
    name: str
    scopes: frozenset[str]
    expires_at: datetime | None = None


@dataclass(frozen=True)
class ApiKey(NewKey):
    """A stored key."""

    number: int = 0
    created_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def live(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True)
class User:
    """A person who may sign in, unless disabled."""

    number: int
    name: str
    password: str
    role: str
    created_at: datetime
    password_at: datetime
    disabled_at: datetime | None
    last_login_at: datetime | None


@dataclass(frozen=True)
class OpenSession:
    """A session that is neither ended nor expired, and whose it is."""

    number: int
    user: str
    role: str
    opened_at: datetime
    expires_at: datetime


class Access:
    """Keys, users and sessions of a database. Raises AccessError for a wrong name, StoreError otherwise."""

    def __init__(self, database: Database, audit_key: bytes | None = None) -> None:
        self._database, self._audit_key = database, audit_key

    # --- keys -----------------------------------------------------------------------------------

    def all_keys(self) -> list[ApiKey]:
        """All keys, the revoked and expired ones as well, oldest first."""
        with self._database.connect() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.number)).mappings()
            return [_key(row) for row in rows]

    def live_keys(self, now: datetime) -> list[ApiKey]:
        """Keys that are neither revoked nor expired."""
        return [key for key in self.all_keys() if key.live(now)]

    def add_key(self, key: NewKey, actor: str, now: datetime) -> None:
        """Store a new key."""
        row = {
            "prefix": key.prefix,
            "secret_sha256": key.secret_sha256,
            "name": key.name,
            "scopes": " ".join(sorted(key.scopes)),
            "created_at": now,
            "expires_at": key.expires_at,
        }
        details = {
            "name": key.name,
            "scopes": sorted(key.scopes),
            "expires_at": str(key.expires_at or "never"),
        }
        with self._database.begin() as connection:
            connection.execute(insert(api_keys).values(row))
            self._note(connection, actor, "key.created", key.prefix, details)

    def revoke_key(self, prefix: str, actor: str, now: datetime) -> None:
        """End a key for good."""
        live = and_(api_keys.c.prefix == prefix, api_keys.c.revoked_at.is_(None))
        with self._database.begin() as connection:
            if not connection.execute(update(api_keys).where(live).values(revoked_at=now)).rowcount:
                raise AccessError(f"expected the prefix of a key that is not revoked, got {prefix!r}")
            self._note(connection, actor, "key.revoked", prefix)

    def keys_used(self, used: Mapping[str, datetime]) -> None:
        """Write when keys were last used, by prefix."""
        with self._database.begin() as connection:
            for prefix in sorted(used):  # sorted: replicas take row locks in the same order
                where = api_keys.c.prefix == prefix
                connection.execute(update(api_keys).where(where).values(last_used_at=used[prefix]))

    # --- users ----------------------------------------------------------------------------------

    def all_users(self) -> list[User]:
        """All users by name."""
        with self._database.connect() as connection:
            rows = connection.execute(select(users).order_by(users.c.name)).mappings()
            return [User(**row) for row in rows]

    def find_user(self, name: str) -> User | None:
        """A user by name, also a disabled one."""
        with self._database.connect() as connection:
            row = connection.execute(select(users).where(users.c.name == name)).mappings().first()
            return None if row is None else User(**row)

    def add_user(self, name: str, password: str, role: str, actor: str, now: datetime) -> None:
        """Store a new user; `password` is the hash."""
        row = {"name": name, "password": password, "role": role, "created_at": now, "password_at": now}
        with self._database.begin() as connection:
            if connection.execute(select(users.c.number).where(users.c.name == name)).first():
                raise AccessError(f"expected a new name, got {name!r}, which is taken")
            connection.execute(insert(users).values(row))
            self._note(connection, actor, "user.created", name, {"role": role})

    def set_password(self, name: str, password: str, actor: str, now: datetime) -> None:
        """Replace a user's password hash; ends all their sessions and forgets their failed logins."""
        values = {"password": password, "password_at": now}
        self._change_user(name, values, actor, "user.password", {})

    def set_role(self, name: str, role: str, actor: str) -> None:
        """Give a user another role; ends all their sessions."""
        self._change_user(name, {"role": role}, actor, "user.role", {"role": role})

    def disable_user(self, name: str, actor: str, now: datetime) -> None:
        """A user may not sign in any more; ends all their sessions."""
        self._change_user(name, {"disabled_at": now}, actor, "user.disabled", {})

    def enable_user(self, name: str, actor: str) -> None:
        """A disabled user may sign in again."""
        self._change_user(name, {"disabled_at": None}, actor, "user.enabled", {})

    def rehash(self, number: int, password: str) -> None:
        """Replace a hash by one of the same password at today's costs."""
        with self._database.begin() as connection:
            connection.execute(update(users).where(users.c.number == number).values(password=password))

    def _change_user(
        self, name: str, values: Mapping[str, object], actor: str, action: str, details: Mapping[str, str]
    ) -> None:
        with self._database.begin() as connection:
            changed = update(users).where(users.c.name == name).values(values).returning(users.c.number)
            number = connection.execute(changed).scalar()
            if number is None:
                raise AccessError(f"expected the name of a user, got {name!r}; see: users list")
            ended = connection.execute(delete(sessions).where(sessions.c.user_number == number)).rowcount
            self._note(connection, actor, action, name, {**details, "sessions_ended": ended})

    # --- sessions -------------------------------------------------------------------------------

    def open_session(
        self,
        user: User,
        token_sha256: str,
        now: datetime,
        expires_at: datetime,
        subjects: tuple[str, str, str],
    ) -> None:
        """A login succeeded: a new session; failures of `subjects` (pair, account, address) are forgotten.

        Expired sessions are swept out.
        """
        row = {"token_sha256": token_sha256, "user_number": user.number, "opened_at": now, "seen_at": now}
        with self._database.begin() as connection:
            connection.execute(update(users).where(users.c.number == user.number).values(last_login_at=now))
            connection.execute(delete(sessions).where(sessions.c.expires_at < now))
            connection.execute(insert(sessions).values({**row, "expires_at": expires_at}))
            forget_failures(connection, *subjects, now)
            self._note(connection, f"user:{user.name}", "session.opened", user.name)

    def find_session(self, token_sha256: str, now: datetime, idle: timedelta) -> OpenSession | None:
        """The open session of a token, noted as used; None when there is none, it expired or lay idle."""
        query = (
            select(sessions, users.c.name, users.c.role)
            .join_from(sessions, users)
            .where(sessions.c.token_sha256 == token_sha256, users.c.disabled_at.is_(None))
        )
        with self._database.connect() as connection:
            row = connection.execute(query).first()
        if row is None or now >= row.expires_at or now - row.seen_at >= idle:
            return None
        if now - row.seen_at >= TOUCH:
            with self._database.begin() as connection:
                seen = update(sessions).where(sessions.c.number == row.number).values(seen_at=now)
                connection.execute(seen)
        return OpenSession(row.number, row.name, row.role, row.opened_at, row.expires_at)

    def end_session(self, token_sha256: str) -> None:
        """A logout; an unknown token is fine."""
        with self._database.begin() as connection:
            ended = delete(sessions).where(sessions.c.token_sha256 == token_sha256)
            number = connection.execute(ended.returning(sessions.c.user_number)).scalar()
            if number is not None:
                name = connection.execute(select(users.c.name).where(users.c.number == number)).scalar_one()
                self._note(connection, f"user:{name}", "session.ended", name)

    # --- audit ----------------------------------------------------------------------------------

    def note(self, actor: str, action: str, object: str, details: Mapping[str, Any] | None = None) -> None:
        """One entry in the audit log."""
        with self._database.begin() as connection:
            self._note(connection, actor, action, object, details)

    def _note(
        self,
        connection: Connection,
        actor: str,
        action: str,
        object: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        append(connection, self._audit_key, actor, action, object, details)


def _key(row: RowMapping) -> ApiKey:
    return ApiKey(**{**row, "scopes": frozenset(row["scopes"].split())})
