"""The load harness: its arithmetic, its schedule, and a run against a tiny server. Nothing here is timed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from typer.testing import CliRunner

from classifier.predictor import Predictor
from evaluation.__main__ import app
from evaluation.errors import MissingExtra, ServerFailed, SpeedError, WeightsDiffer
from evaluation.speed import figures, limits, needs, run, tables
from evaluation.speed.contenders import Contender, Layout, Place, chosen, contenders
from evaluation.speed.driving import Stage
from evaluation.speed.generator import Load, Outcome, perform
from evaluation.speed.graph import EncoderGraph
from evaluation.speed.processes import ended_in_order, free_port, run_module, started
from evaluation.speed.schedule import due_times, percentile
from evaluation.speed.texts import MIXES, TextList
from evaluation.speed.trial import Effort, Trial, sustained
from tests.models import toy_model

SENTENCES = ["巷口的路灯坏了三天没人修。", "水管一直漏，楼道里全是水！", "请问老年卡到哪里办理？"]


def tiny(name: str, kind: str, arguments: Sequence[str] = (), layouts: int = 1) -> Contender:
    def command(place: Place) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-m", "tests.tiny_server", str(place.port), *arguments], {}

    return Contender(
        name,
        kind,
        f"a tiny server called {name}",
        "/",
        "/ready",
        command,
        lambda texts, number: {"text": texts[0], "number": number},
        best=lambda answer: str(answer[0]["label"]),
        layouts=tuple(Layout(workers, 1) for workers in range(1, layouts + 1)),
        needs_torch=False,
    )


def stage(throughput: float = 100.0, p99: float = 0.02, **given: Any) -> Stage:
    plain: dict[str, Any] = {
        "rate": None, "requests": 200, "answered": 200, "failed": {}, "throughput": throughput,
        "p50": p99 / 4, "p95": p99 / 2, "p99": p99, "late": 0.001, "cpu_per_1000": 2.0,
        "generator_per_1000": 0.5, "cpu_share": 1.0, "resident": 50 * 2**20, "proportional": 40 * 2**20,
    }  # fmt: skip
    return Stage(**{**plain, **given})


def trial(name: str, throughput: float, held: float, p99: float | None = 0.02) -> Trial:
    rates = (None if p99 is None else stage(p99=p99, rate=50.0),)
    return Trial(name, Layout(), stage(throughput), rates, held, (), ())


# -- arithmetic ------------------------------------------------------------------------------------


def test_a_percentile_is_a_time_that_was_really_taken() -> None:
    hundred = [float(value) for value in range(100, 0, -1)]
    assert [percentile(hundred, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([3.0, 1.0], 50) == 1.0
    assert percentile([3.0, 1.0], 51) == 3.0
    assert percentile([7.0], 1) == percentile([7.0], 99) == 7.0
    assert math.isnan(percentile([], 99))


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert due_times(4, 1, "constant", seed=1) == [0, 0.25, 0.5, 0.75]
    assert len(due_times(3, 0.1, "constant", seed=1)) == 1
    assert len(due_times(0.1 + 0.2, 10, "constant", seed=1)) == 3


def test_poisson_arrivals_are_independent_and_the_same_for_every_server() -> None:
    times = due_times(200, 50, "poisson", seed=7)
    assert times == due_times(200, 50, "poisson", seed=7)
    assert times != due_times(200, 50, "poisson", seed=8)
    assert times == sorted(times) and times[0] >= 0 and times[-1] < 50
    assert len(times) == pytest.approx(10_000, rel=0.05)
    gaps = np.diff(times)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # so it is for an exponential distribution


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (1, 0)])
def test_a_schedule_needs_a_rate(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        due_times(rate, seconds, "poisson", seed=1)


def test_throughput_counts_answers_while_the_load_was_up() -> None:
    assert Outcome(ended=[0.5, 1.0, 2.0, 2.5], full=2.0).throughput == 1.5
    assert Outcome(ended=[3.0, 4.0], full=1.0).throughput == 0.5
    assert Outcome().throughput == 0.0


def test_the_sustained_rate_is_found_by_bisection() -> None:
    asked: list[float] = []

    def attempt(rate: float) -> Stage:
        asked.append(rate)
        return stage(p99=0.1 if rate <= 70 else 0.9)

    best, tried = sustained(attempt, saturation=100, bound=0.2, steps=6)
    assert len(tried) == 6
    assert asked[:3] == pytest.approx([80, 40, 60])
    assert best == max(rate for rate in asked if rate <= 70)
    assert 65 < best <= 70


def test_a_rate_with_an_error_is_not_sustained() -> None:
    best, _ = sustained(lambda rate: stage(p99=0.01, failed={"503": 1}), 100, bound=0.2, steps=4)
    assert best == 0


def test_rows_hold_medians_and_ratios_name_the_best_rival() -> None:
    known = [tiny("ours-one", "ours"), tiny("simple", "plain"), tiny("a", "batching"), tiny("b", "batching")]
    trials = [
        trial("ours-one", 600, 500, 0.01), trial("ours-one", 640, 480, 0.03),
        trial("ours-one", 10, 490, 0.02),
        trial("simple", 60, 40, None), trial("a", 200, 100, 0.5), trial("b", 150, 120, 0.4),
    ]  # fmt: skip
    made = figures.rows(known, trials)
    ours = made[0]
    assert (ours.saturation, ours.sustained, ours.rounds) == (600, 490, 3)
    assert ours.at[0] is not None and ours.at[0].p99 == 0.02 and ours.at[0].requests == 600
    assert made[1].at == (None,)
    by = figures.ratios(ours, made)
    assert by.saturation_by_plain == 10 and by.sustained_by_plain == 12.25
    assert by.saturation_by_batching == 3 and by.sustained_by_batching == pytest.approx(490 / 120)
    assert figures.ratios(made[1], made).saturation_by_plain == 1
    said = "\n".join(figures.verdicts(made))
    assert "10.0 × the plain way's throughput: meets the floor of 6 (the aim is 20)" in said
    assert "p99 20 ms at 50 texts/s, ahead of b's 400 ms" in said


def test_without_rivals_there_is_no_ratio() -> None:
    made = figures.rows([tiny("ours-one", "ours")], [trial("ours-one", 600, 500)])
    assert figures.ratios(made[0], made) == figures.Ratios(None, None, None, None)
    assert figures.verdicts(made) == []


def test_a_missed_floor_and_a_late_generator_are_said() -> None:
    known = [tiny("ours-one", "ours"), tiny("simple", "plain")]
    late = replace(trial("ours-one", 100, 50), rates=(stage(rate=50.0, late=0.5),))
    made = figures.rows(known, [late, trial("simple", 60, 40)])
    said = "\n".join(figures.verdicts(made))
    assert "misses the floor" in said
    assert "doubtful: the generator sent 500 ms late (p99) against ours-one" in said


def test_a_tail_of_few_requests_is_said_to_be_one() -> None:
    known = [tiny("ours-one", "ours"), tiny("a", "batching")]
    few = replace(trial("ours-one", 100, 50), rates=(stage(rate=50.0, requests=99, p99=0.6),))
    said = "\n".join(figures.verdicts(figures.rows(known, [few, trial("a", 60, 40, 0.5)])))
    assert "p99 600 ms at 50 texts/s, behind a's 500 ms (of 99 requests only: measure longer)" in said


def test_servers_that_label_otherwise_are_not_compared() -> None:
    alike = [replace(trial(name, 1, 1), probes=("a",) * 16) for name in ("one", "two")]
    figures.check_probes(alike)
    figures.check_probes([alike[0], replace(alike[1], probes=(*("a",) * 15, "b"))])
    with pytest.raises(WeightsDiffer, match=r"two: .*same for 10 only"):
        figures.check_probes([alike[0], replace(alike[1], probes=("a",) * 10 + ("b",) * 6)])


# -- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MIXES)
def test_texts_are_different_and_as_long_as_the_mix_says(name: str) -> None:
    mix = MIXES[name]
    texts = TextList(mix, seed=3).take(0, 2000)
    lengths = np.array([len(text) for text in texts])
    assert len(set(texts)) == len(texts)
    assert np.median(lengths) == pytest.approx(mix.median, rel=0.1)
    assert np.percentile(lengths, 90) == pytest.approx(mix.tenth, rel=0.15)
    assert lengths.min() >= mix.shortest and lengths.max() <= mix.longest


def test_a_list_is_the_same_however_it_is_taken() -> None:
    whole = TextList(MIXES["short"], 1, SENTENCES).take(0, 50)
    parts = TextList(MIXES["short"], 1, SENTENCES)
    assert [*parts.take(0, 20), *parts.take(20, 30)] == whole
    assert len(set(whole)) == 50  # though three sentences make few different beginnings
    assert TextList(MIXES["short"], 2, SENTENCES).take(0, 50) != whole


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


# -- weights and limits ----------------------------------------------------------------------------


def small_graph() -> Any:
    """One layer's worth of names: a product with its bias, and a head."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.standard_normal((8, 6), np.float32),
        "encoder.dense.bias": random.standard_normal(6, np.float32),
        "w2": random.standard_normal((6, 3), np.float32),
        "head.bias": random.standard_normal(3, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Add", ["a", "encoder.dense.bias"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"], name="second"),
        helper.make_node("Add", ["c", "head.bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_weights_are_found_by_their_biases_and_come_back_from_8_bits(tmp_path: Path) -> None:
    plain, eight = tmp_path / "plain.onnx", tmp_path / "eight.onnx"
    onnx.save(small_graph(), plain)
    quantize_dynamic(str(plain), str(eight), per_channel=True, weight_type=QuantType.QInt8)
    exact, back = EncoderGraph(onnx.load(plain)), EncoderGraph(onnx.load(eight))
    assert [(one.weight, one.inner, one.outer, one.eight_bits) for one in back.products] == [
        ("encoder.dense.weight", 8, 6, True),
        ("head.weight", 6, 3, True),
    ]
    assert not any(one.eight_bits for one in exact.products)
    for name in ("encoder.dense", "head"):
        first, second = exact._weight(f"{name}.bias"), back._weight(f"{name}.bias")
        assert first is not None and second is not None
        np.testing.assert_allclose(second[1], first[1], atol=0.03)
    x = np.random.default_rng(1).standard_normal((4, 8), np.float32)
    session = onnxruntime.InferenceSession(back.plain.SerializeToString())
    first_weight, second_weight = (back._weight(f"{name}.bias") for name in ("encoder.dense", "head"))
    assert first_weight is not None and second_weight is not None
    hidden = x @ first_weight[1] + back.constants["encoder.dense.bias"]
    expected = hidden @ second_weight[1] + back.constants["head.bias"]
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, atol=1e-4)


def test_a_graph_of_another_kind_is_refused() -> None:
    with pytest.raises(WeightsDiffer, match="word_embeddings"):
        _ = EncoderGraph(small_graph()).state


def test_operations_of_a_text_are_counted() -> None:
    graph = EncoderGraph(small_graph())
    graph.__dict__["state"] = {"head.weight": np.zeros((3, 6), np.float32)}
    work = limits.work_of(graph, [10, 20])
    assert work.tokens == 15
    assert work.constant == pytest.approx((2 * 8 * 6 * 15 + 2 * 6 * 3) / 1e9)
    assert work.attention == 0  # no layer is named like one with attention
    assert not work.eight_bits


def test_a_product_has_a_rate() -> None:
    rate = limits._rate(16, 8, 4)
    assert rate.eight_bit > 0 and rate.float32 > 0


# -- choosing, and the command ---------------------------------------------------------------------


def test_servers_are_chosen_by_name_or_kind() -> None:
    known = contenders()
    assert [one.name for one in chosen((), known)] == [
        "classify", "appeals", "bulk", "plain", "mosec", "litserve",
    ]  # fmt: skip
    assert [one.name for one in chosen(["ours", "mosec"], known)] == ["classify", "appeals", "bulk", "mosec"]
    with pytest.raises(SpeedError, match=r"--only: expected some of .*litserve.*, got nginx"):
        chosen(["nginx"], known)


def test_every_request_is_one_line_and_no_two_appeals_share_an_id(tmp_path: Path) -> None:
    for one in contenders():
        body = one.request([f"第一行\n第{i}行" for i in range(one.texts)], "7")
        assert b"\n" not in body and json.loads(body)
    appeals = chosen(["appeals"], contenders())[0]
    first, second = (json.loads(appeals.request(["路灯坏了"], number)) for number in ("1", "2"))
    assert first["id"] != second["id"]


def test_the_service_is_started_with_its_defaults_and_a_database_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JIESU_DATABASE_URL", "sqlite:///precious.db")
    place = Place(8123, Path("model"), Path("torch"), tmp_path, Layout())
    command, environment = contenders()[0].command(place)
    assert command[1:] == ["-m", "serving", "run", "--host", "127.0.0.1", "--port", "8123"]
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
