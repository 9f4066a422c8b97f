"""Closed to strangers, against a running application: keys, sessions, forged requests, rate limits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from data.audit import AuditLog
from data.database import Database
from serving.__main__ import cli
from serving.app import create_app
from serving.errors import StartError
from serving.security import throttling
from serving.security.sealing import make_key_file
from serving.security.throttling import Pause
from serving.settings import Settings
from tests.fakes import FakePredictor
from tests.guarded import OWN, PASSWORD, Closed, bearer, closed, new_key, opened, production
from tests.running import MANHOLE, appeal, loads, problem, running, settings, until

URGENT = "快救命！孩子掉进河里了！"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    with closed(tmp_path_factory.mktemp("closed")) as found:
        yield found


def audited(folder: Path) -> list[tuple[str, str, str]]:
    database = Database.open(f"sqlite:///{folder / 'jiesu.db'}")
    log = AuditLog(database)
    assert log.verify().problems == ()
    found = [(entry.actor, entry.action, entry.object) for entry in log.entries()]
    database.close()
    return found


def classify(client: TestClient, headers: dict[str, str] | None = None, text: str = "路灯坏了") -> Any:
    return client.post("/v1/classify", json={"texts": [text]}, headers=headers)


# --- keys ---------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_answered_and_with_one_it_is(shared: Closed) -> None:
    refused = classify(shared.client)
    assert problem(refused, 401, "not_signed_in")["hint"]
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert classify(shared.client, shared.key("intake")).status_code == 200
    assert classify(shared.client, {"Authorization": f"bearer  {shared.keys['intake']}"}).status_code == 200


@pytest.mark.parametrize(
    "wrong", ["", "Bearer", "Bearer jiesu_x_y", "Basic YTpi", "Token abc", "Bearer \xff"]
)
def test_a_wrong_key_is_refused(shared: Closed, wrong: str) -> None:
    headers = {"Authorization": wrong.encode("latin-1")}
    problem(shared.client.get("/v1/scheme", headers=headers), 401, "not_signed_in")  # type: ignore[arg-type]


def test_a_key_does_what_its_scopes_say(shared: Closed) -> None:
    error = problem(
        shared.client.post("/v1/appeals", json=appeal(), headers=shared.key("review")), 403, "not_allowed"
    )
    assert error["expected"] == "其中之一：intake" and error["got"] == "review"


def test_a_new_key_works_and_a_revoked_one_stops_without_a_restart(tmp_path: Path) -> None:
    with closed(tmp_path) as it, opened(tmp_path) as access:
        fresh = new_key(access, "later", "intake")
        until(lambda: classify(it.client, bearer(fresh)).status_code == 200)
        access.revoke_key(fresh.split("_")[1], "cli:test", datetime.now(UTC))
        until(lambda: classify(it.client, bearer(fresh)).status_code == 401)
        assert classify(it.client, it.key("intake")).status_code == 200


def test_an_expired_key_stops(tmp_path: Path) -> None:
    with opened(tmp_path) as access:
        ended, lasting = new_key(access, "old", "intake", days=-1), new_key(access, "new", "intake", days=1)
    with TestClient(create_app(production(tmp_path), loads(FakePredictor()))) as client:
        problem(classify(client, bearer(ended)), 401, "not_signed_in")
        assert classify(client, bearer(lasting)).status_code == 200


def test_keys_go_on_working_while_the_database_is_away(tmp_path: Path) -> None:
    with closed(tmp_path, key_refresh_seconds=0.02) as it:
        (tmp_path / "jiesu.db").rename(tmp_path / "away.db")
        until(lambda: it.client.get("/readyz").status_code == 503)
        assert classify(it.client, it.key("intake")).status_code == 200
        assert classify(it.client, it.key("train")).status_code == 200  # never used before
        problem(classify(it.client, bearer("jiesu_unknown_key")), 401, "not_signed_in")
        browser = it.browser()
        browser.cookies.set("__Host-jiesu", "somebody")
        error = problem(classify(browser), 503, "store_not_ready")
        assert error["got"] == ""  # whoever asks is not known yet: no reason that names hosts
        (tmp_path / "away.db").rename(tmp_path / "jiesu.db")
        until(lambda: it.client.get("/readyz").status_code == 200)


def test_without_ever_having_read_the_keys_nobody_is_called_a_stranger(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where the folder should be")
    given = production(tmp_path, database_url=f"sqlite:///{tmp_path}/var/jiesu.db")
    with TestClient(create_app(given, loads(FakePredictor()))) as client:
        problem(classify(client, bearer("jiesu_any_key")), 503, "store_not_ready")
        problem(classify(client), 401, "not_signed_in")


def test_last_use_is_noted(tmp_path: Path) -> None:
    with closed(tmp_path) as it:
        classify(it.client, it.key("intake"))
    with opened(tmp_path) as access:
        used = {key.name: key.last_used_at for key in access.all_keys()}
    assert used["intake-client"] is not None and used["train-client"] is None


def test_the_database_holds_no_secret(tmp_path: Path) -> None:
    with closed(tmp_path) as it:
        browser = it.signed_in("reviewer")
        token = browser.cookies["__Host-jiesu"]
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        everything = "\n".join(plain.iterdump())
    for secret in (*it.keys.values(), PASSWORD, token, browser.headers["X-CSRF-Token"]):
        assert secret not in everything and secret.split("_", 2)[-1] not in everything


# --- sessions -----------------------------------------------------------------------------------


def test_a_person_signs_in_works_and_signs_out(shared: Closed) -> None:
    browser = shared.signed_in("lead")
    me = browser.get("/v1/session").json()
    assert (me["kind"], me["name"], me["role"], me["scopes"]) == (
        "user",
        "lead",
        "lead",
        ["intake", "review"],
    )
    answer = classify(browser)
    assert answer.status_code == 200, answer.text
    token = browser.cookies["__Host-jiesu"]
    assert browser.delete("/v1/session").status_code == 204
    assert "__Host-jiesu" not in browser.cookies
    browser.cookies.set("__Host-jiesu", token)  # somebody had copied it
    problem(classify(browser), 401, "not_signed_in")
    assert browser.get("/v1/session").json()["kind"] == "anonymous"


def test_the_cookie_is_out_of_reach(shared: Closed) -> None:
    answer = shared.browser().post("/v1/session", json={"name": "lead", "password": PASSWORD})
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-jiesu=")
    for part in ("HttpOnly", "Secure", "SameSite=strict", "Path=/", "Max-Age=43200"):
        assert part in cookie
    assert "domain" not in cookie.lower()
    assert answer.json()["csrf"] not in cookie


def test_each_login_has_a_token_of_its_own_and_ends_the_one_before(shared: Closed) -> None:
    browser = shared.browser()
    browser.cookies.set("__Host-jiesu", "planted-by-somebody")
    answer = browser.post("/v1/session", json={"name": "trainer", "password": PASSWORD})
    first = answer.cookies["__Host-jiesu"]
    assert first != "planted-by-somebody" and len(first) >= 43
    browser = shared.browser()
    browser.cookies.set("__Host-jiesu", first)
    second = browser.post("/v1/session", json={"name": "trainer", "password": PASSWORD}).cookies[
        "__Host-jiesu"
    ]
    assert second != first
    old = shared.browser()
    old.cookies.set("__Host-jiesu", first)
    problem(old.get("/v1/scheme"), 401, "not_signed_in")


@pytest.mark.parametrize(
    ("column", "moment"), [("seen_at", timedelta(minutes=-61)), ("expires_at", timedelta(seconds=-1))]
)
def test_a_session_ends_when_it_lies_idle_and_in_any_case(
    tmp_path: Path, column: str, moment: timedelta
) -> None:
    with closed(tmp_path) as it:
        browser = it.signed_in("reviewer")
        assert browser.get("/v1/scheme").status_code == 200
        when = (datetime.now(UTC) + moment).replace(tzinfo=None).isoformat(" ")
        with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain, plain:
            plain.execute(f"UPDATE sessions SET {column} = ?", (when,))
        problem(browser.get("/v1/scheme"), 401, "not_signed_in")


def test_use_keeps_a_session_alive(tmp_path: Path) -> None:
    with closed(tmp_path) as it:
        browser = it.signed_in("reviewer")
        with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain, plain:
            earlier = (datetime.now(UTC) - timedelta(minutes=50)).replace(tzinfo=None).isoformat(" ")
            plain.execute("UPDATE sessions SET seen_at = ?", (earlier,))
            plain.commit()
            assert browser.get("/v1/scheme").status_code == 200
            (seen,) = plain.execute("SELECT seen_at FROM sessions").fetchone()
        assert seen > earlier


@pytest.mark.parametrize("change", ["password", "disable", "role"])
def test_a_change_of_a_user_ends_all_their_sessions(tmp_path: Path, change: str) -> None:
    with closed(tmp_path) as it, opened(tmp_path) as access:
        first, second, other = (it.signed_in(name) for name in ("reviewer", "reviewer", "lead"))
        now = datetime.now(UTC)
        if change == "password":
            access.set_password(
                "reviewer", it.app.state.gate.passwords.hash("一串全新的词语放在一起"), "cli:x", now
            )
        elif change == "disable":
            access.disable_user("reviewer", "cli:x", now)
        else:
            access.set_role("reviewer", "operator", "cli:x")
        for browser in (first, second):
            problem(browser.get("/v1/scheme"), 401, "not_signed_in")
        assert other.get("/v1/scheme").status_code == 200
        again = it.browser().post("/v1/session", json={"name": "reviewer", "password": PASSWORD})
        assert again.status_code == (201 if change == "role" else 401)


def test_wrong_name_and_wrong_password_look_the_same(shared: Closed) -> None:
    answers = [
        shared.browser().post("/v1/session", json={"name": name, "password": password})
        for name, password in (("operator", "falsch-falsch-falsch"), ("nobody-here", PASSWORD))
    ]
    assert problem(answers[0], 401, "wrong_login") == problem(answers[1], 401, "wrong_login")


# --- requests forged by other sites -------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
    ],
)
def test_a_request_from_elsewhere_changes_nothing(shared: Closed, headers: dict[str, str]) -> None:
    browser = shared.signed_in("lead")
    del browser.headers["Sec-Fetch-Site"]
    error = problem(browser.delete("/v1/session", headers=headers), 403, "foreign_request")
    assert error["field"] in ("Origin", "Sec-Fetch-Site")
    assert browser.get("/v1/session").json()["kind"] == "user"
    login = shared.client.post("/v1/session", json={"name": "lead", "password": PASSWORD}, headers=headers)
    problem(login, 403, "foreign_request")


def test_a_browser_without_fetch_metadata_is_believed_by_its_origin(shared: Closed) -> None:
    browser = shared.signed_in("lead")
    del browser.headers["Sec-Fetch-Site"]
    assert browser.delete("/v1/session", headers={"Origin": "https://jiesu.test"}).status_code == 204


@pytest.mark.parametrize("token", [b"", b"0" * 64, b"\xe9"])
def test_a_request_without_the_sessions_token_changes_nothing(shared: Closed, token: bytes) -> None:
    browser = shared.signed_in("lead")
    del browser.headers["X-CSRF-Token"]
    forged: Any = {"X-CSRF-Token": token}
    error = problem(browser.post("/v1/appeals", json=appeal("C-1"), headers=forged), 403, "foreign_request")
    assert error["field"] == "X-CSRF-Token"
    assert browser.get("/v1/appeals/C-1").status_code == 404


def test_the_token_of_one_session_does_not_fit_another(shared: Closed) -> None:
    first, second = shared.signed_in("lead"), shared.signed_in("lead")
    first.headers["X-CSRF-Token"] = second.headers["X-CSRF-Token"]
    problem(first.delete("/v1/session"), 403, "foreign_request")


def test_a_key_needs_no_token(shared: Closed) -> None:
    headers = {**shared.key("intake"), "Sec-Fetch-Site": "cross-site"}
    assert classify(shared.client, headers).status_code == 200


# --- failed logins ------------------------------------------------------------------------------


@pytest.fixture
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that last longer than any test."""
    monkeypatch.setattr(throttling, "PAIR", Pause(free=5, first=600, longest=900))
    monkeypatch.setattr(throttling, "ADDRESS", Pause(free=30, first=600, longest=600))


@pytest.mark.usefixtures("long_pauses")
def test_failed_logins_slow_down_and_a_known_person_gets_in(tmp_path: Path) -> None:
    with closed(tmp_path, address_requests_burst=1000) as it:
        browser = it.browser()
        wrong = {"name": "reviewer", "password": "falsch-falsch-falsch"}
        statuses = [browser.post("/v1/session", json=wrong).status_code for _ in range(7)]
        assert statuses == [401] * 5 + [429] * 2
        refused = browser.post("/v1/session", json={"name": "reviewer", "password": PASSWORD})
        assert problem(refused, 429, "login_wait")["field"] == "login_failures"
        assert 300 < int(refused.headers["Retry-After"]) <= 600
        assert it.signed_in("lead")  # another person at the same address
        with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain, plain:
            before = (datetime.now(UTC) - timedelta(minutes=11)).replace(tzinfo=None).isoformat(" ")
            plain.execute("UPDATE logins SET failed_at = ?", (before,))
        assert it.signed_in("reviewer")
        assert browser.post("/v1/session", json=wrong).status_code == 401  # the failures are forgotten


@pytest.mark.usefixtures("long_pauses")
def test_many_tries_at_once_get_no_more_tries(tmp_path: Path) -> None:
    with closed(tmp_path, address_requests_burst=1000) as it, ThreadPoolExecutor(12) as pool:
        body = {"name": "reviewer", "password": "falsch-falsch-falsch"}
        post = lambda _: it.client.post("/v1/session", json=body, headers=OWN).status_code  # noqa: E731
        statuses = sorted(pool.map(post, range(12)))
    assert statuses == [401] * 5 + [429] * 7


@pytest.mark.usefixtures("long_pauses")
def test_guessing_at_many_accounts_from_one_address_slows_down(tmp_path: Path) -> None:
    with closed(tmp_path, address_requests_burst=1000) as it:
        assert it.signed_in("lead")  # known here from now on
        statuses = [
            it.client.post(
                "/v1/session", json={"name": f"n{n}", "password": "falsch-falsch"}, headers=OWN
            ).status_code
            for n in range(32)
        ]
        assert statuses == [401] * 30 + [429] * 2
        assert it.signed_in("lead")
        unknown_here = it.browser().post("/v1/session", json={"name": "trainer", "password": PASSWORD})
        problem(unknown_here, 429, "login_wait")
    events = [event for event in audited(tmp_path) if event[0] == "anonymous"]
    assert events == []  # what was typed as a name may be a password


# --- rate limits --------------------------------------------------------------------------------


def test_one_key_over_its_limit_is_told_which_and_harms_no_other(tmp_path: Path) -> None:
    with closed(tmp_path, key_requests_per_second=0.01, key_requests_burst=3) as it:
        answers = [classify(it.client, it.key("intake")) for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        error = problem(answers[3], 429, "rate_limited")
        assert error["field"] == "key_requests_per_second" and "0.01" in error["expected"]
        assert int(answers[3].headers["Retry-After"]) > 1
        assert classify(it.client, it.key("train")).status_code == 200
        metrics = it.client.get("/metrics", headers=it.key("operate")).text
        scope = 'scope="intake|review|train"'
        assert f'jiesu_rate_limited_total{{limit="key_requests_per_second",{scope}}} 1.0' in metrics


def test_an_urgent_appeal_is_taken_up_whatever_the_limit(tmp_path: Path) -> None:
    with closed(tmp_path, key_requests_per_second=0.01, key_requests_burst=1) as it:
        key = it.key("intake")
        assert classify(it.client, key).status_code == 200
        problem(
            it.client.post("/v1/appeals", json=appeal("R-1", "路灯坏了"), headers=key), 429, "rate_limited"
        )
        for number in range(5):
            answer = it.client.post("/v1/appeals", json=appeal(f"U-{number}", URGENT), headers=key)
            assert answer.status_code == 201
        assert classify(it.client, key, URGENT).status_code == 200
        problem(classify(it.client, key), 429, "rate_limited")
        problem(it.client.get("/v1/appeals/U-1", headers=key), 429, "rate_limited")
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        stored = plain.execute("SELECT id FROM appeals ORDER BY id").fetchall()
    assert stored == [(f"U-{number}",) for number in range(5)]


def test_strangers_are_limited_by_address_and_by_wrong_keys(tmp_path: Path) -> None:
    with closed(tmp_path, address_requests_per_second=0.01, address_requests_burst=4) as it:
        for headers in ({}, bearer("jiesu_wrong_key")):
            problem(classify(it.client, headers), 401, "not_signed_in")
        problem(it.client.get("/none"), 404, "not_found")
        problem(it.client.get("/v1/scheme"), 401, "not_signed_in")
        error = problem(it.client.get("/v1/session"), 429, "rate_limited")
        assert error["field"] == "address_requests_per_second"
        problem(it.client.get("/v1/scheme", headers=bearer("jiesu_wrong_key")), 429, "rate_limited")
        assert classify(it.client, it.key("intake")).status_code == 200  # a key counts for itself
        for path in ("/livez", "/readyz", "/login", "/static/login.js"):
            assert it.client.get(path).status_code == 200


# --- development and production -----------------------------------------------------------------


def test_development_needs_no_key_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr("serving.security.gate.log", lambda event, level, **facts: told.append(facts))
    with running(tmp_path) as client:
        answer = classify(client)
        assert answer.status_code == 200
        assert answer.headers["X-Jiesu-Environment"] == "development"
        assert "Strict-Transport-Security" not in answer.headers
        me = client.get("/v1/session").json()
        assert (me["environment"], me["kind"]) == ("development", "developer")
        problem(classify(client, bearer("jiesu_wrong_key")), 401, "not_signed_in")  # told early
        assert [client.get("/v1/scheme").status_code for _ in range(300)] == [200] * 300
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


# --- audit, originals, retention ----------------------------------------------------------------


def test_what_people_do_is_audited_and_what_programs_do_is_not(tmp_path: Path) -> None:
    with closed(tmp_path) as it:
        it.client.post("/v1/appeals", json=appeal("P-1"), headers=it.key("intake"))
        it.client.get("/v1/appeals/P-1", headers=it.key("intake"))
        browser = it.signed_in("reviewer")
        assert browser.get("/v1/appeals/P-1").status_code == 200
        it.browser().post("/v1/session", json={"name": "lead", "password": "falsch-falsch-falsch"})
        it.browser().post("/v1/session", json={"name": "a-password-perhaps", "password": "x"})
        browser.delete("/v1/session")
    events = [event for event in audited(tmp_path) if event[0] != "cli:test"]
    assert events == [
        ("user:reviewer", "session.opened", "reviewer"),
        ("user:reviewer", "appeal.read", "P-1"),
        ("anonymous", "session.refused", "lead"),
        ("user:reviewer", "session.ended", "reviewer"),
    ]


PRIVATE = "电话13912345678，门口的井盖不见了"


def test_originals_are_not_kept_unless_asked_for(tmp_path: Path) -> None:
    with closed(tmp_path) as it:
        it.client.post("/v1/appeals", json=appeal("O-1", PRIVATE), headers=it.key("intake"))
        read = it.client.get("/v1/appeals/O-1/original", headers=it.key("review"))
        problem(read, 404, "original_not_kept")
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        assert "13912345678" not in "\n".join(plain.iterdump())


def test_an_original_is_encrypted_and_each_reading_is_audited(tmp_path: Path) -> None:
    make_key_file(tmp_path / "key")
    with closed(tmp_path, originals_key=tmp_path / "key") as it:
        sent = appeal("O-1", PRIVATE, title="关于井盖")
        it.client.post("/v1/appeals", json=sent, headers=it.key("intake"))
        line = orjson.dumps({"id": "O-2", "text": PRIVATE})
        bulk = {**it.key("intake"), "Content-Type": "application/x-ndjson"}
        assert it.client.post("/v1/appeals:bulk", content=line, headers=bulk).status_code == 200
        for id, title in (("O-1", "关于井盖"), ("O-2", "")):
            read = it.signed_in("reviewer").get(f"/v1/appeals/{id}/original")
            assert read.json() == {"id": id, "title": title, "text": PRIVATE}
        assert read.headers["Cache-Control"] == "no-store"
        refused = it.client.get("/v1/appeals/O-1/original", headers=it.key("intake"))
        problem(refused, 403, "not_allowed")
        it.client.get("/v1/appeals/O-1/original", headers=it.key("review"))
    reads = [event for event in audited(tmp_path) if event[1] == "original.read"]
    prefix = it.keys["review"].split("_")[1]
    assert reads == [
        ("user:reviewer", "original.read", "O-1"),
        ("user:reviewer", "original.read", "O-2"),
        (f"key:{prefix}", "original.read", "O-1"),
    ]
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        everything = "\n".join(plain.iterdump())
    assert "13912345678" not in everything and b"13912345678".hex().upper() not in everything


def test_originals_are_sealed_anew_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, both, new = tmp_path / "old", tmp_path / "both", tmp_path / "new"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'jiesu.db'}")
    assert CliRunner().invoke(cli, ["originals", "key", str(old)]).exit_code == 0
    with closed(tmp_path, originals_key=old) as it:
        for number in range(7):
            it.client.post("/v1/appeals", json=appeal(f"O-{number}", PRIVATE), headers=it.key("intake"))
    CliRunner().invoke(cli, ["originals", "key", str(new)])
    both.write_bytes(new.read_bytes() + old.read_bytes())
    monkeypatch.setenv("JIESU_ORIGINALS_KEY", str(both))
    shown = CliRunner().invoke(cli, ["originals", "rotate"])
    assert shown.exit_code == 0 and "sealed 7 originals" in shown.stdout
    given = production(tmp_path, originals_key=new)
    with TestClient(create_app(given, loads(FakePredictor()))) as client:
        read = client.get("/v1/appeals/O-6/original", headers=it.key("review"))
        assert read.json()["text"] == PRIVATE
    given = production(tmp_path, originals_key=old)
    with TestClient(create_app(given, loads(FakePredictor()))) as client:
        read = client.get("/v1/appeals/O-6/original", headers=it.key("review"))
        problem(read, 503, "original_sealed")


def test_purge_deletes_the_old_with_all_that_hangs_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key_file(tmp_path / "key")
    now = datetime.now(UTC)
    with running(tmp_path, originals_key=tmp_path / "key") as client:
        for number in range(30):
            day = now - timedelta(days=10 * number)
            client.post("/v1/appeals", json=appeal(f"D-{number}", received_at=day.isoformat()))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'jiesu.db'}")
    monkeypatch.setattr("data.purge.BATCH", 4)

    def counts() -> list[int]:
        tables = ("appeals", "answers", "appeal_originals")
        with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
            return [plain.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]

    dry = CliRunner().invoke(cli, ["purge", "--older-than", "95", "--dry-run"])
    assert dry.exit_code == 0 and "would delete" in dry.stdout and "20 appeals" in dry.stdout
    assert counts() == [30, 30, 30]
    done = CliRunner().invoke(cli, ["purge", "--older-than", "95"])
    assert done.exit_code == 0, done.stderr
    for part in ("20 appeals", "20 answers", "20 appeal_originals"):
        assert part in done.stdout
    assert counts() == [10, 10, 10]
    assert [event[1] for event in audited(tmp_path)] == ["purge.started", "purge.done"]
    again = CliRunner().invoke(cli, ["purge", "--older-than", "95"])
    assert "0 appeals" in again.stdout
    with running(tmp_path) as client:
        assert client.get("/v1/appeals/D-9").status_code == 200
        problem(client.get("/v1/appeals/D-10"), 404, "appeal_not_found")


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


def test_a_page_asks_people_to_sign_in(shared: Closed) -> None:
    sent = shared.browser().get("/", follow_redirects=False)
    assert (sent.status_code, sent.headers["Location"]) == (303, "/login")
    login = shared.browser().get("/login")
    assert login.status_code == 200 and 'id="password"' in login.text
    assert "unsafe" not in login.headers["Content-Security-Policy"]
    assert "<style" not in login.text and " style=" not in login.text and "onclick" not in login.text
    page = shared.signed_in("reviewer").get("/")
    assert page.status_code == 200 and MANHOLE not in page.text


def test_settings_that_close_the_service_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.settings import load_settings

    assert Settings().environment == "development" and not Settings().secure_cookie
    monkeypatch.setenv("JIESU_ENVIRONMENT", "production")
    assert load_settings().secure_cookie
    monkeypatch.setenv("JIESU_ENVIRONMENT", "staging")
    with pytest.raises(StartError, match="environment"):
        load_settings()
