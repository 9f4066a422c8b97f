"""What is kept of people and for how long: the audit log, originals, retention."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from serving.__main__ import cli
from serving.app import create_app
from serving.security.sealing import make_key_file
from tests.fakes import FakePredictor
from tests.guarded import audited, closed, production
from tests.running import appeal, loads, problem, running


def test_what_people_do_is_audited_and_what_programs_do_is_not(tmp_path: Path) -> None:
    with closed(tmp_path) as it:
        it.client.post("/v1/appeals", json=appeal("P-1"), headers=it.key("intake"))
        it.client.get("/v1/appeals/P-1", headers=it.key("intake"))
        browser = it.signed_in("reviewer")
        assert browser.get("/v1/appeals/P-1").status_code == 200
        it.browser().post("/v1/session", json={"name": "lead", "password": "falsch-falsch-falsch"})
        it.browser().post("/v1/session", json={"name": "a-password-perhaps", "password": "x"})
        browser.delete("/v1/session")
    events = [event for event in audited(tmp_path) if event[0] != "cli:test"]
    assert events == [
        ("user:reviewer", "session.opened", "reviewer"),
        ("user:reviewer", "appeal.read", "P-1"),
        ("anonymous", "session.refused", "lead"),
        ("user:reviewer", "session.ended", "reviewer"),
    ]


PRIVATE = "电话13912345678，门口的井盖不见了"


def test_originals_are_not_kept_unless_asked_for(tmp_path: Path) -> None:
    with closed(tmp_path) as it:
        it.client.post("/v1/appeals", json=appeal("O-1", PRIVATE), headers=it.key("intake"))
        read = it.client.get("/v1/appeals/O-1/original", headers=it.key("review"))
        problem(read, 404, "original_not_kept")
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        assert "13912345678" not in "\n".join(plain.iterdump())


def test_an_original_is_encrypted_and_each_reading_is_audited(tmp_path: Path) -> None:
    make_key_file(tmp_path / "key")
    with closed(tmp_path, originals_key=tmp_path / "key") as it:
        sent = appeal("O-1", PRIVATE, title="关于井盖")
        it.client.post("/v1/appeals", json=sent, headers=it.key("intake"))
        line = orjson.dumps({"id": "O-2", "text": PRIVATE})
        bulk = {**it.key("intake"), "Content-Type": "application/x-ndjson"}
        assert it.client.post("/v1/appeals:bulk", content=line, headers=bulk).status_code == 200
        for id, title in (("O-1", "关于井盖"), ("O-2", "")):
            read = it.signed_in("reviewer").get(f"/v1/appeals/{id}/original")
            assert read.json() == {"id": id, "title": title, "text": PRIVATE}
        assert read.headers["Cache-Control"] == "no-store"
        refused = it.client.get("/v1/appeals/O-1/original", headers=it.key("intake"))
        problem(refused, 403, "not_allowed")
        it.client.get("/v1/appeals/O-1/original", headers=it.key("review"))
    reads = [event for event in audited(tmp_path) if event[1] == "original.read"]
    prefix = it.keys["review"].split("_")[1]
    assert reads == [
        ("user:reviewer", "original.read", "O-1"),
        ("user:reviewer", "original.read", "O-2"),
        (f"key:{prefix}", "original.read", "O-1"),
    ]
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        everything = "\n".join(plain.iterdump())
    assert "13912345678" not in everything and b"13912345678".hex().upper() not in everything


def test_originals_are_sealed_anew_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, both, new = tmp_path / "old", tmp_path / "both", tmp_path / "new"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'jiesu.db'}")
    assert CliRunner().invoke(cli, ["originals", "key", str(old)]).exit_code == 0
    with closed(tmp_path, originals_key=old) as it:
        for number in range(7):
            it.client.post("/v1/appeals", json=appeal(f"O-{number}", PRIVATE), headers=it.key("intake"))
    CliRunner().invoke(cli, ["originals", "key", str(new)])
    both.write_bytes(new.read_bytes() + old.read_bytes())
    monkeypatch.setenv("JIESU_ORIGINALS_KEY", str(both))
    shown = CliRunner().invoke(cli, ["originals", "rotate"])
    assert shown.exit_code == 0 and "sealed 7 originals" in shown.stdout
    given = production(tmp_path, originals_key=new)
    with TestClient(create_app(given, loads(FakePredictor()))) as client:
        read = client.get("/v1/appeals/O-6/original", headers=it.key("review"))
        assert read.json()["text"] == PRIVATE
    given = production(tmp_path, originals_key=old)
    with TestClient(create_app(given, loads(FakePredictor()))) as client:
        read = client.get("/v1/appeals/O-6/original", headers=it.key("review"))
        problem(read, 503, "original_sealed")


def test_purge_deletes_the_old_with_all_that_hangs_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key_file(tmp_path / "key")
    now = datetime.now(UTC)
    with running(tmp_path, originals_key=tmp_path / "key") as client:
        for number in range(30):
            day = now - timedelta(days=10 * number)
            client.post("/v1/appeals", json=appeal(f"D-{number}", received_at=day.isoformat()))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'jiesu.db'}")
    monkeypatch.setattr("data.purge.BATCH", 4)

    def counts() -> list[int]:
        tables = ("appeals", "answers", "appeal_originals")
        with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
            return [plain.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]

    dry = CliRunner().invoke(cli, ["purge", "--older-than", "95", "--dry-run"])
    assert dry.exit_code == 0 and "would delete" in dry.stdout and "20 appeals" in dry.stdout
    assert counts() == [30, 30, 30]
    done = CliRunner().invoke(cli, ["purge", "--older-than", "95"])
    assert done.exit_code == 0, done.stderr
    for part in ("20 appeals", "20 answers", "20 appeal_originals"):
        assert part in done.stdout
    assert counts() == [10, 10, 10]
    assert [event[1] for event in audited(tmp_path)] == ["purge.started", "purge.done"]
    again = CliRunner().invoke(cli, ["purge", "--older-than", "95"])
    assert "0 appeals" in again.stdout
    with running(tmp_path) as client:
        assert client.get("/v1/appeals/D-9").status_code == 200
        problem(client.get("/v1/appeals/D-10"), 404, "appeal_not_found")
