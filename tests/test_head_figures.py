"""A head's figures: which labels count as right, what is told of a head, and slices of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from classifier.predictor import Prediction
from data.appeals import Row
from data.scheme import Head, default_scheme
from evaluation.bootstrap import Resampling
from evaluation.errors import BadAnswers, NothingToScore, UnknownHead
from evaluation.labels import LabelSpace, label_space, urgent_codes
from evaluation.scoring import (
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
from tests.scored_heads import SEEDS, answered, row, scored, tree

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
