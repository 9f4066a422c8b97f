"""The champion is watched: swapped under load without an error, kept when the promoted one is damaged."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from classifier.errors import ModelError
from classifier.predictor import Predictor
from classifier.registry import Registry
from serving.app import create_app
from serving.models import Model, check, furnished, load_model
from serving.settings import Settings
from tests.fakes import FakePredictor, furnish
from tests.models import toy_model
from tests.running import MANHOLE, appeal, problem, settings, until

SWAPS = 20


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model(tmp_path_factory.mktemp("models") / "toy")


def copy_of(toy: Path, folder: Path, version: str) -> Path:
    """The toy model under another version's name."""
    shutil.copytree(toy, folder)
    change_manifest(folder, lambda manifest: manifest.update(version=version))
    return folder


def change_manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    change(manifest)
    file.write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def registry(toy: Path, tmp_path: Path) -> Registry:
    """Two versions of the toy model, m1 promoted."""
    made = Registry(tmp_path / "registry")
    for version in ("m1", "m2"):
        made.add(copy_of(toy, tmp_path / version, version))
    made.promote("m1")
    return made


@contextmanager
def served(tmp_path: Path, registry: Registry, load: Callable[[Settings], Model]) -> Iterator[TestClient]:
    with TestClient(create_app(settings(tmp_path, registry_dir=registry.root), load)) as client:
        yield client


def version(client: TestClient) -> str:
    return str(client.get("/v1/model").json()["version"])


def test_twenty_swaps_under_load_and_no_error(tmp_path: Path, registry: Registry) -> None:
    seen: list[tuple[int, str]] = []
    done = threading.Event()

    def post(number: int) -> None:
        for n in range(100_000):
            if done.is_set():
                return
            response = client.post("/v1/appeals", json=appeal(f"S-{number}-{n}", "东湖小区停水一天了"))
            seen.append((response.status_code, response.json()["model_version"]))

    with served(tmp_path, registry, load_model) as client, ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(post, number) for number in range(4)]
        try:
            for n in range(SWAPS):
                wanted = ("m2", "m1")[n % 2]
                registry.promote(wanted)
                until(lambda wanted=wanted: version(client) == wanted, 30)  # type: ignore[misc]
                before = len(seen)
                until(lambda before=before: len(seen) > before + 4, 30)  # type: ignore[misc]
        finally:
            done.set()
        for caller in callers:
            caller.result()
        metrics = client.get("/metrics").text
    assert {status for status, _ in seen} == {201}
    assert {name for _, name in seen} == {"m1", "m2"}
    assert f"jiesu_model_swaps_total {SWAPS}.0" in metrics
    assert 'jiesu_model_info{scheme="1",version="m1"} 1.0' in metrics


def test_a_batch_in_flight_keeps_the_model_it_began_with(tmp_path: Path, registry: Registry) -> None:
    made: dict[str, FakePredictor] = {}

    def load(given: Settings) -> Model:
        assert given.registry_dir is not None
        name = Registry(given.registry_dir).champion().name
        made[name] = FakePredictor(version=name)
        return furnish(made[name])

    with served(tmp_path, registry, load) as client, ThreadPoolExecutor(1) as pool:
        first = made["m1"]
        first.batches.clear()
        first.held.clear()
        slow = pool.submit(client.post, "/v1/appeals", json=appeal("A-1"))
        until(lambda: first.batches)
        registry.promote("m2")
        until(lambda: version(client) == "m2")
        first.held.set()
        assert slow.result().json()["model_version"] == "m1"
        assert client.post("/v1/appeals", json=appeal("A-2")).json()["model_version"] == "m2"


def damage_byte(folder: Path) -> None:
    file = folder / "lexical.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_short(folder: Path) -> None:
    file = folder / "lexical.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def delete_file(folder: Path) -> None:
    (folder / "calibration.json").unlink()


def answer_otherwise(folder: Path) -> None:
    def change(manifest: dict[str, object]) -> None:
        known = manifest["known_answer"]
        assert isinstance(known, dict)
        known["labels"]["unit"] = {"code": "police", "probability": 0.99}
        known["text"] = "东湖小区停水一天了"

    change_manifest(folder, change)


DAMAGES = [
    (damage_byte, "expected sha256"),
    (cut_short, "expected sha256"),
    (delete_file, "calibration.json"),
    (answer_otherwise, "known answer"),
]


@pytest.mark.parametrize(("damage", "told"), DAMAGES)
def test_a_promoted_model_that_does_not_load_leaves_the_old_one_answering(
    tmp_path: Path, toy: Path, registry: Registry, damage: Callable[[Path], None], told: str
) -> None:
    damage(registry.root / "m2")
    with served(tmp_path, registry, load_model) as client:
        registry.promote("m2")
        until(lambda: client.get("/readyz").json()["problems"], 20)
        ready = client.get("/readyz")
        assert ready.status_code == 200  # appeals are taken up, and a balancer must not take them away
        assert (ready.json()["ready"], ready.json()["model"]) == (True, True)
        assert told in ready.json()["problems"]["champion"]
        assert "m1 answers" in ready.json()["problems"]["champion"]
        assert 'jiesu_ready{part="champion"} 0.0' in client.get("/metrics").text
        assert client.post("/v1/appeals", json=appeal()).json()["model_version"] == "m1"
        shutil.rmtree(registry.root / "m2")
        copy_of(toy, registry.root / "m2", "m2")
        until(lambda: version(client) == "m2", 30)
        assert client.get("/readyz").json()["problems"] == {}
        assert 'jiesu_ready{part="champion"} 1.0' in client.get("/metrics").text


def test_rolling_back_from_a_model_that_does_not_load_ends_the_alarm(
    tmp_path: Path, registry: Registry
) -> None:
    damage_byte(registry.root / "m2")
    with served(tmp_path, registry, load_model) as client:
        registry.promote("m2")
        until(lambda: client.get("/readyz").json()["problems"], 20)
        registry.promote("m1")
        until(lambda: client.get("/readyz").json()["problems"] == {}, 20)
        assert version(client) == "m1"
        assert "jiesu_model_swaps_total 0.0" in client.get("/metrics").text


def test_a_pointer_that_cannot_be_read_leaves_the_old_model_answering(
    tmp_path: Path, registry: Registry
) -> None:
    pointer = registry.root / "champion.json"
    good = pointer.read_bytes()
    with served(tmp_path, registry, load_model) as client:
        for broken in (b"", b"[]", b'{"version": "nobody"}', b"\xff"):
            pointer.write_bytes(broken)
            until(lambda: "champion" in client.get("/readyz").json()["problems"], 20)
            assert client.post("/v1/classify", json={"texts": [MANHOLE]}).status_code == 200
            pointer.write_bytes(good)
            until(lambda: client.get("/readyz").json()["problems"] == {}, 20)


@pytest.mark.parametrize(("damage", "told"), DAMAGES)
def test_a_damaged_folder_at_the_start_is_told_and_heals(
    tmp_path: Path, toy: Path, damage: Callable[[Path], None], told: str
) -> None:
    folder = copy_of(toy, tmp_path / "m1", "m1")
    damage(folder)
    with TestClient(create_app(settings(tmp_path, model_dir=folder))) as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["model"], ready.json()["store"]) == (503, False, True)
        assert told in ready.json()["problems"]["model"]
        refused = client.post("/v1/classify", json={"texts": [MANHOLE]})
        assert told in problem(refused, 503, "model_not_ready")["got"]
        shutil.rmtree(folder)
        copy_of(toy, folder, "m1")
        until(lambda: client.get("/readyz").status_code == 200, 30)
        assert client.post("/v1/appeals", json=appeal()).status_code == 201


def test_a_broken_version_is_not_tried_all_the_time(tmp_path: Path, registry: Registry) -> None:
    tries: list[str] = []

    def load(given: Settings) -> Model:
        assert given.registry_dir is not None
        tries.append(Registry(given.registry_dir).champion().name)
        if tries[-1] == "m2":
            raise ModelError("damaged")
        return furnish(FakePredictor(version=tries[-1]))

    looks = 0
    app = create_app(settings(tmp_path, registry_dir=registry.root, heal_seconds=3600), load)
    with TestClient(app):
        registry.promote("m2")
        while looks < 50:
            app.state.service._champion.look()
            looks += 1
    assert tries == ["m1", "m2"]


def test_the_known_answer_is_really_compared(toy: Path, tmp_path: Path) -> None:
    folder = copy_of(toy, tmp_path / "m1", "m1")
    check(furnished(Predictor.load(folder), Settings()))
    answer_otherwise(folder)
    with pytest.raises(ModelError, match="known answer for head unit: expected police"):
        check(furnished(Predictor.load(folder), Settings()))


def test_the_model_that_ships_carries_a_known_answer() -> None:
    manifest = json.loads((Registry().champion() / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["known_answer"]["text"]
    assert set(manifest["known_answer"]["labels"]) == set(manifest["heads"])
