"""Metrics and bootstrap: examples computed by hand, and properties that must hold for any input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import average_precision_score, f1_score

from evaluation import metrics
from evaluation.bootstrap import Resampling, Steps, class_columns, figure, resampled_macro_f1
from tests.scored_heads import SEEDS

GOLD = np.array([0, 0, 0, 1, 1, 2])
ANSWERED = np.array([0, 0, 1, 1, 2, 2])


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
