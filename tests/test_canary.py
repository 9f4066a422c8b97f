"""The canary answers its share of the appeals, and no caller ever suffers from it."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event

import pytest
from fastapi.testclient import TestClient

from classifier.registry import Canary as Share
from classifier.registry import Registry
from serving.challengers import canary as canary_module
from serving.challengers import standby
from tests.challenging import CALM, Fakes, ids_of, register, served, stands
from tests.fakes import FakePredictor
from tests.running import appeal, until

URGENT = "快救命！孩子掉进河里了！"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """m1 answers, m2 half of the appeals."""
    made = register(tmp_path, "m1", "m2")
    made.set_canary("m2", 0.5, "cli:test", "look at it")
    return made


def version_of(client: TestClient, id: str, text: str = CALM) -> str:
    answer = client.post("/v1/appeals", json=appeal(id, text))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["model_version"])


def outcomes(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("jiesu_canary_texts_total{")]
    return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in found}


def test_its_share_is_answered_by_it_and_stored_under_its_version(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry) as client:
        stands(client, "canary", "m2")
        mine, others = ids_of(registry, True, 5), ids_of(registry, False, 5)
        assert {version_of(client, id) for id in mine} == {"m2"}
        assert {version_of(client, id) for id in others} == {"m1"}
        assert client.get(f"/v1/appeals/{mine[0]}").json()["model_version"] == "m2"
        again = client.post("/v1/appeals", json=appeal(mine[0], CALM))
        assert (again.status_code, again.json()["model_version"]) == (200, "m2")
        assert outcomes(client) == {"answered": 5, "left_to_champion": 0}
        page = client.get("/metrics").text
        assert 'jiesu_challenger_info{place="canary",version="m2"} 1.0' in page


def test_bulk_rows_as_well(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry) as client:
        stands(client, "canary", "m2")
        mine, others = ids_of(registry, True, 20), ids_of(registry, False, 20)
        lines = "\n".join(json.dumps(appeal(id, CALM)) for id in (*mine, *others))
        told = client.post("/v1/appeals:bulk", content=lines.encode(), headers=NDJSON).text.splitlines()
        answers = {line["id"]: line["answer"]["model_version"] for line in map(json.loads, told[:-1])}
    assert {answers[id] for id in mine} == {"m2"} and {answers[id] for id in others} == {"m1"}


def test_classify_and_urgent_appeals_stay_with_the_champion(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry) as client:
        stands(client, "canary", "m2")
        assert {version_of(client, id, URGENT) for id in ids_of(registry, True, 5)} == {"m1"}
        results = client.post("/v1/classify", json={"texts": [CALM] * 20}).json()["results"]
        assert {one["model_version"] for one in results} == {"m1"}
        assert outcomes(client)["answered"] == 0


def test_one_that_does_not_load_leaves_all_to_the_champion(tmp_path: Path, registry: Registry) -> None:
    fakes = Fakes()
    fakes.broken = {"m2"}
    with served(tmp_path, registry, fakes) as client:
        until(lambda: "canary" in client.get("/readyz").json()["problems"], 20)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)
        assert "m2 does not load" in ready.json()["problems"]["canary"]
        assert 'jiesu_ready{part="canary"} 0.0' in client.get("/metrics").text
        mine = ids_of(registry, True, 2)
        assert version_of(client, mine[0]) == "m1"
        fakes.broken = set()
        stands(client, "canary", "m2")
        assert client.get("/readyz").json()["problems"] == {}
        assert version_of(client, mine[1]) == "m2"


def test_one_that_fails_is_no_error_to_a_caller_and_is_left_alone_for_a_while(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = Fakes({"m2": FakePredictor(version="m2", fail_on="医保")})
    with served(tmp_path, registry, fakes) as client:
        stands(client, "canary", "m2")
        mine = ids_of(registry, True, 12)
        for id in mine[: standby.FAILURES_IN_A_ROW]:
            assert version_of(client, id) == "m1"
        assert "m2 failed 3 times in a row" in client.get("/readyz").json()["problems"]["canary"]
        asked = len(fakes.made["m2"].batches)
        assert version_of(client, mine[5]) == "m1"
        assert len(fakes.made["m2"].batches) == asked, "it is not asked any more"
        assert outcomes(client) == {"answered": 0, "left_to_champion": 3}
        fakes.made["m2"].fail_on = ""
        monkeypatch.setattr("serving.challengers.standby.time", Later())
        until(lambda: client.get("/readyz").json()["problems"] == {}, 20)
        assert version_of(client, mine[6]) == "m2"


class Later:
    """The clock, an hour ahead."""

    def monotonic(self) -> float:
        import time

        return time.monotonic() + 3600


def test_one_that_hangs_is_no_error_to_a_caller(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary_module, "SECONDS", 0.2)
    fakes = Fakes()
    with served(tmp_path, registry, fakes) as client:
        stands(client, "canary", "m2")
        fakes.made["m2"].held.clear()
        try:
            assert version_of(client, ids_of(registry, True, 1)[0]) == "m1"
        finally:
            fakes.made["m2"].held.set()


def test_its_appeals_stay_its_own_while_the_pointer_is_read_again(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, read = Event(), Event()
    look = Registry.canary

    def slow(self: Registry) -> Share | None:
        reading.set()
        assert read.wait(30)
        return look(self)

    mine = ids_of(registry, True, 1)[0]
    with served(tmp_path, registry) as client:
        stands(client, "canary", "m2")
        monkeypatch.setattr(Registry, "canary", slow)
        try:
            assert reading.wait(30)
            assert version_of(client, mine) == "m2"
        finally:
            read.set()


def test_a_pointer_that_cannot_be_read_leaves_all_to_the_champion(tmp_path: Path, registry: Registry) -> None:
    mine = ids_of(registry, True, 2)
    with served(tmp_path, registry) as client:
        stands(client, "canary", "m2")
        for damaged in ('{"version": "m2", "share": "half"}', "[]", '{"version": "nobody", "share": 0.5}'):
            (registry.root / "canary.json").write_text(damaged)
            until(lambda: "canary" in client.get("/readyz").json()["problems"], 20)
        assert version_of(client, mine[0]) == "m1"
        registry.set_canary("", 0.0, "cli:test", "over")
        until(lambda: client.get("/readyz").json()["problems"] == {}, 20)
        assert version_of(client, mine[1]) == "m1"
