"""Fakes that subclass the real interfaces: a predictor that decides by a few words, without a model."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from classifier.calibration import Calibration, HeadCalibration
from classifier.predictor import Evidence, Prediction, Predictor, Tokens
from data.scheme import Head, Scheme, default_scheme
from serving.models import Model, furnished
from serving.settings import Settings

__all__ = ["FakePredictor", "Stand", "furnish", "small_scheme"]

# head -> (word in the text, label it speaks for); the first word found decides
WORDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "category": (("井盖", "0202"), ("油烟", "0604"), ("医保", "1202"), ("工资", "1001"), ("燃气", "0303")),
    "appeal_type": (("请问", "咨询"), ("咨询", "咨询"), ("投诉", "投诉"), ("建议", "建议"), ("表扬", "表扬")),
    "urgency": (("马上", "较急"), ("尽快", "较急")),
    "tier": (("小区", "街道"), ("医保", "市")),
    "unit": (("井盖", "shizheng"), ("油烟", "chengguan"), ("医保", "yibao"), ("工资", "renshe")),
    "petition": (("医保", "劳动和社会保障"), ("油烟", "环境保护")),
}
SURE = 0.9

SMALL_SCHEME = """
name: yuhe
version: "3"
urgency_levels:
  - {code: P, name: 平, clocks: {result: 5 working days}}
  - {code: J, name: 急, clocks: {answer: 2 h, result: 24 h}}
units:
  - {code: U1, name: 渔河镇政府}
  - {code: U2, name: 渔河水务站}
"""


def small_scheme() -> Scheme:
    """A city with nothing but units and two urgency levels of its own."""
    return Scheme.parse(SMALL_SCHEME, "yuhe.yaml")


class Stand(Predictor):
    """Stands in for a model: its version and its heads are those that it was told."""

    def __init__(self, scheme: Scheme | None, version: str) -> None:
        self._scheme, self._version = scheme or default_scheme(), version

    @property
    def version(self) -> str:
        return self._version

    @property
    def scheme(self) -> Scheme:
        return self._scheme

    @property
    def heads(self) -> Mapping[str, Head]:
        return self._scheme.heads


class FakePredictor(Stand):
    """Deterministic: a label whose word occurs gets 0.9, else the first label leads with less.

    `fail_on` makes it raise for a batch that holds the word; while `held` is cleared it waits; `batches`
    keeps what it was given, in order.
    """

    def __init__(self, scheme: Scheme | None = None, *, fail_on: str = "", version: str = "fake-1") -> None:
        super().__init__(scheme, version)
        self.fail_on = fail_on
        self.batches: list[list[str]] = []
        self.held = threading.Event()  # cleared: predict waits until it is set
        self.held.set()

    @property
    def calibration(self) -> Calibration:
        heads = {name: HeadCalibration(1, 1, threshold=0.8) for name in self.heads}
        return Calibration(0.95, {"joined": heads})

    @property
    def default_part(self) -> str:
        return "joined"

    @property
    def card(self) -> Mapping[str, Any]:
        return {"version": self.version, "scores": {"category": {"accuracy": 0.5}}}

    def check(self) -> None:
        """The fake stores no known answer."""

    def tokenise(self, text: str) -> Tokens | None:
        """The fake has no encoder."""
        return None

    def predict(
        self, texts: Sequence[str], evidence: bool = True, part: str = "", tokens: object = None
    ) -> list[Prediction]:
        self.batches.append(list(texts))
        self.held.wait(10)
        if self.fail_on and any(self.fail_on in text for text in texts):
            raise RuntimeError("the fake model was told to fail")
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Prediction:
        found = {name: _shares(head, text) for name, head in self.heads.items()}
        probabilities = {name: shares for name, (shares, _) in found.items()}
        spans = {name: span for name, (_, span) in found.items()}
        codes = {name: head.codes for name, head in self.heads.items()}
        return Prediction(probabilities, codes, spans, np.array([len(text)], dtype=np.float32))


def furnish(predictor: FakePredictor) -> Model:
    """The predictor as the service holds it, with the table and calendar that ship."""
    return furnished(predictor, Settings())


def _shares(head: Head, text: str) -> tuple[np.ndarray[Any, np.dtype[np.float32]], tuple[Evidence, ...]]:
    hits = [(word, code) for word, code in WORDS.get(head.name, ()) if word in text and code in head.codes]
    best, share = (head.codes.index(hits[0][1]), SURE) if hits else (0, max(0.4, 1.2 / len(head.codes)))
    shares = np.full(len(head.codes), (1 - share) / max(1, len(head.codes) - 1), dtype=np.float32)
    shares[best] = share if len(head.codes) > 1 else 1.0
    if not hits:
        return shares, ()
    start = text.index(hits[0][0])
    return shares, (Evidence(start, start + len(hits[0][0]), 1.0),)
