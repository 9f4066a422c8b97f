"""The model that answers, and the one that should: loads, checks and swaps while the service runs.

A promoted version is loaded beside the one that answers and let in only after it gave its known
answer; until then, and when it fails, the older one goes on. Batches in flight keep the model they
began with. A service that begins while the promoted version is broken answers with the one before it.
"""

from __future__ import annotations

import logging
from threading import Lock

from classifier.errors import RegistryError
from classifier.registry import Registry
from serving.errors import ModelNotReady
from serving.health import Health
from serving.loading import Failure, Load, load_checked, of_version, registry_dir
from serving.logs import log
from serving.metrics import Metrics
from serving.models import Model, promoted
from serving.settings import Settings

__all__ = ["Champion"]

UNREADABLE = "?"  # stands for the wanted version where the pointer does not tell


class Champion:
    """`look` is called again and again, and when a version was promoted here; `model` from anywhere."""

    def __init__(self, settings: Settings, load: Load, health: Health, metrics: Metrics) -> None:
        self._settings, self._load, self._health, self._metrics = settings, load, health, metrics
        self._model: Model | None = None
        self._loaded = ""  # what the pointer named when the model was loaded
        self._failure: Failure | None = None
        self._looking = Lock()

    def model(self) -> Model:
        """The model that answers now. Raises ModelNotReady."""
        if self._model is None:
            raise ModelNotReady("模型尚未就绪", self._health.problems.get("model", ""))
        return self._model

    def look(self) -> None:
        """Load the version that should answer, unless it does or has just failed to load."""
        with self._looking:
            try:
                wanted = promoted(self._settings)
            except RegistryError as error:
                self._without_pointer(error)
                return
            if self._model is not None and wanted == self._loaded:
                self._failure = None
                self._as_promoted()
            elif self._failure is None or not self._failure.waits(wanted):
                self._try(wanted)

    def _without_pointer(self, error: RegistryError) -> None:
        if self._model is None and not (self._failure and self._failure.waits(UNREADABLE)):
            self._failure = Failure.after(self._failure, UNREADABLE, self._settings.heal_seconds)
            self._fall_back("", str(error))
        if self._model is None:
            self._health.bad("model", str(error))
        else:
            self._health.bad("champion", f"{error}; {self._model.version} answers")

    def _try(self, wanted: str) -> None:
        try:
            model = load_checked(self._load, self._settings)
        except Exception as error:  # whatever a damaged folder makes a library say: it is told on /readyz
            self._after_failure(wanted, f"{type(error).__name__}: {error}")
        else:
            self._let_in(model, wanted)
            self._as_promoted()

    def _after_failure(self, wanted: str, told: str) -> None:
        self._failure = Failure.after(self._failure, wanted, self._settings.heal_seconds)
        self._metrics.load_failures.inc()
        if self._model is None:
            self._fall_back(wanted, told)
        if self._model is None:
            self._health.bad("model", told)
        else:
            self._health.bad("champion", f"{wanted} does not load, {self._model.version} answers: {told}")

    def _fall_back(self, wanted: str, told: str) -> None:
        """Let in the newest version that was champion before and loads, if there is one."""
        for version in self._lineage(wanted):
            try:
                model = load_checked(self._load, of_version(self._settings, version))
            except Exception as error:  # the one before it may do
                self._metrics.load_failures.inc()
                log("fallback_failed", logging.WARNING, version=version, raised=error)
                continue
            log("fell_back", logging.ERROR, promoted=wanted, version=version, problem=told[:500])
            self._metrics.fallback.set(1)
            self._let_in(model, version)
            return

    def _lineage(self, wanted: str) -> list[str]:
        folder = registry_dir(self._settings)
        if folder is None:
            return []
        try:
            return [version for version in Registry(folder).lineage() if version != wanted]
        except RegistryError as error:
            log("fallback_failed", logging.WARNING, version="", problem=str(error)[:500])
            return []

    def _let_in(self, model: Model, wanted: str) -> None:
        earlier, self._model, self._loaded = self._model, model, wanted
        if earlier is not None:
            log("model_swapped", earlier=earlier.version, version=model.version)
            self._metrics.swaps.inc()
        self._metrics.answers_with(model.version, model.scheme.version)
        self._health.good("model", version=model.version)

    def _as_promoted(self) -> None:
        """The promoted version is the one that answers."""
        self._failure = None
        self._metrics.fallback.set(0)
        self._health.good("champion", version=self._loaded)
