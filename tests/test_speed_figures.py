"""The load harness's arithmetic: its schedule, its figures, its texts, its limits. Nothing here is timed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from evaluation.errors import WeightsDiffer
from evaluation.speed import figures, limits
from evaluation.speed.driving import Stage
from evaluation.speed.generator import Outcome
from evaluation.speed.graph import EncoderGraph, Product
from evaluation.speed.schedule import due_times, percentile
from evaluation.speed.texts import MIXES, TextList
from evaluation.speed.trial import sustained
from tests.speed_trials import stage, tiny, trial
from training.quantise import quantised

SENTENCES = ["巷口的路灯坏了三天没人修。", "水管一直漏，楼道里全是水！", "请问老年卡到哪里办理？"]


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


def test_the_plain_way_with_the_teachers_weights_is_a_ratio_of_its_own() -> None:
    known = [tiny("ours-one", "ours"), tiny("simple", "plain"), tiny("teacher", "teacher")]
    trials = [trial("ours-one", 600, 500), trial("simple", 60, 40), trial("teacher", 40, 30)]
    made = figures.rows(known, trials)
    assert figures.ratios(made[0], made).saturation_by_plain == 10  # the same weights
    said = figures.verdicts(made)
    assert "ours-one: 15.0 × the throughput of the plain way with the teacher's weights" in said


def test_without_rivals_there_is_no_ratio() -> None:
    made = figures.rows([tiny("ours-one", "ours")], [trial("ours-one", 600, 500)])
    assert figures.ratios(made[0], made) == figures.Ratios(None, None, None, None, None)
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
    random = np.random.default_rng(0)
    quantised(plain, eight, [{"x": random.standard_normal((3, 8), np.float32)} for _ in range(20)])
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


def test_a_last_layer_for_the_first_token_multiplies_once_a_text() -> None:
    graph = EncoderGraph(small_graph())
    parts = ("attention.self.query", "attention.self.key", "attention.self.value", "output.dense")
    names = [f"encoder.encoder.layer.{layer}.{part}.weight" for layer in (0, 1) for part in parts]
    graph.__dict__["products"] = [Product(name, 4, 4, True) for name in (*names, "head.weight")]
    graph.__dict__["state"] = {"head.weight": np.zeros((3, 4), np.float32)}
    whole, spared = limits.work_of(graph, [10, 20]), limits.work_of(graph, [10, 20], "first")
    one = 2 * 4 * 4
    assert whole.constant == pytest.approx((8 * one * 15 + one) / 1e9)
    assert spared.constant == pytest.approx(((4 + 2) * one * 15 + 2 * one + one) / 1e9)
    assert whole.attention == pytest.approx(4 * 4 * 250 * 2 / 1e9)
    assert spared.attention == pytest.approx(4 * 4 * (250 + 15) / 1e9)


def test_a_product_has_a_rate() -> None:
    rate = limits._rate(16, 8, 4)
    assert rate.eight_bit > 0 and rate.float32 > 0
