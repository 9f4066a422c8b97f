"""How sure a counted share is: intervals of one and of two paired shares, and McNemar's test.

Few rows and shares near 0 or 1 are the rule here, so the usual normal interval is not used.
"""

from __future__ import annotations

import math

__all__ = ["mcnemar", "paired_difference", "wilson"]

Z = 1.959963984540054  # 95 %
EXACT_BELOW = 25  # rows that differ, under which the exact binomial test is used


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of hits / rows (Wilson 1927); (0, 1) without rows."""
    if rows <= 0:
        return 0.0, 1.0
    share, weight = hits / rows, Z * Z / rows
    middle = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / rows + weight / (4 * rows)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(only_first: int, only_second: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of (second − first) / rows, adjusted as by Bonett and Price (2012)."""
    first, second = (only_first + 1) / (rows + 2), (only_second + 1) / (rows + 2)
    half = Z * math.sqrt(max(0.0, first + second - (second - first) ** 2) / (rows + 2))
    return max(-1.0, second - first - half), min(1.0, second - first + half)


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p that both are right equally often, of the rows where just one is (McNemar 1947)."""
    rows, fewer = only_first + only_second, min(only_first, only_second)
    if rows == 0:
        return 1.0
    if rows < EXACT_BELOW:
        return min(1.0, float(2 * sum(math.comb(rows, k) for k in range(fewer + 1))) / float(2**rows))
    squared = max(0.0, abs(only_first - only_second) - 1.0) ** 2 / rows
    return math.erfc(math.sqrt(squared / 2))
