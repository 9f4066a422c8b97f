"""The shadow answers unseen, never in the way, and the report says where it differs and who was right."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from typer.testing import CliRunner

from classifier.registry import Registry
from data.database import Database
from data.paired_answers import Pair, Said, pairs
from data.proportions import mcnemar, paired_difference, wilson
from data.reviews import ReviewStore
from data.store_tables import answers
from data.suggestions import Suggestion
from serving.__main__ import cli
from serving.batcher import Request as Queued
from serving.challengers.report import WORST, compared, shadow_report
from tests.challenging import CALM, Fakes, ids_of, register, served, stands
from tests.fakes import WORDS, FakePredictor
from tests.running import appeal, until

NOW = datetime(2031, 5, 4, 12, tzinfo=UTC)
LEVELS = ("一般", "较急", "紧急", "特急")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """m1 answers, m2 is in the shadow."""
    made = register(tmp_path, "m1", "m2", "m3")
    made.set_shadow("m2", "cli:test", "look at it")
    return made


@contextmanager
def opened(folder: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{folder / 'jiesu.db'}")
    yield database
    database.close()


def stored(folder: Path, id: str) -> list[str]:
    """The versions whose answers to an appeal are stored, the first one first."""
    with opened(folder) as database:
        return [one.model_version for one in ReviewStore(database).appeal(id).answers]


def post(client: TestClient, id: str, text: str = CALM) -> None:
    answer = client.post("/v1/appeals", json=appeal(id, text))
    assert (answer.status_code, answer.json()["model_version"]) == (201, "m1"), answer.text


def outcome(client: TestClient, name: str) -> float:
    line = f'jiesu_shadow_texts_total{{outcome="{name}"}} '
    found = [one for one in client.get("/metrics").text.splitlines() if one.startswith(line)]
    return float(found[0].rsplit(" ", 1)[1])


# --- answering ----------------------------------------------------------------------------------


def test_its_answers_are_stored_beside_and_nobody_sees_them(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry) as client:
        stands(client, "shadow", "m2")
        for number in range(6):
            post(client, f"S-{number}")
        until(lambda: outcome(client, "answered") == 6, 20)
        assert client.get("/v1/appeals/S-1").json()["model_version"] == "m1"
    assert {tuple(stored(tmp_path, f"S-{number}")) for number in range(6)} == {("m1", "m2")}
    with opened(tmp_path) as database:
        found = list(pairs(database, "m2", NOW - timedelta(days=36500), NOW + timedelta(days=36500), 100))
    assert [one.id for one in found] == [f"S-{number}" for number in (5, 4, 3, 2, 1, 0)]
    assert all(one.challenger.timed["challenger_ms"] >= 0 for one in found)
    assert any("champion_ms" in one.challenger.timed for one in found)


def test_what_was_answered_is_stored_at_a_stop(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry) as client:
        stands(client, "shadow", "m2")
        post(client, "S-1")
        shadow = client.app.state.service.shadow  # type: ignore[attr-defined]
        until(lambda: shadow._answered or outcome(client, "answered"), 20)
    assert stored(tmp_path, "S-1") == ["m1", "m2"]


def test_contradictions_enter_the_queue_of_disagreements(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, registry, Contrary()) as client:
        stands(client, "shadow", "m2")
        post(client, "S-1")
        until(lambda: outcome(client, "answered") == 1, 20)
    with opened(tmp_path) as database:
        leased = ReviewStore(database).take("disagreement", "user:ming", now=datetime.now(UTC))
    assert leased is not None and leased.appeal.id == "S-1"


class Contrary(Fakes):
    """m2 calls what others call 医保 something else."""

    def __init__(self) -> None:
        super().__init__({"m2": ContraryPredictor(version="m2")})


class ContraryPredictor(FakePredictor):
    """Reads 医保 as 工资."""

    def predict(self, texts, *given, **more):  # type: ignore[no-untyped-def]
        return super().predict([text.replace("医保", "工资") for text in texts], *given, **more)


def test_it_waits_while_callers_wait_and_too_many_are_dropped(tmp_path: Path, registry: Registry) -> None:
    fakes = Fakes()
    with served(tmp_path, registry, fakes, shadow_texts=3) as client:
        stands(client, "shadow", "m2")
        service = client.app.state.service  # type: ignore[attr-defined]
        service.shadow._idle = lambda: False
        asked = len(fakes.made["m2"].batches)
        for number in range(5):
            post(client, f"S-{number}")
        assert outcome(client, "dropped") == 2
        assert "jiesu_shadow_queue_texts 3.0" in client.get("/metrics").text
        assert len(fakes.made["m2"].batches) == asked, "it was not asked while the machine was busy"
        service.shadow._idle = lambda: service.batcher.idle
        until(lambda: outcome(client, "answered") == 3, 20)


def test_the_batcher_is_idle_when_nothing_waits_and_nothing_runs(tmp_path: Path, registry: Registry) -> None:
    fakes = Fakes()
    with served(tmp_path, registry, fakes) as client:
        batcher = client.app.state.service.batcher  # type: ignore[attr-defined]
        assert batcher.idle
        champion = fakes.made["m1"]
        champion.held.clear()
        portal = client.portal
        assert portal is not None
        waiting = portal.start_task_soon(batcher.classify, [Queued(CALM)])
        until(lambda: not batcher.idle)
        champion.held.set()
        waiting.result(10)
        until(lambda: batcher.idle)


def test_a_share_of_none_shows_it_nothing(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry, shadow_share=0.0) as client:
        stands(client, "shadow", "m2")
        post(client, "S-1")
        service = client.app.state.service  # type: ignore[attr-defined]
        assert not service.shadow._queue and outcome(client, "dropped") == 0


def test_one_that_fails_is_told_and_costs_nobody_an_answer(tmp_path: Path, registry: Registry) -> None:
    fakes = Fakes({"m2": FakePredictor(version="m2", fail_on="材料")})
    with served(tmp_path, registry, fakes) as client:
        stands(client, "shadow", "m2")
        for number in range(20):
            post(client, f"S-{number}")
            if "shadow" in client.get("/readyz").json()["problems"]:
                break
            time.sleep(0.05)
        until(lambda: "shadow" in client.get("/readyz").json()["problems"], 20)
        assert "failed 3 times in a row" in client.get("/readyz").json()["problems"]["shadow"]
        assert client.get("/readyz").status_code == 200
        assert outcome(client, "failed") >= 3


def test_the_canarys_appeals_are_not_shown_to_it(tmp_path: Path, registry: Registry) -> None:
    registry.set_canary("m3", 0.5, "cli:test", "both at once")
    with served(tmp_path, registry) as client:
        stands(client, "shadow", "m2")
        stands(client, "canary", "m3")
        [mine], [other] = ids_of(registry, True, 1), ids_of(registry, False, 1)
        for id in (mine, other):
            client.post("/v1/appeals", json=appeal(id, CALM))
        until(lambda: outcome(client, "answered") == 1, 20)
    assert (stored(tmp_path, mine), stored(tmp_path, other)) == (["m3"], ["m1", "m2"])


# --- the report ---------------------------------------------------------------------------------


def said(version: str, action: str = "review", urgency: str = "一般", **codes: str) -> Said:
    heads = {head: Suggestion(code, 0.8) for head, code in {"unit": "a", **codes}.items()}
    timed = {"challenger_ms": 12.0, "champion_ms": 10.0} if version == "new" else {}
    return Said(version, action, urgency, heads, NOW + timedelta(seconds=2 * (version == "new")), timed)


def pair(number: int, told: Said, theirs: Said) -> Pair:
    return Pair(f"P-{number}", NOW, told, theirs, {})


def test_what_matters_is_counted_and_the_worst_come_first() -> None:
    old = said("old", urgency="紧急")
    found = [
        pair(1, said("old"), said("new")),
        pair(2, said("old"), said("new", unit="b")),
        pair(3, said("old"), said("new", action="auto_dispatch")),
        pair(4, old, said("new")),
        pair(5, said("old"), said("new", urgency="特急")),
        pair(6, said("old", action="auto_dispatch"), said("new")),
        pair(7, said("old", action="transfer"), said("new")),
    ]
    told = compared(iter(found), "new", (NOW, NOW), LEVELS, 100)
    assert (told.appeals, told.against, told.complete) == (7, {"old": 7}, True)
    assert (told.urgency_lowered, told.urgency_raised, told.decisions_changed) == (1, 1, 3)
    assert [(one.id, one.matter) for one in told.worst] == [
        ("P-4", "urgency_lowered"), ("P-3", "now_automatic"), ("P-7", "transfer_changed"),
        ("P-5", "urgency_raised"), ("P-6", "to_review"), ("P-2", "labels"),
    ]  # fmt: skip
    assert told.worst[0].what == ["urgency: 紧急 → 一般"]
    [unit] = told.heads
    assert (unit.appeals, unit.different, unit.changes[0].before, unit.changes[0].after) == (7, 1, "a", "b")
    assert unit.low < unit.share < unit.high and unit.judged is None
    assert (told.lag_seconds, told.champion_ms, told.challenger_ms, told.timed_texts) == (2.0, 10.0, 12.0, 7)


def test_memory_does_not_grow_with_the_appeals() -> None:
    many = (pair(number, said("old"), said("new", unit="b")) for number in range(2000))
    told = compared(many, "new", (NOW, NOW), LEVELS, 2000)
    assert (told.appeals, len(told.worst), told.complete) == (2000, WORST, False)


def test_who_was_right_is_told_where_people_have_labelled(tmp_path: Path, registry: Registry) -> None:
    truth = dict(WORDS["unit"])
    with served(tmp_path, registry, Contrary()) as client:
        stands(client, "shadow", "m2")
        for number in range(8):
            post(client, f"S-{number}")
        until(lambda: outcome(client, "answered") == 8, 20)
        scheme = client.app.state.service.model().scheme  # type: ignore[attr-defined]
        label(tmp_path, scheme, [f"S-{number}" for number in range(5)], truth["医保"])
        told = client.get("/v1/versions/shadow", params={"days": 3}).json()
    [unit] = [one for one in told["heads"] if one["head"] == "unit"]
    assert (told["version"], told["appeals"], told["against"]) == ("m2", 8, {"m1": 8})
    judged = unit["judged"]
    assert (judged["appeals"], judged["champion_right"], judged["challenger_right"]) == (5, 5, 0)
    assert judged["difference"] == -1.0 and judged["high"] < 0 and judged["p"] == pytest.approx(0.0625)
    assert all(one["id"].startswith("S-") for one in told["worst"]) and CALM not in str(told)


def label(folder: Path, scheme, ids: list[str], code: str) -> None:  # type: ignore[no-untyped-def]
    with opened(folder) as database:
        store = ReviewStore(database)
        for id in ids:
            now, said = datetime.now(UTC), {"unit": code}
            lease = store.take_appeal(id, "user:ming", now=now).lease
            store.correct(lease, "user:ming", said, said, scheme=scheme, token=id, now=now)


def test_the_command_tells_the_same(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry, Contrary()) as client:
        stands(client, "shadow", "m2")
        post(client, "S-1")
        until(lambda: outcome(client, "answered") == 1, 20)
        database = f"sqlite:///{tmp_path / 'jiesu.db'}"
        given = {"JIESU_REGISTRY_DIR": str(registry.root), "DATABASE_URL": database}
        shown = CliRunner().invoke(cli, ["models", "shadow-report"], env=given)
        assert shown.exit_code == 0, shown.output
        assert "m2 against m1 (1): 1 appeals" in shown.output and "look at these first" in shown.output
        program = CliRunner().invoke(cli, ["models", "shadow-report", "m2", "--json"], env=given)
        assert '"appeals": 1' in program.output
        nothing = CliRunner().invoke(cli, ["models", "shadow-report", "m3"], env=given)
        assert "nothing to compare" in nothing.output
        registry.set_shadow("", "cli:test", "over")
        refused = CliRunner().invoke(cli, ["models", "shadow-report"], env=given)
        assert refused.exit_code == 2 and "expected a version in the shadow" in refused.output


def test_pages_of_pairs_hold_every_pair_once(tmp_path: Path, registry: Registry) -> None:
    from data import paired_answers

    with pytest.MonkeyPatch.context() as patched, served(tmp_path, registry) as client:
        patched.setattr(paired_answers, "AT_ONCE", 2)
        stands(client, "shadow", "m2")
        for number in range(7):
            post(client, f"S-{number}")
        until(lambda: outcome(client, "answered") == 7, 20)
        with opened(tmp_path) as database:
            now = datetime.now(UTC) + timedelta(minutes=1)
            assert shadow_report(database, "m2", now).appeals == 7
            limited = shadow_report(database, "m2", now, limit=3)
            assert (limited.appeals, limited.complete) == (3, False)
            assert shadow_report(database, "m2", now - timedelta(days=30)).appeals == 0


def test_what_the_memory_moved_is_not_compared(tmp_path: Path, registry: Registry) -> None:
    with served(tmp_path, registry) as client:
        stands(client, "shadow", "m2")
        post(client, "S-1")
        until(lambda: outcome(client, "answered") == 1, 20)
    with opened(tmp_path) as database:
        now = datetime.now(UTC) + timedelta(minutes=1)
        [before] = pairs(database, "m2", now - timedelta(days=1), now, 10)
        _moved_by_memory(database, "m1", "category")
        [after] = pairs(database, "m2", now - timedelta(days=1), now, 10)
    assert "category" in before.told.heads
    assert after.told.heads.keys() == before.told.heads.keys() - {"category"}
    assert after.challenger.heads.keys() == before.challenger.heads.keys()


def _moved_by_memory(database: Database, version: str, head: str) -> None:
    with database.begin() as connection:
        of_version = answers.c.model_version == version
        body = json.loads(connection.execute(select(answers.c.body).where(of_version)).scalar_one())
        body["without_memory"] = {head: {"code": "x", "name": "x", "path": ["x"], "probability": 0.5}}
        connection.execute(update(answers).where(of_version).values(body=json.dumps(body)))


# --- figures ------------------------------------------------------------------------------------


def test_intervals_and_p_are_those_of_the_books() -> None:
    low, high = wilson(10, 50)
    assert [low, high] == pytest.approx([0.1124, 0.3304], abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0) and wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == pytest.approx(1.0)
    assert mcnemar(0, 0) == 1.0 and mcnemar(5, 5) == 1.0
    assert mcnemar(0, 5) == pytest.approx(0.0625)
    assert mcnemar(10, 40) == pytest.approx(4.1e-05, rel=0.02)
    low, high = paired_difference(10, 40, 200)
    assert low < 0.15 < high and low > 0
    assert paired_difference(0, 0, 0) == (-1.0, 1.0)
