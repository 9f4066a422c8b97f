"""Urgency of an appeal: rules ∪ model (``assess``), with the triggers that raised it and the hand-overs."""

from serving.urgency.answer import KINDS, LEVELS, Trigger, UrgencyAnswer
from serving.urgency.combining import DEFAULT_THRESHOLDS, assess
from serving.urgency.rules import RULES

__all__ = ["DEFAULT_THRESHOLDS", "KINDS", "LEVELS", "RULES", "Trigger", "UrgencyAnswer", "assess"]
