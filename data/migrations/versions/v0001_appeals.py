"""Appeals and the model's answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
PLACE = ("city", "district", "street", "community", "grid")


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "appeals",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        *(sa.Column(part, sa.String(64), nullable=False) for part in PLACE),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("declared_type", sa.String(64), nullable=False),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.Column("stored_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_appeals"),
        sa.UniqueConstraint("id", name="uq_appeals_id"),
    )
    op.create_index("ix_appeals_received_at", "appeals", ["received_at"])
    _create_answers()


def _create_answers() -> None:
    op.create_table(
        "answers",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("appeal_number", NUMBER, nullable=False),
        sa.Column("model_version", sa.String(128), nullable=False),
        sa.Column("scheme_version", sa.String(128), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("urgency", sa.String(64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_answers"),
        sa.ForeignKeyConstraint(["appeal_number"], ["appeals.number"], name="fk_answers_appeal_number"),
        sa.UniqueConstraint("appeal_number", "model_version", name="uq_answers_appeal_number_model_version"),
    )
    op.create_index("ix_answers_action_urgency", "answers", ["action", "urgency"])


def downgrade() -> None:
    """Drop both tables and what is in them."""
    op.drop_table("answers")
    op.drop_table("appeals")
