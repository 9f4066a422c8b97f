"""What the correction memory does: labelled appeals in the order of time, each answered without and with it.

Every appeal is answered with the memory of those before it (of a share of them, where not all are corrected),
then its own labels are put in, as serving does with a reviewer's. Only labels of a single code vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from classifier.neighbours import Neighbours, Rule, adjust
from classifier.predictor import Prediction, Predictor
from data.appeals import Row
from data.cleaning import prepare
from data.corrected import Corrected
from data.scheme import Scheme
from evaluation.comparison import Comparison, compare
from evaluation.errors import NothingToScore
from evaluation.labels import Bools, Ints
from evaluation.rows import LabelledRows
from evaluation.scoring import Answers, Scored, Stage, chosen_heads, score_head, silent

__all__ = ["Dispatched", "HeadEffect", "MemoryEffect", "Phase", "memory_effect"]

PHASES = 4  # parts of equal length in which the memory grows
BATCH = 64


@dataclass(frozen=True)
class Dispatched:
    """Of ``n`` answers, those that are sure enough to go out without a person, and how many are wrong."""

    n: int
    passed: int
    wrong: int

    @classmethod
    def of(cls, passed: Bools, right: Bools) -> Dispatched:
        """Counted from [n] and [n]."""
        return cls(len(passed), int(passed.sum()), int((passed & ~right).sum()))

    @property
    def share(self) -> float:
        """Of all answers."""
        return self.passed / self.n if self.n else 0.0

    @property
    def error(self) -> float:
        """Of those that go out; 0 where none does."""
        return self.wrong / self.passed if self.passed else 0.0


@dataclass(frozen=True)
class Phase:
    """A part of the stream: how many corrected appeals were in memory, and accuracy without and with."""

    least: int
    most: int
    n: int
    moved: int
    without: float
    together: float


@dataclass(frozen=True)
class HeadEffect:
    """One head. ``moved``: answers whose probabilities moved; ``changed``: those with another best label.

    ``automatic``: without the memory, and with it, which may hold back but not send out; ``lifted``: what it
    would send out by itself, were it let; ``held_back``: what it keeps for a person, and how much of that the
    model alone has wrong.
    """

    head: str
    moved: int
    changed: int
    automatic: tuple[Dispatched, Dispatched]
    lifted: Dispatched
    held_back: Dispatched
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class MemoryEffect:
    """All heads; in ``comparison`` A is the model alone, B the model with the memory."""

    file: str
    rows: int
    corrected: int
    rule: Rule
    comparison: Comparison
    heads: tuple[HeadEffect, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        rule = {**asdict(self.rule), "never_lowered": sorted(self.rule.never_lowered)}
        told = {"file": self.file, "rows": self.rows, "corrected": self.corrected, "rule": rule}
        heads = [asdict(one) for one in self.heads]
        return {**told, "comparison": self.comparison.to_json(), "heads": heads}


@dataclass(frozen=True)
class _Walk:
    """Rows in order, answered twice; ``kept`` is the size of the memory before each [rows]."""

    rows: tuple[Row, ...]
    alone: Answers
    together: Answers
    kept: Ints
    corrected: int


def memory_effect(
    predictor: Predictor,
    labelled: LabelledRows,
    heads: Sequence[str] = (),
    rule: Rule | None = None,
    share: float = 1.0,
    resamples: int = 1000,
    stage: Stage = silent,
    seed: int = 7,
) -> MemoryEffect:
    """Answer the rows by date (rows without one in their order first), correcting a random share of them.

    Raises NothingToScore for a model without embeddings or rows without labels, UnknownHead.
    """
    rule = rule or Rule()
    chosen = chosen_heads(labelled.rows, predictor.heads, heads)
    rows = tuple(sorted(labelled.rows, key=lambda row: row.date))
    walk = _walk(predictor, rows, rule, share, stage, seed)
    comparison = compare(rows, walk.alone, walk.together, predictor.scheme, chosen, resamples)
    thresholds = predictor.thresholds
    effects = [_of_head(walk, head, thresholds.get(head, 1.01), predictor.scheme) for head in chosen]
    return MemoryEffect(labelled.file, len(rows), walk.corrected, rule, comparison, tuple(effects))


def _walk(
    predictor: Predictor, rows: tuple[Row, ...], rule: Rule, share: float, stage: Stage, seed: int
) -> _Walk:
    predictions = _predict(predictor, rows, stage)
    memory, after = Neighbours(len(rows), rule), list[Prediction]()
    looked_at = np.random.default_rng(seed).random(len(rows)) < share
    kept, advance = np.zeros(len(rows), np.int64), stage("remembering", len(rows))
    for i, (row, found) in enumerate(zip(rows, predictions, strict=True)):
        kept[i] = len(memory)
        [alike] = memory.nearest(found.embedding[None])
        adjusted = adjust(found, alike, rule)
        after.append(adjusted.prediction if adjusted else found)
        labels = {head: next(iter(codes)) for head, codes in row.labels.items() if len(codes) == 1}
        if looked_at[i] and labels:
            memory.put(Corrected(i, labels, i), found.embedding)
        advance(1)
    if not len(memory):
        raise NothingToScore(
            f"model {predictor.version}: expected embeddings and rows with labels of one code to remember, "
            "got none; a model without an encoder has no memory"
        )
    name = predictor.version
    alone = _answers(predictor, rows, predictions, name)
    return _Walk(rows, alone, _answers(predictor, rows, after, f"{name} + memory"), kept, len(memory))


def _predict(predictor: Predictor, rows: Sequence[Row], stage: Stage) -> list[Prediction]:
    texts = [prepare(row.text, row.title).text for row in rows]
    order, advance = sorted(range(len(texts)), key=lambda i: len(texts[i])), stage("answering", len(texts))
    found: dict[int, Prediction] = {}
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        some = predictor.predict([texts[i] for i in places], evidence=False)
        found.update(zip(places, some, strict=True))
        advance(len(places))
    return [found[i] for i in range(len(texts))]


def _answers(
    predictor: Predictor, rows: Sequence[Row], predictions: Sequence[Prediction], name: str
) -> Answers:
    stacked = {
        head: np.stack([one.probabilities[head] for one in predictions]).astype(np.float64)
        for head in predictor.heads
    }
    scaled = {head: matrix / matrix.sum(axis=1, keepdims=True) for head, matrix in stacked.items()}
    lengths = np.array([len(row.text) for row in rows], dtype=np.int64)
    return Answers(name, predictor.default_part, predictor.heads, scaled, lengths)


def _of_head(walk: _Walk, head: str, least: float, scheme: Scheme) -> HeadEffect:
    alone = score_head(walk.rows, head, walk.alone, scheme)
    together = score_head(walk.rows, head, walk.together, scheme)
    before, after = walk.alone.probabilities[head][alone.rows], walk.together.probabilities[head][alone.rows]
    same = before.argmax(axis=1) == after.argmax(axis=1)
    moved = np.abs(after - before).max(axis=1) > 1e-6
    passed, lifted = alone.leaf_confidence >= least, together.leaf_confidence >= least
    both = passed & lifted & same
    return HeadEffect(
        head=head,
        moved=int(moved.sum()),
        changed=int((~same).sum()),
        automatic=(
            Dispatched.of(passed, alone.leaf_correct),
            Dispatched.of(both, together.leaf_correct),
        ),
        lifted=Dispatched.of(lifted & ~both, together.leaf_correct),
        held_back=Dispatched.of(passed & ~both, alone.leaf_correct),
        phases=tuple(_phases(walk.kept[alone.rows], alone, together, moved)),
    )


def _phases(kept: Ints, alone: Scored, together: Scored, moved: Bools) -> list[Phase]:
    return [
        Phase(
            least=int(kept[part].min()),
            most=int(kept[part].max()),
            n=len(part),
            moved=int(moved[part].sum()),
            without=float(alone.correct[part].mean()),
            together=float(together.correct[part].mean()),
        )
        for part in np.array_split(np.arange(len(kept)), PHASES)
        if len(part)
    ]
