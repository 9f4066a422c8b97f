"""People against a running application: sessions, forged requests, failed logins."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from serving.security import throttling
from serving.security.throttling import Pause
from tests.guarded import OWN, PASSWORD, Closed, audited, classify, closed, opened
from tests.running import MANHOLE, appeal, problem

# --- sessions -----------------------------------------------------------------------------------


def test_a_person_signs_in_works_and_signs_out(closed_app: Closed) -> None:
    browser = closed_app.signed_in("lead")
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


def test_the_cookie_is_out_of_reach(closed_app: Closed) -> None:
    answer = closed_app.browser().post("/v1/session", json={"name": "lead", "password": PASSWORD})
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-jiesu=")
    for part in ("HttpOnly", "Secure", "SameSite=strict", "Path=/", "Max-Age=43200"):
        assert part in cookie
    assert "domain" not in cookie.lower()
    assert answer.json()["csrf"] not in cookie


def test_each_login_has_a_token_of_its_own_and_ends_the_one_before(closed_app: Closed) -> None:
    browser = closed_app.browser()
    browser.cookies.set("__Host-jiesu", "planted-by-somebody")
    answer = browser.post("/v1/session", json={"name": "trainer", "password": PASSWORD})
    first = answer.cookies["__Host-jiesu"]
    assert first != "planted-by-somebody" and len(first) >= 43
    browser = closed_app.browser()
    browser.cookies.set("__Host-jiesu", first)
    second = browser.post("/v1/session", json={"name": "trainer", "password": PASSWORD}).cookies[
        "__Host-jiesu"
    ]
    assert second != first
    old = closed_app.browser()
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


def test_wrong_name_and_wrong_password_look_the_same(closed_app: Closed) -> None:
    answers = [
        closed_app.browser().post("/v1/session", json={"name": name, "password": password})
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
def test_a_request_from_elsewhere_changes_nothing(closed_app: Closed, headers: dict[str, str]) -> None:
    browser = closed_app.signed_in("lead")
    del browser.headers["Sec-Fetch-Site"]
    error = problem(browser.delete("/v1/session", headers=headers), 403, "foreign_request")
    assert error["field"] in ("Origin", "Sec-Fetch-Site")
    assert browser.get("/v1/session").json()["kind"] == "user"
    login = closed_app.client.post(
        "/v1/session", json={"name": "lead", "password": PASSWORD}, headers=headers
    )
    problem(login, 403, "foreign_request")


def test_a_browser_without_fetch_metadata_is_believed_by_its_origin(closed_app: Closed) -> None:
    browser = closed_app.signed_in("lead")
    del browser.headers["Sec-Fetch-Site"]
    assert browser.delete("/v1/session", headers={"Origin": "https://jiesu.test"}).status_code == 204


@pytest.mark.parametrize("token", [b"", b"0" * 64, b"\xe9"])
def test_a_request_without_the_sessions_token_changes_nothing(closed_app: Closed, token: bytes) -> None:
    browser = closed_app.signed_in("lead")
    del browser.headers["X-CSRF-Token"]
    forged: Any = {"X-CSRF-Token": token}
    error = problem(browser.post("/v1/appeals", json=appeal("C-1"), headers=forged), 403, "foreign_request")
    assert error["field"] == "X-CSRF-Token"
    assert browser.get("/v1/appeals/C-1").status_code == 404


def test_the_token_of_one_session_does_not_fit_another(closed_app: Closed) -> None:
    first, second = closed_app.signed_in("lead"), closed_app.signed_in("lead")
    first.headers["X-CSRF-Token"] = second.headers["X-CSRF-Token"]
    problem(first.delete("/v1/session"), 403, "foreign_request")


def test_a_key_needs_no_token(closed_app: Closed) -> None:
    headers = {**closed_app.key("intake"), "Sec-Fetch-Site": "cross-site"}
    assert classify(closed_app.client, headers).status_code == 200


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


def test_a_page_asks_people_to_sign_in(closed_app: Closed) -> None:
    sent = closed_app.browser().get("/", follow_redirects=False)
    assert (sent.status_code, sent.headers["Location"]) == (303, "/login")
    login = closed_app.browser().get("/login")
    assert login.status_code == 200 and 'id="password"' in login.text
    assert "unsafe" not in login.headers["Content-Security-Policy"]
    assert "<style" not in login.text and " style=" not in login.text and "onclick" not in login.text
    page = closed_app.signed_in("reviewer").get("/")
    assert page.status_code == 200 and MANHOLE not in page.text
