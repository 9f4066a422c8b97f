"""What the champion and its challengers share: how a version is loaded, and when it is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from classifier.registry import Registry
from serving.answer import Asked, answer_one
from serving.models import KNOWN_TEXT, Model
from serving.settings import Settings

__all__ = ["Failure", "Load", "load_checked", "of_version", "registry_dir"]

LONGEST_PAUSE = 30  # times heal_seconds: hashing a large broken folder all the time would slow the answers
Load = Callable[[Settings], Model]


@dataclass(frozen=True)
class Failure:
    """A version that did not load, and for how long it is left alone."""

    wanted: str
    pause: float  # seconds from this failure to the next try
    at: float  # on the monotonic clock

    @classmethod
    def after(cls, earlier: Failure | None, wanted: str, shortest: float) -> Failure:
        """The failure of this moment; of one version again and again the pauses double."""
        again = earlier is not None and earlier.wanted == wanted
        pause = min(earlier.pause * 2, shortest * LONGEST_PAUSE) if earlier and again else shortest
        return cls(wanted, pause, time.monotonic())

    def waits(self, wanted: str) -> bool:
        """Whether it is too early to try this version again."""
        return wanted == self.wanted and time.monotonic() < self.at + self.pause


def load_checked(load: Load, settings: Settings) -> Model:
    """A model that answered once. Raises whatever a damaged folder makes a library say.

    The whole walk: a scheme that dispatch cannot follow is seen here, and the first appeal does not wait
    for what is made ready at first use.
    """
    model = load(settings)
    answer_one(model, Asked(KNOWN_TEXT, datetime.now(UTC)))
    return model


def registry_dir(settings: Settings) -> Path | None:
    """The registry that decides who answers; None where there is none, or a folder is set instead."""
    return settings.registry_dir if settings.model_dir is None else None


def of_version(settings: Settings, version: str) -> Settings:
    """Settings that load this version of the registry. Raises RegistryError when it is not there."""
    folder = registry_dir(settings)
    assert folder is not None, "versions are asked for where there is a registry"
    return settings.model_copy(update={"model_dir": Registry(folder).path(version)})
