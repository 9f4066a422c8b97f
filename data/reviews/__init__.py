"""Reviewing: queues, leases, corrections, and what follows from them. `ReviewStore` is the way in."""

from __future__ import annotations

from data.in_force import AppealLabels, Correction, InForce
from data.queues import QUEUES, Rules
from data.reviews.figures import AuditRow, AuditSlice, Opinion, QueueProgress, Seconds, Throughput
from data.reviews.inputs import NewAnswer
from data.reviews.records import (
    Answered,
    BulkChange,
    BulkPreview,
    Done,
    Event,
    Filters,
    Flag,
    Leased,
    ReviewAppeal,
    Suspicion,
)
from data.reviews.store import ReviewStore

__all__ = [
    "QUEUES", "Answered", "AppealLabels", "AuditRow", "AuditSlice", "BulkChange", "BulkPreview", "Correction",
    "Done", "Event", "Filters", "Flag", "InForce", "Leased", "NewAnswer", "Opinion", "QueueProgress",
    "ReviewAppeal", "ReviewStore", "Rules", "Seconds", "Suspicion", "Throughput",
]  # fmt: skip
