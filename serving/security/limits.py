"""Rate limits: a token bucket per key, per user and per address.

In memory, per process: a replica more lets a key send more, which is what a replica is for. Published
limiters keep a list of moments per caller, or need a server of their own; a bucket is two numbers.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar

from serving.errors import RateLimited, ServingError
from serving.security.roles import Caller
from serving.settings import Settings

__all__ = ["Buckets", "RateLimits", "over_limit"]

MOST = 20_000  # callers remembered; the one unseen for longest is forgotten, which fills its bucket again

# Why the request that is being answered is over its rate limit: an urgent appeal is answered all the same.
over_limit: ContextVar[ServingError | None] = ContextVar("over_limit", default=None)


class Buckets:
    """`rate` tokens a second flow into each bucket, up to `burst`; a request takes one. Rate 0: no limit."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, float(max(1, burst)), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at

    def take(self, caller: str) -> float:
        """0 when there was a token; else the seconds until there is one (nothing is taken then)."""
        if self._rate <= 0:
            return 0.0
        now = self._clock()
        tokens, at = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        taken = tokens >= 1
        self._buckets[caller] = (tokens - 1 if taken else tokens, now)
        if len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - tokens) / self._rate


class RateLimits:
    """The limits of one application. In development a caller without a key has none."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        key = (settings.key_requests_per_second, settings.key_requests_burst)
        address = (settings.address_requests_per_second, settings.address_requests_burst)
        self._limits = {"key_requests_per_second": key[0], "address_requests_per_second": address[0]}
        self._keys, self._addresses = Buckets(*key, clock), Buckets(*address, clock)

    def exceeded(self, caller: Caller, address: str) -> RateLimited | None:
        """Count a request; the error to answer when it is one too many."""
        if caller.kind == "developer":
            return None
        if caller.kind == "anonymous":
            name, seconds = "address_requests_per_second", self._addresses.take(address)
        else:
            name, seconds = "key_requests_per_second", self._keys.take(caller.actor)
        if seconds <= 0:
            return None
        return RateLimited(name, self._limits[name], max(1, math.ceil(seconds)))
