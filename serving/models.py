"""The model that answers: predictor, its scheme's names, and the dispatch table that goes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifier.errors import ModelError
from classifier.predictor import Prediction, Predictor, Tokens
from classifier.registry import Registry, shipped_model
from classifier.translated import translated
from data.database import Database
from data.scheme import Scheme
from data.scheme_history import recorded_changes
from serving.accused import SpokenUnits
from serving.decision import WorkingDays
from serving.dispatch import Table, load_table
from serving.emergency import Emergency
from serving.errors import StartError
from serving.settings import Settings
from serving.urgency import DEFAULT_THRESHOLDS, LEVELS

__all__ = ["KNOWN_TEXT", "Model", "check", "furnished", "load_model", "promoted"]

KNOWN_TEXT = "小区楼下的自来水管爆了，水漫了一地，家里也停水了，请派人来修。"
TOLERANCE = 1e-3  # a head's probabilities sum to one within this


@dataclass(frozen=True)
class Model:
    """A predictor with what an answer needs beside it, looked up once.

    ``paths[head][code]`` are a label's names from the first level down; ``urgency_cuts`` the least
    P(level or higher) at which the model may raise to that level, ``top_level`` the highest one; ``spoken``
    finds units in a text, ``emergency`` knows who rescues.
    """

    predictor: Predictor
    table: Table
    calendar: WorkingDays
    zone: str
    paths: Mapping[str, Mapping[str, tuple[str, ...]]]
    thresholds: Mapping[str, float]
    urgency_cuts: Mapping[str, float]
    top_level: str
    spoken: SpokenUnits
    emergency: Emergency

    @property
    def scheme(self) -> Scheme:
        """The label scheme of the model."""
        return self.predictor.scheme

    @property
    def version(self) -> str:
        """The model's version."""
        return self.predictor.version

    def predict(
        self, texts: Sequence[str], tokens: Sequence[Tokens | None] | None = None
    ) -> list[Prediction]:
        """Predictions with evidence, one per prepared text; ``tokens`` of the texts spare work."""
        return self.predictor.predict(texts, evidence=True, tokens=tokens)


def load_model(settings: Settings) -> Model:
    """The model the settings name: a folder, else a registry's champion, else the one that ships.

    Checked by a known answer before it is let in. Raises ModelError, RegistryError, DispatchError, and
    SchemeError or StoreError where its answers are to be told in a newer label scheme.
    """
    predictor = Predictor.load(_folder(settings), threads=settings.worker_threads, at_once=settings.workers)
    model = furnished(_in_force(predictor, settings), settings)
    check(model)
    return model


def promoted(settings: Settings) -> str:
    """The version that the registry's pointer names; empty where no registry is set, or a folder instead.

    Raises RegistryError when the pointer cannot be read or names a version that is not there.
    """
    if settings.registry_dir is None or settings.model_dir is not None:
        return ""
    return Registry(settings.registry_dir).champion().name


def _in_force(predictor: Predictor, settings: Settings) -> Predictor:
    """The predictor in the codes of the label scheme in force, where the settings name one."""
    if settings.scheme is None:
        return predictor
    scheme = Scheme.load(settings.scheme)
    if scheme.version == predictor.scheme.version:
        return predictor
    database = Database.open(settings.database_url)
    try:
        return translated(predictor, scheme, recorded_changes(database))
    finally:
        database.close()


def furnished(predictor: Predictor, settings: Settings) -> Model:
    """A predictor with its names, cuts, dispatch table and calendar."""
    scheme, heads = predictor.scheme, predictor.heads
    calibration, part = predictor.calibration, predictor.default_part
    return Model(
        predictor=predictor,
        table=load_table(scheme, settings.dispatch_table),
        calendar=_calendar(settings.holidays),
        zone=settings.timezone,
        paths={name: {code: scheme.path(code, name) for code in head.codes} for name, head in heads.items()},
        thresholds=dict(predictor.thresholds),
        urgency_cuts={
            **DEFAULT_THRESHOLDS,
            **(calibration.of(part, "urgency").cuts if "urgency" in heads else {}),
        },
        top_level=heads["urgency"].codes[-1] if "urgency" in heads else LEVELS[-1],
        spoken=SpokenUnits.of(scheme),
        emergency=Emergency.of(scheme),
    )


def _calendar(file: Path | None) -> WorkingDays:
    if file is None:
        return WorkingDays()
    try:
        return WorkingDays.parse(file.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise StartError(f"JIESU_HOLIDAYS={file}: {error}") from error


def check(model: Model) -> None:
    """Raise ModelError unless the model gives its known answer, and sound shares for every head."""
    model.predictor.check()
    (prediction,) = model.predict([KNOWN_TEXT])
    for name, head in model.predictor.heads.items():
        shares = prediction.probabilities[name]
        if shares.shape != (len(head.codes),) or not np.isfinite(shares).all():
            raise ModelError(f"head {name}: expected {len(head.codes)} finite shares, got {shares!r:.200}")
        if abs(float(shares.sum()) - 1.0) > TOLERANCE:
            raise ModelError(f"head {name}: expected shares that sum to 1, got {float(shares.sum()):.4f}")


def _folder(settings: Settings) -> Path:
    if settings.model_dir is not None:
        return settings.model_dir
    return Registry(settings.registry_dir).champion() if settings.registry_dir else shipped_model()
