"""An application closed as in production, with a key per scope and a person per role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from data.access import Access
from data.audit import AuditLog
from data.database import Database
from serving.app import create_app
from serving.security.keys import make_key
from serving.security.passwords import Passwords
from serving.security.roles import ROLES, SCOPES
from serving.settings import Settings
from tests.fakes import FakePredictor
from tests.running import loads, settings

__all__ = ["PASSWORD", "Closed", "bearer", "cheaply", "closed", "new_key", "opened", "production"]

PASSWORD = "三更灯火-五更鸡鸣-墨水瓶与风筝"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # what is slow is not what is tested
OWN = {"Sec-Fetch-Site": "same-origin"}


def production(folder: Path, **given: Any) -> Settings:
    own = {"environment": "production", "trusted_proxies": "127.0.0.1", "key_refresh_seconds": 0.05}
    return settings(folder, **{**own, **given})


@contextmanager
def opened(folder: Path, audit_key: bytes | None = None) -> Iterator[Access]:
    """Keys and users of the application's database."""
    database = Database.open(f"sqlite:///{folder / 'jiesu.db'}")
    database.migrate()
    yield Access(database, audit_key)
    database.close()


def new_key(access: Access, name: str, *scopes: str, days: float | None = None) -> str:
    """A stored key, as its client sends it."""
    now = datetime.now(UTC)
    made = make_key(name, scopes, None if days is None else now + timedelta(days=days))
    access.add_key(made.stored, "cli:test", now)
    return made.shown


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True)
class Closed:
    """The running application, and the keys by scope. Users are named for their roles."""

    app: Any
    client: TestClient
    keys: Mapping[str, str]

    def key(self, scope: str) -> dict[str, str]:
        return bearer(self.keys[scope])

    def browser(self) -> TestClient:
        """A client with cookies of its own; what it sends comes from our own page."""
        client = TestClient(self.app, base_url="https://jiesu.test")
        client.portal = self.client.portal  # one event loop for all: the application lives in it
        client.headers.update(OWN)
        return client

    def signed_in(self, name: str, password: str = PASSWORD) -> TestClient:
        """A browser in which a person has signed in; it sends the token of its session."""
        browser = self.browser()
        answer = browser.post("/v1/session", json={"name": name, "password": password})
        assert answer.status_code == 201, answer.text
        browser.headers["X-CSRF-Token"] = answer.json()["csrf"]
        return browser


def cheaply(app: Any) -> None:
    """Let the application check passwords at no cost."""
    app.state.gate.passwords = Passwords(CHEAP, CHEAP.hash("nobody has this one"))


@contextmanager
def closed(folder: Path, predictor: FakePredictor | None = None, **given: Any) -> Iterator[Closed]:
    """As in production: every scope has a key, every role a person with PASSWORD."""
    with opened(folder) as access:
        keys = {scope: new_key(access, f"{scope}-client", scope) for scope in sorted(SCOPES)}
        hashed = CHEAP.hash(PASSWORD)
        for role in ROLES:
            access.add_user(role, hashed, role, "cli:test", datetime.now(UTC))
    app = create_app(production(folder, **given), loads(predictor or FakePredictor()))
    cheaply(app)
    with TestClient(app, base_url="https://jiesu.test") as client:
        yield Closed(app, client, keys)


@pytest.fixture(scope="module")
def closed_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    """One for all tests of a module."""
    with closed(tmp_path_factory.mktemp("closed")) as found:
        yield found


def audited(folder: Path) -> list[tuple[str, str, str]]:
    """Actor, action and object of all that the audit log holds; fails where it was tampered with."""
    database = Database.open(f"sqlite:///{folder / 'jiesu.db'}")
    log = AuditLog(database)
    assert log.verify().problems == ()
    found = [(entry.actor, entry.action, entry.object) for entry in log.entries()]
    database.close()
    return found


def classify(client: TestClient, headers: dict[str, str] | None = None, text: str = "路灯坏了") -> Any:
    return client.post("/v1/classify", json={"texts": [text]}, headers=headers)
