"""Errors of the evaluation room.

EvaluationError             anything this room refuses; catch it to catch all of them
├── NothingToScore          no row is left that has a label of a head that the model has
├── UnknownHead             a head was asked for that the model, or the other model, lacks
├── BadAnswers              the model's answers are no probabilities over its labels
└── ReportError             a report cannot be written to the place asked for
"""

from __future__ import annotations

__all__ = ["BadAnswers", "EvaluationError", "NothingToScore", "ReportError", "UnknownHead"]


class EvaluationError(Exception):
    """What the evaluation room refuses; the message says what was expected, what came, what to do."""


class NothingToScore(EvaluationError):
    """No labelled row is left to score."""


class UnknownHead(EvaluationError):
    """A head that a model does not have."""


class BadAnswers(EvaluationError):
    """A model answered with something that is no probability distribution over its labels."""


class ReportError(EvaluationError):
    """A report that cannot be written."""
