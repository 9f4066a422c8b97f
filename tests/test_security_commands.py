"""An application that is open by mistake does not start; keys and users are made by command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from serving.__main__ import cli
from serving.app import create_app
from serving.errors import StartError
from serving.settings import Settings
from tests.fakes import FakePredictor
from tests.guarded import PASSWORD, audited, bearer, classify, opened, production
from tests.running import appeal, loads, problem, running, settings

# --- development and production -----------------------------------------------------------------


def test_development_needs_no_key_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr("serving.security.gate.log", lambda event, level, **facts: told.append(facts))
    with running(tmp_path, address_requests_per_second=0.01, address_requests_burst=2) as client:
        answer = classify(client)
        assert answer.status_code == 200
        assert answer.headers["X-Jiesu-Environment"] == "development"
        assert "Strict-Transport-Security" not in answer.headers
        me = client.get("/v1/session").json()
        assert (me["environment"], me["kind"]) == ("development", "developer")
        problem(classify(client, bearer("jiesu_wrong_key")), 401, "not_signed_in")  # told early
        assert [client.get("/v1/scheme").status_code for _ in range(9)] == [200] * 9  # no limits here
    assert [one for one in told if "DEVELOPMENT" in one["problem"]]


def test_an_insecure_application_does_not_start(tmp_path: Path) -> None:
    for given in ({"environment": "production"}, {"host": "0.0.0.0"}):
        app = create_app(settings(tmp_path, **given), loads(FakePredictor()))
        with pytest.raises(StartError, match="does not start"), TestClient(app):
            pass


def test_the_command_lists_everything_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JIESU_ENVIRONMENT", "production")
    shown = CliRunner().invoke(cli, ["run", "--port", "0"])
    assert shown.exit_code == 2
    assert "keys create" in shown.stderr and "JIESU_TRUSTED_PROXIES" in shown.stderr
    assert "Traceback" not in shown.stderr
    monkeypatch.setenv("JIESU_ENVIRONMENT", "development")
    shown = CliRunner().invoke(cli, ["run", "--host", "0.0.0.0", "--port", "0"])
    assert shown.exit_code == 2 and "JIESU_ENVIRONMENT=production" in shown.stderr


# --- commands -----------------------------------------------------------------------------------


def test_keys_are_made_listed_and_revoked_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'jiesu.db'}")
    run = CliRunner()
    made = run.invoke(cli, ["keys", "create", "intake-system", "--scope", "intake", "--scope", "review"])
    shown = made.stdout.strip()
    assert made.exit_code == 0 and shown.startswith("jiesu_")
    listed = run.invoke(cli, ["keys", "list"]).stdout
    prefix = shown.split("_")[1]
    assert prefix in listed and "intake review" in listed and "in force" in listed
    assert shown not in listed
    with TestClient(create_app(production(tmp_path), loads(FakePredictor()))) as client:
        assert client.post("/v1/appeals", json=appeal(), headers=bearer(shown)).status_code == 201
    assert run.invoke(cli, ["keys", "revoke", prefix]).exit_code == 0
    assert "revoked" in run.invoke(cli, ["keys", "list"]).stdout
    for arguments in (
        ["revoke", prefix],
        ["create", "a b", "--scope", "intake"],
        ["create", "a", "--scope", "x"],
    ):
        refused = run.invoke(cli, ["keys", *arguments])
        assert refused.exit_code == 2 and "error: expected" in refused.stderr
    assert [event[1:] for event in audited(tmp_path)] == [("key.created", prefix), ("key.revoked", prefix)]


def test_users_are_made_and_changed_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'jiesu.db'}")
    run = CliRunner()

    def users(*arguments: str, password: str = PASSWORD) -> Any:
        return run.invoke(cli, ["users", *arguments], input=password + "\n")

    assert users("create", "Ｍing", "--role", "reviewer", "--stdin").exit_code == 0
    assert "ming" in users("list").stdout and "reviewer" in users("list").stdout
    for wrong in (
        users("create", "ming", "--role", "reviewer", "--stdin"),
        users("create", "hong", "--role", "king", "--stdin"),
        users("create", "hong", "--role", "lead", "--stdin", password="passwordpassword"),
        users("password", "nobody", "--stdin"),
        users("disable", "nobody"),
    ):
        assert wrong.exit_code == 2 and "error: expected" in wrong.stderr
    assert users("password", "ming", "--stdin", password="另外一串没有关联的词语拼成").exit_code == 2
    assert users("password", "ming", "--stdin", password="另外一串没有关联的词语拼成的口令").exit_code == 0
    for command in (("disable", "ming"), ("enable", "ming"), ("role", "ming", "--role", "lead")):
        assert users(*command).exit_code == 0
    with opened(tmp_path) as access:
        (user,) = access.all_users()
    assert (user.name, user.role, user.disabled_at) == ("ming", "lead", None)
    actions = [event[1] for event in audited(tmp_path)]
    assert actions == ["user.created", "user.password", "user.disabled", "user.enabled", "user.role"]


def test_every_command_shows_an_example() -> None:
    for command in (
        "keys create", "keys list", "keys revoke", "users create", "users list", "users password",
        "users role", "users disable", "users enable", "audit verify", "audit export", "audit anchor",
        "originals key", "originals rotate", "purge",
    ):  # fmt: skip
        shown = CliRunner().invoke(cli, [*command.split(), "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0 and f"python -m serving {command}" in shown.stdout


def test_settings_that_close_the_service_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.settings import load_settings

    assert Settings().environment == "development" and not Settings().secure_cookie
    monkeypatch.setenv("JIESU_ENVIRONMENT", "production")
    assert load_settings().secure_cookie
    monkeypatch.setenv("JIESU_ENVIRONMENT", "staging")
    with pytest.raises(StartError, match="environment"):
        load_settings()
