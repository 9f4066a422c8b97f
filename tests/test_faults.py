"""Load and faults: overload, a failing model, no model, no database, no answer in time."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from fastapi.testclient import TestClient

from classifier.errors import ModelError
from serving.app import create_app
from serving.models import Model
from serving.settings import Settings
from tests.fakes import FakePredictor, furnish, small_scheme
from tests.running import MANHOLE, appeal, problem, running, settings, until

# --- load and faults ----------------------------------------------------------------------------


def test_overload_is_told_with_the_limit_and_when_to_come_back(tmp_path: Path) -> None:
    fake = FakePredictor()
    with running(tmp_path, fake, queue_texts=2) as client, ThreadPoolExecutor(4) as pool:
        fake.batches.clear()
        fake.held.clear()
        first = pool.submit(client.post, "/v1/classify", json={"texts": ["占住"]})
        until(lambda: fake.batches)
        fill = pool.submit(client.post, "/v1/classify", json={"texts": ["一", "二"]})
        until(lambda: 'jiesu_stage_seconds_count{stage="understand"} 2.0' in client.get("/metrics").text)
        time.sleep(0.05)
        refused = client.post("/v1/classify", json={"texts": ["三"]})
        urgent = pool.submit(client.post, "/v1/appeals", json=appeal("U-1", "快救命！孩子掉进河里了！"))
        time.sleep(0.05)
        fake.held.set()
        assert [one.result().status_code for one in (first, fill, urgent)] == [200, 200, 201]
    error = problem(refused, 429, "overloaded")
    assert (error["field"], error["expected"]) == ("queue_texts", "queue_texts 不超过 2")
    assert int(refused.headers["Retry-After"]) >= 1


def test_one_text_the_model_fails_on_harms_no_other(tmp_path: Path) -> None:
    with running(tmp_path, FakePredictor(fail_on="毒")) as client, ThreadPoolExecutor(8) as pool:
        texts = [f"路灯坏了{n}" if n % 4 else f"毒{n}" for n in range(40)]
        found = list(pool.map(lambda text: client.post("/v1/classify", json={"texts": [text]}), texts))
    for text, response in zip(texts, found, strict=True):
        if text.startswith("毒"):
            assert problem(response, 503, "model_failed")["got"] == "RuntimeError"
        else:
            assert response.status_code == 200


def test_without_a_model_the_reason_is_told_and_it_heals(tmp_path: Path) -> None:
    broken = [True]

    def load(_: Settings) -> Model:
        if broken[0]:
            raise ModelError("expected encoder.onnx, found none")
        return furnish(FakePredictor())

    with TestClient(create_app(settings(tmp_path), load)) as client:
        for path in ("/v1/scheme", "/v1/model"):
            problem(client.get(path), 503, "model_not_ready")
        refused = client.post("/v1/appeals", json=appeal())
        assert "encoder.onnx" in problem(refused, 503, "model_not_ready")["got"]
        assert int(refused.headers["Retry-After"]) >= 1
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert (ready.json()["model"], ready.json()["store"]) == (False, True)
        assert client.get("/livez").status_code == 200
        broken[0] = False
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/v1/appeals", json=appeal()).status_code == 201


def test_without_a_database_texts_are_still_classified_and_it_heals(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where the folder should be")
    url = f"sqlite:///{tmp_path}/var/jiesu.db"
    with running(tmp_path, database_url=url) as client:
        problem(client.post("/v1/appeals", json=appeal()), 503, "store_not_ready")
        problem(client.get("/v1/appeals/A-1"), 503, "store_not_ready")
        assert "folder" in client.get("/readyz").json()["problems"]["store"]
        assert client.post("/v1/classify", json={"texts": [MANHOLE]}).status_code == 200
        (tmp_path / "var").unlink()
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/v1/appeals", json=appeal()).status_code == 201


def test_a_database_that_goes_away_while_running_is_noticed_and_comes_back(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        assert client.post("/v1/appeals", json=appeal()).status_code == 201
        with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
            plain.execute("ALTER TABLE answers RENAME TO gone")
            problem(client.post("/v1/appeals", json=appeal("A-2")), 503, "store_not_ready")
            plain.execute("ALTER TABLE gone RENAME TO answers")
        until(lambda: client.post("/v1/appeals", json=appeal("A-2")).status_code == 201)


def test_no_answer_in_time_is_told(tmp_path: Path) -> None:
    fake = FakePredictor()
    with running(tmp_path, fake, answer_seconds=0.2) as client:
        fake.held.clear()
        problem(client.post("/v1/classify", json={"texts": ["慢"]}), 503, "too_slow")
        fake.held.set()
        until(lambda: client.post("/v1/classify", json={"texts": ["快"]}).status_code == 200)


def test_a_scheme_without_some_heads_answers_null_for_them(tmp_path: Path) -> None:
    with running(tmp_path, FakePredictor(small_scheme())) as client:
        answer = client.post("/v1/appeals", json=appeal("S-1", "孩子掉进河里了，快救人！")).json()
        scheme = client.get("/v1/scheme").json()
    assert [answer[name] for name in ("category", "appeal_type", "tier")] == [None] * 3
    assert answer["extra"] == {}
    assert answer["unit"]["lead"] == {"code": "U1", "name": "渔河镇政府"}
    assert answer["urgency"]["level"] == "J"
    assert answer["decision"]["action"] == "transfer"
    assert {head["name"] for head in scheme["heads"]} == {"urgency", "unit"}
