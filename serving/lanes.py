"""A lane: texts that wait for the model, grouped by length, so that a batch is found without looking at all.

Texts of like length wait in line in one row. A batch is taken from the row whose first text is due first: a
text is due when it came, plus a head start that shorter ones have over it. So short texts pass long ones,
but only those that came less than the head start earlier: none is passed for ever. Adding, taking and
leaving cost the same with one text waiting as with 10,000.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from classifier.encoder import LENGTH_STEP, padded_length
from classifier.neighbours import Neighbour
from classifier.predictor import Prediction, Tokens
from serving.models import Model

__all__ = ["Classified", "Lane", "Request", "Waiting"]

LONGEST = 1024  # a text's size where it was not tokenised: its characters, as far as a window may reach
# Tokens of each row's longest text, in the encoder's steps; longer ones share one more row.
ROWS: tuple[int, ...] = (*range(LENGTH_STEP, 192 + 1, LENGTH_STEP), 256, 384, 512, 768)
HEAD_START = 0.002  # seconds per token: a text of 160 tokens may be passed for a third of a second


@dataclass(frozen=True)
class Request:
    """A prepared text, whether a rule raised it, and its tokens where it was tokenised already."""

    text: str
    urgent: bool = False
    tokens: Tokens | None = None

    @property
    def size(self) -> int:
        """Its padded length for the model, in tokens; where it was not tokenised, in characters.

        Chinese has hardly more tokens than characters, so these are an estimate from above.
        """
        length = len(self.tokens) if self.tokens is not None else min(len(self.text), LONGEST)
        return padded_length(max(1, length))


@dataclass(frozen=True)
class Classified:
    """A prediction and the model that made it (the champion may change between two batches).

    `alike` are corrected appeals like it, the most alike first; the prediction is the model's alone.
    """

    prediction: Prediction
    model: Model
    alike: tuple[Neighbour, ...] = ()


@dataclass(eq=False, slots=True)
class Waiting:
    """A text in the queue, and who waits for it; ``since`` and ``deadline`` on the monotonic clock."""

    request: Request
    answer: asyncio.Future[Classified]
    deadline: float = inf
    since: float = field(default_factory=time.monotonic)
    taken: float = 0.0  # when it first went to the model; 0: not yet
    size: int = 0
    row: int = 0
    lane: Lane | None = None  # where it waits; None before and after

    def __post_init__(self) -> None:
        self.size = self.request.size
        self.row = bisect_left(ROWS, self.size)

    @property
    def due(self) -> float:
        """When its turn is."""
        return self.since + HEAD_START * ROWS[min(self.row, len(ROWS) - 1)]


class Lane:
    """Texts in rows by length; ``texts`` and ``chars`` count those that still wait."""

    def __init__(self) -> None:
        self._rows: tuple[deque[Waiting], ...] = tuple(deque() for _ in (*ROWS, inf))
        self.texts = self.chars = 0

    def __bool__(self) -> bool:
        return self.texts > 0

    def __iter__(self) -> Iterator[Waiting]:
        return (waiting for row in self._rows for waiting in row if waiting.lane is self)

    def add(self, waiting: Waiting) -> None:
        """Put a text at the end of its row."""
        waiting.lane = self
        self._rows[waiting.row].append(waiting)
        self.texts += 1
        self.chars += len(waiting.request.text)

    def leave(self, waiting: Waiting) -> None:
        """A text that waits for nothing any more; its place is cleared when its turn comes."""
        waiting.lane = None
        self.texts -= 1
        self.chars -= len(waiting.request.text)

    def take(self, texts: int, tokens: int) -> list[Waiting]:
        """The next batch: at most ``texts`` of like length, within ``tokens`` once padded to the longest.

        The text that is due first is always in it, whatever its length; then its row, then its neighbours.
        """
        heads = [row[0] for row in self._rows if self._first(row)]
        if not heads:
            return []
        row = min(heads, key=lambda waiting: waiting.due).row
        batch: list[Waiting] = []
        for each in (row, row - 1, row + 1):
            if 0 <= each < len(self._rows):
                self._fill(batch, self._rows[each], texts, tokens)
        return batch

    def join(self, batch: list[Waiting], texts: int, tokens: int) -> None:
        """Fill up a batch of another lane with texts as long as its longest or a little shorter.

        A text alone costs the model a third more; none that would make the batch longer comes along.
        """
        longest = max(waiting.size for waiting in batch)
        row = bisect_left(ROWS, longest)
        for each in (row, row - 1):
            if each >= 0:
                self._fill(batch, self._rows[each], texts, tokens, longest)

    def waits(self) -> float:
        """Seconds that the oldest text has waited; 0 where none does."""
        heads = [row[0].since for row in self._rows if self._first(row)]
        return time.monotonic() - min(heads) if heads else 0.0

    def _first(self, row: deque[Waiting]) -> bool:
        while row and row[0].lane is not self:
            row.popleft()
        return bool(row)

    def _fill(
        self, batch: list[Waiting], row: deque[Waiting], texts: int, tokens: int, most: float = inf
    ) -> None:
        longest = max((waiting.size for waiting in batch), default=0)
        while len(batch) < texts and self._first(row):
            longest = max(longest, row[0].size)
            if batch and (longest > most or longest * (len(batch) + 1) > tokens):
                return
            batch.append(row.popleft())
            self.leave(batch[-1])
