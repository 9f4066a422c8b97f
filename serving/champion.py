"""The model that answers, and the one that should: loads, checks and swaps while the service runs.

A promoted version is loaded beside the one that answers and let in only after it gave its known
answer; until then, and when it fails, the older one goes on. Batches in flight keep the model they
began with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from classifier.errors import RegistryError
from serving.answer import Asked, answer_one
from serving.errors import ModelNotReady
from serving.health import Health
from serving.logs import log
from serving.metrics import Metrics
from serving.models import KNOWN_TEXT, Model, promoted
from serving.settings import Settings

__all__ = ["Champion"]

LONGEST_PAUSE = 30  # times heal_seconds: hashing a large broken folder all the time would slow the answers


@dataclass(frozen=True)
class _Failure:
    wanted: str
    pause: float  # seconds from this failure to the next try
    at: float  # on the monotonic clock

    def waits(self, wanted: str) -> bool:
        """Whether it is too early to try this version again."""
        return wanted == self.wanted and time.monotonic() < self.at + self.pause


class Champion:
    """`look` is called again and again, from one thread at a time; `model` from anywhere."""

    def __init__(
        self, settings: Settings, load: Callable[[Settings], Model], health: Health, metrics: Metrics
    ) -> None:
        self._settings, self._load, self._health, self._metrics = settings, load, health, metrics
        self._model: Model | None = None
        self._loaded = ""  # what the pointer named when the model was loaded
        self._failure: _Failure | None = None

    def model(self) -> Model:
        """The model that answers now. Raises ModelNotReady."""
        if self._model is None:
            raise ModelNotReady("模型尚未就绪", self._health.problems.get("model", ""))
        return self._model

    def look(self) -> None:
        """Load the version that should answer, unless it does or has just failed to load."""
        try:
            wanted = promoted(self._settings)
        except RegistryError as error:
            self._health.bad("champion" if self._model else "model", str(error))
            return
        if self._model is not None and wanted == self._loaded:
            self._failure = None
            self._health.good("champion")
        elif self._failure is None or not self._failure.waits(wanted):
            self._try(wanted)

    def _try(self, wanted: str) -> None:
        try:
            model = self._load(self._settings)
            # The whole walk: a scheme that dispatch cannot follow is seen here, and the first appeal
            # does not wait for what is made ready at first use.
            answer_one(model, Asked(KNOWN_TEXT, datetime.now(UTC)))
        except Exception as error:  # whatever a damaged folder makes a library say: it is told on /readyz
            self._after_failure(wanted, error)
        else:
            self._let_in(model, wanted)

    def _after_failure(self, wanted: str, error: Exception) -> None:
        same = self._failure if self._failure and self._failure.wanted == wanted else None
        shortest = self._settings.heal_seconds
        pause = min(same.pause * 2, shortest * LONGEST_PAUSE) if same else shortest
        self._failure = _Failure(wanted, pause, time.monotonic())
        told = f"{type(error).__name__}: {error}"
        self._metrics.load_failures.inc()
        if self._model is None:
            self._health.bad("model", told)
        else:
            self._health.bad("champion", f"{wanted} does not load, {self._model.version} answers: {told}")

    def _let_in(self, model: Model, wanted: str) -> None:
        earlier, self._model, self._loaded, self._failure = self._model, model, wanted, None
        if earlier is not None:
            log("model_swapped", earlier=earlier.version, version=model.version)
            self._metrics.swaps.inc()
        self._metrics.answers_with(model.version, model.scheme.version)
        self._health.good("model", version=model.version)
        self._health.good("champion", version=model.version)
