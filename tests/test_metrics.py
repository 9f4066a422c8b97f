"""Metrics, labels and bootstrap: examples computed by hand, and properties that must hold for any input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import average_precision_score, f1_score

from classifier.predictor import Prediction
from data.appeals import Row
from data.scheme import Head, Scheme, default_scheme
from evaluation import metrics
from evaluation.bootstrap import Resampling, Steps, class_columns, figure, resampled_macro_f1
from evaluation.errors import BadAnswers, NothingToScore, UnknownHead
from evaluation.labels import LabelSpace, label_space, urgent_codes
from evaluation.scoring import (
    Answers,
    Scored,
    Threshold,
    answer,
    chosen_heads,
    figures,
    score_head,
    urgent_figures,
    urgent_or_rest,
)
from evaluation.slices import band_of_labels, slices
from tests.fake_predictor import ScriptedPredictor, labelled_rows

SEEDS = range(6)
GOLD = np.array([0, 0, 0, 1, 1, 2])
ANSWERED = np.array([0, 0, 1, 1, 2, 2])

TREE = """
name: three
version: "1"
categories:
  - code: A
    name: 甲
    children: [{code: A1, name: 甲一}, {code: A2, name: 甲二}]
  - code: B
    name: 乙
    children: [{code: B1, name: 乙一}, {code: B2, name: 乙二}]
urgency_levels:
  - {code: 一般, name: 一般, clocks: {result: 5 working days}}
  - {code: 较急, name: 较急, clocks: {result: 3 working days}}
  - {code: 紧急, name: 紧急, clocks: {result: 24 h}}
"""


def tree() -> Scheme:
    return Scheme.parse(TREE, "three.yaml")


def row(head: str, *codes: str, group: str = "") -> Row:
    return Row(id="x", text="路灯坏了", labels={head: frozenset(codes)}, group=group)


def answered(head: Head, probabilities: list[list[float]]) -> Answers:
    matrix = np.array(probabilities)
    return Answers("m", "joined", {head.name: head}, {head.name: matrix}, np.full(len(matrix), 4))


def scored(head: str, rows: list[Row], probabilities: list[list[float]]) -> Scored:
    scheme = tree()
    return score_head(rows, head, answered(scheme.heads[head], probabilities), scheme)


# -- classes ---------------------------------------------------------------------------------------


def test_per_class_by_hand() -> None:
    first, second, third = metrics.per_class(GOLD, ANSWERED)
    assert [first.precision, first.recall, first.support] == pytest.approx([1, 2 / 3, 3])
    assert (second.precision, second.recall, second.f1) == (0.5, 0.5, 0.5)
    assert [third.precision, third.recall, third.f1] == pytest.approx([0.5, 1, 2 / 3])


def test_macro_and_weighted_f1_by_hand() -> None:
    f1 = [0.8, 0.5, 2 / 3]
    assert metrics.macro_f1(GOLD, ANSWERED) == pytest.approx(sum(f1) / 3)
    assert metrics.weighted_f1(GOLD, ANSWERED) == pytest.approx((3 * f1[0] + 2 * f1[1] + f1[2]) / 6)


def test_macro_f1_is_over_labels_in_gold_only() -> None:
    # Class 9 is answered but never gold: it costs recall of class 0, and is no class of its own.
    assert metrics.macro_f1(np.array([0, 0]), np.array([0, 9])) == pytest.approx(2 / 3)


def test_confusions_by_hand() -> None:
    gold, answers = np.array([0, 0, 0, 1, 2]), np.array([1, 1, 2, 0, 2])
    assert metrics.confusions(gold, answers) == [(0, 1, 2), (0, 2, 1), (1, 0, 1)]
    assert metrics.confusions(gold, answers, most=1) == [(0, 1, 2)]
    assert metrics.confusions(gold, gold) == []


def test_top_k_by_hand() -> None:
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]])
    right = np.eye(4, dtype=bool)[[2, 3]]
    assert metrics.top_k(probabilities, right, 3).tolist() == [True, False]
    assert metrics.top_k(probabilities, right, 1).tolist() == [False, False]


@pytest.mark.parametrize("seed", SEEDS)
def test_f1_from_counts_is_macro_f1(seed: int) -> None:
    random = np.random.default_rng(seed)
    gold, answers = random.integers(0, 6, 80), random.integers(0, 8, 80)
    totals = np.asarray(class_columns(gold, answers, 6).sum(axis=0)).ravel()
    assert metrics.f1_from_counts(totals[:6], totals[6:12], totals[12:]) == pytest.approx(
        f1_score(gold, answers, labels=np.unique(gold), average="macro", zero_division=0.0)
    )


def test_hierarchical_by_hand() -> None:
    gold = [frozenset({"A", "A1"}), frozenset({"A", "A1"}), frozenset({"B", "B1"})]
    predicted = [frozenset({"A", "A1"}), frozenset({"A", "A2"}), frozenset({"A"})]
    found = metrics.hierarchical(gold, predicted)
    assert [found.precision, found.recall] == pytest.approx([3 / 5, 3 / 6])
    assert found.f1 == pytest.approx(2 * 0.6 * 0.5 / 1.1)


def test_hierarchical_of_nothing_shared_is_zero() -> None:
    assert metrics.hierarchical([frozenset({"A"})], [frozenset({"B"})]).f1 == 0.0


def test_mean_rank_error_by_hand() -> None:
    assert metrics.mean_rank_error(np.array([0, 1, 3]), np.array([0, 3, 2])) == 1.0


# -- calibration -----------------------------------------------------------------------------------


def test_ece_by_hand() -> None:
    confidence = np.array([0.25, 0.25, 0.95, 0.95])
    correct = np.array([True, False, True, True])
    bins = metrics.calibration_bins(confidence, correct, bins=2, by="width")
    assert [(one.n, one.accuracy) for one in bins] == [(2, 0.5), (2, 1.0)]
    assert metrics.expected_calibration_error(bins) == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)


def test_equal_mass_bins_hold_equal_numbers_and_all_rows() -> None:
    confidence = np.random.default_rng(1).permutation(np.linspace(0.1, 1, 150))
    bins = metrics.calibration_bins(confidence, confidence > 0.5)
    assert [one.n for one in bins] == [10] * 15


@pytest.mark.parametrize("by", ["mass", "width"])
@pytest.mark.parametrize("seed", SEEDS)
def test_bins_cover_every_row_once_whatever_the_ties(seed: int, by: str) -> None:
    random = np.random.default_rng(seed)
    confidence = np.round(random.random(97), 1)
    bins = metrics.calibration_bins(confidence, random.random(97) < 0.5, by=by)  # type: ignore[arg-type]
    assert sum(one.n for one in bins) == 97
    assert all(one.high < other.low for one, other in itertools.pairwise(bins))
    assert 0 <= metrics.expected_calibration_error(bins) <= 1


def test_ece_of_one_constant_confidence() -> None:
    bins = metrics.calibration_bins(np.full(10, 1.0), np.array([True] * 8 + [False] * 2))
    assert metrics.expected_calibration_error(bins) == pytest.approx(0.2)


def test_a_calibrated_model_has_little_ece_and_an_overconfident_one_much() -> None:
    random = np.random.default_rng(5)
    confidence = random.uniform(0.3, 1, 20_000)
    correct = random.random(20_000) < confidence
    good = metrics.expected_calibration_error(metrics.calibration_bins(confidence, correct))
    bad = metrics.expected_calibration_error(metrics.calibration_bins(confidence**0.3, correct))
    assert good < 0.02 < 0.1 < bad


def test_nll_and_brier_by_hand() -> None:
    assert metrics.negative_log_likelihood(np.array([1.0, 0.5])) == pytest.approx(math.log(2) / 2)
    probabilities = np.array([[0.7, 0.2, 0.1]])
    assert metrics.brier(probabilities, np.array([[True, False, False]])) == pytest.approx(0.09 + 0.04 + 0.01)


# -- answering only when sure ----------------------------------------------------------------------


def test_risk_coverage_and_aurc_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    correct = np.array([True, True, False, True])
    curve = metrics.risk_coverage(confidence, correct)
    assert curve.x.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.y.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert metrics.aurc(confidence, correct) == pytest.approx((1 / 3 + 1 / 4) / 4)


def test_coverage_at_accuracy_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    correct = np.array([True, False, True, True, False])
    found = metrics.coverage_at_accuracy(confidence, correct, 0.75)
    # 3 of 4 are right at 0.6; that 1 of 2 is right at 0.8 on the way does not matter.
    assert (found.coverage, found.accuracy, found.threshold) == (0.8, 0.75, 0.6)


def test_coverage_at_accuracy_when_no_threshold_does_it() -> None:
    found = metrics.coverage_at_accuracy(np.array([0.9, 0.8]), np.array([False, True]), 0.95)
    assert found.coverage == 0 and math.isnan(found.accuracy) and math.isinf(found.threshold)


def test_a_threshold_cannot_cut_through_ties() -> None:
    confidence, correct = np.array([0.9, 0.9, 0.9, 0.1]), np.array([True, True, False, False])
    assert metrics.coverage_at_accuracy(confidence, correct, 1.0).coverage == 0
    assert metrics.coverage_at_accuracy(confidence, correct, 0.6).coverage == 0.75


@pytest.mark.parametrize("seed", SEEDS)
def test_no_figure_depends_on_the_order_of_rows(seed: int) -> None:
    random = np.random.default_rng(seed)
    confidence, correct = np.round(random.random(60), 1), random.random(60) < 0.7
    order = random.permutation(60)
    for of in (
        metrics.aurc,
        lambda c, r: metrics.coverage_at_accuracy(c, r, 0.8).coverage,
        lambda c, r: metrics.recall_at_precision(c, r, 0.7),
        lambda c, r: metrics.expected_calibration_error(metrics.calibration_bins(c, r)),
    ):
        assert of(confidence, correct) == pytest.approx(of(confidence[order], correct[order]))


@pytest.mark.parametrize("seed", SEEDS)
def test_coverage_at_accuracy_is_the_best_of_all_thresholds(seed: int) -> None:
    random = np.random.default_rng(seed)
    confidence, correct = np.round(random.random(50), 2), random.random(50) < 0.8
    passing = [confidence >= least for least in np.unique(confidence)]
    best = max((keep.mean() for keep in passing if correct[keep].mean() >= 0.85), default=0.0)
    assert metrics.coverage_at_accuracy(confidence, correct, 0.85).coverage == pytest.approx(best)


def test_recall_at_precision_by_hand() -> None:
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    positive = np.array([True, False, True, False, False, True])
    assert metrics.recall_at_precision(score, positive, 1.0) == pytest.approx(1 / 3)
    assert metrics.recall_at_precision(score, positive, 0.6) == pytest.approx(2 / 3)
    assert metrics.recall_at_precision(score, positive, 0.5) == 1.0
    assert metrics.recall_at_precision(-score, ~positive, 0.99) == 0.0


def test_precision_recall_curve_ends_at_full_recall() -> None:
    curve = metrics.precision_recall_curve(np.array([0.2, 0.9, 0.2]), np.array([True, True, False]))
    assert curve.x.tolist() == [0.5, 1.0] and curve.y.tolist() == [1.0, pytest.approx(2 / 3)]


def test_a_thinned_curve_keeps_its_ends() -> None:
    every = np.linspace(0, 1, 5000)
    thin = metrics.Curve(every, every, every).thinned(200)
    assert len(thin.x) <= 200 and (thin.x[0], thin.x[-1]) == (0.0, 1.0)


# -- bootstrap -------------------------------------------------------------------------------------


def test_rows_of_a_group_are_drawn_together() -> None:
    resampling = Resampling(["a", "a", "b", "", ""], resamples=50)
    assert (resampling.units, resampling.by_group) == (4, True)
    weights = np.concatenate(list(resampling.row_weights()))
    assert weights.shape == (50, 5) and (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] != weights[:, 4]).any()


def test_the_same_seed_gives_the_same_resamples() -> None:
    groups = [f"g{i}" for i in range(30)]
    first, second = (np.concatenate(list(Resampling(groups, 20).row_weights())) for _ in range(2))
    assert (first == second).all()
    assert (first != np.concatenate(list(Resampling(groups, 20, seed=7).row_weights()))).any()
    assert (first.sum(axis=1) == 30).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_resampled_figures_equal_those_of_repeated_rows(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = 40
    gold, answers = random.integers(0, 4, n), random.integers(0, 5, n)
    score = np.round(random.random(n), 1)
    resampling = Resampling([f"g{i // 3}" for i in range(n)], resamples=25, seed=seed)
    macro = resampled_macro_f1(resampling, gold, answers, 4)
    ratio = resampling.ratio(gold == answers)
    steps = Steps(score, gold == answers, resampling)
    coverage, recall = steps.coverage_at_accuracy(0.4), steps.recall_at_precision(0.4)
    precision = steps.average_precision()
    for b, weights in enumerate(np.concatenate(list(resampling.row_weights()))):
        rows = np.repeat(np.arange(n), weights.astype(int))
        right = gold[rows] == answers[rows]
        assert macro[b] == pytest.approx(metrics.macro_f1(gold[rows], answers[rows]))
        assert ratio[b] == pytest.approx(right.mean())
        assert coverage[b] == pytest.approx(metrics.coverage_at_accuracy(score[rows], right, 0.4).coverage)
        if right.any():
            assert recall[b] == pytest.approx(metrics.recall_at_precision(score[rows], right, 0.4))
            assert precision[b] == pytest.approx(average_precision_score(right, score[rows]))


def test_totals_of_dense_and_sparse_columns_agree() -> None:
    columns = np.random.default_rng(0).random((12, 3))
    resampling = Resampling([""] * 12, 10)
    assert resampling.totals(columns) == pytest.approx(resampling.totals(sparse.csr_matrix(columns)))


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    held = 0
    for seed in range(200):
        hit = random.random(200) < 0.8
        found = figure(hit.mean(), Resampling([""] * 200, 300, seed).ratio(hit))
        assert found.low is not None and found.high is not None
        held += found.low <= 0.8 <= found.high
    assert 180 <= held <= 199


def test_groups_widen_the_interval() -> None:
    hit = np.repeat(np.random.default_rng(0).random(60) < 0.7, 10)
    alone = figure(0.7, Resampling([""] * 600, 500).ratio(hit))
    grouped = figure(0.7, Resampling([f"g{i // 10}" for i in range(600)], 500).ratio(hit))
    assert alone.high is not None and alone.low is not None
    assert grouped.high is not None and grouped.low is not None
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_a_figure_without_resamples_has_no_interval() -> None:
    assert figure(0.5, np.full(10, np.nan)).low is None


# -- label granularity -----------------------------------------------------------------------------


def space(*labels: set[str], head: str = "category") -> LabelSpace:
    return label_space(tree().heads[head], tree(), [frozenset(one) for one in labels])


def test_single_leaves_are_scored_as_leaves() -> None:
    found = space({"A2"}, {"A2"}, {"B1"})
    assert found.granularity == "leaf"
    assert found.gold_names == ("A2", "B1")
    assert [set(one) for one in found.outputs] == [{"A2"}, {"B1"}, {"A1"}, {"B2"}]


def test_sets_without_overlap_are_classes() -> None:
    found = space({"A1", "A2"}, {"B1"})
    assert found.granularity == "groups"
    assert found.output_names == ("A", "B1", "B2")
    assert found.output_titles == ("甲", "乙一", "乙二")
    assert (np.array([[0.2, 0.2, 0.35, 0.25]]) @ found.members).tolist() == [[0.4, 0.35, 0.25]]


def test_overlapping_sets_are_only_admissible() -> None:
    found = space({"A1", "A2"}, {"A2", "B1"})
    assert found.granularity == "admissible"
    assert len(found.outputs) == 4
    assert (
        found.hits.tolist()
        == found.leaf_hits.tolist()
        == [[True, True, False, False], [False, True, True, False]]
    )


def test_codes_that_the_model_lacks_stay_labels_and_are_never_answered() -> None:
    found = space({"A1"}, {"Z9"})
    assert found.granularity == "leaf" and "Z9" in found.gold_names
    assert [found.gold_names[i] for i in found.unknown] == ["Z9"]
    assert found.members[:, found.gold_names.index("Z9")].sum() == 0


def test_long_sets_have_short_names() -> None:
    head = default_scheme().heads["unit"]
    found = label_space(head, default_scheme(), [frozenset(head.codes[:9])])
    assert found.gold_names[0].endswith("… (9)") and len(found.gold_names[0]) < 80


def test_urgent_starts_at_jiaoji_or_above_the_lowest() -> None:
    assert urgent_codes(default_scheme().heads["urgency"]) == {"较急", "紧急", "特急"}
    own = Head(name="urgency", kind="ordinal", codes=("P", "J", "T"), names={})
    assert urgent_codes(own) == {"J", "T"}


# -- a head's figures ------------------------------------------------------------------------------


def test_groups_are_answered_by_summed_probability() -> None:
    rows = [row("category", "A1", "A2"), row("category", "B1", "B2")]
    # The likeliest leaf is B1, but branch A has more in sum.
    found = scored("category", rows, [[0.3, 0.3, 0.4, 0.0], [0.1, 0.1, 0.4, 0.4]])
    assert found.correct.tolist() == [True, True]
    assert found.confidence.tolist() == pytest.approx([0.6, 0.8])
    assert found.leaf_correct.tolist() == [False, True]


def test_admissible_answers_are_right_inside_the_set() -> None:
    rows = [row("category", "A1", "A2"), row("category", "A2", "B1")]
    found = scored("category", rows, [[0.1, 0.6, 0.2, 0.1], [0.6, 0.1, 0.2, 0.1]])
    assert found.correct.tolist() == [True, False]
    assert found.right_probability.tolist() == pytest.approx([0.7, 0.3])
    names = figures(found, tree(), Resampling(["", ""], 10), None)
    assert "macro_f1" not in names and "hierarchical_f1" not in names
    assert names["accuracy"].value == 0.5
    assert names["first_level_accuracy"].value == 1.0  # A has .7 of row one; row two may be A or B


def test_unknown_labels_count_as_errors() -> None:
    rows = [row("category", "A1"), row("category", "Z9")]
    found = scored("category", rows, [[0.7, 0.1, 0.1, 0.1], [0.7, 0.1, 0.1, 0.1]])
    assert found.correct.tolist() == [True, False]
    names = figures(found, tree(), Resampling(["", ""], 10), None)
    assert names["accuracy"].value == 0.5
    assert names["macro_f1"].value == pytest.approx((2 / 3 + 0) / 2)
    assert names["nll"].value == pytest.approx(-math.log(0.7))  # of the row whose label can be answered


def test_tree_figures_by_hand() -> None:
    rows = [row("category", "A1"), row("category", "A1"), row("category", "B1")]
    sure = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.7, 0.1, 0.1, 0.1]]
    names = figures(scored("category", rows, sure), tree(), Resampling([""] * 3, 10), None)
    assert names["accuracy"].value == pytest.approx(1 / 3)
    assert names["hierarchical_f1"].value == pytest.approx(3 / 6)
    assert names["first_level_accuracy"].value == pytest.approx(2 / 3)
    assert names["first_level_macro_f1"].value == pytest.approx((0.8 + 0) / 2)


def test_a_whole_branch_as_label_has_no_deeper_node() -> None:
    rows = [row("category", "A1", "A2"), row("category", "B1", "B2")]
    names = figures(
        scored("category", rows, [[0.5, 0.3, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1]]),
        tree(),
        Resampling(["", ""], 10),
        None,
    )
    assert names["hierarchical_precision"].value == names["hierarchical_recall"].value == 0.5


def test_stored_threshold_looks_at_single_leaves() -> None:
    rows = [row("category", "A1"), row("category", "A1"), row("category", "B1")]
    found = scored("category", rows, [[0.9, 0.1, 0, 0], [0.2, 0.8, 0, 0], [0.1, 0.2, 0.6, 0.1]])
    names = figures(found, tree(), Resampling([""] * 3, 10), Threshold(0.7, 0.95))
    assert names["stored_coverage"].value == pytest.approx(2 / 3)
    assert names["stored_accuracy"].value == 0.5
    never = figures(found, tree(), Resampling([""] * 3, 10), Threshold(1.01, 0.95))
    assert never["stored_coverage"].value == 0 and "stored_accuracy" not in never


def test_ordinal_rank_error() -> None:
    rows = [row("urgency", "一般"), row("urgency", "紧急")]
    found = scored("urgency", rows, [[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]])
    assert figures(found, tree(), Resampling(["", ""], 10), None)["rank_error"].value == 1.0


def test_urgent_or_rest_by_hand() -> None:
    rows = [
        row("urgency", "一般"),
        row("urgency", "较急"),
        row("urgency", "较急", "紧急"),
        row("urgency", "一般", "较急"),  # open which of the two: left out
    ]
    scheme = tree()
    answers = answered(
        scheme.heads["urgency"], [[0.4, 0.35, 0.25], [0.2, 0.5, 0.3], [0.7, 0.2, 0.1], [0, 1, 0]]
    )
    found = urgent_or_rest(rows, "urgency", answers, scheme)
    assert found is not None and found.rows.tolist() == [0, 1, 2]
    names = urgent_figures(found, Resampling([""] * 3, 20), cut=0.3)
    assert names["share_urgent"].value == pytest.approx(2 / 3)
    assert (names["precision"].value, names["recall"].value) == (0.5, 0.5)
    assert names["macro_f1"].value == pytest.approx((0.5 + 0) / 2)
    assert names["pr_auc"].value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert names["recall_at_precision_50"].value == 1.0
    assert names["recall_at_precision_80"].value == 0.5
    assert names["stored_cut_recall"].value == 1.0
    assert names["stored_cut_precision"].value == pytest.approx(2 / 3)


def test_urgent_or_rest_needs_both() -> None:
    scheme = tree()
    answers = answered(scheme.heads["urgency"], [[0.4, 0.35, 0.25]])
    assert urgent_or_rest([row("urgency", "较急")], "urgency", answers, scheme) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_figures_stay_in_their_bounds_and_inside_their_intervals(seed: int) -> None:
    rows = labelled_rows(150, "category", default_scheme().heads["category"].codes[:9], seed)
    model = ScriptedPredictor(rows, {"joined": 0.75}, seed=seed)
    answers = answer(model, rows, "joined", lambda done: None)
    found = score_head(rows, "category", answers, model.scheme)
    names = figures(found, model.scheme, Resampling([one.group for one in rows], 200), Threshold(0.7, 0.95))
    for name, one in names.items():
        assert one.value >= 0 and (one.value <= 1 or name in ("nll", "brier"))
        # macro-F1's resamples lack rare labels at times: its interval need not hold the figure
        if one.low is not None and one.high is not None and "macro" not in name:
            assert one.low - 1e-9 <= one.value <= one.high + 1e-9
    assert names["accuracy"].value <= names["hierarchical_f1"].value <= 1
    assert names["accuracy"].value <= names["top3"].value
    assert names["accuracy"].value <= names["first_level_accuracy"].value + 1e-9


def test_a_perfect_model_has_perfect_figures() -> None:
    rows = labelled_rows(80, "unit", default_scheme().heads["unit"].codes[:5])
    model = ScriptedPredictor(rows, {"joined": 1.0})
    found = score_head(rows, "unit", answer(model, rows, "", lambda done: None), model.scheme)
    names = figures(found, model.scheme, Resampling([""] * 80, 50), None)
    for name in ("accuracy", "macro_f1", "weighted_f1", "top3", "auto_coverage"):
        assert names[name].value == 1.0
    assert names["aurc"].value == 0.0


# -- answers ---------------------------------------------------------------------------------------


def test_answers_come_back_in_the_rows_order_and_progress_counts_them() -> None:
    rows = labelled_rows(130, "unit", ("gongan", "shuiwu"))
    model = ScriptedPredictor(rows, {"joined": 1.0})
    done: list[int] = []
    answers = answer(model, rows, "joined", done.append)
    codes = model.heads["unit"].codes
    best = [codes[i] for i in answers.probabilities["unit"].argmax(axis=1)]
    assert best == [min(one.labels["unit"]) for one in rows]
    assert sum(done) == 130 and len(done) > 1


def test_answers_that_are_no_probabilities_are_refused() -> None:
    class Broken(ScriptedPredictor):
        def predict(
            self, texts: Sequence[str], evidence: bool = True, part: str = "", tokens: object = None
        ) -> list[Prediction]:
            twice = {"unit": np.full(52, 2 / 52, dtype=np.float32)}
            return [
                Prediction({**one.probabilities, **twice}, one.codes)
                for one in super().predict(texts, evidence, part)
            ]

    rows = labelled_rows(3, "unit", ("gongan",))
    with pytest.raises(BadAnswers, match="head unit: expected probabilities that sum to 1"):
        answer(Broken(rows), rows, "joined", lambda done: None)


def test_heads_are_chosen_by_labels_and_by_name() -> None:
    heads = default_scheme().heads
    rows = [row("unit", "gongan"), row("urgency", "一般")]
    assert chosen_heads(rows, heads, []) == ["urgency", "unit"]
    assert chosen_heads(rows, heads, ["unit"]) == ["unit"]
    with pytest.raises(UnknownHead, match="colour"):
        chosen_heads(rows, heads, ["colour"])
    with pytest.raises(NothingToScore, match="petition"):
        chosen_heads(rows, heads, ["unit", "petition"])
    with pytest.raises(NothingToScore):
        chosen_heads([], heads, [])


# -- slices ----------------------------------------------------------------------------------------


def test_bands_by_hand() -> None:
    support = {frozenset({code}): n for code, n in zip("abcd", (50, 30, 10, 10), strict=True)}
    bands = band_of_labels(support)
    assert [bands[frozenset({code})] for code in "abcd"] == ["frequent", "mid", "mid", "rare"]


def test_every_cut_holds_all_rows() -> None:
    rows = labelled_rows(120, "unit", default_scheme().heads["unit"].codes[:6])
    model = ScriptedPredictor(rows)
    answers = answer(model, rows, "joined", lambda done: None)
    found = score_head(rows, "unit", answers, model.scheme)
    support = {label: sum(one.labels["unit"] == label for one in rows) for label in found.space.golds}
    cuts = slices(found, rows, answers.lengths, support)
    kinds = {one.kind for one in cuts}
    assert kinds == {"length", "label", "month", "source"}
    for kind in kinds:
        own = [one for one in cuts if one.kind == kind]
        assert sum(one.n for one in own) == 120
        assert sum(one.n * one.accuracy for one in own) == pytest.approx(found.correct.sum())
        assert all(one.low <= one.accuracy + 1e-9 and one.accuracy <= one.high + 1e-9 for one in own)
    assert [one.name for one in cuts if one.kind == "month"] == ["2031-01", "2031-02", "2031-03"]
    lengths = [one.name for one in cuts if one.kind == "length"]
    assert lengths[0].startswith("0–") and len(lengths) >= 3


def test_a_cut_into_one_slice_is_left_out() -> None:
    rows = [Row(id=str(i), text="路灯坏了", labels={"unit": frozenset({"gongan"})}) for i in range(4)]
    model = ScriptedPredictor(rows)
    answers = answer(model, rows, "joined", lambda done: None)
    found = score_head(rows, "unit", answers, model.scheme)
    assert slices(found, rows, answers.lengths, {frozenset({"gongan"}): 4}) == []
