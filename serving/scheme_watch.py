"""Sees that the model answers in codes of a label scheme that a recorded change has replaced."""

from __future__ import annotations

import time

from data.database import Database
from data.scheme_history import recorded_changes
from serving.health import Health
from serving.models import Model

__all__ = ["SchemeWatch"]

EVERY = 60.0  # seconds between two looks; a new model is looked at at once


class SchemeWatch:
    """Tells it on /readyz as the part `scheme`; appeals are answered all the same."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._looked_at = 0.0
        self._model: Model | None = None

    def look(self, model: Model, database: Database) -> None:
        """Ask for the recorded changes, now and then. Raises StoreError."""
        if model is self._model and time.monotonic() < self._looked_at + EVERY:
            return
        self._model, self._looked_at = model, time.monotonic()
        version = model.scheme.version
        later = next((one for one in recorded_changes(database) if one.from_version == version), None)
        if later is None:
            if "scheme" in self._health.problems:
                self._health.good("scheme", version=version)
        else:
            self._health.bad(
                "scheme",
                f"{model.version} answers in version '{version}' of the label scheme, but a change to "
                f"'{later.to_version}' is recorded: set JIESU_SCHEME to the new version's file, or promote a "
                "model that was trained on it",
            )
