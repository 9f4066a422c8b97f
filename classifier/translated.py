"""An old model that answers in new codes, where changes of the label scheme lead from one to the other.

What was renamed or merged is told exactly; the part of a label that was split is spread over its parts
evenly, and that of one that is gone over all labels. `Prediction.unsettled` names the heads whose answer
stands on such a part: nobody may act on those unseen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.calibration import Calibration, HeadCalibration
from classifier.errors import ModelError
from classifier.predictor import Prediction, Predictor, Tokens
from data.errors import SchemeChangeError
from data.in_force import Reading
from data.scheme import Head, Scheme
from data.scheme_change import SchemeChange, reading_through, translation_matrix

__all__ = ["TranslatedPredictor", "translated"]

F32 = npt.NDArray[np.float32]
SETTLED = 0.5  # of the answer's probability: below, less than half of it came from labels with one meaning


@dataclass(frozen=True)
class _Way:
    """From an old head to the new one: the part [old labels, new labels], and which old labels map to one."""

    head: Head
    matrix: npt.NDArray[np.float64]
    settled: npt.NDArray[np.float64]
    crosswalk: Mapping[str, tuple[str, ...]]

    def translate(self, shares: F32) -> tuple[F32, bool]:
        """Shares [new labels], and whether the best of them stands on labels that have one meaning."""
        moved = shares.astype(np.float64) @ self.matrix
        sure = (shares * self.settled).astype(np.float64) @ self.matrix
        lost = max(0.0, float(shares.sum() - moved.sum()))
        spread = moved + lost / len(self.head.codes)
        best = int(spread.argmax())
        return spread.astype(np.float32), bool(sure[best] >= SETTLED * spread[best])


class TranslatedPredictor(Predictor):
    """A predictor whose answers are in the codes of a newer version of its label scheme."""

    def __init__(self, old: Predictor, scheme: Scheme, ways: Mapping[str, _Way]) -> None:
        self._old, self._new, self._ways = old, scheme, ways
        self._heads = {name: way.head for name, way in ways.items()}
        heads = {
            part: {head: self._moved(head, stored) for head, stored in some.items() if head in ways}
            for part, some in old.calibration.heads.items()
        }
        self._calibration = replace(old.calibration, heads=heads)

    @property
    def version(self) -> str:
        """As the old one's: it is the same model."""
        return self._old.version

    @property
    def card(self) -> Mapping[str, Any]:
        """As the old one's."""
        return self._old.card

    @property
    def scheme(self) -> Scheme:
        """The newer label scheme, in which it answers."""
        return self._new

    @property
    def heads(self) -> Mapping[str, Head]:
        """The heads of both schemes, with the new labels."""
        return self._heads

    @property
    def calibration(self) -> Calibration:
        """As the old one's, its cuts named by the new codes."""
        return self._calibration

    @property
    def parts(self) -> tuple[str, ...]:
        """As the old one's."""
        return self._old.parts

    @property
    def default_part(self) -> str:
        """As the old one's."""
        return self._old.default_part

    def tokenise(self, text: str) -> Tokens | None:
        """As the old one does."""
        return self._old.tokenise(text)

    def check(self) -> None:
        """The known answer is in old codes: the old one is asked for it."""
        self._old.check()

    def predict(
        self,
        texts: Sequence[str],
        evidence: bool = True,
        part: str = "",
        tokens: Sequence[Tokens | None] | None = None,
    ) -> list[Prediction]:
        """As the old one answers, in new codes."""
        return [self._translate(one) for one in self._old.predict(texts, evidence, part, tokens)]

    def _translate(self, one: Prediction) -> Prediction:
        told = {head: way.translate(one.probabilities[head]) for head, way in self._ways.items()}
        return replace(
            one,
            probabilities={head: shares for head, (shares, _) in told.items()},
            codes={head: way.head.codes for head, way in self._ways.items()},
            evidence={head: spans for head, spans in one.evidence.items() if head in self._ways},
            unsettled=frozenset(head for head, (_, settled) in told.items() if not settled),
        )

    def _moved(self, head: str, stored: HeadCalibration) -> HeadCalibration:
        """Cuts by new codes; of several old ones that became one, the highest."""
        cuts: dict[str, float] = {}
        for code, cut in stored.cuts.items():
            for new in self._ways[head].crosswalk.get(code, ()):
                cuts[new] = max(cut, cuts.get(new, 0.0))
        return replace(stored, cuts=cuts)


def translated(predictor: Predictor, scheme: Scheme, changes: Sequence[SchemeChange]) -> Predictor:
    """The predictor with answers in the codes of ``scheme``, through recorded ``changes``.

    Raises ModelError where no change leads there, or one leads to a code that the scheme lacks.
    """
    if predictor.scheme.version == scheme.version:
        return predictor
    reading = reading_through(changes, scheme.version)
    try:
        ways = {
            name: _way(head, scheme.heads[name], predictor.scheme.version, reading)
            for name, head in predictor.heads.items()
            if name in scheme.heads
        }
    except SchemeChangeError as error:
        raise ModelError(
            f"model {predictor.version} answers in version '{predictor.scheme.version}' of the label scheme, "
            f"'{scheme.version}' is in force: {error}"
        ) from error
    return TranslatedPredictor(predictor, scheme, ways)


def _way(old: Head, new: Head, version: str, reading: Reading) -> _Way:
    crosswalk = {code: tuple(sorted(reading(old.name, code, version) or ())) for code in old.codes}
    settled = np.array([float(len(crosswalk[code]) == 1) for code in old.codes])
    return _Way(new, translation_matrix(old, new, crosswalk), settled, crosswalk)
