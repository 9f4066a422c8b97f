"""A version that stands beside the champion: loaded when a pointer names it, let go when it does no more.

Whatever is wrong with it is told on /readyz as a part of its own and costs no caller an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from classifier.errors import RegistryError
from serving.errors import ModelNotReady
from serving.health import Health
from serving.loading import Failure, Load, load_checked, of_version
from serving.metrics import Metrics
from serving.models import Model
from serving.settings import Settings

__all__ = ["FAILURES_IN_A_ROW", "PAUSE_SECONDS", "Standby"]

FAILURES_IN_A_ROW = 3  # batches or texts, after which a version that fails is left alone
PAUSE_SECONDS = 60.0  # for so long; then it is tried again


class Standby:
    """One place (`canary` or `shadow`); `wanted` tells which version should stand there, "" for none."""

    def __init__(
        self, place: str, settings: Settings, load: Load, wanted: Callable[[], str], health: Health,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self._place, self._settings, self._load, self._wanted = place, settings, load, wanted
        self._health, self._metrics = health, metrics
        self._model: Model | None = None
        self._failure: Failure | None = None
        self._failed_in_a_row, self._left_alone_until = 0, 0.0
        self._looking = Lock()

    @property
    def model(self) -> Model | None:
        """The version that stands there, unless it failed too often just now."""
        return self._model if time.monotonic() >= self._left_alone_until else None

    def asked(self) -> Model:
        """The same for a batcher, whose texts may have come before it was let go. Raises ModelNotReady."""
        if self._model is None:
            raise ModelNotReady("模型尚未就绪")
        return self._model

    def look(self) -> None:
        """Load what should stand there, or let go of what should no more."""
        with self._looking:
            try:
                wanted = self._wanted()
            except RegistryError as error:
                self._set(None)
                self._health.bad(self._place, str(error))
                return
            if not wanted:
                self._end()
            elif self._model is None or self._model.version != wanted:
                self._try(wanted)
            elif self._left_alone_until and time.monotonic() >= self._left_alone_until:
                self._health.good(self._place, version=wanted)
                self._left_alone_until = 0.0

    def worked(self) -> None:
        """It answered."""
        self._failed_in_a_row = 0

    def failed(self, why: str) -> None:
        """It did not answer; a number of times in a row, and it is left alone for a while."""
        self._failed_in_a_row += 1
        model = self._model
        if model is not None and self._failed_in_a_row >= FAILURES_IN_A_ROW:
            self._failed_in_a_row = 0
            self._left_alone_until = time.monotonic() + PAUSE_SECONDS
            told = f"{model.version} failed {FAILURES_IN_A_ROW} times in a row ({why}); the champion answers"
            self._health.bad(self._place, f"{told}; it is tried again in {PAUSE_SECONDS:g} s")

    def _try(self, wanted: str) -> None:
        self._set(None)  # the champion answers meanwhile
        if self._failure is not None and self._failure.waits(wanted):
            return
        try:
            model = load_checked(self._load, of_version(self._settings, wanted))
        except Exception as error:  # whatever a damaged folder makes a library say: it is told on /readyz
            self._failure = Failure.after(self._failure, wanted, self._settings.heal_seconds)
            self._metrics.load_failures.inc()
            self._health.bad(self._place, f"{wanted} does not load: {type(error).__name__}: {error}")
        else:
            self._failure = None
            self._set(model)
            self._health.good(self._place, version=wanted)

    def _end(self) -> None:
        self._failure = None
        self._set(None)
        if self._place in self._health.problems:
            self._health.good(self._place)

    def _set(self, model: Model | None) -> None:
        self._metrics.stands(self._place, model.version if model else "")
        self._model, self._failed_in_a_row, self._left_alone_until = model, 0, 0.0
