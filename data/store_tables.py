"""The tables of the store. What the model said and what people say are separate records."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

__all__ = ["METADATA", "UtcTime", "answers", "appeals", "write_proofs"]

# Named constraints: a later migration can only drop what has a name on every database.
METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only a plain INTEGER key


class UtcTime(TypeDecorator[datetime]):
    """A moment: written in UTC, read back with its zone (SQLite would forget it)."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


appeals = Table(
    "appeals",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("id", String(128), nullable=False),
    Column("body_sha256", String(64), nullable=False),
    Column("taken_by", String(64), nullable=False, server_default=""),  # the client whose key sent it
    Column("text", Text, nullable=False),  # prepared: cleaned, personal data masked
    Column("city", String(64), nullable=False),
    Column("district", String(64), nullable=False),
    Column("street", String(64), nullable=False),
    Column("community", String(64), nullable=False),
    Column("grid", String(64), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("declared_type", String(64), nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("stored_at", UtcTime, nullable=False),
    UniqueConstraint("id"),
    Index(None, "received_at"),
)

answers = Table(
    "answers",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("appeal_number", ForeignKey("appeals.number"), nullable=False),
    Column("model_version", String(128), nullable=False),
    Column("scheme_version", String(128), nullable=False),
    Column("action", String(32), nullable=False),
    Column("urgency", String(64), nullable=False),
    Column("body", Text, nullable=False),  # the JSON answered to the caller, byte for byte
    Column("answered_at", UtcTime, nullable=False),
    UniqueConstraint("appeal_number", "model_version"),
    Index(None, "action", "urgency"),
)

# Empty but for a moment: a row is written and deleted to see whether the disk takes one (see Database.prove).
write_proofs = Table(
    "write_proofs",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("body", LargeBinary, nullable=False),
)
