"""One run, from a configuration to a measured model folder: read, split, train, calibrate, export, score."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.calibration import Calibration, HeadCalibration, softmax
from classifier.errors import ModelError
from classifier.lexical import LexicalPart
from classifier.predictor import Predictor
from data.appeals import Row
from data.scheme import Scheme
from evaluation.report import build_report
from evaluation.rows import LabelledRows
from training.calibrate import fit_calibration
from training.config import Config
from training.dataset import Dataset, build_dataset, load_rows, load_scheme, sides
from training.encoder_stage import TrainedEncoder, train_encoder
from training.errors import TrainingError
from training.export import Parts, export_encoder, write_model
from training.lexical_stage import train_lexical

__all__ = ["Beginning", "Fitted", "data_hashes", "fit", "fit_split", "heads_with_labels", "refit"]

F32 = npt.NDArray[np.float32]
Tell = Callable[[str], None]


def _afresh(heads: Mapping[str, Sequence[str]], run: Path) -> Path | None:
    return None


@dataclass(frozen=True)
class Beginning:
    """What a run goes on from. ``weights`` gives, for the run's heads and folder, a file of weights to start
    from (None: the base encoder); ``encoder_rows`` are what the encoder is tuned on (empty: all training
    rows); ``lineage`` joins what the model says of its origin.
    """

    weights: Callable[[Mapping[str, Sequence[str]], Path], Path | None] = _afresh
    encoder_rows: Sequence[Row] = ()
    lineage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """A finished run: the model folder and what was measured."""

    folder: Path
    version: str
    scores: Mapping[str, Any]


def fit(config: Config, config_toml: str, run: Path, tell: Tell) -> Fitted:
    """Train on the training folds, calibrate on validation, export, and score on the test folds."""
    scheme = load_scheme(config)
    return fit_split(config, config_toml, run, scheme, sides(config, load_rows(config, scheme)), tell)


def fit_split(
    config: Config,
    config_toml: str,
    run: Path,
    scheme: Scheme,
    split: Mapping[str, Sequence[Row]],
    tell: Tell,
    begin: Beginning | None = None,
) -> Fitted:
    """As `fit`, from rows that are on their sides (train, validation, test) already.

    Raises TrainingError when no training row has a label.
    """
    begin = begin or Beginning()
    heads = heads_with_labels(scheme, split["train"])
    tell("  ".join(f"{side}: {len(rows)} rows" for side, rows in split.items()))
    train, validation = (build_dataset(split[side], heads) for side in ("train", "validation"))
    tuned = build_dataset(begin.encoder_rows, heads) if begin.encoder_rows else train
    encoder = _encoder(config, tuned, validation, run, tell, begin.weights(heads, run))
    lexical = _lexical(config, train, encoder, tell)
    parts = Parts(encoder, lexical, heads, scheme)
    exported = _staged(run, encoder, config)
    calibration = _calibrate(exported, parts, validation, config, config_toml, tell)
    return _finish(exported, parts, calibration, split, config, config_toml, run, tell, begin.lineage)


def refit(config: Config, config_toml: str, run: Path, measured: Path, tell: Tell) -> Fitted:
    """Train the parts again on all folds, for shipping; calibration and scores stay those of ``measured``.

    The encoder goes on from the measured run's weights for ``config.encoder.epochs`` epochs; nothing can be
    validated any more, so neither early stopping nor any figure of this run is reported.
    """
    scheme = load_scheme(config)
    rows = load_rows(config, scheme)
    split = sides(config, rows)
    heads = heads_with_labels(scheme, split["train"])
    old = Predictor.load(measured)
    everything = build_dataset(rows, heads)
    validation = build_dataset(split["validation"], heads)
    start = measured.parent / "encoder" / "best.safetensors"
    encoder = None
    if config.encoder is not None and not config.encoder_off:
        gentler = {"learning_rate": config.encoder.learning_rate / 2, "head_factor": 2.0}
        settings = config.encoder.model_copy(update=gentler)  # nothing here is fresh any more
        encoder = train_encoder(config, settings, everything, validation, run / "encoder", tell, start)
    lexical = _lexical(config, everything, encoder, tell)
    parts = Parts(encoder, lexical, heads, scheme)
    folder = _staged(run, encoder, config)
    note = f"{old.folder.scores['held_out']} Measured before the held-out folds joined the training rows."
    scores = {**old.folder.scores, "held_out": note}
    origin = _origin(config, rows, parts, "all folds")
    version = write_model(folder, parts, old.calibration, scores, config_toml, origin, config.name)
    return Fitted(_placed(folder, run), version, scores)


def heads_with_labels(scheme: Scheme, rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """The heads that any row labels, with their leaf codes. Raises TrainingError when there is none."""
    labelled = {head for row in rows for head in row.labels}
    heads = {
        name: head.codes for name, head in scheme.heads.items() if name in labelled and len(head.codes) > 1
    }
    if not heads:
        raise TrainingError(
            f"training rows: expected labels for one of the heads {', '.join(scheme.heads)}, found none; "
            "check the mapping with `python -m data check`"
        )
    return heads


def _encoder(
    config: Config, train: Dataset, validation: Dataset, run: Path, tell: Tell, start: Path | None
) -> TrainedEncoder | None:
    if config.encoder is None or config.encoder_off:
        return None
    return train_encoder(config, config.encoder, train, validation, run / "encoder", tell, start)


def _lexical(
    config: Config, train: Dataset, encoder: TrainedEncoder | None, tell: Tell
) -> LexicalPart | None:
    if config.lexical is None or config.lexical_off:
        return None
    return train_lexical(train, config.lexical, tell, _teacher(train, encoder, tell))


def _teacher(train: Dataset, encoder: TrainedEncoder | None, tell: Tell) -> dict[str, F32] | None:
    """The encoder's log-probabilities, for the heads where some training rows have partial labels."""
    partial = [name for name, item in train.targets.items() if (item.mask.sum(1) > 1).any()]
    if encoder is None or not partial:
        return None
    tell(f"lexical: partial labels of {', '.join(partial)} are resolved by the encoder")
    logits = encoder.logits(list(train.texts))
    return {name: np.log(softmax(logits[name].astype(np.float32)) + 1e-9) for name in partial}


def _staged(run: Path, encoder: TrainedEncoder | None, config: Config) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".export-", dir=run))
    if encoder is not None and config.encoder is not None:
        export_encoder(encoder, folder, config.encoder.quantise)
    return folder


def _calibrate(
    folder: Path, parts: Parts, validation: Dataset, config: Config, config_toml: str, tell: Tell
) -> Calibration:
    """Calibrate on what will be served: the scores of the exported (quantised) parts."""
    neutral = _neutral(parts, config.target_accuracy)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        trial = Path(scratch) / "model"
        shutil.copytree(folder, trial)
        write_model(trial, parts, neutral, {"heads": []}, config_toml, {}, config.name)
        predictor = Predictor.load(trial)
        raw = predictor.raw_scores(validation.texts)
    scores = {
        part: {head: matrix[:, predictor.slice_of(head)] for head in parts.heads}
        for part, matrix in raw.items()
    }
    ordered = [name for name in parts.heads if parts.scheme.heads[name].kind == "ordinal"]
    levels = {name: parts.heads[name] for name in ordered}
    calibration = fit_calibration(scores, validation.targets, config.target_accuracy, levels)
    served = "joined" if "joined" in calibration.heads else next(iter(calibration.heads))
    for head, item in calibration.heads[served].items():
        tell(f"calibration {head}: {item.rows} rows, weights {item.encoder:.2f} / {item.lexical:.2f}, "
             f"threshold {item.threshold:.3f} covers {item.coverage:.3f}")  # fmt: skip
    return calibration


def _present(parts: Parts) -> list[str]:
    return [
        name for name, part in (("encoder", parts.encoder), ("lexical", parts.lexical)) if part is not None
    ]


def _neutral(parts: Parts, target: float) -> Calibration:
    """Equal weights, for a trial folder whose raw scores are wanted."""
    names = [*_present(parts), *(["joined"] if len(_present(parts)) == 2 else [])]
    one = HeadCalibration(1.0, 1.0)
    return Calibration(target, {name: dict.fromkeys(parts.heads, one) for name in names})


def _finish(
    folder: Path,
    parts: Parts,
    calibration: Calibration,
    split: Mapping[str, Sequence[Row]],
    config: Config,
    config_toml: str,
    run: Path,
    tell: Tell,
    lineage: Mapping[str, Any],
) -> Fitted:
    origin = {**_origin(config, split["train"], parts, "training folds"), **lineage}
    with tempfile.TemporaryDirectory(dir=run) as scratch:
        trial = Path(scratch) / "model"
        shutil.copytree(folder, trial)
        write_model(trial, parts, calibration, {"heads": []}, config_toml, origin, config.name)
        scores = _scores(Predictor.load(trial), split, config, tell)
    version = write_model(folder, parts, calibration, scores, config_toml, origin, config.name)
    return Fitted(_placed(folder, run), version, scores)


def _scores(
    predictor: Predictor, split: Mapping[str, Sequence[Row]], config: Config, tell: Tell
) -> dict[str, Any]:
    """Main figures per head and part on the test folds, and label counts of the training rows."""
    counts = {
        head: dict(
            Counter(next(iter(r.labels[head])) for r in split["train"] if len(r.labels.get(head, ())) == 1)
        )
        for head in predictor.heads
    }
    folds = ", ".join(map(str, config.split.test_folds))
    result: dict[str, Any] = {
        "held_out": f"Test folds {folds} of 0-7 (grouped by near-duplicates), {len(split['test'])} rows.",
        "training_labels": counts,
        "heads": [],
    }
    if not split["test"]:
        return result
    everything = LabelledRows.of([row for rows in split.values() for row in rows])
    held_out = replace(everything, rows=tuple(split["test"]))
    report = build_report(predictor, held_out, parts=predictor.parts, resamples=200)
    names = {
        "accuracy": "accuracy",
        "macro_f1": "macro_f1",
        "top_3": "top3",
        "ece": "ece",
        "share_at_target": "auto_coverage",
    }
    for item in report.heads:
        found = {ours: item.figures[theirs].value for ours, theirs in names.items() if theirs in item.figures}
        result["heads"].append({"head": item.head, "part": item.part, "rows": item.n, **found})
        tell(f"test {item.head} ({item.part}): " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()))
    return result


def _origin(config: Config, rows: Sequence[Row], parts: Parts, trained_on: str) -> dict[str, Any]:
    """Where a model comes from: encoder, data counts and hashes; no text."""
    return {
        "encoder": parts.encoder.base.source if parts.encoder else "none",
        "layers": config.encoder.layers if parts.encoder and config.encoder else 0,
        "lexical_buckets": len(parts.lexical.hashes) if parts.lexical else 0,
        "trained_on": trained_on,
        "rows": len(rows),
        "sources": dict(Counter(row.source for row in rows)),
        "data_sha256": data_hashes(config),
        "scheme": f"{parts.scheme.name} {parts.scheme.version} {parts.scheme.sha256[:12]}",
        "seed": config.seed,
    }


def data_hashes(config: Config) -> dict[str, str]:
    """sha256 of every file of a configuration that is there, by its path."""
    found: dict[str, str] = {}
    for file in config.data:
        path = next((p for p in (Path(config.data_root) / file.path, Path(file.path)) if p.exists()), None)
        if path is not None:
            members = sorted(path.glob("*.csv")) if path.is_dir() else [path]
            joined = b"".join(hashlib.sha256(member.read_bytes()).digest() for member in members)
            found[file.path] = hashlib.sha256(joined).hexdigest()
    return found


def _placed(folder: Path, run: Path) -> Path:
    """Move the finished folder to ``run/model``, replacing an earlier one."""
    target = run / "model"
    if not (folder / "manifest.json").exists():
        raise ModelError(f"{folder}: expected a sealed model folder")
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)
    target.chmod(0o755)
    return target
