"""The predictor: a model folder answers texts. Needs numpy, openvino and tokenizers only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.calibration import PARTS, Calibration, SideBySide
from classifier.encoder import EncoderPart, Tokens, load_encoder
from classifier.errors import ModelError
from classifier.folder import ModelFolder, open_folder
from classifier.lexical import Evidence, LexicalPart, head_slices
from data.scheme import Head, Scheme

__all__ = ["Evidence", "Prediction", "Predictor", "Tokens"]

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """One text's answer: per head the calibrated probabilities [labels], in the order of the head's codes.

    ``evidence`` holds per head the spans of the text that spoke for the best label, ``embedding`` the
    encoder's vector [hidden] (empty for a model without an encoder). ``unsettled`` are heads whose answer
    could not be carried over to a newer label scheme (classifier.translated): not to be acted on unseen.
    """

    probabilities: Mapping[str, F32]
    codes: Mapping[str, tuple[str, ...]]
    evidence: Mapping[str, tuple[Evidence, ...]] = field(default_factory=dict)
    embedding: F32 = field(default_factory=lambda: np.zeros(0, np.float32))
    unsettled: frozenset[str] = frozenset()

    def top(self, head: str, k: int = 1) -> list[tuple[str, float]]:
        """The ``k`` most probable labels of a head with their probabilities, best first."""
        values = self.probabilities[head]
        best = (-values).argsort(kind="stable")[:k]
        codes = self.codes[head]
        return [(codes[i], value) for i, value in zip(best.tolist(), values[best].tolist(), strict=True)]

    def distribution(self, head: str) -> dict[str, float]:
        """Every label of a head with its probability."""
        return dict(zip(self.codes[head], self.probabilities[head].tolist(), strict=True))


class Predictor:
    """Answers prepared texts with one model version. Thread-safe: nothing changes after loading."""

    def __init__(self, folder: ModelFolder, encoder: EncoderPart | None, lexical: LexicalPart | None) -> None:
        if encoder is None and lexical is None:
            raise ModelError(f"{folder.path}: expected an encoder, a lexical part or both, found neither")
        self.folder = folder
        self.encoder = encoder
        self.lexical = lexical
        self._slices = head_slices([(name, len(head.codes)) for name, head in folder.heads.items()])
        self._calibrated: dict[str, SideBySide] = {}

    @classmethod
    def load(
        cls, folder: Path | str, threads: int | None = None, verify: bool = True, at_once: int = 1
    ) -> Predictor:
        """Open a model folder. ``threads``: for one matrix product (default: the machine's cores, at most 4);
        ``at_once``: batches that may run side by side.

        Raises ModelError when a file is missing, damaged or doesn't fit the others.
        """
        opened = open_folder(Path(folder), verify)
        manifest = opened.manifest
        threads = threads or min(4, len(os.sched_getaffinity(0)))
        encoder = load_encoder(opened.path, manifest.window, threads, at_once) if manifest.window else None
        slices = head_slices([(name, len(codes)) for name, codes in manifest.heads.items()])
        lexical = (
            LexicalPart.load(opened.path / "lexical.safetensors", manifest.features, slices)
            if manifest.features
            else None
        )
        return cls(opened, encoder, lexical)

    @property
    def version(self) -> str:
        """Name of the model version."""
        return self.folder.manifest.version

    @property
    def scheme(self) -> Scheme:
        """The label scheme the model answers in."""
        return self.folder.scheme

    @property
    def heads(self) -> Mapping[str, Head]:
        """The model's heads with their labels in output order."""
        return self.folder.heads

    @property
    def calibration(self) -> Calibration:
        """Part weights and operating points."""
        return self.folder.calibration

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Per head the least probability at which an answer is right at ``target_accuracy``."""
        return {head: self.calibration.of(self.default_part, head).threshold for head in self.heads}

    @property
    def target_accuracy(self) -> float:
        """The accuracy that the thresholds were chosen for, between 0 and 1."""
        return self.calibration.target

    @property
    def card(self) -> Mapping[str, Any]:
        """What the model says of itself: version, creation, origin and measured scores."""
        manifest = self.folder.manifest
        return {
            "version": manifest.version,
            "created": manifest.created,
            "origin": dict(manifest.origin),
            "scores": dict(self.folder.scores),
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts this model can answer with; the first one is what it answers with by default."""
        have = {"encoder": self.encoder is not None, "lexical": self.lexical is not None}
        return tuple(part for part in PARTS if have.get(part, all(have.values())))

    @property
    def default_part(self) -> str:
        """``joined`` for a model of two parts, else the one it has."""
        return self.parts[0]

    def tokenise(self, text: str) -> Tokens | None:
        """The text as its encoder sees it, to be handed to ``predict``; None for a model without one."""
        return self.encoder.tokenise(text) if self.encoder is not None else None

    def predict(
        self,
        texts: Sequence[str],
        evidence: bool = True,
        part: str = "",
        tokens: Sequence[Tokens | None] | None = None,
    ) -> list[Prediction]:
        """Answer prepared texts, in order. ``part`` is one of ``parts``; empty means the default.

        ``tokens`` are what ``tokenise`` gave for each text, where it was asked before: nothing is tokenised
        twice. Raises ModelError for a part that the model doesn't have.
        """
        part = part or self.default_part
        if part not in self.parts:
            raise ModelError(f"part: expected one of {', '.join(self.parts)} for this model, got {part!r}")
        if not texts:
            return []
        encoder = self.encoder if part != "lexical" else None
        lexical = self.lexical if part != "encoder" or evidence else None
        logits, embeddings = encoder.run(texts, tokens) if encoder else (None, None)
        reading = lexical.read_all(texts) if lexical else None
        values = lexical.scores(reading) if lexical and reading and part != "encoder" else None
        calibration = self._side_by_side(part)
        probabilities = calibration.apply(logits, values)
        spans = (
            lexical.evidence(texts, reading, calibration.claims(probabilities))
            if lexical and reading and evidence
            else None
        )
        codes = {head: self.heads[head].codes for head in self._slices}
        return [
            Prediction(
                {head: shares[piece] for head, piece in self._slices.items()},
                codes,
                spans[row] if spans else {},
                embeddings[row] if embeddings is not None else np.zeros(0, np.float32),
            )
            for row, shares in enumerate(probabilities)
        ]

    def raw_scores(self, texts: Sequence[str]) -> dict[str, F32]:
        """Uncalibrated scores [texts, outputs] of each part, for fitting the calibration."""
        found: dict[str, F32] = {}
        if self.encoder is not None:
            found["encoder"] = self.encoder.run(texts)[0]
        if self.lexical is not None:
            found["lexical"] = self.lexical.scores(self.lexical.read_all(texts))
        return found

    def slice_of(self, head: str) -> slice:
        """Which outputs of ``raw_scores`` belong to a head."""
        return self._slices[head]

    def check(self) -> None:
        """Answer the text stored with the model and compare. Raises ModelError when the answer differs."""
        known = self.folder.manifest.known_answer
        if not known:
            return
        prediction = self.predict([str(known["text"])], evidence=False)[0]
        for head, expected in known["labels"].items():
            (code, probability), *_ = prediction.top(head)
            # int8 kernels differ a little between CPUs: the label must hold, the probability nearly so.
            if code != expected["code"] or abs(probability - expected["probability"]) > 0.1:
                raise ModelError(
                    f"model {self.version}: known answer for head {head}: expected {expected['code']} at "
                    f"{expected['probability']:.2f}, got {code} at {probability:.2f}; this machine computes "
                    "the model differently or the folder is damaged"
                )

    def _side_by_side(self, part: str) -> SideBySide:
        """Made at a part's first answer; two threads may both make it, and make the same."""
        made = self._calibrated.get(part)
        if made is None:
            of = self.calibration.of
            made = SideBySide.of([(piece, of(part, head)) for head, piece in self._slices.items()])
            self._calibrated[part] = made
        return made
