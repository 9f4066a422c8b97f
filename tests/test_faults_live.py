"""Faults around the service, on the real application: it says so, does what it can, and heals."""

from __future__ import annotations

import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from data.errors import StoreError
from data.store import Store
from serving import walk
from serving.app import create_app
from serving.health import Clock, Health
from serving.metrics import Metrics
from tests.databases import Postgres
from tests.fakes import FakePredictor
from tests.running import MANHOLE, appeal, loads, problem, running, settings, until
from tests.served import Life, Lives

LONG = "梧桐里小区3号楼门口的污水井盖不见了，夜里看不清。" * 400


def ready(client: TestClient | httpx.Client) -> bool:
    return client.get("/readyz").status_code == 200


def does_what_it_can(client: TestClient | httpx.Client, reason: str) -> None:
    """Without a database to write to: texts are classified, appeals are refused, /readyz says why."""
    response = client.get("/readyz")
    assert response.status_code == 503
    assert (response.json()["model"], response.json()["store"]) == (True, False)
    assert reason in response.json()["problems"]["store"]
    refused = client.post("/v1/appeals", json=appeal("refused"))
    assert reason in problem(refused, 503, "store_not_ready")["got"]
    assert int(refused.headers["Retry-After"]) >= 1
    assert client.post("/v1/classify", json={"texts": [MANHOLE]}).status_code == 200
    assert client.get("/livez").status_code == 200
    assert 'jiesu_ready{part="store"} 0.0' in client.get("/metrics").text


# --- the database is away ---------------------------------------------------------------------------------


def test_postgresql_away_at_the_start_and_while_running(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.fresh()
    postgres.stop()
    try:
        with running(tmp_path, database_url=url) as client:
            does_what_it_can(client, "does not answer")
            postgres.start()
            until(lambda: ready(client), 20)
            first = client.post("/v1/appeals", json=appeal("A-1"))
            assert first.status_code == 201
            postgres.stop()
            until(lambda: not ready(client), 20)
            does_what_it_can(client, "does not answer")
            postgres.start()
            until(lambda: ready(client), 20)
            assert client.post("/v1/appeals", json=appeal("A-1")).content == first.content
            assert client.post("/v1/appeals", json=appeal("A-2")).status_code == 201
    finally:
        postgres.stop()
        postgres.start()
    postgres.drop(url)


def test_a_sqlite_file_moved_away_and_put_back(tmp_path: Path) -> None:
    file, away = tmp_path / "jiesu.db", tmp_path / "away.db"
    with running(tmp_path) as client:
        first = client.post("/v1/appeals", json=appeal("A-1"))
        file.rename(away)
        until(lambda: not ready(client))
        does_what_it_can(client, "put it back")
        assert not file.exists()
        away.rename(file)
        until(lambda: ready(client))
        assert client.post("/v1/appeals", json=appeal("A-1")).content == first.content
        assert client.post("/v1/appeals", json=appeal("A-2")).status_code == 201


def test_a_database_that_hangs_hangs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, hanging = threading.Event(), threading.Event()

    def hang(store: Store, id: str) -> None:
        hanging.set()
        held.wait(30)
        raise StoreError("no route to host")

    with running(tmp_path, answer_seconds=0.3) as client, ThreadPoolExecutor(12) as pool:
        monkeypatch.setattr(Store, "find", hang)
        stuck = [pool.submit(client.get, f"/v1/appeals/A-{n}") for n in range(12)]
        assert hanging.wait(10)
        assert client.post("/v1/classify", json={"texts": [MANHOLE]}).status_code == 200
        late = client.get("/readyz")
        assert "no answer within" in late.json()["problems"]["store"]
        held.set()
        for one in stuck:
            assert one.result().status_code == 503
        monkeypatch.undo()
        until(lambda: ready(client))


# --- the disk -----------------------------------------------------------------------------------------------


@contextmanager
def no_larger_files(life: Life, limit: int) -> Iterator[None]:
    """The process's writes beyond this size of any file fail, as on a full disk."""
    soft, hard = resource.prlimit(life.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(life.pid, resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.prlimit(life.pid, resource.RLIMIT_FSIZE, (soft, hard))


def post_until_refused(client: TestClient | httpx.Client) -> dict[str, bytes]:
    """Answers of all that were taken up before the first refusal."""
    taken: dict[str, bytes] = {}
    for n in range(500):
        response = client.post("/v1/appeals", json=appeal(f"F-{n}", f"{n}：{LONG}"))
        if response.status_code != 201:
            problem(response, 503, "store_not_ready")
            return taken
        taken[f"F-{n}"] = response.content
    raise AssertionError("the disk never was full")


def test_a_real_process_whose_writes_fail(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jiesu.db'}"
    with Lives(tmp_path / "log") as lives:
        life = lives.begin(database_url=url, heal_seconds=0.05)
        life.wait_ready()
        with httpx.Client(base_url=life.address, timeout=60) as client:
            sizes = [file.stat().st_size for file in tmp_path.glob("jiesu.db*")]
            with no_larger_files(life, max(sizes) + 200_000):
                taken = post_until_refused(client)
                does_what_it_can(client, "disk")
                for id, told in taken.items():  # what is stored can be read from a full disk
                    until(lambda id=id: client.get(f"/v1/appeals/{id}").status_code == 200)  # type: ignore[misc]
                    assert client.get(f"/v1/appeals/{id}").content == told
            until(lambda: ready(client), 20)
            assert client.post("/v1/appeals", json=appeal("after")).status_code == 201
        life.end(signal.SIGKILL)
    assert taken
    store = Store.open(url)
    assert set(store.find_many([*taken, "after"])) == {*taken, "after"}
    store.close()


def on_every_connection(app: Any, statement: str) -> Callable[[], None]:
    """Run a PRAGMA on the service's connections, old and new; gives the way to end it."""
    engine = app.state.service._database.engine

    def run(connection: Any, *_: object) -> None:
        connection.execute(statement)

    event.listen(engine, "connect", run)
    engine.dispose()

    def undo() -> None:
        event.remove(engine, "connect", run)
        engine.dispose()

    return undo


def test_a_full_database(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), loads(FakePredictor()))
    with TestClient(app) as client:
        assert client.post("/v1/appeals", json=appeal("A-1")).status_code == 201
        with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
            (pages,) = plain.execute("PRAGMA page_count").fetchone()
        undo = on_every_connection(app, f"PRAGMA max_page_count={pages}")
        taken = post_until_refused(client)
        time.sleep(0.2)  # several tries to heal
        does_what_it_can(client, "full")
        assert client.post("/v1/appeals", json=appeal("A-1")).status_code == 200  # stored: that can be told
        undo()
        until(lambda: ready(client))
        assert client.post("/v1/appeals", json=appeal("A-2", LONG)).status_code == 201
        for id, told in taken.items():
            assert client.get(f"/v1/appeals/{id}").content == told


def test_a_file_that_turns_read_only(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), loads(FakePredictor()))
    with TestClient(app) as client:
        assert client.post("/v1/appeals", json=appeal("A-1")).status_code == 201
        undo = on_every_connection(app, "PRAGMA query_only=ON")
        problem(client.post("/v1/appeals", json=appeal("A-2")), 503, "store_not_ready")
        does_what_it_can(client, "readonly")
        undo()
        until(lambda: ready(client))
        assert client.post("/v1/appeals", json=appeal("A-2")).status_code == 201


def test_a_file_that_is_read_only_from_the_start(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        first = client.post("/v1/appeals", json=appeal("A-1"))
    url = f"sqlite:///file:{tmp_path / 'jiesu.db'}?mode=ro&uri=true"
    with running(tmp_path, database_url=url) as client:
        does_what_it_can(client, "readonly")
        assert client.get("/v1/appeals/A-1").content == first.content


def test_a_disk_error_in_the_middle_of_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with running(tmp_path) as client:
        with monkeypatch.context() as broken:
            broken.setattr(Store, "add_many", fail)
            assert client.post("/v1/appeals", json=appeal("A-1")).status_code == 503
        until(lambda: client.post("/v1/appeals", json=appeal("A-1")).status_code == 201)


# --- the clock ----------------------------------------------------------------------------------------------


def set_clock(monkeypatch: pytest.MonkeyPatch, year: int) -> None:
    class Jumped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime(year, 3, 4, 12, 0, tzinfo=tz)

    monkeypatch.setattr(walk, "datetime", Jumped)


@pytest.mark.parametrize("year", [1970, 2001, 2098, 2150])
def test_a_clock_that_jumps_moves_no_deadline_of_an_appeal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    with running(tmp_path, answer_seconds=5) as client:
        told = client.post("/v1/appeals", json=appeal("A-0", received_at="2030-05-04T09:00:00+08:00"))
        set_clock(monkeypatch, year)
        again = client.post("/v1/appeals", json=appeal("A-1", received_at="2030-05-04T09:00:00+08:00"))
        assert again.status_code == 201
        assert again.json()["decision"] == told.json()["decision"]
        new = client.post("/v1/appeals", json=appeal("A-2"))
        assert new.status_code == 201  # not refused, not late
        assert new.json()["received_at"].startswith(str(year))
        received = datetime.fromisoformat(new.json()["received_at"])
        for name in ("respond_by", "resolve_by"):
            by = new.json()["decision"][name]
            assert by is None or received < datetime.fromisoformat(by) < received + timedelta(days=400)
        monkeypatch.undo()
        assert client.post("/v1/appeals", json=appeal("A-2")).content == new.content


@pytest.mark.parametrize("moment", ["2000-01-01T00:00:00+14:00", "2099-12-31T23:59:59-12:00"])
def test_an_appeal_from_the_far_past_or_future_is_answered_and_read_back(
    tmp_path: Path, database_url: str, moment: str
) -> None:
    with running(tmp_path, database_url=database_url) as client:
        told = client.post("/v1/appeals", json=appeal("A-1", "孩子掉进河里了，快救人！", received_at=moment))
        assert told.status_code == 201
        assert datetime.fromisoformat(told.json()["received_at"]) == datetime.fromisoformat(moment)
        assert client.get("/v1/appeals/A-1").content == told.content


def test_a_jump_is_counted_and_an_impossible_year_is_told_until_it_is_set_right() -> None:
    metrics = Metrics()
    health = Health(metrics)
    now = [datetime(2031, 5, 4, tzinfo=UTC).timestamp()]
    clock = Clock(health, metrics, lambda: now[0])
    clock.look()
    assert "jiesu_clock_jumps_total 0.0" in metrics.text().decode()
    now[0] = 3600.0
    clock.look()
    assert "says 1970" in health.problems["clock"]
    assert "jiesu_clock_jumps_total 1.0" in metrics.text().decode()
    now[0] = datetime(2031, 5, 4, tzinfo=UTC).timestamp()
    clock.look()
    assert "clock" not in health.problems
    assert "jiesu_clock_jumps_total 2.0" in metrics.text().decode()


# --- replicas and stops -------------------------------------------------------------------------------------


def test_two_replicas_asked_at_once_give_one_answer(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.fresh()
    with Lives(tmp_path / "log") as lives:
        both = [lives.begin(database_url=url) for _ in range(2)]
        for life in both:
            life.wait_ready()

        def post(number: int) -> tuple[int, bytes]:
            body = appeal(f"R-{number // 4}", received_at="2031-05-04T09:00:00+08:00")
            if number // 4 % 5 == 4 and number % 4 == 3:
                body["text"] += "再补充一句。"  # another body under an id that is taken
            response = httpx.post(f"{both[number % 2].address}/v1/appeals", json=body, timeout=60)
            return response.status_code, response.content

        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(post, range(40)))
        for life in both:
            life.end(signal.SIGTERM)
        again = lives.begin(database_url=url)
        again.wait_ready()
        for start in range(0, 40, 4):
            group = done[start : start + 4]
            kept = httpx.get(f"{again.address}/v1/appeals/R-{start // 4}", timeout=60).content
            statuses = sorted(status for status, _ in group)
            assert statuses in ([200, 200, 200, 201], [200, 200, 201, 409], [201, 409, 409, 409])
            assert {content for status, content in group if status < 300} == {kept}
    postgres.drop(url)


def test_a_stop_answers_and_stores_every_accepted_appeal(database_url: str, tmp_path: Path) -> None:
    with Lives(tmp_path / "log") as lives:
        life = lives.begin(database_url=database_url, text_seconds=0.1, batch_texts=4, grace_seconds=30)
        life.wait_ready()

        def post(number: int) -> httpx.Response:
            return httpx.post(f"{life.address}/v1/appeals", json=appeal(f"T-{number}"), timeout=60)

        with ThreadPoolExecutor(12) as pool:
            posted = [pool.submit(post, number) for number in range(12)]
            seen = 'jiesu_stage_seconds_count{stage="understand"} 12.0'
            until(lambda: seen in httpx.get(f"{life.address}/metrics", timeout=60).text, 30)
            life.end(signal.SIGTERM)
            answers = [one.result() for one in posted]
    assert [answer.status_code for answer in answers] == [201] * 12
    store = Store.open(database_url)
    found = store.find_many([f"T-{n}" for n in range(12)])
    store.close()
    assert {id: stored.answer.encode() for id, stored in found.items()} == {
        f"T-{n}": answer.content for n, answer in enumerate(answers)
    }


@pytest.mark.parametrize(
    "strange", ["\x00", "\x1b[2J", "\ufeff", "\u202e", "😀", "𠮷", "'; DROP TABLE appeals; --", "%s :id"]
)
def test_strange_characters_are_stored_on_both_databases(
    database_url: str, tmp_path: Path, strange: str
) -> None:
    with running(tmp_path, database_url=database_url) as client:
        body = appeal("A-1", f"{MANHOLE}{strange}", title=f"井盖{strange}", channel=strange.strip("\x00\x1b"))
        told = client.post("/v1/appeals", json=body)
        assert told.status_code == 201
        assert client.get("/v1/appeals/A-1").content == told.content
        assert ready(client)
