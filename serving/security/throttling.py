"""How long a login must wait after failures: longer each time, never for ever.

Three things are counted: account and address together, the account from anywhere, the address for any
account. Guessing at one account from many addresses, or at many accounts from one, slows down to a try
a minute. A person is spared the attack of others: an account that has logged in from this address
within the last 30 days waits only for failures of its own there. A try that has to wait is not counted,
so nobody can keep an account shut by trying on.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from data.logins import Failures

__all__ = ["ACCOUNT", "ADDRESS", "PAIR", "Pause", "client_network", "subjects", "wait"]


@dataclass(frozen=True)
class Pause:
    """So many failures are free; then a pause that doubles with each one up to the longest. In seconds."""

    free: int
    first: float
    longest: float

    def left(self, failures: Failures, now: datetime) -> float:
        """Seconds until the next try."""
        over = failures.count - self.free
        if over < 0 or failures.last_at is None:
            return 0.0
        pause = min(self.longest, self.first * 2.0 ** min(over, 32))
        # A clock that was set back must not make anybody wait longer than the pause.
        return max(0.0, pause - max(0.0, (now - failures.last_at).total_seconds()))


PAIR = Pause(free=5, first=2, longest=900)
ACCOUNT = Pause(free=50, first=2, longest=60)
ADDRESS = Pause(free=30, first=2, longest=60)


def wait(found: Sequence[Failures], now: datetime) -> float:
    """Seconds that a login must wait, by the failures of its `subjects`."""
    pair, account, address = found
    own = PAIR.left(pair, now)
    if pair.known:
        return own
    return max(own, ACCOUNT.left(account, now), ADDRESS.left(address, now))


def subjects(name: str, address: str) -> tuple[str, str, str]:
    """What is counted: pair, account, address, each hashed."""
    parts = (f"pair\n{name}\n{address}", f"account\n{name}", f"address\n{address}")
    return tuple(hashlib.sha256(part.encode("utf-8", "surrogateescape")).hexdigest() for part in parts)  # type: ignore[return-value]


def client_network(host: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one IPv6 customer gets."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
