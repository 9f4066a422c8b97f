"""Errors of the classifier room.

ClassifierError
├── ModelError      a model folder that is missing, damaged or of another format
└── RegistryError   a registry operation that can't be done (name taken, damaged pointer, …)
    ├── UnknownVersion     no version of this name is there
    └── PromotionRefused   the gate refused the version, or spoke of another champion
"""

from __future__ import annotations

__all__ = ["ClassifierError", "ModelError", "PromotionRefused", "RegistryError", "UnknownVersion"]


class ClassifierError(Exception):
    """Anything the classifier room refuses; the message says what was expected, what came, what to do."""


class ModelError(ClassifierError):
    """A model folder that can't be used."""


class RegistryError(ClassifierError):
    """A registry operation that can't be done."""


class UnknownVersion(RegistryError):
    """No version of this name is in the registry."""


class PromotionRefused(RegistryError):
    """The gate refused the version, or compared it with one that is champion no more."""

    def __init__(self, message: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons
