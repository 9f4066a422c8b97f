"""A table to write to when nothing but the writing itself is to be tried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "write_proofs",
        sa.Column("number", number, autoincrement=True, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_write_proofs"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("write_proofs")
