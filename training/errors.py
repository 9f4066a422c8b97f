"""Errors of the training room.

TrainingError
├── ConfigError        a training configuration that can't be used
├── BaseEncoderError   the base encoder can't be had or is not what was expected
├── RetrainError       there is nothing to retrain from, or no row left to judge by
└── SimulationError    the loop can't be played through on these rows
"""

from __future__ import annotations

__all__ = ["BaseEncoderError", "ConfigError", "RetrainError", "SimulationError", "TrainingError"]


class TrainingError(Exception):
    """Anything that stops a training run; the message says what to do."""


class ConfigError(TrainingError):
    """A configuration file with an unknown key or a value out of range."""


class BaseEncoderError(TrainingError):
    """The base encoder is missing, damaged or of another format."""


class RetrainError(TrainingError):
    """A challenger that can't be trained or judged: no champion, no new labels, or no unseen test row."""


class SimulationError(TrainingError):
    """A simulation of the labelling loop that its rows or settings do not allow."""
