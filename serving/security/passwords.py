"""Passwords: what is accepted, and argon2id.

A password is the only factor here, so length is asked for, which makes guessing dear, and no rules on
which characters or forced changes, which make passwords that are written down. All of Unicode,
normalised; refused is what stands in lists of common passwords or is easily derived from them, from the
service or from the name.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from serving.errors import StartError

__all__ = ["LONGEST", "SHORTEST", "Passwords", "accept"]

SHORTEST = 15  # characters
LONGEST = 256
GUESSES_LOG10 = 10.0  # zxcvbn: fewer guesses than this and a stolen hash is guessed within days
MEASURED = 72  # characters zxcvbn looks at; its time grows fast with more
OWN_WORDS = ["jiesu", "12345", "hotline", "rexian", "shimin", "gongdan", "paidan", "admin", "mima"]

# A hash at the same costs that no password has: an unknown name takes as long as a wrong password.
NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$uzGGVMpgQ5BNmB61agpJZQ$wEpR+ojOAArh80xEKLO8+8k2fRbiIBePS/jhnIpszic"
Run = Callable[..., Awaitable[bool]]


def accept(password: str, name: str) -> str:
    """The password as it is hashed (NFKC). Raises StartError with the rule it breaks."""
    password = _normal(password)
    if not SHORTEST <= len(password) <= LONGEST:
        raise StartError(
            f"expected a password of {SHORTEST} to {LONGEST} characters, got {len(password)}; "
            "a sentence of several words is long and easy to keep in mind"
        )
    if _easily_guessed(password, name):
        raise StartError(
            "expected a password that is not easily guessed, got one made of common passwords, repetitions, "
            "rows of keys or the name; take several unrelated words"
        )
    return password


def _easily_guessed(password: str, name: str) -> bool:
    from zxcvbn import zxcvbn  # loads its word lists: only where a password is set

    found = zxcvbn(password[:MEASURED], user_inputs=[name, *OWN_WORDS])
    return float(found["guesses_log10"]) < GUESSES_LOG10


class Passwords:
    """Hashes and checks; argon2-cffi's defaults (RFC 9106, low memory: 64 MiB, 3 passes).

    `nobody`: a hash at the costs of `hasher` that no password has.
    """

    def __init__(self, hasher: PasswordHasher | None = None, nobody: str = NOBODY) -> None:
        self._hasher, self._nobody = hasher or PasswordHasher(), nobody
        # Each check takes 64 MiB and tens of milliseconds of processor: two at once, the others wait.
        self._turns = asyncio.Semaphore(2)

    def hash(self, password: str) -> str:
        """The argon2id hash of an accepted password."""
        return self._hasher.hash(password)

    def matches(self, stored: str | None, password: str) -> bool:
        """Whether the password is the one behind the hash; as much work when there is no hash."""
        try:
            same = self._hasher.verify(stored or self._nobody, _normal(password))
        except (VerificationError, InvalidHashError):
            return False
        return same and stored is not None

    async def check(self, run: Run, stored: str | None, password: str) -> bool:
        """`matches` in a thread, in turn."""
        async with self._turns:
            return await run(self.matches, stored, password)

    def outdated(self, stored: str) -> bool:
        """Whether the hash was made at other costs than today's."""
        return self._hasher.check_needs_rehash(stored)


def _normal(password: str) -> str:
    return unicodedata.normalize("NFKC", password)
