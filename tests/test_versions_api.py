"""Model versions over HTTP: who may, what is noted, that this replica follows, and hostile archives."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from classifier.errors import RegistryError
from classifier.registry import Registry
from data.audit import AuditLog
from data.database import Database
from serving.__main__ import cli
from tests.challenging import CALM, Fakes, register, served, stands, versions_of
from tests.guarded import closed
from tests.models import toy_model
from tests.running import appeal, problem, running, until

WHY = "一周新标注重训"
TAR = {"Content-Type": "application/x-tar"}
SWAPS = 20


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return register(tmp_path, "m1", "m2", "m3")


@contextmanager
def opened(folder: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{folder / 'jiesu.db'}")
    yield database
    database.close()


def audited(folder: Path) -> list[tuple[str, str, str]]:
    """(actor, action, version) of what was done with models."""
    with opened(folder) as database:
        found = AuditLog(database).entries()
        return [(one.actor, one.action, one.object) for one in found if one.action.startswith("model.")]


def do(client: TestClient, path: str, **given: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/versions{path}", json={"why": WHY, **given})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def refuse(registry: Registry, version: str) -> None:
    registry.judge(version, False, "m1", ("recall of urgent fell",), {"sentence": "refused"}, "cli:test")


# --- what is done -------------------------------------------------------------------------------


def test_shadow_canary_promote_and_back_are_done_told_and_noted(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry, heal_seconds=3600) as client:  # it follows at once, or not at all
        assert do(client, "/m2/shadow")["answers"] == {"champion": "m1", "shadow": "m2", "canary": ""}
        assert do(client, "/m3/canary", share=0.1)["answers"]["canary"] == "m3"
        told = do(client, "/m2/promote")
        assert told["answers"] == {"champion": "m2", "shadow": "", "canary": "m3"}
        places = {one["version"]: (one["places"], one["canary_share"]) for one in told["versions"]}
        assert places == {"m1": ([], 0.0), "m2": (["champion"], 0.0), "m3": (["canary"], 0.1)}
        answer = client.post("/v1/appeals", json=appeal("A-1", "快救命！孩子掉进河里了！"))
        assert answer.json()["model_version"] == "m2"
        assert do(client, ":rollback")["answers"]["champion"] == "m1"
        assert client.delete("/v1/versions:canary", params={"why": WHY}).json()["answers"]["canary"] == ""
        do(client, "/m3/shadow")
        assert client.delete("/v1/versions:shadow", params={"why": WHY}).json()["answers"]["shadow"] == ""
        newest = client.get("/v1/versions").json()["history"][0]
        assert (newest["action"], newest["by"], newest["why"]) == ("shadow", "developer", WHY)
    assert audited(tmp_path) == [
        ("developer", "model.shadow_set", "m2"), ("developer", "model.canary_set", "m3"),
        ("developer", "model.promoted", "m2"), ("developer", "model.rolled_back", "m1"),
        ("developer", "model.canary_ended", "none"), ("developer", "model.shadow_set", "m3"),
        ("developer", "model.shadow_ended", "none"),
    ]  # fmt: skip
    with opened(tmp_path) as database:
        details = [json.loads(one.details) for one in AuditLog(database).entries()]
    assert {"share": 0.1, "why": WHY} in details and {"force": False, "why": WHY} in details


def test_one_version_is_told_with_all_that_the_gate_found(tmp_path: Path, registry: Registry) -> None:
    refuse(registry, "m2")
    with served(tmp_path, registry) as client:
        told = client.get("/v1/versions/m2").json()
        assert told["verdict"]["reasons"] == ["recall of urgent fell"]
        assert told["gate"]["sentence"] == "refused"
        assert told["heads"] == {"unit": 3, "urgent": 2} and told["scheme_version"] == "1"
        assert [one["action"] for one in told["history"]] == ["verdict", "add"]
        problem(client.get("/v1/versions/m9"), 404, "version_not_found")
        problem(client.get("/v1/versions/..%2Fm1"), 404, "not_found")


def test_the_gate_holds_and_force_needs_a_reason(tmp_path: Path, registry: Registry) -> None:
    refuse(registry, "m2")
    with served(tmp_path, registry) as client:
        for path, more in (("/m2/promote", {}), ("/m2/canary", {"share": 0.1})):
            refused = client.post(f"/v1/versions{path}", json={"why": WHY, **more})
            assert problem(refused, 409, "version_refused")["got"] == "recall of urgent fell"
        assert versions_of(client) == {"champion": "m1", "shadow": "", "canary": ""}
        for body in ({"force": True}, {"force": True, "why": "    "}):
            problem(client.post("/v1/versions/m2/promote", json=body), 422, "invalid_input")
        assert do(client, "/m2/promote", force=True)["answers"]["champion"] == "m2"


def test_what_cannot_be_done_is_told(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry) as client:
        problem(client.post("/v1/versions/m9/promote", json={"why": WHY}), 404, "version_not_found")
        problem(client.post("/v1/versions/m9/shadow", json={"why": WHY}), 404, "version_not_found")
        problem(client.post("/v1/versions/m1/shadow", json={"why": WHY}), 409, "version_refused")
        problem(client.post("/v1/versions:rollback", json={"why": WHY}), 409, "version_refused")
        problem(client.get("/v1/versions/shadow"), 409, "version_refused")
        problem(client.post("/v1/versions/m2/canary", json={"why": WHY, "share": 0.6}), 422, "invalid_input")
        problem(client.delete("/v1/versions:canary"), 422, "invalid_input")
        damaged = registry.root / "m3" / "lexical.safetensors"
        damaged.write_bytes(damaged.read_bytes()[:-1])
        told = problem(client.post("/v1/versions/m3/promote", json={"why": WHY}), 409, "version_refused")
        assert "sha256" in told["got"] and str(tmp_path) not in told["got"]
        (registry.root / "shadow.json").write_text("[]")
        told = problem(client.get("/v1/versions"), 409, "version_refused")
        assert "shadow.json" in told["got"] and str(tmp_path) not in told["got"]


def test_without_a_registry_it_says_what_to_set(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        for answer in (
            client.get("/v1/versions"),
            client.get("/v1/versions/m1"),
            client.post("/v1/versions/m1/promote", json={"why": WHY}),
            client.post("/v1/versions:rollback", json={"why": WHY}),
            client.post("/v1/versions", params={"why": WHY}, content=b"", headers=TAR),
        ):
            assert problem(answer, 409, "no_registry")["field"] == "JIESU_REGISTRY_DIR"


def test_a_database_that_is_away_does_not_stop_a_rollback(tmp_path: Path, registry: Registry) -> None:
    registry.promote("m2", "cli:test")
    with served(tmp_path, registry) as client:
        (tmp_path / "jiesu.db").rename(tmp_path / "away")
        until(lambda: client.get("/readyz").status_code == 503)
        assert do(client, ":rollback")["answers"]["champion"] == "m1"
        assert registry.history()[-1].why == WHY


def test_who_did_it_stands_in_history_and_audit_log(tmp_path: Path, registry: Registry) -> None:
    with closed(tmp_path, registry_dir=registry.root) as it:
        operator, trainer = it.signed_in("operator"), it.signed_in("trainer")
        assert trainer.post("/v1/versions/m2/shadow", json={"why": WHY}).status_code == 200
        problem(trainer.post("/v1/versions/m2/promote", json={"why": WHY}), 403, "not_allowed")
        assert operator.post("/v1/versions/m2/promote", json={"why": WHY}).status_code == 200
        by_key = it.client.post("/v1/versions:rollback", json={"why": WHY}, headers=it.key("operate"))
        assert by_key.status_code == 200
        key_id = it.keys["operate"].split("_")[1]
    history = [(event.action, event.by) for event in registry.history()[-3:]]
    assert [by for _, by in history][:2] == ["user:trainer", "user:operator"]
    assert history[2][1].startswith("key:") and history[2][1].removeprefix("key:") in key_id
    assert [actor for actor, _, _ in audited(tmp_path)] == [by for _, by in history]


# --- uploads ------------------------------------------------------------------------------------


def archive(folder: Path, inside: str = "model", extra: list[tarfile.TarInfo] | None = None) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as opened:
        opened.add(folder, arcname=inside)
        for info in extra or []:
            opened.addfile(info, io.BytesIO(b"x" * info.size))
    return made.getvalue()


def new_version(folder: Path, version: str) -> Path:
    toy = toy_model(folder / f"new-{version}")
    manifest = json.loads((toy / "manifest.json").read_text(encoding="utf-8"))
    (toy / "manifest.json").write_text(json.dumps({**manifest, "version": version}, ensure_ascii=False))
    return toy


def upload(client: TestClient, body: bytes, **given: Any) -> Any:
    return client.post("/v1/versions", params={"why": WHY}, content=body, headers=TAR, **given)


def test_a_version_is_added_over_the_network(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry) as client:
        for version, inside in (("n1", "model"), ("n2", ".")):
            answer = upload(client, archive(new_version(tmp_path, version), inside))
            assert answer.status_code == 201, answer.text
            assert (answer.json()["version"], answer.json()["places"]) == (version, [])
        again = upload(client, archive(tmp_path / "new-n1"))
        assert "already" in problem(again, 409, "version_refused")["got"]
        assert do(client, "/n1/promote")["answers"]["champion"] == "n1"
    assert ("developer", "model.added", "n1") in audited(tmp_path)
    assert [path for path in registry.root.iterdir() if path.name.startswith(".incoming")] == []


def link(name: str, kind: bytes, to: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def file(name: str, size: int = 3) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        file("../outside"), file("/etc/outside"), file("model/../../outside"), file("model/deep/er/outside"),
        file("model/.hidden"), file("model/program.pkl"), file("model/a b"), file("model/manifest.json"),
        link("model/link", tarfile.SYMTYPE, "/etc/passwd"), link("model/hard", tarfile.LNKTYPE, "model/x"),
        link("model/pipe", tarfile.FIFOTYPE, ""), link("model/device", tarfile.CHRTYPE, ""),
    ],
    ids=lambda info: info.name,
)  # fmt: skip
def test_a_hostile_archive_leaves_nothing_behind(
    tmp_path: Path, registry: Registry, hostile: tarfile.TarInfo
) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    body = archive(new_version(tmp_path / "elsewhere", "n1"), extra=[hostile])
    with served(tmp_path, registry) as client:
        told = problem(upload(client, body), 409, "version_refused")
        assert str(tmp_path) not in told["got"]
    new = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {path.name for path in before}
    assert not new & {"outside", "link", "program.pkl", "passwd"}
    assert sorted(path.name for path in registry.root.iterdir() if path.is_dir()) == ["m1", "m2", "m3"]


def test_what_is_no_archive_or_too_large_is_refused(tmp_path: Path, registry: Registry) -> None:
    good = archive(new_version(tmp_path, "n1"))
    with served(tmp_path, registry, upload_bytes=len(good) - 1) as client:
        problem(upload(client, good), 413, "body_too_large")

        def pieces() -> Iterator[bytes]:
            for start in range(0, len(good), 1000):
                yield good[start : start + 1000]

        unsized = client.post("/v1/versions", params={"why": WHY}, content=pieces(), headers=TAR)
        problem(unsized, 413, "body_too_large")
    with served(tmp_path, registry) as client:
        (tmp_path / "empty").mkdir()
        for body in (b"", b"nothing of the kind" * 100, good[: len(good) // 2], archive(tmp_path / "empty")):
            problem(upload(client, body), 409, "version_refused")
        json_body = client.post("/v1/versions", params={"why": WHY}, json={})
        assert problem(json_body, 415, "wrong_media_type")["expected"] == "application/x-tar"
        problem(client.post("/v1/versions", content=good, headers=TAR), 422, "invalid_input")
    assert [entry.version for entry in registry.entries()] == ["m1", "m2", "m3"]


def test_a_damaged_or_badly_named_version_is_refused(tmp_path: Path, registry: Registry) -> None:
    damaged = new_version(tmp_path, "n1")
    weights = damaged / "lexical.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with served(tmp_path, registry) as client:
        problem(upload(client, archive(damaged)), 409, "version_refused")
        for number, name in enumerate(("../m9", ".hidden", "a/b", "m9.verdicts", "", "x" * 200)):
            named = new_version(tmp_path / str(number), "n2")
            manifest = json.loads((named / "manifest.json").read_text(encoding="utf-8"))
            (named / "manifest.json").write_text(json.dumps({**manifest, "version": name}))
            problem(upload(client, archive(named)), 409, "version_refused")
            with pytest.raises(RegistryError):
                registry.add(named)
            shutil.rmtree(tmp_path / str(number))
    assert [entry.version for entry in registry.entries()] == ["m1", "m2", "m3"]


# --- commands -----------------------------------------------------------------------------------


def test_commands_are_noted_in_the_audit_log_where_there_is_one(tmp_path: Path, registry: Registry) -> None:
    given = {
        "JIESU_REGISTRY_DIR": str(registry.root),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'jiesu.db'}",
    }
    command = ["models", "promote", "m2", "--why", WHY]
    without = CliRunner().invoke(cli, command, env=given)
    assert without.exit_code == 0 and "not in the audit log" in without.output
    assert not (tmp_path / "jiesu.db").exists()
    with opened(tmp_path) as database:
        database.migrate()
    for words in (["rollback"], ["shadow", "m2"], ["canary", "m3", "--share", "0.1"], ["canary", "--off"]):
        done = CliRunner().invoke(cli, ["models", *words, "--why", WHY], env=given)
        assert done.exit_code == 0 and "not in the audit log" not in done.output, done.output
    found = audited(tmp_path)
    assert [(action, version) for _, action, version in found] == [
        ("model.rolled_back", "m1"), ("model.shadow_set", "m2"), ("model.canary_set", "m3"),
        ("model.canary_ended", "none"),
    ]  # fmt: skip
    assert all(actor.startswith("cli:") for actor, _, _ in found)


# --- under load ---------------------------------------------------------------------------------


def test_twenty_swaps_with_canary_and_shadow_on_and_no_error(tmp_path: Path, registry: Registry) -> None:
    seen: list[tuple[int, str]] = []
    done = threading.Event()
    registry.set_canary("m3", 0.3, "cli:test", "load")

    def post(number: int) -> None:
        for n in range(100_000):
            if done.is_set():
                return
            answer = client.post("/v1/appeals", json=appeal(f"S-{number}-{n}", CALM))
            seen.append((answer.status_code, answer.json().get("model_version", "")))

    with served(tmp_path, registry, Fakes()) as client, ThreadPoolExecutor(3) as pool:
        stands(client, "canary", "m3")
        callers = [pool.submit(post, number) for number in range(3)]
        try:
            for n in range(SWAPS):
                wanted, other = (("m2", "m1"), ("m1", "m2"))[n % 2]
                assert do(client, f"/{wanted}/promote")["answers"]["champion"] == wanted
                assert do(client, f"/{other}/shadow")["answers"]["shadow"] == other
                before = len(seen)
                until(lambda before=before: len(seen) > before + 4, 30)  # type: ignore[misc]
        finally:
            done.set()
        for caller in callers:
            caller.result()
        metrics = client.get("/metrics").text
    assert {status for status, _ in seen} == {201}
    assert {name for _, name in seen} == {"m1", "m2", "m3"}
    assert f"jiesu_model_swaps_total {SWAPS}.0" in metrics
    assert 'jiesu_canary_texts_total{outcome="left_to_champion"} 0.0' in metrics
