"""Errors of the evaluation room.

EvaluationError             anything this room refuses; catch it to catch all of them
├── NothingToScore          no row is left that has a label of a head that the model has
├── UnknownHead             a head was asked for that the model, or the other model, lacks
├── BadAnswers              the model's answers are no probabilities over its labels
├── ReportError             a report cannot be written to the place asked for
├── BadLimits               the gate's or the drift report's limits are wrong
├── BadJudgements           a file of reviewers' labels cannot be used
├── CostError               a model's memory cannot be measured
└── SpeedError              speed cannot be measured
    ├── MissingExtra        a package that the comparison needs is not installed
    ├── ServerFailed        a server did not start, died, or answered otherwise than it must
    └── WeightsDiffer       the servers would not compare the same weights
"""

from __future__ import annotations

__all__ = [
    "BadAnswers", "BadJudgements", "BadLimits", "CostError", "EvaluationError", "MissingExtra",
    "NothingToScore", "ReportError", "ServerFailed", "SpeedError", "UnknownHead", "WeightsDiffer",
]  # fmt: skip


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


class BadLimits(EvaluationError):
    """Limits that are no numbers, out of range, or unknown."""


class BadJudgements(EvaluationError):
    """Reviewers' labels that cannot be compared."""


class CostError(EvaluationError):
    """A model's process that died while its memory was measured."""


class SpeedError(EvaluationError):
    """Speed that cannot be measured."""


class MissingExtra(SpeedError):
    """A package that the comparison needs is not installed."""


class ServerFailed(SpeedError):
    """A server that did not start, died, or answered otherwise than it must."""


class WeightsDiffer(SpeedError):
    """Weights that are not, or cannot be shown to be, the same."""
