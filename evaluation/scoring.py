"""Scores one head: a model's answers against the labels of rows, at the granularity the labels allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from classifier.predictor import Prediction, Predictor
from classifier.registry import shipped_model
from data.appeals import Row
from data.cleaning import prepare
from data.progress import Progress as Shown
from data.scheme import Head, Scheme
from evaluation import metrics
from evaluation.bootstrap import Figure, Resampling, Steps, figure, resampled_macro_f1
from evaluation.errors import BadAnswers, NothingToScore, UnknownHead
from evaluation.labels import Bools, Floats, Ints, LabelSet, LabelSpace, label_space, urgent_codes

__all__ = [
    "AUTOMATIC", "Answers", "Progress", "Scored", "Stage", "Threshold", "answer", "calibratable",
    "chosen_heads", "figures", "load_model", "score_head", "silent", "staged", "urgent_figures",
    "urgent_or_rest",
]  # fmt: skip

Progress = Callable[[int], None]  # called with how much was done since the last call
Stage = Callable[[str, int], Progress]  # begins a stage of work: its name and how much there is to do

AUTOMATIC = 0.95  # accuracy at which answers are dispatched without a person
_BATCH = 64


@dataclass(frozen=True)
class Answers:
    """What a model said to n rows: per head the probabilities [n, leaves], and the texts' lengths [n]."""

    model: str
    part: str
    heads: Mapping[str, Head]
    probabilities: Mapping[str, Floats]
    lengths: Ints


@dataclass(frozen=True)
class Threshold:
    """A stored operating point: least probability, and the accuracy it was chosen for."""

    least: float
    target: float


@dataclass(frozen=True)
class Scored:
    """The n rows that have a label of a head, and the model's answers to them.

    ``rows``: their numbers among all rows. ``gold``: the number of each row's label in ``space.golds``.
    ``probabilities``: [n, outputs]. ``leaf_*``: the single likeliest leaf, which is what a service would
    act upon: its probability, and whether it is in the row's label.
    """

    space: LabelSpace
    rows: Ints
    gold: Ints
    probabilities: Floats
    leaf_confidence: Floats
    leaf_correct: Bools

    @cached_property
    def predicted(self) -> Ints:
        """[n]: number of the likeliest output."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @cached_property
    def confidence(self) -> Floats:
        """[n]: probability of the likeliest output."""
        best: Floats = self.probabilities.max(axis=1)
        return best

    @cached_property
    def right(self) -> Bools:
        """[n, outputs]: which outputs are right."""
        hits: Bools = self.space.hits[self.gold]
        return hits

    @cached_property
    def correct(self) -> Bools:
        """[n]: whether the likeliest output is right."""
        hit: Bools = self.space.hits[self.gold, self.predicted]
        return hit

    @cached_property
    def right_probability(self) -> Floats:
        """[n]: probability given to what is right."""
        mass: Floats = (self.probabilities * self.right).sum(axis=1)
        return mass

    @property
    def classes(self) -> int:
        """Number of different labels."""
        return len(self.space.golds)

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, keep: Bools) -> Scored:
        """The same for some of the rows."""
        return Scored(
            self.space,
            self.rows[keep],
            self.gold[keep],
            self.probabilities[keep],
            self.leaf_confidence[keep],
            self.leaf_correct[keep],
        )


def silent(name: str, total: int) -> Progress:
    """The stage that shows nothing."""
    return lambda done: None


def staged(show: Shown) -> Stage:
    """A stage that tells a function of data.progress how far it is."""

    def begin(name: str, total: int) -> Progress:
        done = [0]

        def advance(more: int) -> None:
            done[0] += more
            show(name, done[0], total)

        return advance

    return begin


# -- a model's answers -----------------------------------------------------------------------------


def load_model(name: str) -> Predictor:
    """The model in a folder, or the one that ships with the project for ``shipped``.

    Raises ClassifierError if there is none.
    """
    return Predictor.load(shipped_model() if name == "shipped" else Path(name))


def answer(predictor: Predictor, rows: Sequence[Row], part: str, progress: Progress) -> Answers:
    """Answer all rows, prepared as in training and serving, similar lengths together.

    Raises BadAnswers if something is no probability, ModelError for a part that the model lacks.
    """
    texts = [prepare(row.text, row.title).text for row in rows]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    matrices = {name: np.zeros((len(texts), len(head.codes))) for name, head in predictor.heads.items()}
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        for place, given in zip(places, _predict(predictor, texts, places, part), strict=True):
            for head, matrix in matrices.items():
                matrix[place] = given.probabilities[head]
        progress(len(places))
    checked = {head: _checked(matrix, head, predictor.version) for head, matrix in matrices.items()}
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    return Answers(predictor.version, part, predictor.heads, checked, lengths)


def _predict(
    predictor: Predictor, texts: Sequence[str], places: Sequence[int], part: str
) -> list[Prediction]:
    return predictor.predict([texts[i] for i in places], evidence=False, part=part)


def _checked(matrix: Floats, head: str, model: str) -> Floats:
    sums = matrix.sum(axis=1, keepdims=True)
    if not np.isfinite(matrix).all() or (matrix < 0).any() or (np.abs(sums - 1) > 1e-2).any():
        raise BadAnswers(
            f"model {model}, head {head}: expected probabilities that sum to 1, got sums "
            f"from {sums.min():.4g} to {sums.max():.4g}; the model folder is damaged or its calibration is"
        )
    scaled: Floats = matrix / sums
    return scaled


# -- one head --------------------------------------------------------------------------------------


def chosen_heads(rows: Sequence[Row], heads: Mapping[str, Head], asked: Sequence[str]) -> list[str]:
    """Heads to score, in the model's order: those asked for, or all that rows have labels for.

    Raises UnknownHead for a head that the model lacks, NothingToScore if no row has a label for one.
    """
    unknown = [head for head in asked if head not in heads]
    if unknown:
        raise UnknownHead(f"heads: expected some of {', '.join(heads)}, got {', '.join(unknown)}")
    labelled = {head for row in rows for head, codes in row.labels.items() if codes}
    missing = [head for head in asked if head not in labelled]
    found = [head for head in heads if head in labelled and (not asked or head in asked)]
    if missing or not found:
        there = ", ".join(sorted(labelled)) or "none"
        raise NothingToScore(
            f"expected rows with labels of {', '.join(missing or heads)}; the {len(rows)} rows have "
            f"labels of: {there}. A file has one column per head, named like it, or "
            "needs a mapping (--mapping)"
        )
    return found


def score_head(rows: Sequence[Row], head: str, answers: Answers, scheme: Scheme) -> Scored:
    """The answers to the rows that have a label of this head, at the granularity of their labels."""
    labelled = [(i, row.labels[head]) for i, row in enumerate(rows) if row.labels.get(head)]
    return _scored(labelled, answers.heads[head], answers.probabilities[head], scheme)


def urgent_or_rest(rows: Sequence[Row], head: str, answers: Answers, scheme: Scheme) -> Scored | None:
    """The same for two classes, 较急 and above against 一般; None unless both occur among the labels.

    Rows whose label leaves open which of the two it is are left out.
    """
    urgent = urgent_codes(answers.heads[head])
    rest = frozenset(answers.heads[head].codes) - urgent
    labelled = [
        (i, side)
        for i, row in enumerate(rows)
        for side in (urgent, rest)
        if row.labels.get(head) and row.labels[head] <= side
    ]
    if len({label for _, label in labelled}) < 2:
        return None
    return _scored(labelled, answers.heads[head], answers.probabilities[head], scheme)


def _scored(
    labelled: list[tuple[int, LabelSet]], head: Head, probabilities: Floats, scheme: Scheme
) -> Scored:
    numbers = np.array([i for i, _ in labelled], dtype=np.int64)
    space = label_space(head, scheme, [label for _, label in labelled])
    gold = np.array([space.index[label] for _, label in labelled], dtype=np.int64)
    leaves = probabilities[numbers]
    best = leaves.argmax(axis=1)
    return Scored(
        space, numbers, gold, leaves @ space.members, leaves.max(axis=1), space.leaf_hits[gold, best]
    )


# -- figures ---------------------------------------------------------------------------------------


def figures(
    scored: Scored, scheme: Scheme, resampling: Resampling, threshold: Threshold | None
) -> dict[str, Figure]:
    """The main figures of a head by name, 0 to 1, with 95 % intervals where resampling gives them."""
    found = {"accuracy": _share(scored.correct, resampling)}
    if scored.space.granularity != "admissible":
        found |= _class_figures(scored, resampling)
    if len(scored.space.outputs) > 3:
        found["top3"] = _share(metrics.top_k(scored.probabilities, scored.right), resampling)
    if scored.space.head.kind == "tree":
        found |= _tree_figures(scored, scheme, resampling)
    if scored.space.head.kind == "ordinal" and scored.space.granularity == "leaf":
        found |= _ordinal_figures(scored)
    found |= _probability_figures(scored)
    return found | _automatic_figures(scored, resampling, threshold)


def _share(hit: Bools, resampling: Resampling) -> Figure:
    return figure(float(hit.mean()), resampling.ratio(hit))


def _class_figures(scored: Scored, resampling: Resampling) -> dict[str, Figure]:
    gold, predicted = scored.gold, scored.predicted
    samples = resampled_macro_f1(resampling, gold, predicted, scored.classes)
    return {
        "macro_f1": figure(metrics.macro_f1(gold, predicted), samples),
        "weighted_f1": Figure(metrics.weighted_f1(gold, predicted)),
    }


def calibratable(scored: Scored) -> Scored:
    """The rows on which a probability can be held against the truth.

    All of them, unless labels overlap: a wide "one of these" is right more often than its likeliest leaf is
    probable, so then only the rows that name a single leaf count.
    """
    if scored.space.granularity != "admissible":
        return scored
    single = np.array([len(label) == 1 for label in scored.space.golds])
    return scored.only(single[scored.gold])


def _probability_figures(scored: Scored) -> dict[str, Figure]:
    scored = calibratable(scored)
    if not len(scored):
        return {}
    mass = metrics.calibration_bins(scored.confidence, scored.correct, by="mass")
    width = metrics.calibration_bins(scored.confidence, scored.correct, by="width")
    known = ~np.isin(scored.gold, scored.space.unknown)
    found = {
        "ece": Figure(metrics.expected_calibration_error(mass)),
        "ece_width": Figure(metrics.expected_calibration_error(width)),
        "mean_confidence": Figure(float(scored.confidence.mean())),
    }
    if known.any():
        found["nll"] = Figure(metrics.negative_log_likelihood(scored.right_probability[known]))
    if scored.space.granularity != "admissible":
        found["brier"] = Figure(metrics.brier(scored.probabilities, scored.right))
    return found


def _automatic_figures(
    scored: Scored, resampling: Resampling, threshold: Threshold | None
) -> dict[str, Figure]:
    found = metrics.coverage_at_accuracy(scored.confidence, scored.correct, AUTOMATIC)
    samples = Steps(scored.confidence, scored.correct, resampling).coverage_at_accuracy(AUTOMATIC)
    result = {
        "aurc": Figure(metrics.aurc(scored.confidence, scored.correct)),
        "auto_coverage": figure(found.coverage, samples),
    }
    if threshold is None:
        return result
    passed = scored.leaf_confidence >= threshold.least
    result["stored_coverage"] = _share(passed, resampling)
    if passed.any():
        right = passed & scored.leaf_correct
        samples = resampling.ratio(right, passed)
        result["stored_accuracy"] = figure(float(right.sum() / passed.sum()), samples)
    return result


def _ordinal_figures(scored: Scored) -> dict[str, Figure]:
    """Distance in ranks, over rows whose label the model knows."""
    rank = {code: i for i, code in enumerate(scored.space.head.codes)}
    ranks = np.array([rank.get(next(iter(output)), -1) for output in scored.space.outputs], dtype=np.int64)
    known = ranks[scored.gold] >= 0
    if not known.any():
        return {}
    return {
        "rank_error": Figure(
            metrics.mean_rank_error(ranks[scored.gold][known], ranks[scored.predicted][known])
        )
    }


# -- trees -----------------------------------------------------------------------------------------


def _tree_figures(scored: Scored, scheme: Scheme, resampling: Resampling) -> dict[str, Figure]:
    found = _first_level_figures(scored, scheme, resampling)
    if scored.space.granularity == "admissible":
        return found
    nodes = [_with_ancestors(output, scored.space.head.name, scheme) for output in scored.space.outputs]
    gold, predicted = [nodes[i] for i in scored.gold], [nodes[i] for i in scored.predicted]
    point = metrics.hierarchical(gold, predicted)
    shared = [len(g & p) for g, p in zip(gold, predicted, strict=True)]
    totals = resampling.totals(
        np.array([shared, [len(p) for p in predicted], [len(g) for g in gold]], dtype=np.float64).T
    )
    return found | {
        "hierarchical_precision": Figure(point.precision),
        "hierarchical_recall": Figure(point.recall),
        "hierarchical_f1": figure(point.f1, 2 * totals[:, 0] / np.maximum(totals[:, 1] + totals[:, 2], 1)),
    }


def _with_ancestors(label: LabelSet, head: str, scheme: Scheme) -> frozenset[str]:
    """The nodes that all leaves of a label stand under, and the label itself as one node."""
    paths = [frozenset(_path(code, head, scheme)) for code in label]
    shared = frozenset.intersection(*paths)
    # A whole branch is its own node already; any other set needs one, lest it equal its siblings.
    nodes = {one.code for one in scheme.labels[head].values() if scheme.leaves(head, one.code) == label}
    return shared if nodes & shared else shared | {"+".join(sorted(label))}


def _first_level_figures(scored: Scored, scheme: Scheme, resampling: Resampling) -> dict[str, Figure]:
    """The first level of the tree: the branch with the most summed probability."""
    head = scored.space.head.name
    of_output = [{_path(code, head, scheme)[0] for code in output} for output in scored.space.outputs]
    if any(len(levels) > 1 for levels in of_output):
        return {}
    names = sorted(set().union(*of_output))
    place = np.array([names.index(next(iter(levels))) for levels in of_output])
    mass = np.zeros((len(scored), len(names)))
    np.add.at(mass.T, place, scored.probabilities.T)
    predicted = mass.argmax(axis=1).astype(np.int64)
    levels = [{_path(code, head, scheme)[0] for code in gold} for gold in scored.space.golds]
    right = np.array([[name in those for name in names] for those in levels])
    found = {"first_level_accuracy": _share(right[scored.gold, predicted], resampling)}
    if all(len(those) == 1 for those in levels):
        gold = right.argmax(axis=1)[scored.gold].astype(np.int64)
        samples = resampled_macro_f1(resampling, gold, predicted, len(names))
        found["first_level_macro_f1"] = figure(metrics.macro_f1(gold, predicted), samples)
    return found


def _path(code: str, head: str, scheme: Scheme) -> tuple[str, ...]:
    if code not in scheme.labels[head]:
        return (code,)
    return scheme.path_codes(code, head)


# -- urgent against the rest -----------------------------------------------------------------------


def urgent_figures(scored: Scored, resampling: Resampling, cut: float | None) -> dict[str, Figure]:
    """Figures of `urgent_or_rest`: urgent is said above 0.5, or from the model's own ``cut`` on."""
    urgent = scored.space.index[urgent_codes(scored.space.head)]
    positive, score = scored.gold == urgent, scored.probabilities[:, urgent]
    steps = Steps(score, positive, resampling)
    recalls = {
        f"recall_at_precision_{percent}": figure(
            metrics.recall_at_precision(score, positive, percent / 100),
            steps.recall_at_precision(percent / 100),
        )
        for percent in (50, 80)
    }
    found = {"accuracy": _share(scored.correct, resampling), **_at_cut(positive, score > 0.5, resampling)}
    found |= {"share_urgent": Figure(float(positive.mean())), "ece": _probability_figures(scored)["ece"]}
    found["pr_auc"] = figure(metrics.average_precision(score, positive), steps.average_precision())
    found |= recalls
    if cut is not None:
        stored = _at_cut(positive, score >= cut, resampling)
        found |= {f"stored_cut_{name}": value for name, value in stored.items()}
    return found


def _at_cut(positive: Bools, said: Bools, resampling: Resampling) -> dict[str, Figure]:
    gold, predicted = positive.astype(np.int64), said.astype(np.int64)
    hits = positive & said
    found = {
        "macro_f1": figure(
            metrics.macro_f1(gold, predicted), resampled_macro_f1(resampling, gold, predicted, 2)
        ),
        "recall": figure(float(hits.sum() / positive.sum()), resampling.ratio(hits, positive)),
    }
    if said.any():
        found["precision"] = figure(float(hits.sum() / said.sum()), resampling.ratio(hits, said))
    return found
