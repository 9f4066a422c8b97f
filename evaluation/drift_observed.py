"""What a model sees in a file of appeals, row by row: the raw material of the drift report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from classifier.lexical import LexicalPart
from classifier.ngrams import Features, all_occurrences
from classifier.predictor import Prediction, Predictor
from data.appeals import Row
from data.cleaning import prepare
from evaluation.bootstrap import SEED
from evaluation.labels import Floats, Ints
from evaluation.scoring import Stage

__all__ = ["Observed", "apartness", "observe"]

_BATCH = 64
_FOLDS = 5


@dataclass(frozen=True)
class Observed:
    """Of n rows: per head the answered label's number [n], its probability [n], and whether it is right [n]
    (nan without a label); the share of unknown n-grams [n] (None for a model without a lexical part);
    embeddings [n, hidden] (hidden 0 for a model without an encoder).
    """

    rows: tuple[Row, ...]
    best: Mapping[str, Ints]
    confidence: Mapping[str, Floats]
    correct: Mapping[str, Floats]
    unknown: Floats | None
    embeddings: np.ndarray[Any, np.dtype[np.float32]]


def observe(predictor: Predictor, rows: Sequence[Row], stage: Stage, name: str) -> Observed:
    """Let the model answer the rows, prepared as in training and serving."""
    texts = [prepare(row.text, row.title).text for row in rows]
    advance = stage(f"answering {name}", len(texts))
    answers: list[Prediction] = []
    for start in range(0, len(texts), _BATCH):
        answers += predictor.predict(texts[start : start + _BATCH], evidence=False)
        advance(len(texts[start : start + _BATCH]))
    best, confidence, correct = {}, {}, {}
    for head, known in predictor.heads.items():
        shares = np.stack([answer.probabilities[head] for answer in answers])
        best[head] = shares.argmax(axis=1).astype(np.int64)
        confidence[head] = shares.max(axis=1).astype(np.float64)
        said = [known.codes[i] for i in best[head]]
        correct[head] = np.array([_right(row, head, code) for row, code in zip(rows, said, strict=True)])
    embeddings = np.stack([answer.embedding for answer in answers])
    return Observed(tuple(rows), best, confidence, correct, _unknown(predictor, texts), embeddings)


def apartness(
    base: np.ndarray[Any, np.dtype[np.float32]], recent: np.ndarray[Any, np.dtype[np.float32]]
) -> tuple[float, float]:
    """How well a logistic regression tells the two apart: cross-validated AUC, and its one-sided p."""
    vectors = np.concatenate([base, recent])
    side = np.concatenate([np.zeros(len(base)), np.ones(len(recent))])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=SEED)
    score = cross_val_predict(model, vectors, side, cv=folds, method="decision_function")
    test = mannwhitneyu(score[side == 1], score[side == 0], alternative="greater")
    return float(roc_auc_score(side, score)), float(test.pvalue)


def _right(row: Row, head: str, code: str) -> float:
    labels = row.labels.get(head)
    return float(code in labels) if labels else float("nan")


def _unknown(predictor: Predictor, texts: Sequence[str]) -> Floats | None:
    """[texts]: share of characters and pairs that the lexical part has no weight for.

    Longer runs are left out: most of them are new in any text.
    """
    lexical: LexicalPart | None = getattr(predictor, "lexical", None)  # a fake may have no parts
    if lexical is None:
        return None
    features = Features(lexical.features.low, min(2, lexical.features.high), words=False)
    found = all_occurrences(texts, features)
    known = [np.isin(one.hashes, lexical.hashes) for one in found]
    return np.array([1.0 - float(each.mean()) if len(each) else 0.0 for each in known])
