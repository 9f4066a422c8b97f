"""API keys: `jiesu_<prefix>_<secret>`, shown once, stored as a hash, recognised from memory.

The secret is 256 random bits, so its plain SHA-256 is safe to store: nobody can try 2^256 inputs, with
or without a slow hash. A slow one (argon2) is for passwords, which people choose; here it would only
make every request slow. The prefix is public: it finds the row, and names the key in lists and logs.

All live keys are held in memory and read again every few seconds. A request never waits for the
database, a revoked key stops working within those seconds, and while the database is away the keys that
were live go on working, for a day at most (nobody could revoke one in a database that is away).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from data.access import ApiKey, NewKey

__all__ = ["KeyRing", "MadeKey", "make_key"]

START = "jiesu"
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # no l, o, 0, 1: prefixes are read out over the telephone
PREFIX_LENGTH = 10
SECRET_BYTES = 32
LONGEST = 128  # characters of a key worth hashing


@dataclass(frozen=True)
class MadeKey:
    """A new key: `shown` is told once and then forgotten, `stored` goes to the database."""

    shown: str
    stored: NewKey


def make_key(name: str, scopes: Iterable[str], expires_at: datetime | None = None) -> MadeKey:
    """A fresh random key for a client."""
    prefix = "".join(secrets.choice(ALPHABET) for _ in range(PREFIX_LENGTH))
    shown = f"{START}_{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return MadeKey(shown, NewKey(prefix, _sha256(shown), name, frozenset(scopes), expires_at))


class KeyRing:
    """The live keys, in memory. Not shared between threads: the event loop's alone."""

    def __init__(self) -> None:
        self._keys: Mapping[str, ApiKey] | None = None
        self._used: dict[str, datetime] = {}

    @property
    def read(self) -> bool:
        """Whether the keys were read at least once."""
        return self._keys is not None

    def renew(self, keys: Iterable[ApiKey]) -> None:
        """Replace all keys by those in the database now."""
        self._keys = {key.prefix: key for key in keys}

    def forget(self) -> None:
        """Know no key any more; as if never read."""
        self._keys = None

    def find(self, shown: str) -> ApiKey | None:
        """The live key behind what a caller sent, noted as used; None when it is wrong or ended."""
        start, _, rest = shown.partition("_")
        prefix = rest.partition("_")[0]
        key = (self._keys or {}).get(prefix)
        if start != START or key is None or len(shown) > LONGEST:
            return None
        now = datetime.now(UTC)
        if not hmac.compare_digest(_sha256(shown), key.secret_sha256) or not key.live(now):
            return None
        self._used[prefix] = now
        return key

    def take_used(self) -> dict[str, datetime]:
        """When keys were used since this was last asked, by prefix."""
        used, self._used = self._used, {}
        return used


def _sha256(shown: str) -> str:
    return hashlib.sha256(shown.encode("utf-8", "surrogateescape")).hexdigest()
