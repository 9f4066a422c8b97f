"""The labelling loop played through on labelled rows, in the order in which they came.

A model is trained on what was labelled before the loop begins. Then, round by round, appeals arrive, a
strategy picks which of those that wait are labelled (their labels are in the rows), the model is updated and
scored on rows that come after all of them. What is counted is what a loop costs: labels. As in a retraining,
those that fall into the validation folds calibrate, and those in the test folds measure; neither is trained
on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifier.folder import open_folder
from classifier.predictor import Predictor
from data.appeals import Row
from data.progress import Progress
from data.scheme import Scheme
from evaluation.scoring import Answers, Scored, answer, score_head
from training.config import Config
from training.dataset import load_rows, load_scheme, sides
from training.errors import SimulationError
from training.fit import Beginning, Fitted, fit_split, heads_with_labels
from training.gathering import Gathered
from training.retrain import rehearsed, tuned
from training.simulate_choice import STRATEGIES, Waiting, audited, choose, uncertainties
from training.simulate_learner import Learner, Update
from training.simulate_timeline import Timeline, timeline
from training.weights import champion_weights

__all__ = ["FullRun", "Plan", "Round", "Simulated", "simulate"]

Ints = npt.NDArray[np.int64]
Tell = Callable[[str], None]
LEAST_LABELLED = 0.5  # share of the pool and of the test that has a label of a head, for it to be simulated


@dataclass(frozen=True)
class Plan:
    """What is played: cuts in time (dates, or shares of the rows), rounds of so many labels, and how often.

    ``heads``: those that reviewers label; empty: all that most later rows have. ``full``: also retrain fully,
    as `training retrain` does, with all labels that the first seed of each strategy bought.
    """

    since: str
    test_from: str
    until: str = ""
    rounds: int = 8
    labels: int = 250
    seeds: int = 3
    strategies: tuple[str, ...] = ("product", "random")
    heads: tuple[str, ...] = ()
    audit_share: float = 0.02
    full: bool = False


@dataclass(frozen=True)
class Round:
    """A model after so many labels: per head how the test rows were answered, and its own threshold.

    ``noticed``: per head the share of bought rows that the model before had answered otherwise.
    """

    strategy: str
    seed: int
    labels: int
    trained_on: int
    scored: Mapping[str, Scored]
    thresholds: Mapping[str, float]
    noticed: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FullRun:
    """A full retraining with the labels of a strategy; empty strategy: none, the start itself."""

    strategy: str
    labels: int
    version: str
    scored: Mapping[str, Scored]


@dataclass(frozen=True)
class Simulated:
    """Everything that was played. ``groups``: of the test rows."""

    plan: Plan
    timeline: Timeline
    scheme: Scheme
    heads: tuple[str, ...]
    groups: tuple[str, ...]
    rounds: tuple[Round, ...]
    full: tuple[FullRun, ...]
    start: str


@dataclass(frozen=True)
class _Stage:
    """What all strategies and seeds share. Rows are numbered start, pool, test."""

    plan: Plan
    config: Config
    timeline: Timeline
    scheme: Scheme
    learner: Learner
    sides: npt.NDArray[np.str_]
    heads: tuple[str, ...]

    @property
    def pool(self) -> Ints:
        first = len(self.timeline.start)
        return np.arange(first, first + len(self.timeline.pool))

    @property
    def test(self) -> Ints:
        first = len(self.timeline.start) + len(self.timeline.pool)
        return np.arange(first, len(self.learner.rows))


def simulate(
    config: Config, config_toml: str, run: Path, plan: Plan, tell: Tell, progress: Progress | None = None
) -> Simulated:
    """Play the loop through. Goes on where an earlier run in the same folder trained the start.

    The encoder starts from the base encoder, whatever the configuration says: any other may have seen what
    is to come. Raises SimulationError, ConfigError, TrainingError or DataError.
    """
    _check(plan)
    config = _from_base(config)
    scheme = load_scheme(config)
    cut = timeline(load_rows(config, scheme), plan.since, plan.test_from, plan.until, progress)
    heads = _heads(plan, cut, scheme)
    told = f"{len(cut.start)} rows to start from, {len(cut.pool)} arrive, {len(cut.test)} are tested on"
    tell(f"{told} ({cut.repeated} repeated earlier ones); heads {', '.join(heads)}")
    start = _start(config, config_toml, run, scheme, cut, tell)
    rows = (*cut.start, *cut.pool, *cut.test)
    codes = {head: scheme.heads[head].codes for head in heads}
    learner = Learner.of(rows, config, start, codes, progress)
    stage = _Stage(plan, config, cut, scheme, learner, _sides(config, rows), heads)
    rounds, bought = _play_all(stage, tell, progress)
    full = _full_runs(stage, config_toml, run, start, bought, tell) if plan.full else []
    groups = tuple(row.group for row in cut.test)
    version = open_folder(start).manifest.version
    return Simulated(plan, cut, scheme, heads, groups, tuple(rounds), tuple(full), version)


def _check(plan: Plan) -> None:
    unknown = [name for name in plan.strategies if name not in STRATEGIES]
    if unknown or not plan.strategies:
        raise SimulationError(
            f"--strategy: expected some of {', '.join(STRATEGIES)}, got {', '.join(unknown) or 'none'}"
        )


def _from_base(config: Config) -> Config:
    if config.encoder is None:
        return config
    return config.model_copy(update={"encoder": config.encoder.model_copy(update={"start": ""})})


def _heads(plan: Plan, cut: Timeline, scheme: Scheme) -> tuple[str, ...]:
    """Heads asked for, or those that most rows of pool and test have a label of."""

    def share(rows: Sequence[Row], head: str) -> float:
        return sum(head in row.labels for row in rows) / len(rows)

    trained = heads_with_labels(scheme, cut.start)
    unknown = [head for head in plan.heads if head not in trained]
    found = plan.heads or tuple(
        head for head in trained if min(share(cut.pool, head), share(cut.test, head)) >= LEAST_LABELLED
    )
    if unknown or not found:
        raise SimulationError(
            f"--head: expected some of {', '.join(trained)}, which the rows before the loop have labels of, "
            f"got {', '.join(unknown) or 'none that most later rows have a label of'}"
        )
    return tuple(found)


def _start(config: Config, config_toml: str, run: Path, scheme: Scheme, cut: Timeline, tell: Tell) -> Path:
    """The model folder of the start; one that is there is taken if it was trained on as many rows."""
    folder = run / "start" / "model"
    split = sides(config, cut.start)
    if (folder / "manifest.json").exists():
        if open_folder(folder).manifest.origin.get("rows") == len(split["train"]):
            tell(f"start: {open_folder(folder).manifest.version} is there")
            return folder
        raise SimulationError(
            f"--run: expected a folder without a start, or with one of {len(split['train'])} training rows, "
            f"got another one in {folder}; give another folder"
        )
    return fit_split(config, config_toml, run / "start", scheme, split, tell).folder


def _sides(config: Config, rows: Sequence[Row]) -> npt.NDArray[np.str_]:
    """Side of every row by its fold, as `training retrain` places it."""
    place = {id(row): side for side, members in sides(config, rows).items() for row in members}
    return np.array([place[id(row)] for row in rows])


# -- playing ---------------------------------------------------------------------------------------


def _play_all(stage: _Stage, tell: Tell, progress: Progress | None) -> tuple[list[Round], dict[str, Ints]]:
    """All rounds, and what the first seed of each strategy bought."""
    plan = stage.plan
    first = _update(stage, np.array([], np.int64))
    rounds: list[Round] = []
    bought: dict[str, Ints] = {}
    total = len(plan.strategies) * plan.seeds * plan.rounds
    for strategy in plan.strategies:
        for seed in range(plan.seeds):
            for made, labels in _play(stage, strategy, seed, first):
                rounds.append(made)
                if seed == 0:
                    bought[strategy] = labels
                if progress:
                    progress("rounds", sum(one.labels > 0 for one in rounds), total)
            tell(f"{strategy} {seed}: " + _told(rounds[-1]))
    return rounds, bought


def _play(stage: _Stage, strategy: str, seed: int, update: Update) -> list[tuple[Round, Ints]]:
    """Every round of one strategy and seed, the start first, each with all that was bought until then."""
    plan, pool = stage.plan, stage.pool
    random = np.random.default_rng(seed)
    audit = audited([stage.learner.rows[row].id for row in pool.tolist()], plan.audit_share, f"{seed}")
    stored = np.full(len(pool), np.nan)
    bought = np.array([], np.int64)
    played = [(_round(stage, strategy, seed, bought, update, {}), bought)]
    for number in range(1, plan.rounds + 1):
        arrived = pool[: round(len(pool) * number / plan.rounds)]
        uncertain = uncertainties({head: some[arrived] for head, some in update.probabilities.items()})
        fresh = np.isnan(stored[: len(arrived)])
        stored[: len(arrived)][fresh] = uncertain[fresh]
        open_ones = np.flatnonzero(~np.isin(arrived, bought))
        waiting = _waiting(stage, arrived, open_ones, update, uncertain, stored, audit, bought)
        picked = arrived[open_ones[choose(strategy, waiting, plan.labels, random)]]
        noticed = _noticed(stage, picked, update)
        bought = np.concatenate([bought, picked])
        update = _update(stage, bought)
        played.append((_round(stage, strategy, seed, bought, update, noticed), bought))
    return played


def _waiting(
    stage: _Stage,
    arrived: Ints,
    places: Ints,
    update: Update,
    uncertain: npt.NDArray[np.float64],
    stored: npt.NDArray[np.float64],
    audit: npt.NDArray[np.bool_],
    bought: Ints,
) -> Waiting:
    learner, rows = stage.learner, arrived[places]
    labelled = np.concatenate([np.flatnonzero(stage.sides[: len(stage.timeline.start)] == "train"), bought])
    codes = learner.dataset.targets[stage.heads[0]].codes()
    labelled = labelled[codes[labelled] >= 0]
    vectors = learner.pooled if learner.pooled is not None else np.zeros((len(learner.rows), 0), np.float32)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    vectors = (vectors / lengths).astype(np.float32)
    return Waiting(
        stored=stored[places],
        now=uncertain[places],
        probabilities={head: some[rows] for head, some in update.probabilities.items()},
        groups=[learner.rows[row].group for row in rows.tolist()],
        audit=audit[places],
        vectors=vectors[rows],
        known=vectors[labelled],
        said=codes[labelled],
    )


def _update(stage: _Stage, bought: Ints) -> Update:
    """The model with these labels; those in the test folds are not looked at."""
    start = np.arange(len(stage.timeline.start))
    known = np.concatenate([start, bought])
    train, validation = (known[stage.sides[known] == side] for side in ("train", "validation"))
    return stage.learner.update(train, validation, bought)


def _round(
    stage: _Stage, strategy: str, seed: int, bought: Ints, update: Update, noticed: Mapping[str, float]
) -> Round:
    shares = {head: some[stage.test].astype(np.float64) for head, some in update.probabilities.items()}
    heads = {head: stage.scheme.heads[head] for head in stage.heads}
    answers = Answers(f"{strategy}-{seed}", "joined", heads, shares, np.zeros(len(stage.test), np.int64))
    return Round(
        strategy,
        seed,
        len(bought),
        int((stage.sides[bought] == "train").sum()),
        {head: score_head(stage.timeline.test, head, answers, stage.scheme) for head in stage.heads},
        {head: update.calibration[head].threshold for head in stage.heads},
        noticed,
    )


def _noticed(stage: _Stage, picked: Ints, update: Update) -> dict[str, float]:
    """Per head the share of labels that say otherwise than the model did."""
    found = {}
    for head, targets in stage.learner.dataset.targets.items():
        rows = picked[targets.labelled[picked]]
        best = update.probabilities[head][rows].argmax(axis=1)
        found[head] = float(1 - targets.mask[rows, best].mean()) if len(rows) else float("nan")
    return found


def _told(made: Round) -> str:
    shown = ", ".join(f"{head} {one.correct.mean():.4f}" for head, one in made.scored.items())
    return f"accuracy with {made.labels} labels: {shown}"


# -- full retraining -------------------------------------------------------------------------------


def _full_runs(
    stage: _Stage, config_toml: str, run: Path, start: Path, bought: Mapping[str, Ints], tell: Tell
) -> list[FullRun]:
    """The start as it is served, and a retraining from it with the labels of each strategy."""
    runs = [FullRun("", 0, open_folder(start).manifest.version, _answered(stage, start))]
    for strategy, rows in bought.items():
        fitted = _retrained(stage, config_toml, run / f"full-{strategy}", start, rows, tell)
        runs.append(FullRun(strategy, len(rows), fitted.version, _answered(stage, fitted.folder)))
    return runs


def _retrained(stage: _Stage, config_toml: str, run: Path, start: Path, bought: Ints, tell: Tell) -> Fitted:
    """As `training retrain`: goes on from the start, with new labels and a share of the old ones."""
    config, champion = stage.config, open_folder(start)
    weight = config.retrain.new_weight
    own = [stage.learner.rows[row] for row in bought.tolist()]
    base, fresh = sides(config, stage.timeline.start), sides(config, own)
    trained = tuple(replace(row, weight=row.weight * weight) for row in fresh["train"])
    split = {side: (*base[side], *fresh[side]) for side in ("validation", "test")}
    split["train"] = (*base["train"], *trained)
    gathered = Gathered(split["train"], split["validation"], trained, (), (), 0, {})

    def weights(heads: Mapping[str, Sequence[str]], folder: Path) -> Path | None:
        return champion_weights(champion, start.parent.parent, heads, folder / "champion.safetensors")[0]

    begin = Beginning(weights, rehearsed(config, gathered), {"simulated": True})
    return fit_split(tuned(config), config_toml, run, stage.scheme, split, tell, begin)


def _answered(stage: _Stage, folder: Path) -> dict[str, Scored]:
    predictor = Predictor.load(folder)
    given = answer(predictor, stage.timeline.test, predictor.default_part, lambda done: None)
    return {head: score_head(stage.timeline.test, head, given, stage.scheme) for head in stage.heads}
