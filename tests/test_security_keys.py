"""API keys against a running application: who is let in, and how often."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from tests.fakes import FakePredictor
from tests.guarded import PASSWORD, Closed, bearer, classify, closed, new_key, opened, production
from tests.running import appeal, loads, problem, until

URGENT = "快救命！孩子掉进河里了！"


# --- keys ---------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_answered_and_with_one_it_is(closed_app: Closed) -> None:
    refused = classify(closed_app.client)
    assert problem(refused, 401, "not_signed_in")["hint"]
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert classify(closed_app.client, closed_app.key("intake")).status_code == 200
    lower = {"Authorization": f"bearer  {closed_app.keys['intake']}"}
    assert classify(closed_app.client, lower).status_code == 200


@pytest.mark.parametrize(
    "wrong", ["", "Bearer", "Bearer jiesu_x_y", "Basic YTpi", "Token abc", "Bearer \xff"]
)
def test_a_wrong_key_is_refused(closed_app: Closed, wrong: str) -> None:
    headers = {"Authorization": wrong.encode("latin-1")}
    problem(closed_app.client.get("/v1/scheme", headers=headers), 401, "not_signed_in")  # type: ignore[arg-type]


def test_a_key_does_what_its_scopes_say(closed_app: Closed) -> None:
    error = problem(
        closed_app.client.post("/v1/appeals", json=appeal(), headers=closed_app.key("review")),
        403,
        "not_allowed",
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
    of_keys = [key.split("_", 2)[2] for key in it.keys.values()]  # what is before is stored
    for secret in (*of_keys, token, browser.headers["X-CSRF-Token"]):
        assert len(secret) >= 32 and secret not in everything
    assert PASSWORD not in everything


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
