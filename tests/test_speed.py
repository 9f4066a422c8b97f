"""The load harness against tiny servers, and its command. Nothing here is timed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from classifier.predictor import Predictor
from evaluation.__main__ import app
from evaluation.errors import MissingExtra, ServerFailed, SpeedError
from evaluation.speed import contenders as contenders_module
from evaluation.speed import needs, run, tables, wrk
from evaluation.speed.contenders import Layout, Place, chosen, contenders, taught_by
from evaluation.speed.generator import Load, Outcome, perform
from evaluation.speed.processes import ended_in_order, free_port, run_module, started
from evaluation.speed.trial import Effort
from tests.models import toy_model
from tests.speed_trials import tiny

# -- load on a tiny server -------------------------------------------------------------------------


def test_the_open_loop_does_not_wait_for_answers(tmp_path: Path) -> None:
    """Five requests are due at once on a server that answers only when all five have arrived."""

    async def together() -> Outcome:
        arrived = asyncio.Semaphore(0)
        count = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            await reader.readuntil(b"\r\n\r\n")
            count += 1
            if count == 5:
                for _ in range(5):
                    arrived.release()
            await arrived.acquire()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        bodies = tmp_path / "bodies"
        bodies.write_bytes(b"{}\n" * 5)
        load = Load(f"http://127.0.0.1:{port}/", str(bodies), (0.0, 0.001, 0.002, 0.003, 0.004), timeout=20)
        async with server:
            return await perform(load)

    outcome = asyncio.run(together())
    assert len(outcome.took) == len(outcome.late) == 5
    assert not outcome.failed
    # Time runs from when a request was due, not from when it was sent.
    assert all(took > late for took, late in zip(sorted(outcome.took), sorted(outcome.late), strict=True))


def test_refusals_and_lost_connections_are_counted_not_timed(tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    texts = ["路灯坏了", "REFUSE", "水管漏了"]
    bodies.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "tests.tiny_server", str(port)]
    url = f"http://127.0.0.1:{port}"
    with started("tiny", command, {}, url, "/ready", tmp_path) as running:
        outcome = asyncio.run(perform(Load(url, str(bodies), (0.0, 0.01, 0.02))))
        assert running.usage().resident > 0
    assert len(outcome.took) == 2 and dict(outcome.failed) == {"503": 1}
    gone = asyncio.run(perform(Load(url, str(bodies), (), in_flight=2, seconds=5)))
    assert not gone.took and sum(gone.failed.values()) == 3


def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no model here'); raise SystemExit(3)"]
    with (
        pytest.raises(ServerFailed, match=r"(?s)broken: .*status 3.*no model here"),
        started("broken", command, {}, "http://127.0.0.1:9", "/ready", tmp_path),
    ):
        pytest.fail("it never started")


def test_a_server_is_ended_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    code = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(child)!r}).write_text(str(child.pid))\n"
        "sys.argv = ['tiny', sys.argv[1]]\n"
        "import runpy; runpy.run_module('tests.tiny_server', run_name='__main__')"
    )
    port = free_port()
    command = [sys.executable, "-c", code, str(port)]
    with started("parent", command, {}, f"http://127.0.0.1:{port}", "/ready", tmp_path):
        pid = int(child.read_text())
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_sigterm_ends_us_in_order() -> None:
    reached = []
    with pytest.raises(SystemExit) as stopped, ended_in_order():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the signal did not end us")
        finally:
            reached.append("the end")
    assert stopped.value.code == 128 + signal.SIGTERM and reached == ["the end"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_failures_come_back_from_the_generator(tmp_path: Path) -> None:
    bodies, plan, result = (tmp_path / name for name in ("bodies", "plan", "result"))
    bodies.write_bytes(b"{}\n")
    plan.write_text(json.dumps({"url": f"http://127.0.0.1:{free_port()}", "bodies": str(bodies), "due": [0]}))
    run_module("evaluation.speed.generator", str(plan), str(result))
    outcome = Outcome(**json.loads(result.read_text()))
    assert sum(outcome.failed.values()) == 1 and not outcome.took and outcome.wall_seconds > 0


def test_a_failing_process_of_ours_is_told() -> None:
    with pytest.raises(ServerFailed, match=r"evaluation\.speed\.generator"):
        run_module("evaluation.speed.generator", "no-such-plan.json", "no-such-result.json")


# -- wrk as a check --------------------------------------------------------------------------------

with_wrk = pytest.mark.skipif(not wrk.installed(), reason="wrk is not installed")


@with_wrk
def test_wrk_asks_every_body_once_and_counts_what_was_refused(tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    texts = ["路灯坏了", "REFUSE", *(f"水管漏了{i}" for i in range(38))]
    bodies.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "tests.tiny_server", str(port)]
    url = f"http://127.0.0.1:{port}"
    with started("tiny", command, {}, url, "/ready", tmp_path):
        found = wrk.drive(url, bodies, 1, 2, 1)
    assert found.errors == 1  # asked once only: the texts don't begin anew
    assert 2 < found.requests <= len(texts)  # whatever is under way when the last is sent is not waited for
    assert found.throughput > 0


@with_wrk
def test_wrk_tells_when_nothing_answers(tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_text("{}\n", encoding="utf-8")
    with pytest.raises(ServerFailed, match=r"^wrk: "):
        wrk.drive(f"http://127.0.0.1:{free_port()}", bodies, 1, 1, 1)


@with_wrk
def test_a_run_is_checked_by_wrk(lexical_model: Predictor, tmp_path: Path) -> None:
    effort = Effort(seconds=0.3, warm=0.1, in_flight=4, bound=5.0, steps=0, checked=True)
    plan = run.Plan((tiny("one", "ours"), tiny("two", "plain")), "short", effort, rates=(5.0,))
    result = run.measure(lexical_model, plan, None)
    assert all(row.checked > 0 and row.errors == 0 for row in result.rows)
    assert any("the plain way's throughput by wrk" in line for line in tables.words(result))
    assert "texts/s by wrk" in tables.write(result, tmp_path)["markdown"].read_text(encoding="utf-8")


# -- the whole comparison on tiny servers ----------------------------------------------------------


@pytest.fixture(scope="module")
def lexical_model(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(toy_model(tmp_path_factory.mktemp("speed") / "model"))


def test_a_run_compares_all_servers_with_the_same_texts(lexical_model: Predictor, tmp_path: Path) -> None:
    known = (tiny("one", "ours"), tiny("two", "plain", layouts=2), tiny("three", "batching"))
    effort = Effort(seconds=0.3, warm=0.1, in_flight=4, bound=5.0, steps=1)
    result = run.measure(lexical_model, run.Plan(known, "short", effort, rounds=2), None)
    assert [row.name for row in result.rows] == ["one", "two", "three"]
    assert len(result.trials) == 6
    assert [one.name for one in result.trials] == ["one", "two", "three", "two", "three", "one"]
    failures = [one.failed for trial in result.trials for one in trial.stages if one.failed]
    assert failures == []
    assert all(row.rounds == 2 and row.saturation > 0 and row.errors == 0 for row in result.rows)
    assert len({one.probes for one in result.trials}) == 1 and result.trials[0].probes
    assert result.rates  # chosen from what the plain and the batching server can do
    files = tables.write(result, tmp_path)
    told = files["markdown"].read_text(encoding="utf-8")
    assert "× plain" in told and "| one |" in told and "load generator runs on the same machine" in told
    content = json.loads(files["json"].read_text(encoding="utf-8"))
    assert content["rows"][0]["name"] == "one" and len(content["trials"]) == 6
    assert all(len(grid.columns) == len(line) for grid in tables.grids(result) for line in grid.lines)


def test_a_server_that_dies_at_its_start_ends_the_run(lexical_model: Predictor) -> None:
    dead = replace(
        tiny("dead", "ours"),
        command=lambda place: ([sys.executable, "-c", "raise SystemExit('bad settings')"], {}),
    )
    plan = run.Plan((dead,), "short", Effort(seconds=0.2, warm=0.1), rates=(5.0,))
    with pytest.raises(ServerFailed, match=r"(?s)dead: .*bad settings"):
        run.measure(lexical_model, plan, None)


def test_a_server_that_answers_something_else_ends_the_run(lexical_model: Predictor) -> None:
    other = replace(tiny("other", "ours"), best=lambda answer: str(answer["no such field"]))
    plan = run.Plan((other,), "short", Effort(seconds=0.2, warm=0.1), rates=(5.0,))
    with pytest.raises(ServerFailed, match="other: expected a likeliest label"):
        run.measure(lexical_model, plan, None)


# -- choosing, and the command ---------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 4])
def test_servers_are_chosen_by_name_or_kind(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(contenders_module, "cores", lambda: cores)
    known = contenders()
    ours = ["classify", "appeals", "bulk"]
    if cores > 1:
        ours += [f"{name}-{cores}" for name in ours]  # as a process per core
    assert [one.name for one in chosen((), known)] == [*ours, "plain", "mosec", "litserve"]
    assert [one.name for one in chosen(["ours", "mosec"], known)] == [*ours, "mosec"]
    assert [one.name for one in chosen(["bulk"], known)] == ["bulk"]
    with pytest.raises(SpeedError, match=r"--only: expected some of .*litserve.*, got nginx"):
        chosen(["nginx"], known)


def test_every_request_is_one_line_and_no_two_appeals_share_an_id(tmp_path: Path) -> None:
    for one in contenders():
        body = one.request([f"第一行\n第{i}行" for i in range(one.texts)], "7")
        assert b"\n" not in body and json.loads(body)
    appeals = chosen(["appeals"], contenders())[0]
    first, second = (json.loads(appeals.request(["路灯坏了"], number)) for number in ("1", "2"))
    assert first["id"] != second["id"]


def test_the_teacher_is_the_plain_way_with_a_folder_of_its_own(tmp_path: Path) -> None:
    place = Place(8123, tmp_path / "model", tmp_path / "torch", tmp_path, Layout(1, 2))
    (plain,), taught = chosen(["plain"], contenders()), taught_by(tmp_path / "six", "teacher-1")
    ours, theirs = plain.command(place)[0], taught.command(place)[0]
    assert [one for one, other in zip(theirs, ours, strict=True) if one != other] == [str(tmp_path / "six")]
    assert "teacher-1" in taught.meaning
    assert taught.best is None  # other weights may give other labels


def test_the_service_is_started_with_its_defaults_and_a_database_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JIESU_DATABASE_URL", "sqlite:///precious.db")
    first = contenders()[0]
    place = Place(8123, Path("model"), Path("torch"), tmp_path, *first.layouts)
    command, environment = first.command(place)
    address = ["--host", "127.0.0.1", "--port", "8123"]
    assert command[1:] == ["-m", "serving", "run", *address, "--processes", "1"]
    assert environment["JIESU_DATABASE_URL"] == f"sqlite:///{tmp_path / 'jiesu.db'}"
    assert environment["JIESU_MODEL_DIR"] == "model"


def test_wrong_options_are_told_in_one_line() -> None:
    runner = CliRunner()
    for arguments, told in (
        (["--only", "nginx"], "--only: expected some of"),
        (["--mix", "novels"], "--mix: expected one of hotline, board, short"),
        (["--rates", "20,fast"], "--rates: expected numbers"),
        (["--rates=-3"], "--rates: expected numbers above 0"),
    ):
        done = runner.invoke(app, ["speed", *arguments])
        assert done.exit_code == 2
        assert told in done.stderr and "Traceback" not in done.output


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"jiesu\[speed\]"):
        needs.require()
    with pytest.raises(MissingExtra, match=r"torch.*--only ours --no-accuracy"):
        needs.require_others()


def test_the_commands_load_no_torch() -> None:
    modules = "evaluation.__main__, evaluation.speed.run, evaluation.speed.tables"
    code = f"import sys, {modules}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_shows_an_example() -> None:
    done = CliRunner().invoke(app, ["speed", "--help"])
    assert done.exit_code == 0 and "Example: python -m evaluation speed" in done.output
