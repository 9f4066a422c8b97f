"""Errors of the classifier room.

ClassifierError
├── ModelError      a model folder that is missing, damaged or of another format
└── RegistryError   a registry operation that can't be done (unknown version, name taken, …)
"""

from __future__ import annotations

__all__ = ["ClassifierError", "ModelError", "RegistryError"]


class ClassifierError(Exception):
    """Anything the classifier room refuses; the message says what was expected, what came, what to do."""


class ModelError(ClassifierError):
    """A model folder that can't be used."""


class RegistryError(ClassifierError):
    """A registry operation that can't be done."""
