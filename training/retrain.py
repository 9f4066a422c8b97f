"""From new labels to a judged challenger: gather, go on from the champion, evaluate both, judge, register."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from classifier.errors import ClassifierError
from classifier.folder import ModelFolder, open_folder
from classifier.predictor import Predictor
from classifier.registry import Registry
from data.appeals import Row
from data.progress import Progress
from data.scheme import Scheme
from evaluation.drift import FEWEST_ROWS, DriftLimits, drift
from evaluation.gate import Finding, Judgement, keep, meet
from evaluation.limits import Limits
from evaluation.scoring import Stage, silent, staged
from evaluation.trial import TestSet
from training.config import Config, RetrainConfig
from training.dataset import load_scheme
from training.errors import RetrainError
from training.fit import Beginning, Fitted, fit_split
from training.gathering import Gathered, gather
from training.weights import champion_weights

__all__ = [
    "Opponent", "Places", "Retrained", "full_run_due", "gate_folder", "opponent", "rehearsed", "retrain",
    "sets_of", "tuned",
]  # fmt: skip

Tell = Callable[[str], None]
ALL_FOLDS = "all folds"
DRIFT_ROWS = 600


@dataclass(frozen=True)
class Opponent:
    """The model to beat. ``folder`` is the champion itself, or where the champion has seen the test rows,
    the model whose measured scores it carries; ``champion`` is the champion's version either way."""

    folder: ModelFolder
    champion: str

    @property
    def stands_in(self) -> bool:
        """Whether the model is not the champion itself."""
        return self.folder.manifest.version != self.champion


@dataclass(frozen=True)
class Retrained:
    """A judged challenger. ``full_run``: whether one is due and why, in a sentence."""

    fitted: Fitted
    judgement: Judgement
    full_run: str
    promoted: bool


@dataclass(frozen=True)
class Places:
    """Where things are: the registry, the runs, this run's folder (None: one by the run's content), and the
    model to beat (None: found)."""

    registry: Registry
    runs: Path
    run: Path | None = None
    champion: Path | None = None


def retrain(
    config: Config,
    config_toml: str,
    datasets: Sequence[Path],
    places: Places,
    limits: Limits,
    tell: Tell,
    by: str = "",
    promote: bool = False,
    progress: Progress | None = None,
) -> Retrained:
    """Train a challenger on the base data and the dataset versions (oldest first), and let the gate decide.

    It joins the registry with its verdict, whichever way that went; it is promoted only if asked for and
    passed. Raises RetrainError, ConfigError, ClassifierError or DataError.
    """
    scheme = load_scheme(config)
    rival = opponent(places)
    gathered = gather(config, scheme, datasets, rival.folder, progress)
    _tell_rows(gathered, rival, tell)
    sets = sets_of(gathered, rival)
    old = Predictor.load(rival.folder.path)
    stage = staged(progress) if progress else silent
    due = full_run_due(
        rival.folder, config.retrain, len(gathered.reviewed), scheme, _drifted(old, gathered, stage)
    )
    tell(due)
    run = places.run or places.runs / _run_name(config, config_toml, rival, gathered)
    fitted = fit_split(
        tuned(config), config_toml, run, scheme, gathered.split, tell,
        _beginning(config, rival, gathered, scheme, places.runs, tell),
    )  # fmt: skip
    judgement = _judged(old, Predictor.load(fitted.folder), sets, rival, limits, stage)
    promoted = _register(fitted.folder, judgement, places.registry, by, promote)
    return Retrained(fitted, judgement, due, promoted)


def gate_folder(
    config: Config,
    challenger: Path,
    datasets: Sequence[Path],
    places: Places,
    limits: Limits,
    tell: Tell,
    by: str = "",
    progress: Progress | None = None,
) -> Judgement:
    """Judge a model folder against the champion on the rows that `retrain` would test on.

    The verdict is stored if the challenger is in the registry. Raises as `retrain` does.
    """
    candidate = Predictor.load(challenger)
    rival = opponent(places)
    gathered = gather(config, load_scheme(config), datasets, rival.folder, progress)
    _tell_rows(gathered, rival, tell)
    stage = staged(progress) if progress else silent
    sets = sets_of(gathered, rival)
    judgement = _judged(Predictor.load(rival.folder.path), candidate, sets, rival, limits, stage)
    if any(entry.version == judgement.challenger for entry in places.registry.entries()):
        keep(judgement, places.registry, by)
    return judgement


def opponent(places: Places) -> Opponent:
    """The registry's champion, or the model that it was measured by if it was trained on the test rows, too.

    Raises RetrainError where the model to beat that was given has other scores than the champion carries.
    """
    champion = open_folder(places.registry.champion())
    version = champion.manifest.version
    if places.champion is not None:
        given = open_folder(places.champion)
        if given.manifest.version != version and not _measured_by(champion, given):
            raise RetrainError(
                f"--champion: expected the champion {version} or the model that it was measured by, got "
                f"{given.manifest.version}, which has other scores"
            )
        return Opponent(given, version)
    if champion.manifest.origin.get("trained_on") != ALL_FOLDS:
        return Opponent(champion, version)
    return Opponent(_twin(champion, places.runs) or champion, version)


def sets_of(gathered: Gathered, rival: Opponent) -> list[TestSet]:
    """The frozen test, and the newest reviewed rows: these need not prove anything beside the former.

    Raises RetrainError when neither model could be judged fairly.
    """
    found = [TestSet("frozen test", gathered.frozen)] if gathered.frozen else []
    if gathered.newest:
        found.append(TestSet("newest reviewed rows", gathered.newest, proves=not gathered.frozen))
    if not found:
        raise RetrainError(
            f"expected test rows that {rival.champion} was not trained on, found none ({gathered.seen} it "
            "was): give the model that it was measured by (--champion runs/default/model)"
        )
    return found


def full_run_due(
    champion: ModelFolder, settings: RetrainConfig, new: int, scheme: Scheme, drifted: str = ""
) -> str:
    """Whether everything should be trained from the base encoder again, and why, in a sentence.

    ``new`` counts the reviewed rows since the last full run; ``drifted`` is what drift says, or empty.
    """
    last = _full_run(champion)
    rows, generation = int(last.get("rows", 0)), int(champion.manifest.origin.get("generation", 0)) + 1
    share = new / rows if rows else float("inf")
    reasons = []
    if share >= settings.full_share:
        many = f"{new} reviewed rows came to the {rows} of the last full run"
        reasons.append(f"{many} ({share:.0%}, limit {settings.full_share:.0%})")
    if last.get("scheme") and last["scheme"].split()[-1] != scheme.sha256[:12]:
        reasons.append(f"the label scheme changed since ({last['scheme']} → {scheme.name} {scheme.version})")
    if generation >= settings.full_after:
        reasons.append(f"this is retraining {generation} since (limit {settings.full_after})")
    if drifted:
        reasons.append(drifted)
    if reasons:
        return f"a full run is due (python -m training fit): {'; '.join(reasons)}"
    return (
        f"no full run is due: {new} reviewed rows came to the {rows} of {last['version']} ({share:.1%}), "
        f"retraining {generation} since"
    )


def tuned(config: Config) -> Config:
    """The configuration with the gentler rates of a retraining."""
    if config.encoder is None:
        return config
    settings = config.retrain
    gentler = {
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "head_factor": settings.head_factor,
        "start": "",
    }
    return config.model_copy(update={"encoder": config.encoder.model_copy(update=gentler)})


def _measured_by(champion: ModelFolder, other: ModelFolder) -> bool:
    """Whether the champion carries the other's scores: it was shipped from it, trained on all folds."""
    scores = champion.scores.get("heads")
    return bool(scores) and scores == other.scores.get("heads")


def _twin(champion: ModelFolder, runs: Path) -> ModelFolder | None:
    for manifest in sorted(runs.glob("*/model/manifest.json")):
        try:
            found = open_folder(manifest.parent)
        except ClassifierError:
            continue  # a folder that a broken run left behind is nobody's twin
        if found.manifest.origin.get("trained_on") != ALL_FOLDS and _measured_by(champion, found):
            return found
    return None


def _full_run(champion: ModelFolder) -> Mapping[str, Any]:
    """Version, rows and scheme of the last model that was trained from the base encoder."""
    origin = champion.manifest.origin
    own = {
        "version": champion.manifest.version,
        "rows": origin.get("rows", 0),
        "scheme": origin.get("scheme", ""),
    }
    earlier: Mapping[str, Any] = origin.get("full_run", own)
    return earlier


def _beginning(
    config: Config, rival: Opponent, gathered: Gathered, scheme: Scheme, runs: Path, tell: Tell
) -> Beginning:
    def weights(heads: Mapping[str, Sequence[str]], run: Path) -> Path | None:
        found, source = champion_weights(rival.folder, runs, heads, run / "champion.safetensors")
        tell(f"encoder: goes on from {source}")
        return found

    lineage = {
        "retrained_from": rival.folder.manifest.version,
        "champion": rival.champion,
        "generation": int(rival.folder.manifest.origin.get("generation", 0)) + 1,
        "reviewed_rows": len(gathered.reviewed),
        "full_run": dict(_full_run(rival.folder)),
        "datasets": dict(gathered.datasets),
    }
    return Beginning(weights, rehearsed(config, gathered), lineage)


def rehearsed(config: Config, gathered: Gathered) -> list[Row]:
    """What the encoder is tuned on: all reviewed rows, and a share of the base data's groups."""
    base = gathered.train[: len(gathered.train) - len(gathered.reviewed)]
    if config.retrain.rehearsal >= 1:
        return [*base, *gathered.reviewed]
    draw = random.Random(config.seed)
    groups = sorted({_group(row) for row in base})
    drawn = {group: draw.random() < config.retrain.rehearsal for group in groups}
    return [*(row for row in base if drawn[_group(row)]), *gathered.reviewed]


def _group(row: Row) -> str:
    return row.group or row.text


def _drifted(champion: Predictor, gathered: Gathered, stage: Stage) -> str:
    """What drift says of the reviewed rows that their being picked does not explain; empty if nothing."""
    base = gathered.train[: len(gathered.train) - len(gathered.reviewed)]
    if min(len(base), len(gathered.reviewed)) < FEWEST_ROWS:
        return ""
    made = drift(champion, base, gathered.reviewed, DriftLimits(most=DRIFT_ROWS), stage)
    told = [one.told for one in made.mattering if one.kind in ("vocabulary", "embedding")]
    return "; ".join(told)


def _judged(
    old: Predictor,
    new: Predictor,
    sets: Sequence[TestSet],
    rival: Opponent,
    limits: Limits,
    stage: Stage,
) -> Judgement:
    judgement = meet(old, new, sets, limits, stage)
    if not rival.stands_in:
        return judgement
    told = (
        f"compared with {old.version}: the champion {rival.champion} has the scores of this model, and was "
        "trained on the test rows afterwards"
    )
    findings = (Finding("stand-in", True, told), *judgement.findings)
    return replace(judgement, champion=rival.champion, findings=findings)


def _register(folder: Path, judgement: Judgement, registry: Registry, by: str, promote: bool) -> bool:
    if all(entry.version != judgement.challenger for entry in registry.entries()):
        registry.add(folder, by, f"retrained against {judgement.champion}")
    keep(judgement, registry, by)
    if promote and judgement.passed:
        registry.promote(judgement.challenger, by, "passed the gate")
    return promote and judgement.passed


def _run_name(config: Config, config_toml: str, rival: Opponent, gathered: Gathered) -> str:
    """The same labels, champion and configuration go on in the same folder; any other start anew."""
    parts = [config_toml, rival.folder.manifest.version, *sorted(gathered.datasets.values())]
    return f"{config.name}-retrain-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:8]}"


def _tell_rows(gathered: Gathered, rival: Opponent, tell: Tell) -> None:
    tell(
        f"against {rival.folder.manifest.version}: {len(gathered.reviewed)} reviewed rows to train on, "
        f"{len(gathered.newest)} to test on, {len(gathered.frozen)} rows of the frozen test"
    )
    if gathered.seen:
        tell(f"{gathered.seen} test rows were left out: {rival.champion} was trained on them")
