"""A running service with a registry of fake versions: what the tests of canary, shadow and API share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from classifier.registry import Registry
from serving.app import create_app
from serving.models import Model
from serving.settings import Settings
from tests.fakes import FakePredictor, furnish
from tests.models import toy_model
from tests.running import settings, until

__all__ = ["CALM", "Fakes", "ids_of", "read_json", "register", "served", "stands", "versions_of"]

CALM = "请问医保异地报销需要带什么材料，到哪里办理"  # no rule raises it


class Fakes:
    """Loads a fake predictor under the name of the registry's folder; `broken` versions do not load."""

    def __init__(self, given: Mapping[str, FakePredictor] | None = None) -> None:
        self.made = dict(given or {})
        self.broken: set[str] = set()

    def __call__(self, given: Settings) -> Model:
        folder = given.model_dir or Registry(_registry(given)).champion()
        if folder.name in self.broken:
            raise OSError(f"{folder.name} is damaged")
        predictor = self.made.setdefault(folder.name, FakePredictor(version=folder.name))
        return furnish(predictor)


def _registry(given: Settings) -> Path:
    assert given.registry_dir is not None
    return given.registry_dir


def register(folder: Path, *versions: str) -> Registry:
    """A registry with toy models under these names, the first one promoted."""
    made = Registry(folder / "registry")
    toy = toy_model(folder / "toy")
    for version in versions:
        file = toy / "manifest.json"
        manifest = {**json.loads(file.read_text(encoding="utf-8")), "version": version}
        file.write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
        made.add(toy, "cli:test", "made by a test")
    made.promote(versions[0], "cli:test", "the first one")
    return made


@contextmanager
def served(
    folder: Path, registry: Registry, load: Callable[[Settings], Model] | None = None, **given: Any
) -> Iterator[TestClient]:
    app = create_app(settings(folder, registry_dir=registry.root, **given), load or Fakes())
    with TestClient(app) as client:
        yield client


def versions_of(client: TestClient) -> dict[str, str]:
    """What the replica has loaded, by place."""
    found: dict[str, str] = client.get("/v1/versions").json()["answers"]
    return found


def stands(client: TestClient, place: str, version: str) -> None:
    """Wait until a version stands in a place."""
    until(lambda: versions_of(client)[place] == version, 30)


def ids_of(registry: Registry, taken: bool, count: int, prefix: str = "C") -> list[str]:
    """Ids that are the canary's, or the champion's."""
    canary = registry.canary()
    assert canary is not None
    named = (f"{prefix}-{number}" for number in range(10_000))
    found = [id for id in named if canary.takes(id) == taken]
    return found[:count]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
