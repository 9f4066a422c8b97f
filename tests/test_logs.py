"""Logs: one line per event, with ids to follow a request by, and never a resident's words."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import signal
import socket
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi.testclient import TestClient

from classifier.predictor import Prediction
from serving.app import create_app
from serving.logs import log, set_up_logs
from serving.routes import health
from serving.security.guard import declared_routes
from serving.security.sealing import make_key_file
from tests.fakes import FakePredictor, furnish
from tests.guarded import CHEAP, PASSWORD, closed, opened
from tests.running import JSON, appeal, loads, running, settings
from tests.served import Lives

PHONE, PERSON, CARD = "13987654321", "欧阳翠花", "440301199001011234"
WORDS = "紫色骆驼在屋顶弹琵琶"
TEXT = f"我叫{PERSON}，电话{PHONE}，身份证{CARD}，{WORDS}，井盖不见了"
ID = "geheime-Kennung"
LEAD = "blaumeise"
SECRETS = (PHONE, PERSON, CARD, WORDS, "骆驼", "琵琶", "翠花", PASSWORD, "falsches-Kennwort", ID)
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    """What `set_up_logs` sets is the process's own: put it back."""
    loggers = [logging.getLogger(name) for name in ("", "jiesu", "uvicorn")]
    before = [(one, list(one.handlers), one.propagate, one.level) for one in loggers]
    yield
    logging.captureWarnings(False)
    for one, handlers, propagates, level in before:
        one.handlers, one.propagate = handlers, propagates
        one.setLevel(level)


def lines(captured: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in captured.splitlines()]


def no_secret(captured: str, *more: str) -> None:
    for secret in (*SECRETS, *more):
        assert secret not in captured, secret
        assert secret.encode("unicode_escape").decode() not in captured, secret


class Talkative(FakePredictor):
    """Fails on a word, and quotes the text as it does."""

    def _one(self, text: str) -> Prediction:
        if "毒" in text:
            raise ValueError(f"cannot work on {text!r}, {TEXT}")
        return super()._one(text)


def exercise(client: TestClient, headers: dict[str, str]) -> None:
    """Every route about appeals, with what goes well and what does not."""
    post, get = client.post, client.get
    post("/v1/appeals", json=appeal("geheime-Kennung-1", TEXT, title=TEXT[:80]), headers=headers)
    post("/v1/appeals", json=appeal("geheime-Kennung-1", TEXT, title=TEXT[:80]), headers=headers)
    post("/v1/appeals", json=appeal("geheime-Kennung-1", TEXT + "！"), headers=headers)
    post("/v1/appeals", json=appeal("geheime-Kennung-2", "毒" + TEXT), headers=headers)
    post("/v1/appeals", json={"id": TEXT, "text": TEXT, PERSON: TEXT}, headers=headers)
    post("/v1/appeals", content=f'{{"text": "{TEXT}', headers={**headers, **JSON})
    post("/v1/appeals", content=TEXT.encode("gb18030"), headers={**headers, **JSON})
    post("/v1/appeals", content=TEXT.encode(), headers={**headers, "Content-Type": f"text/{PHONE}"})
    post("/v1/appeals", content=f'{{"text": "{TEXT * 40000}"}}', headers={**headers, **JSON})
    post(f"/v1/appeals?text={TEXT}", json=appeal("geheime-Kennung-3", TEXT), headers=headers)
    post("/v1/classify", json={"texts": [TEXT, "毒" + TEXT]}, headers=headers)
    post("/v1/classify", json={"texts": [TEXT], "place": {"street": TEXT}}, headers=headers)
    rows = [appeal("geheime-Kennung-4", TEXT), appeal("geheime-Kennung-5", "毒" + TEXT), {"text": TEXT}]
    body = b"\n".join([*map(orjson.dumps, rows), TEXT.encode(), TEXT.encode("gb18030")])
    post("/v1/appeals:bulk", content=body, headers={**headers, **NDJSON})
    post("/v1/appeals:bulk", content=body, headers={**headers, **NDJSON, "Content-Encoding": "gzip"})
    for id in ("geheime-Kennung-1", f"{ID}-{PHONE}", TEXT):
        get(f"/v1/appeals/{id}", headers=headers)
        get(f"/v1/appeals/{id}/original", headers=headers)


def review(client: TestClient) -> None:
    """Every route of reviewing, with what goes well and what does not."""

    def post(path: str, body: object) -> Any:
        return client.post(f"/v1/review/{path}", json=body)

    for path in ("queues", "labels", "disputes", "figures", f"appeals/{TEXT}"):
        client.get(f"/v1/review/{path}")
    for path in ("", "/history", "/similar"):
        client.get(f"/v1/review/appeals/geheime-Kennung-1{path}")
    lease = post("appeals/geheime-Kennung-1/take", {}).json()["task"]["lease"]["number"]
    post("take", {"queue": TEXT, "filters": {"street": TEXT}})
    flagged = post("appeals/geheime-Kennung-1/flags", {"spans": [[0, 2]]}).json()["flags"]
    client.delete(f"/v1/review/flags/{flagged[0]['number']}")
    labels = {"labels": {"category": "0203"}, "comment": TEXT, "token": "t-1"}
    post(f"leases/{lease}/extend", {})
    post(f"leases/{lease}/labels", {**labels, "labels": {TEXT: TEXT}})
    post(f"leases/{lease}/labels", labels)
    post(f"leases/{lease}/labels", {**labels, "labels": {"category": "0202"}})
    lease = post(f"leases/{lease}/undo", {"token": "t-2"}).json()["task"]["lease"]["number"]
    post(f"leases/{lease}/skip", {"reason": "other", "comment": TEXT})
    post(f"leases/{lease}/release", {})
    many = {"ids": ["geheime-Kennung-1"], "head": "category", "code": "0203"}
    preview = post("bulk/preview", many).json()
    post("bulk", {**many, "fingerprint": preview["fingerprint"], "token": "t-3", "comment": TEXT})
    post("bulk/withdraw", {"said_under": "t-3", "token": "t-4"})
    post("appeals/geheime-Kennung-1/adjudication", {**labels, "token": "t-5"})
    client.put("/v1/review/rules", json={"audit_share": 0.5})


def versions(client: TestClient, headers: dict[str, str]) -> None:
    """Every route of model versions; there is no registry, and names are nonsense."""
    why = {"why": TEXT}
    for path in ("", "/shadow", f"/{PHONE}", f"/{TEXT}"):
        client.get(f"/v1/versions{path}", headers=headers)
    client.post(f"/v1/versions?why={TEXT}", content=TEXT.encode(), headers=headers)
    for path in (f"/{PHONE}/promote", f"/{PHONE}/shadow", ":rollback"):
        client.post(f"/v1/versions{path}", json=why, headers=headers)
    client.post(f"/v1/versions/{PHONE}/canary", json={**why, "share": 0.1}, headers=headers)
    for path in ("shadow", "canary"):
        client.delete(f"/v1/versions:{path}?why={TEXT}", headers=headers)


def test_no_route_and_no_error_lets_a_text_a_name_or_a_secret_into_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_logs("debug", "json")
    make_key_file(tmp_path / "originals.key")

    def broken(_: object) -> None:
        raise RuntimeError(TEXT)

    with closed(tmp_path, Talkative(), originals_key=tmp_path / "originals.key") as it:
        key = {**it.key("intake"), "X-Request-ID": PHONE, "User-Agent": TEXT.encode().hex()}
        exercise(it.client, it.key("review"))  # refused: it has no scope for intake
        exercise(it.client, key)
        with opened(tmp_path) as access:
            access.add_user(LEAD, CHEAP.hash(PASSWORD), "lead", "cli:test", datetime.now(UTC))
        browser = it.signed_in(LEAD)
        browser.post("/v1/session", json={"name": PERSON, "password": "falsches-Kennwort-zu-" + PHONE})
        browser.post("/v1/session", json={"name": LEAD, "password": "falsches-Kennwort-zu-" + PHONE})
        assert browser.get("/v1/appeals/geheime-Kennung-1/original").json()["text"] == TEXT
        review(browser)
        versions(it.client, it.key("train"))
        versions(it.client, it.key("operate"))
        pages = ("/", "/login", "/review", "/leads", f"/static/{PHONE}", "/static/page.js", "/openapi.json")
        for path in pages:
            browser.get(path)
        for path in ("scheme", "model", "session"):
            browser.get(f"/v1/{path}")
        it.client.get("/livez", headers={"Authorization": f"Bearer jiesu_{PHONE}_{PERSON.encode().hex()}"})
        it.client.get("/v1/scheme", headers={"Authorization": f"Bearer jiesu_{PHONE}_x"})
        it.client.get("/readyz", headers=it.key("operate"))
        it.client.get("/metrics", headers=it.key("operate"))
        it.client.get(f"/{TEXT}/{PHONE}?{PERSON}")
        browser.delete("/v1/session")
        monkeypatch.setattr(health, "service_of", broken)
        assert it.client.get("/readyz").status_code == 500
        secrets = [shown.rpartition("_")[2] for shown in it.keys.values()]
    written = capfd.readouterr()
    told = lines(written.err)
    assert written.out == ""
    no_secret(written.err, LEAD, *secrets)
    routes = {one.path for one in declared_routes(it.app.router.routes)}
    assert {line["route"] for line in told if line["event"] == "request"} == routes | {"unknown"}
    statuses = {line["status"] for line in told if line["event"] == "request"}
    assert statuses >= {200, 201, 204, 401, 403, 404, 409, 413, 415, 422, 500, 503}
    assert {line["event"] for line in told} >= {"request", "model_failed", "bulk_ended", "unexpected"}


def test_without_a_database_and_with_broken_libraries_nothing_is_told_either(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_up_logs("debug", "json")
    app = create_app(settings(tmp_path, heal_seconds=60), loads(FakePredictor()))
    with TestClient(app) as client:
        exercise(client, {})
        (tmp_path / "jiesu.db").unlink()
        exercise_away = client.post("/v1/appeals", json=appeal("geheime-Kennung-9", TEXT))
        assert exercise_away.status_code == 503
    library = logging.getLogger("some.library")
    library.warning(f"cannot read {TEXT}")
    library.warning("cannot read %s", TEXT)
    try:
        raise ValueError(TEXT)
    except ValueError:
        library.exception(f"failed on {TEXT}")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn(TEXT, UserWarning, stacklevel=1)
    asyncio.run(_forget_an_error())
    written = capfd.readouterr().err
    told = lines(written)
    no_secret(written)
    by_library = [line for line in told if line["event"] == "library"]
    assert {line["logger"] for line in by_library} == {"some.library", "py.warnings", "asyncio"}
    assert all(re.fullmatch(r"[\w./-]+:\d+", line["place"]) for line in by_library)
    assert by_library[2]["exception"] == "ValueError"
    assert by_library[2]["raised_at"][-1].startswith("tests/test_logs.py:")


async def _forget_an_error() -> None:
    async def fails() -> None:
        raise RuntimeError(TEXT)

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()


def test_a_real_server_tells_nothing_of_what_it_cannot_even_read(tmp_path: Path) -> None:
    with Lives(tmp_path / "log") as lives:
        life = lives.begin(database_url=f"sqlite:///{tmp_path / 'jiesu.db'}", log_level="debug")
        life.wait_ready()
        header = f"GET / HTTP/1.1\r\n{PHONE}\x00: {TEXT}\r\n\r\n"
        for garbage in (f"POST /{PHONE} {TEXT}\r\n\r\n", header, TEXT):
            with socket.create_connection(("127.0.0.1", life.port), 10) as plain:
                plain.sendall(garbage.encode())
                plain.shutdown(socket.SHUT_WR)
                plain.recv(4096)
        head = "POST /v1/appeals HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += "Content-Length: 999\r\n\r\n"
        with socket.create_connection(("127.0.0.1", life.port), 10) as plain:
            plain.sendall((head + TEXT).encode())  # and the caller is gone
        answer = httpx.post(f"{life.address}/v1/appeals", json=appeal("geheime-Kennung-1", TEXT), timeout=30)
        assert answer.status_code == 201
        life.end(signal.SIGTERM)
    written = (tmp_path / "log").read_text(encoding="utf-8")
    events = [line["event"] for line in lines(written)]
    assert "request" in events and "ready" in events
    no_secret(written)


# --- what a line holds ---------------------------------------------------------------------------


def test_a_request_is_told_with_its_id_route_status_time_and_the_keys_prefix(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_up_logs("info", "json")
    with closed(tmp_path) as it:
        prefix = it.keys["intake"].split("_")[1]
        answer = it.client.get("/v1/scheme", headers={**it.key("intake"), "X-Request-ID": "req-7.a_B"})
        assert answer.headers["X-Request-ID"] == "req-7.a_B"
        it.client.get("/metrics", headers=it.key("intake"))
        it.client.post("/v1/classify", json={"texts": ["路灯坏了"]})
        it.signed_in("lead").get("/v1/model")
    told = [line for line in lines(capfd.readouterr().err) if line["event"] == "request"]
    first, refused, stranger, _, person = told
    assert {name: first[name] for name in ("method", "route", "status", "caller", "key", "request_id")} == {
        "method": "GET", "route": "/v1/scheme", "status": 200, "caller": "key", "key": prefix,
        "request_id": "req-7.a_B",
    }  # fmt: skip
    assert first["ms"] >= 0 and first["at"].endswith("+00:00") and first["level"] == "info"
    assert (refused["status"], refused["key"]) == (403, prefix), "who was refused is known as well"
    assert stranger["status"] == 401 and "key" not in stranger
    assert person["caller"] == "user" and "lead" not in orjson.dumps(person).decode()


@pytest.mark.parametrize(
    "given",
    ["", "a b", "x" * 65, "井盖", "a\tb", "a/b", "{}", PHONE, f"anruf-{PHONE}", CARD, "010-88886666"],
)
def test_an_id_that_is_not_sane_is_replaced(tmp_path: Path, given: str) -> None:
    with running(tmp_path) as client:
        answer = client.get("/livez", headers={b"X-Request-ID": given.encode()})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])


@pytest.mark.parametrize(
    "given",
    ["1", "req-7", "A" * 64, "2031-05-04T10.11.12", "0af7651916cd43dd8448eb211c80319c", "1700000000123"],
)
def test_a_sane_id_is_kept(tmp_path: Path, given: str) -> None:
    with running(tmp_path) as client:
        assert client.get("/livez", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


def test_an_unexpected_error_is_answered_with_the_id_and_told_with_its_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_logs("info", "json")

    def broken(_: object) -> None:
        raise KeyError(TEXT)

    monkeypatch.setattr(health, "service_of", broken)
    with running(tmp_path) as client:
        answer = client.get("/readyz", headers={"X-Request-ID": "req-8"})
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "serving_error"
    assert answer.headers["X-Request-ID"] == "req-8" and "Content-Security-Policy" in answer.headers
    (told,) = [line for line in lines(capfd.readouterr().err) if line["event"] == "unexpected"]
    assert (told["request_id"], told["exception"], told["level"]) == ("req-8", "KeyError", "error")
    assert told["raised_at"][-1].endswith(" broken")


def test_an_error_after_the_answer_began_ends_the_connection(tmp_path: Path) -> None:
    from serving.metrics import Metrics
    from serving.observed import Observed

    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise OSError("gone")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(OSError, match="gone"):
        asyncio.run(Observed(app, Metrics(), {})(scope, None, send))  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["http.response.start"]


def test_plain_lines_are_for_people_and_one_per_event(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "text")
    log("not_ready", logging.ERROR, part="store", problem="first\nsecond")
    log("unseen", logging.DEBUG)
    (line,) = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d error   not_ready part=store problem=first second", line)


def test_an_event_that_cannot_be_written_is_not_printed_instead(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "json")
    log("odd", fact="\ud800" + WORDS)
    assert lines(capfd.readouterr().err) == [
        {"level": "error", "event": "log_failed", "exception": "TypeError"}
    ]


def test_setting_up_twice_writes_every_line_once(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "json")
    set_up_logs("info", "json")
    log("once")
    logging.getLogger("some.library").warning("once")
    assert [line["event"] for line in lines(capfd.readouterr().err)] == ["once", "library"]


def test_the_handbook_knows_every_event() -> None:
    root = Path(__file__).parent.parent
    cells = re.findall(r"^\| (`[^|]+) \| \w+", _logs_section(root), re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", "".join(cells)))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (root / "serving").rglob("*.py"))
    written = set(re.findall(r'\blog\(\s*"(\w+)"', sources)) | {"model_hung", "model_failed", "library"}
    assert written <= named, written - named


def _logs_section(root: Path) -> str:
    text = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    return text.partition("\n## Logs\n")[2].partition("\n## ")[0]


def test_furnished_models_are_told_by_version_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "json")
    with TestClient(create_app(settings(tmp_path), lambda _: furnish(FakePredictor(version="m-7")))):
        pass
    ready = [line for line in lines(capfd.readouterr().err) if line["event"] == "ready"]
    assert {line.get("version") for line in ready if line["part"] == "model"} == {"m-7"}
