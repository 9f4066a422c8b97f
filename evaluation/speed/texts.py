"""Texts for load: lengths as hotlines and message boards have them, no two texts equal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import data
from data.readers import read

__all__ = ["MIXES", "SAMPLES", "Mix", "TextList", "sample_texts"]

SAMPLES = Path(data.__file__).parent / "samples" / "appeals.csv"
_SENTENCE = re.compile(r"[^。！？!?；;\n]{5,}[。！？!?；;]?")


@dataclass(frozen=True)
class Mix:
    """Log-normal lengths in characters: the median, and the tenth of texts at or above ``tenth``."""

    median: int
    tenth: int
    shortest: int
    longest: int
    meaning: str

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm; 1.2816 is the normal distribution's 90th percentile."""
        return math.log(self.tenth / self.median) / 1.2816


MIXES: Mapping[str, Mix] = {
    "hotline": Mix(60, 150, 10, 1_200, "orders that an operator typed"),
    "board": Mix(250, 800, 20, 4_000, "letters on a message board"),
    "short": Mix(25, 45, 8, 120, "one sentence"),
}


def sample_texts() -> list[str]:
    """The texts of the sample corpus that ships with the project."""
    return [row.text for row in read(SAMPLES)]


class TextList:
    """An endless list of different texts, the same for the same seed; grows as it is asked for."""

    def __init__(self, mix: Mix, seed: int = 0, corpus: Sequence[str] = ()) -> None:
        self._mix, self._random = mix, np.random.default_rng(seed)
        self._sentences = sorted({s for text in corpus or sample_texts() for s in _SENTENCE.findall(text)})
        self._texts: list[str] = []
        self._seen: set[str] = set()

    def take(self, start: int, count: int) -> list[str]:
        """Texts number ``start`` to ``start + count``."""
        while len(self._texts) < start + count:
            self._texts.append(self._different())
        return self._texts[start : start + count]

    def _different(self) -> str:
        text = self._text(self._length())
        while text in self._seen:
            text = f"{text}{self._random.integers(1, 9_999)}号"
        self._seen.add(text)
        return text

    def _length(self) -> int:
        drawn = self._random.lognormal(math.log(self._mix.median), self._mix.sigma)
        return int(np.clip(round(drawn), self._mix.shortest, self._mix.longest))

    def _text(self, length: int) -> str:
        parts: list[str] = []
        missing = length
        while missing > 0:
            part = self._sentences[int(self._random.integers(len(self._sentences)))][:missing]
            parts.append(part)
            missing -= len(part)
        return "".join(parts)
