"""Reviewing: leases, corrections, flags, suspicions, embeddings, queues, and changes of the label scheme."""

from __future__ import annotations

import json
import secrets
from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEPT = ("corrections", "flags")  # never updated; retention may delete
AUDIT_SHARE = 0.02
URGENCY_LEVELS = ["一般", "较急", "紧急", "特急"]


def _number() -> sa.Column[int]:
    return sa.Column("number", NUMBER, autoincrement=True, nullable=False)


def _appeal(table: str) -> tuple[sa.Column[int], sa.ForeignKeyConstraint]:
    name = f"fk_{table}_appeal_number"
    return (
        sa.Column("appeal_number", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["appeal_number"], ["appeals.number"], name=name),
    )


def _texts(**lengths: int) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(length), nullable=False) for name, length in lengths.items()]


def upgrade() -> None:
    """Make the tables, and the rules that hold until the operator sets others."""
    _create_rules()
    _create_leases()
    _create_corrections()
    _create_flags()
    _create_found()
    _create_queue_keys()
    op.create_table(
        "scheme_changes",
        _number(),
        *_texts(from_version=128, to_version=128),
        sa.Column("body", sa.Text(), nullable=False),
        *_texts(recorded_by=160),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_scheme_changes"),
        sa.UniqueConstraint("from_version", name="uq_scheme_changes_from_version"),
    )
    for table in KEPT:
        _refuse_updates(table)


def _create_rules() -> None:
    rules = op.create_table(
        "review_rules",
        _number(),
        sa.Column("audit_share", sa.Float(), nullable=False),
        sa.Column("double_share", sa.Float(), nullable=False),
        *_texts(salt=64),
        sa.Column("urgency_levels", sa.Text(), nullable=False),
        *_texts(set_by=160),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_review_rules"),
    )
    first = {
        "audit_share": AUDIT_SHARE,
        "double_share": 0.0,
        "salt": secrets.token_hex(32),
        "urgency_levels": json.dumps(URGENCY_LEVELS, ensure_ascii=False),
        "set_by": "migration",
        "created_at": datetime(2000, 1, 1),  # also for the appeals that were there before
    }
    op.bulk_insert(rules, [first])


def _create_leases() -> None:
    op.create_table(
        "leases",
        _number(),
        *_appeal("leases"),
        *_texts(reviewer=160, queue=16),
        sa.Column("taken_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime()),
        *_texts(outcome=16),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_leases"),
    )
    op.create_index("ix_leases_appeal_number_reviewer", "leases", ["appeal_number", "reviewer"])
    op.create_index("ix_leases_ended_at_expires_at", "leases", ["ended_at", "expires_at"])


def _create_corrections() -> None:
    lease, withdrawn = ["leases.number"], ["corrections.number"]
    op.create_table(
        "corrections",
        _number(),
        *_appeal("corrections"),
        *_texts(head=64, code=128, shown=128, kind=16, reviewer=160),
        sa.Column("comment", sa.Text(), nullable=False),
        *_texts(model_version=128, scheme_version=128, source=160, token=96),
        sa.Column("lease_number", NUMBER),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("withdraws", NUMBER),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_corrections"),
        sa.ForeignKeyConstraint(["lease_number"], lease, name="fk_corrections_lease_number"),
        sa.ForeignKeyConstraint(["withdraws"], withdrawn, name="fk_corrections_withdraws"),
        sa.UniqueConstraint(
            "reviewer",
            "token",
            "appeal_number",
            "head",
            name="uq_corrections_reviewer_token_appeal_number_head",
        ),
    )
    op.create_index("ix_corrections_appeal_number_head", "corrections", ["appeal_number", "head"])
    for column in ("created_at", "withdraws", "lease_number"):
        op.create_index(f"ix_corrections_{column}", "corrections", [column])


def _create_flags() -> None:
    op.create_table(
        "flags",
        _number(),
        *_appeal("flags"),
        *_texts(kind=32),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        *_texts(reviewer=160),
        sa.Column("withdraws", NUMBER),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_flags"),
        sa.ForeignKeyConstraint(["withdraws"], ["flags.number"], name="fk_flags_withdraws"),
    )
    for column in ("appeal_number", "withdraws"):
        op.create_index(f"ix_flags_{column}", "flags", [column])


def _create_found() -> None:
    op.create_table(
        "suspicions",
        _number(),
        *_appeal("suspicions"),
        *_texts(queue=16, head=64, code=128),
        sa.Column("score", sa.Float(), nullable=False),
        *_texts(source=160),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_suspicions"),
    )
    op.create_index("ix_suspicions_appeal_number", "suspicions", ["appeal_number"])
    op.create_table(
        "embeddings",
        *_appeal("embeddings"),
        *_texts(model_version=128),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("appeal_number", "model_version", name="pk_embeddings"),
    )


def _create_queue_keys() -> None:
    op.create_table(
        "queue_keys",
        *_texts(queue=16),
        *_appeal("queue_keys"),
        sa.Column("turn", sa.Float(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        *_texts(category=128, district=64, street=64, community=64),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "appeal_number", name="pk_queue_keys"),
    )
    op.create_table(
        "audit_members",
        *_appeal("audit_members"),
        sa.Column("slot", sa.Float(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("appeal_number", name="pk_audit_members"),
    )
    op.create_index("ix_audit_members_received_at", "audit_members", ["received_at"])
    op.create_index("ix_queue_keys_appeal_number", "queue_keys", ["appeal_number"])
    op.create_index("ix_queue_keys_turn", "queue_keys", ["queue", "turn", "appeal_number"])
    for column in ("category", "district", "street", "day"):
        op.create_index(f"ix_queue_keys_{column}", "queue_keys", ["queue", column, "turn", "appeal_number"])


def _refuse_updates(table: str) -> None:
    refusal = f"{table} are append-only"
    if op.get_bind().dialect.name != "postgresql":
        op.execute(
            f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()"
    )


def downgrade() -> None:
    """Drop the tables and what is in them, all corrections as well: export them before."""
    for table in (
        "scheme_changes", "audit_members", "queue_keys", "embeddings", "suspicions", "flags", "corrections",
        "leases", "review_rules",
    ):  # fmt: skip
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in KEPT:
            op.execute(f"DROP FUNCTION {table}_refuse()")
