"""An appeal that people labelled, as the correction memory holds it: its sure labels, no text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Corrected"]


@dataclass(frozen=True)
class Corrected:
    """A labelled appeal by its number. `labels`: head → code in force; disputed, partial and untellable
    ones are left out.

    `last` is the number of its newest correction: the larger, the newer. `id` is the intake system's (None:
    not to be told), `taken_by` the client that sent it.
    """

    number: int
    labels: Mapping[str, str]
    last: int = 0
    id: str | None = None
    taken_by: str = ""
