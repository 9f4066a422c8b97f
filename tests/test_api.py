"""The HTTP API: every answer, against a fake model and a real database file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serving import examples
from serving.app import create_app
from serving.messages import Answer, Problem
from tests.fakes import FakePredictor
from tests.running import JSON, MANHOLE, appeal, loads, problem, running, settings


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One application for the tests that leave nothing behind that another one would see."""
    with running(tmp_path_factory.mktemp("api")) as client:
        yield client


# --- one appeal ---------------------------------------------------------------------------------


def test_an_appeal_is_answered_in_full(shared: TestClient) -> None:
    response = shared.post("/v1/appeals", json=appeal("full-1", received_at="2025-03-04T19:20:00+08:00"))
    assert response.status_code == 201
    answer = Answer.model_validate(response.json())
    assert answer.category is not None and answer.category.path == ["市政设施", "井盖"]
    assert answer.category.alternatives and answer.category.probability == 0.9
    assert answer.urgency is not None and answer.urgency.level == "紧急"
    assert answer.tier is not None and answer.tier.leader
    assert answer.unit is not None and answer.unit.lead.name
    assert answer.appeal_type is not None and answer.decision.reasons
    assert answer.decision.respond_by is not None and answer.decision.respond_by > answer.received_at
    assert set(answer.extra) == {"petition"}
    assert (answer.model_version, answer.scheme_version) == ("fake-1", FakePredictor().scheme.version)


def test_the_same_appeal_again_gets_the_very_same_answer(shared: TestClient) -> None:
    first = shared.post("/v1/appeals", json=appeal("same-1"))
    turned = orjson.dumps(dict(reversed(appeal("same-1").items())))
    again = shared.post("/v1/appeals", content=turned, headers=JSON)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.content == again.content == shared.get("/v1/appeals/same-1").content


def test_the_same_id_with_another_body_is_refused(shared: TestClient) -> None:
    shared.post("/v1/appeals", json=appeal("other-1"))
    for changed in (appeal("other-1", MANHOLE + "！"), appeal("other-1", place={"city": "江城"})):
        error = problem(shared.post("/v1/appeals", json=changed), 409, "appeal_conflict")
        assert error["field"] == "id"
    assert shared.get("/v1/appeals/other-1").status_code == 200


def test_an_answer_outlives_a_restart_and_another_model(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        first = client.post("/v1/appeals", json=appeal())
    with running(tmp_path, FakePredictor(version="fake-2")) as client:
        assert client.post("/v1/appeals", json=appeal()).content == first.content
        assert client.post("/v1/appeals", json=appeal("A-2")).json()["model_version"] == "fake-2"


def test_one_id_from_twenty_callers_at_once_is_stored_once(tmp_path: Path) -> None:
    with running(tmp_path) as client, ThreadPoolExecutor(20) as pool:
        equal = [appeal("race-1")] * 20
        other = [appeal("race-2", f"井盖丢了{n}") for n in range(20)]
        same, mixed = (
            list(pool.map(lambda body: client.post("/v1/appeals", json=body), bodies))
            for bodies in (equal, other)
        )
    assert sorted(one.status_code for one in same) == [200] * 19 + [201]
    assert len({one.content for one in same}) == 1
    assert sorted(one.status_code for one in mixed) == [201] + [409] * 19


def test_an_unknown_appeal_is_not_found(shared: TestClient) -> None:
    assert problem(shared.get("/v1/appeals/nobody"), 404, "appeal_not_found")["hint"]
    for id in ("%F0%9F%98%80", "%00", "x" * 3000):  # no appeal can have these
        assert problem(shared.get(f"/v1/appeals/{id}"), 422, "invalid_input")["field"] == "id"


def test_clocks_start_when_the_appeal_was_received(shared: TestClient) -> None:
    naive = shared.post("/v1/appeals", json=appeal("t-1", received_at="2025-03-04T19:20:00")).json()
    utc = shared.post("/v1/appeals", json=appeal("t-2", received_at="2025-03-04T11:20:00Z")).json()
    assert naive["received_at"] == utc["received_at"] == "2025-03-04T19:20:00+08:00"
    assert naive["decision"]["resolve_by"] == utc["decision"]["resolve_by"]
    now = datetime.fromisoformat(shared.post("/v1/appeals", json=appeal("t-3")).json()["received_at"])
    assert abs(time.time() - now.timestamp()) < 60


# --- personal data and spans --------------------------------------------------------------------


def test_personal_data_never_reaches_the_database(tmp_path: Path) -> None:
    secrets = ["13912345678", "zhouxm@example.com"]
    text = f"我的电话是{secrets[0]}，邮箱{secrets[1]}，门口井盖不见了，打{secrets[0]}找我。"
    with running(tmp_path) as client:
        answer = client.post("/v1/appeals", json=appeal("P-1", text, title=f"找{secrets[0]}")).json()
    for file in tmp_path.glob("jiesu.db*"):
        for secret in secrets:
            assert secret.encode() not in file.read_bytes()
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        (stored,) = plain.execute("SELECT text FROM appeals").fetchone()
    assert "[手机号]" in stored and "[邮箱]" in stored
    masked = [text[one["start"] : one["end"]] for one in answer["masked"]]
    assert masked == [secrets[0], secrets[1], secrets[0]]


@pytest.mark.parametrize(
    "before",
    [
        "",
        "😀😀",
        "电话１３９１２３４５６７８，",
        "  \r\n\t",
        "請問，",
        "<b>急</b>&nbsp;",
        "\u200b\ufeff",
        "e\u0301" * 9,
    ],
)
def test_spans_refer_to_the_text_as_it_was_sent(shared: TestClient, before: str) -> None:
    text = f"{before}小区门口的井盖不见了，请尽快处理。"
    (answer,) = shared.post("/v1/classify", json={"texts": [text]}).json()["results"]
    (span,) = answer["category"]["evidence"]
    assert text[span["start"] : span["end"]] == "井盖"
    rules = [one for one in answer["urgency"]["triggers"] if one["source"] == "rule"]
    assert rules
    for one in rules:
        assert text[one["start"] : one["end"]] == one["text"]


def test_what_stands_in_the_title_is_flagged(shared: TestClient) -> None:
    body = appeal("title-1", "东门外面，就在超市旁边，路过的人多。", title="井盖不见了")
    answer = shared.post("/v1/appeals", json=body).json()
    assert answer["category"]["code"] == "0202" and answer["category"]["evidence"] == []
    (trigger,) = [one for one in answer["urgency"]["triggers"] if one["source"] == "rule"]
    assert (trigger["in_title"], trigger["start"], trigger["end"]) == (True, None, None)


# --- many texts ---------------------------------------------------------------------------------


def test_classify_keeps_the_order_and_stores_nothing(tmp_path: Path) -> None:
    words = {"井盖": "0202", "油烟": "0604", "医保": "1202", "工资": "1001"}
    texts = [f"{n}：{word}" for n in range(64) for word in words]
    with running(tmp_path) as client:
        results = client.post("/v1/classify", json={"texts": texts}).json()["results"]
    assert [one["category"]["code"] for one in results] == list(words.values()) * 64
    assert all(one["id"] is None for one in results)
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        assert plain.execute("SELECT count(*) FROM appeals").fetchone() == (0,)


def test_classify_takes_place_and_time(shared: TestClient) -> None:
    body = {"texts": [MANHOLE], "received_at": "2025-03-04T08:00:00", "place": {"street": "柳荫街道"}}
    (answer,) = shared.post("/v1/classify", json=body).json()["results"]
    assert answer["received_at"] == "2025-03-04T08:00:00+08:00"


# --- what others read ---------------------------------------------------------------------------


def test_scheme_and_model_are_told(shared: TestClient) -> None:
    scheme, model = shared.get("/v1/scheme").json(), shared.get("/v1/model").json()
    by_name = {head["name"]: head for head in scheme["heads"]}
    assert {"category", "appeal_type", "urgency", "tier", "unit", "petition"} == set(by_name)
    assert {"code": "0202", "name": "井盖", "path": ["市政设施", "井盖"]} in by_name["category"]["labels"]
    assert model["version"] == "fake-1" and model["target_accuracy"] == 0.95
    assert model["heads"]["category"] == len(by_name["category"]["labels"])
    assert model["thresholds"]["unit"] == 0.8


def test_openapi_shows_an_example_for_every_answer(shared: TestClient) -> None:
    document = shared.get("/openapi.json").json()
    ours = {"/v1/appeals", "/v1/appeals/{id}", "/v1/classify", "/v1/scheme", "/v1/model"}
    ours |= {"/v1/appeals:bulk", "/v1/appeals/{id}/original", "/v1/session"}
    ours |= {path for path in document["paths"] if path.startswith(("/v1/review/", "/v1/versions"))}
    assert set(document["paths"]) == ours | {"/livez", "/readyz", "/metrics"}
    schemas = document["components"]["schemas"]
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            for status, response in operation["responses"].items():
                assert _has_example(response, schemas), (operation["summary"], status)
            if "requestBody" in operation:
                assert _has_example(operation["requestBody"], schemas)


def _has_example(part: dict[str, Any], schemas: dict[str, Any]) -> bool:
    content = part.get("content", {}).get("application/json")
    if content is None:  # metrics: plain text
        return True
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return "example" in content or "examples" in schemas.get(name, content.get("schema", {}))


def test_the_examples_are_true(shared: TestClient) -> None:
    assert shared.post("/v1/appeals", json=examples.APPEAL).status_code == 201
    assert shared.post("/v1/classify", json=examples.TEXTS).status_code == 200
    document = shared.get("/openapi.json").json()
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {}).get("application/json", {})
                if status >= "400" and "example" in content:
                    Problem.model_validate(content["example"])
    answer = Answer.model_validate(examples.ANSWER)
    for trigger in answer.urgency.triggers if answer.urgency else ():
        assert examples.APPEAL["text"][trigger.start : trigger.end] == trigger.text


def test_metrics_count_without_telling_ids_or_texts(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        client.post("/v1/appeals", json=appeal("geheim-1"))
        client.get("/v1/appeals/geheim-1")
        client.get("/nirgends/geheim-2")
        text = client.get("/metrics").text
    assert 'jiesu_http_requests_total{method="POST",route="/v1/appeals",status="201"} 1.0' in text
    assert 'route="/v1/appeals/{id}"' in text
    assert 'jiesu_urgency_total{level="紧急",source="rule"} 1.0' in text
    assert 'jiesu_ready{part="store"} 1.0' in text
    assert "jiesu_decisions_total{" in text and "jiesu_model_info{scheme=" in text
    assert "geheim" not in text


def test_logs_tell_what_happened_but_no_text_and_no_personal_data(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from serving.logs import set_up_logs

    set_up_logs("info", "json")
    with running(tmp_path, FakePredictor(fail_on="毒")) as client:
        body = appeal("L-1", "电话13912345678，井盖不见了")
        client.post("/v1/appeals", json=body, headers={"X-Request-ID": "req-7"})
        client.post("/v1/appeals", json=appeal("L-2", "毒：电话13912345678"))
        client.post("/v1/appeals", json=appeal("L 3", "电话13912345678"))
    lines = [orjson.loads(line) for line in capfd.readouterr().err.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["route"], line["status"]) for line in requests] == [
        ("/v1/appeals", 201), ("/v1/appeals", 503), ("/v1/appeals", 422),
    ]  # fmt: skip
    assert requests[0]["request_id"] == "req-7"
    everything = orjson.dumps(lines).decode()
    assert "13912345678" not in everything and "井盖" not in everything


def test_every_answer_carries_an_id_and_the_security_headers(shared: TestClient) -> None:
    for response in (shared.get("/"), shared.get("/livez"), shared.get("/none"), shared.post("/v1/classify")):
        assert response.headers["X-Request-ID"]
        assert "script-src 'self'" in response.headers["Content-Security-Policy"]
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    injected = shared.get("/livez", headers={"X-Request-ID": "a b\tc"})
    assert injected.headers["X-Request-ID"] != "a b\tc"


def test_nothing_is_created_when_the_factory_is_called(tmp_path: Path) -> None:
    app: FastAPI = create_app(settings(tmp_path), loads(FakePredictor()))
    assert app.routes
    assert list(tmp_path.iterdir()) == []
