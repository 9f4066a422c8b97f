"""A start while the promoted version is broken: the one before it answers, and it heals by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from classifier.registry import Registry
from serving.app import create_app
from serving.models import load_model
from tests.challenging import Fakes, register, served
from tests.running import MANHOLE, appeal, problem, running, settings, until


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """m1, m2 and m3 were promoted one after the other."""
    made = register(tmp_path, "m1", "m2", "m3")
    made.promote("m2")
    made.promote("m3")
    return made


def metric(client: TestClient, line: str) -> bool:
    return line in client.get("/metrics").text.splitlines()


def test_the_version_before_the_broken_one_answers_from_the_start(tmp_path: Path, registry: Registry) -> None:
    fakes = Fakes()
    fakes.broken = {"m3"}
    with served(tmp_path, registry, fakes) as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"], ready.json()["model"]) == (200, True, True)
        assert "m3 does not load, m2 answers" in ready.json()["problems"]["champion"]
        assert client.post("/v1/appeals", json=appeal()).json()["model_version"] == "m2"
        assert metric(client, "jiesu_model_fallback 1.0")
        assert metric(client, 'jiesu_ready{part="champion"} 0.0')
        assert metric(client, 'jiesu_ready{part="model"} 1.0')
        fakes.broken = set()
        until(lambda: client.get("/readyz").json()["problems"] == {}, 30)
        assert client.post("/v1/appeals", json=appeal("A-2")).json()["model_version"] == "m3"
        assert metric(client, "jiesu_model_fallback 0.0")


def test_it_goes_back_as_far_as_it_must(tmp_path: Path, registry: Registry) -> None:
    fakes = Fakes()
    fakes.broken = {"m2", "m3"}
    with served(tmp_path, registry, fakes) as client:
        assert client.post("/v1/appeals", json=appeal()).json()["model_version"] == "m1"


def test_nothing_that_loads_is_503(tmp_path: Path, registry: Registry) -> None:
    fakes = Fakes()
    fakes.broken = {"m1", "m2", "m3"}
    with served(tmp_path, registry, fakes) as client:
        assert client.get("/readyz").status_code == 503
        problem(client.post("/v1/classify", json={"texts": [MANHOLE]}), 503, "model_not_ready")


@pytest.mark.parametrize("broken", [b"", b"[]", b'{"version": "nobody"}', b"\xff"])
def test_a_pointer_that_cannot_be_read(tmp_path: Path, registry: Registry, broken: bytes) -> None:
    pointer = registry.root / "champion.json"
    good = pointer.read_bytes()
    pointer.write_bytes(broken)
    with served(tmp_path, registry) as client:
        assert client.get("/readyz").status_code == 200
        assert "m3 answers" in client.get("/readyz").json()["problems"]["champion"]
        assert client.post("/v1/appeals", json=appeal()).json()["model_version"] == "m3"  # history has it
        pointer.write_bytes(good)
        until(lambda: client.get("/readyz").json()["problems"] == {}, 20)
        assert metric(client, "jiesu_model_fallback 0.0")


def test_rolling_back_to_the_one_that_answers_ends_the_alarm(tmp_path: Path, registry: Registry) -> None:
    fakes = Fakes()
    fakes.broken = {"m3"}
    with served(tmp_path, registry, fakes) as client:
        assert "champion" in client.get("/readyz").json()["problems"]
        registry.rollback("cli:test", "m3 is damaged")
        until(lambda: client.get("/readyz").json()["problems"] == {}, 20)
        assert client.post("/v1/appeals", json=appeal()).json()["model_version"] == "m2"


def test_a_folder_that_is_gone_and_comes_back(tmp_path: Path, registry: Registry) -> None:
    shutil.move(registry.root / "m3", tmp_path / "m3")
    with served(tmp_path, registry, load_model) as client:
        assert client.get("/v1/model").json()["version"] == "m2"
        assert client.get("/readyz").status_code == 200
        shutil.move(tmp_path / "m3", registry.root / "m3")
        until(lambda: client.get("/v1/model").json()["version"] == "m3", 30)


def test_it_is_told_in_the_log(tmp_path: Path, registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    fakes = Fakes()
    fakes.broken = {"m3"}
    with caplog.at_level("INFO"), served(tmp_path, registry, fakes):
        pass
    assert "fell_back" in [record.getMessage() for record in caplog.records]


def test_without_a_registry_there_is_nothing_to_fall_back_to(tmp_path: Path) -> None:
    fakes = Fakes()
    fakes.broken = {"m1"}
    with TestClient(create_app(settings(tmp_path, model_dir=tmp_path / "m1"), fakes)) as client:
        assert client.get("/readyz").status_code == 503
    with running(tmp_path) as client:
        assert client.get("/readyz").json()["problems"] == {}
        assert metric(client, "jiesu_model_fallback 0.0")


def test_the_lineage_is_what_rollbacks_would_return_to(tmp_path: Path, registry: Registry) -> None:
    assert registry.lineage() == ["m3", "m2", "m1"]
    registry.rollback("cli:test")
    assert registry.lineage() == ["m2", "m1"]
    shutil.rmtree(registry.root / "m1")
    assert registry.lineage() == ["m2"]
    assert Registry(tmp_path / "nothing").lineage() == []
