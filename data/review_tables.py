"""The tables of reviewing: leases, corrections, flags, suspicions, embeddings and the queues.

What the model suggested stands in `answers` and is never mixed with what people say. All tables but
`queue_keys` are append-only, apart from a lease's end (`ended_at`, `outcome`, `reason`, `seconds`);
`corrections` and `flags` refuse updates by trigger. `queue_keys` and `audit_members` are derived: they
can be made anew from the other tables at any time (`ReviewStore.rebuild_queues`).
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from data.store_tables import METADATA, Number, UtcTime

__all__ = [
    "audit_members",
    "corrections",
    "embeddings",
    "flags",
    "leases",
    "queue_keys",
    "review_rules",
    "scheme_changes",
    "suspicions",
]

# What the operator sets; the newest row holds for appeals that are stored from then on.
review_rules = Table(
    "review_rules",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("audit_share", Float, nullable=False),
    Column("double_share", Float, nullable=False),
    Column("salt", String(64), nullable=False),  # secret: who knew it could choose ids that are not audited
    Column("urgency_levels", Text, nullable=False),  # JSON list, the lowest first
    Column("set_by", String(160), nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

leases = Table(
    "leases",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("appeal_number", ForeignKey("appeals.number"), nullable=False),
    Column("reviewer", String(160), nullable=False),
    Column("queue", String(16), nullable=False),  # empty: asked for by its id
    Column("taken_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("outcome", String(16), nullable=False),  # done, skipped, released, expired; empty: open
    Column("reason", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Index(None, "appeal_number", "reviewer"),
    Index(None, "ended_at", "expires_at"),
)

corrections = Table(
    "corrections",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("appeal_number", ForeignKey("appeals.number"), nullable=False),
    Column("head", String(64), nullable=False),
    Column("code", String(128), nullable=False),  # empty: cannot be told from the text
    Column("shown", String(128), nullable=False),  # the suggestion that the person saw; empty: none
    Column("kind", String(16), nullable=False),  # confirmed, changed, adjudicated, bulk, withdrawn
    Column("reviewer", String(160), nullable=False),
    Column("comment", Text, nullable=False),
    Column("model_version", String(128), nullable=False),  # whose suggestion was shown
    Column("scheme_version", String(128), nullable=False),
    Column("source", String(160), nullable=False),  # page, bulk, or import:FORMAT:FILE
    Column("token", String(96), nullable=False),  # of the client: a request sent twice makes one row
    Column("lease_number", ForeignKey("leases.number")),
    Column("seconds", Float, nullable=False),
    Column("withdraws", ForeignKey("corrections.number")),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("reviewer", "token", "appeal_number", "head"),
    Index(None, "appeal_number", "head"),
    Index(None, "created_at"),
    Index(None, "withdraws"),
    Index(None, "lease_number"),
)

flags = Table(
    "flags",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("appeal_number", ForeignKey("appeals.number"), nullable=False),
    Column("kind", String(32), nullable=False),  # personal_data, or withdrawn
    Column("start", Integer, nullable=False),  # [start, end) of the stored text
    Column("end", Integer, nullable=False),
    Column("reviewer", String(160), nullable=False),
    Column("withdraws", ForeignKey("flags.number")),
    Column("created_at", UtcTime, nullable=False),
    Index(None, "appeal_number"),
    Index(None, "withdraws"),
)

# What a program found: a label that is probably wrong, or an answer that others contradict.
suspicions = Table(
    "suspicions",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("appeal_number", ForeignKey("appeals.number"), nullable=False),
    Column("queue", String(16), nullable=False),  # suspected or disagreement
    Column("head", String(64), nullable=False),
    Column("code", String(128), nullable=False),  # what should stand there instead, if known
    Column("score", Float, nullable=False),  # larger is looked at earlier
    Column("source", String(160), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index(None, "appeal_number"),
)

embeddings = Table(
    "embeddings",
    METADATA,
    Column("appeal_number", ForeignKey("appeals.number"), primary_key=True),
    Column("model_version", String(128), primary_key=True),
    Column("vector", LargeBinary, nullable=False),  # float16, little-endian
)

# One row per queue in which an appeal waits. The lowest turn goes first.
queue_keys = Table(
    "queue_keys",
    METADATA,
    Column("queue", String(16), primary_key=True),
    Column("appeal_number", ForeignKey("appeals.number"), primary_key=True),
    Column("turn", Float, nullable=False),
    Column("wanted", Integer, nullable=False),  # different reviewers asked for in all
    Column("missing", Integer, nullable=False),  # of them, those still to come
    Column("category", String(128), nullable=False),  # as suggested
    Column("district", String(64), nullable=False),
    Column("street", String(64), nullable=False),
    Column("community", String(64), nullable=False),
    Column("day", Integer, nullable=False),  # of received_at, counted from 1970-01-01 UTC
    Column("received_at", UtcTime, nullable=False),
    Column("opened_at", UtcTime, nullable=False),  # opinions from then on count
    Index(None, "appeal_number"),
    Index("ix_queue_keys_turn", "queue", "turn", "appeal_number"),
    Index("ix_queue_keys_category", "queue", "category", "turn", "appeal_number"),
    Index("ix_queue_keys_district", "queue", "district", "turn", "appeal_number"),
    Index("ix_queue_keys_street", "queue", "street", "turn", "appeal_number"),
    Index("ix_queue_keys_day", "queue", "day", "turn", "appeal_number"),
)

# Whoever fell into the random slice when they were stored, and the share that held then.
audit_members = Table(
    "audit_members",
    METADATA,
    Column("appeal_number", ForeignKey("appeals.number"), primary_key=True),
    Column("slot", Float, nullable=False),  # in [0, share)
    Column("share", Float, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Index(None, "received_at"),
)

# How labels under one version of the label scheme read under a later one (see data.scheme_change).
scheme_changes = Table(
    "scheme_changes",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("from_version", String(128), nullable=False),
    Column("to_version", String(128), nullable=False),
    Column("body", Text, nullable=False),  # the change file
    Column("recorded_by", String(160), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("from_version"),
)
