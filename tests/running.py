"""A running application with a fake model and a database file of its own, for the tests of the API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from serving.app import create_app
from serving.messages import Problem
from serving.models import Model
from serving.settings import Settings
from tests.fakes import FakePredictor, furnish

__all__ = ["JSON", "MANHOLE", "appeal", "loads", "problem", "running", "samples", "settings", "until"]

JSON = {"Content-Type": "application/json"}
MANHOLE = "梧桐里小区3号楼门口的污水井盖不见了，请尽快派人处理。"
Load = Callable[[Settings], Model]


def settings(tmp_path: Path, **given: Any) -> Settings:
    """One batch at a time, whatever the machine: so that a test can hold the model and see who waits."""
    usual = {"database_url": f"sqlite:///{tmp_path / 'jiesu.db'}", "heal_seconds": 0.05, "model_workers": 1}
    return Settings(**{**usual, **given})


def loads(predictor: FakePredictor) -> Load:
    return lambda _: furnish(predictor)


@contextmanager
def running(tmp_path: Path, predictor: FakePredictor | None = None, **given: Any) -> Iterator[TestClient]:
    app = create_app(settings(tmp_path, **given), loads(predictor or FakePredictor()))
    with TestClient(app) as client:
        yield client


def appeal(id: object = "A-1", text: object = MANHOLE, **more: Any) -> dict[str, Any]:
    return {"id": id, "text": text, **more}


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """The error of an answer, checked against the common body."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = Problem.model_validate(response.json()).model_dump()["error"]
    assert error["code"] == code
    assert error["message"]
    return error


def until(holds: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def samples(client: TestClient, **headers: Any) -> dict[str, float]:
    """name{labels} → value, of every sample on the page."""
    text = client.get("/metrics", **headers).text
    return {
        f"{one.name}{{{','.join(f'{key}={value}' for key, value in sorted(one.labels.items()))}}}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }
