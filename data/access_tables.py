"""The tables of who may do what, of what they did, and of sealed originals.

Secrets are never in them: of a key and a session only the SHA-256 is kept, of a password only its
argon2 hash, and the texts in `appeal_originals` are encrypted with a key that the database never sees.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint

from data.store_tables import METADATA, Number, UtcTime

__all__ = ["api_keys", "appeal_originals", "audit_log", "logins", "sessions", "users"]

api_keys = Table(
    "api_keys",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("prefix", String(16), nullable=False),  # public: finds the row, stands in lists and logs
    Column("secret_sha256", String(64), nullable=False),
    Column("name", String(64), nullable=False),  # of the client; two keys of one name are one client
    Column("scopes", String(128), nullable=False),  # separated by blanks, sorted
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime),
    UniqueConstraint("prefix"),
)

users = Table(
    "users",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False),
    Column("password", String(255), nullable=False),  # argon2id, with its salt and costs
    Column("role", String(32), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("password_at", UtcTime, nullable=False),
    Column("disabled_at", UtcTime),
    Column("last_login_at", UtcTime),
    UniqueConstraint("name"),
)

sessions = Table(
    "sessions",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("token_sha256", String(64), nullable=False),
    Column("user_number", ForeignKey("users.number"), nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    UniqueConstraint("token_sha256"),
    Index(None, "user_number"),
)

# Failed logins by the SHA-256 of an account, an address, or both: what is typed as a name may be a password.
logins = Table(
    "logins",
    METADATA,
    Column("subject_sha256", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("failed_at", UtcTime, nullable=False),
    Column("known_until", UtcTime),  # this account has logged in from this address not long ago
)

# Append-only: triggers refuse UPDATE and DELETE. Each row's hash covers the one before it.
audit_log = Table(
    "audit_log",
    METADATA,
    Column("number", Number, primary_key=True, autoincrement=False),  # 1, 2, 3 … without a gap
    Column("at", UtcTime, nullable=False),
    Column("actor", String(160), nullable=False),
    Column("action", String(64), nullable=False),
    Column("object", String(160), nullable=False),
    Column("details", Text, nullable=False),  # canonical JSON
    Column("algorithm", String(16), nullable=False),  # sha256 or hmac-sha256
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

appeal_originals = Table(
    "appeal_originals",
    METADATA,
    Column("appeal_number", ForeignKey("appeals.number"), primary_key=True),
    Column("key_id", String(16), nullable=False),  # which key sealed it; says nothing about the key
    Column("sealed", LargeBinary, nullable=False),
)
