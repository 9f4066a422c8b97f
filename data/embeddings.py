"""Vectors of appeals, by model version: float16 bytes as the model computed them, never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from data.review_tables import corrections, embeddings

__all__ = ["add_embeddings", "page", "vectors_of"]


def add_embeddings(connection: Connection, model_version: str, vectors: Mapping[int, bytes]) -> None:
    """Store vectors by appeal number; those that are there stay."""
    rows = [
        {"appeal_number": number, "model_version": model_version, "vector": vector}
        for number, vector in vectors.items()
    ]
    if rows:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(embeddings).on_conflict_do_nothing(), rows)


def page(
    connection: Connection, model_version: str, after: int, limit: int, labelled: bool
) -> list[tuple[int, bytes]]:
    """(appeal number, vector) above the number `after`, in order; `labelled`: only corrected ones."""
    query = select(embeddings.c.appeal_number, embeddings.c.vector).where(
        embeddings.c.model_version == model_version, embeddings.c.appeal_number > after
    )
    if labelled:
        query = query.where(embeddings.c.appeal_number.in_(select(corrections.c.appeal_number)))
    rows = connection.execute(query.order_by(embeddings.c.appeal_number).limit(limit))
    return [(row.appeal_number, row.vector) for row in rows]


def vectors_of(connection: Connection, model_version: str, numbers: Sequence[int]) -> dict[int, bytes]:
    """Vectors of some hundred appeals by number; those without one are left out."""
    here = (embeddings.c.model_version == model_version, embeddings.c.appeal_number.in_(numbers))
    query = select(embeddings.c.appeal_number, embeddings.c.vector).where(*here)
    return {row.appeal_number: row.vector for row in connection.execute(query)}
