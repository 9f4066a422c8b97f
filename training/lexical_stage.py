"""Stage two of a run: the linear baseline — hashed n-grams and words, TF-IDF, linear SVM per head.

The features come from the same functions that serve, the weighting and the solver from scikit-learn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy import sparse
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from classifier.lexical import LexicalPart, head_slices
from classifier.ngrams import Features, Occurrences, count, occurrences
from training.config import LexicalConfig
from training.dataset import Dataset, Targets

__all__ = ["Vectoriser", "find_ngrams", "fit_vectoriser", "quantise", "train_lexical"]

F32 = npt.NDArray[np.float32]
UNSEEN = (
    -1.5
)  # bias of a label without a training row: below every trained margin of a text that is not its own


@dataclass(frozen=True)
class Vectoriser:
    """Kept hashes (sorted) and their inverse document frequencies."""

    features: Features
    hashes: npt.NDArray[np.uint32]
    idf: F32

    def transform(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """L2-normalised TF-IDF [texts, buckets]."""
        return self.weighted([occurrences(text, self.features) for text in texts])

    def weighted(self, found: Sequence[Occurrences]) -> sparse.csr_matrix:
        """As `transform`, for texts whose n-grams were found before."""
        indptr, hashes, values = count(found)
        at = np.searchsorted(self.hashes, hashes)
        at[at == len(self.hashes)] = 0
        known = self.hashes[at] == hashes
        ends = np.concatenate([[0], np.cumsum(known)])
        matrix = sparse.csr_matrix(
            (values[known] * self.idf[at[known]], at[known], ends[indptr]),
            shape=(len(found), len(self.hashes)),
        )
        result: sparse.csr_matrix = normalize(matrix)
        return result


def find_ngrams(texts: Sequence[str], config: LexicalConfig) -> list[Occurrences]:
    """The n-grams of every text."""
    features = Features(config.low, config.high, config.words)
    return [occurrences(text, features) for text in track(texts, "n-grams", transient=True)]


def fit_vectoriser(
    texts: Sequence[str], groups: Sequence[str], config: LexicalConfig, found: Sequence[Occurrences] = ()
) -> Vectoriser:
    """Keep the n-grams that stand in ``min_groups`` unrelated appeals or more.

    Near-duplicates count once, so that no single appeal, however often it was repeated, leaves a trace.
    ``found``: the texts' n-grams, where `find_ngrams` was asked before.
    """
    features = Features(config.low, config.high, config.words)
    indptr, hashes, _ = count(found or find_ngrams(texts, config))
    owners = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.uint64)
    rows = np.repeat(owners, np.diff(indptr))
    pairs = np.unique((rows << np.uint64(32)) | hashes.astype(np.uint64))
    kept, in_groups = np.unique((pairs & np.uint64(0xFFFFFFFF)).astype(np.uint32), return_counts=True)
    often = in_groups >= config.min_groups
    total = int(owners.max()) + 1 if len(owners) else 1
    idf = np.log((1 + total) / (1 + in_groups[often])) + 1  # scikit-learn's smoothed form
    return Vectoriser(features, kept[often], idf.astype(np.float32))


def train_lexical(
    train: Dataset,
    config: LexicalConfig,
    tell: Callable[[str], None],
    teacher: Mapping[str, F32] | None = None,
    found: Sequence[Occurrences] = (),
) -> LexicalPart:
    """Train one linear SVM (one against the rest) per head and pack them into one quantised part.

    A row with several admissible labels is trained on the admissible one that ``teacher`` (log-probabilities
    [rows, labels] per head; else a first round on the sure rows) finds most likely. ``found``: the rows'
    n-grams, where `find_ngrams` was asked before.
    """
    found = found or find_ngrams(train.texts, config)
    vectoriser = fit_vectoriser(train.texts, train.groups, config, found)
    matrix = vectoriser.weighted(found)
    tell(
        f"lexical: {len(train)} rows, {matrix.shape[1]} n-grams, {matrix.nnz / max(1, len(train)):.0f} a row"
    )
    columns = _most_telling(matrix, train.targets, config.buckets) if config.buckets else None
    if columns is not None and len(columns) < matrix.shape[1]:
        vectoriser = Vectoriser(vectoriser.features, vectoriser.hashes[columns], vectoriser.idf[columns])
        matrix = vectoriser.weighted(found)
        tell(f"lexical: kept the {matrix.shape[1]} most telling")

    def fit(name: str) -> tuple[F32, F32]:
        cost = config.costs.get(name, config.cost)
        return _fit_head(matrix, train.targets[name], train.weights, cost, (teacher or {}).get(name))

    with warnings.catch_warnings(), ThreadPoolExecutor(2) as pool:  # liblinear releases the interpreter lock
        # A long tail of labels is no regression problem, as scikit-learn would have it.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        fitted = dict(zip(train.targets, pool.map(fit, train.targets), strict=True))
    weights = np.concatenate([fitted[name][0] for name in train.targets], axis=1)
    bias = np.concatenate([fitted[name][1] for name in train.targets])
    slices = head_slices([(name, targets.mask.shape[1]) for name, targets in train.targets.items()])
    return quantise(vectoriser, weights, bias, slices)


def quantise(vectoriser: Vectoriser, weights: F32, bias: F32, slices: Mapping[str, slice]) -> LexicalPart:
    """Weights [buckets, outputs] as int8 with one scale per output."""
    scale = np.maximum(np.abs(weights).max(axis=0), 1e-8) / 127.0
    packed = np.clip(np.rint(weights / scale), -127, 127).astype(np.int8)
    return LexicalPart(
        vectoriser.hashes,
        vectoriser.idf,
        packed,
        scale.astype(np.float32),
        bias.astype(np.float32),
        vectoriser.features,
        dict(slices),
    )


def _fit_head(
    matrix: sparse.csr_matrix, targets: Targets, weights: F32, cost: float, teacher: F32 | None
) -> tuple[F32, F32]:
    codes = targets.codes()
    open_rows = targets.labelled & (codes < 0)
    if open_rows.any():
        scores = teacher
        if scores is None:
            first = _svm(matrix, codes, weights, cost, targets.mask.shape[1])
            scores = np.asarray(matrix @ first[0] + first[1], np.float32)
        best = np.where(targets.mask, scores, -np.inf).argmax(axis=1)
        codes = np.where(open_rows, best, codes)
    return _svm(matrix, codes, weights, cost, targets.mask.shape[1])


def _svm(
    matrix: sparse.csr_matrix, codes: npt.NDArray[np.int64], weights: F32, cost: float, labels: int
) -> tuple[F32, F32]:
    rows = np.flatnonzero(codes >= 0)
    result = np.zeros((matrix.shape[1], labels), np.float32)
    bias = np.full(labels, UNSEEN, np.float32)
    seen = np.unique(codes[rows])
    if len(seen) < 2:
        bias[seen] = 1.0
        return result, bias
    model = LinearSVC(C=cost, random_state=0).fit(matrix[rows], codes[rows], sample_weight=weights[rows])
    coefficients, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn keeps one column for two classes
        coefficients, intercept = (
            np.concatenate([-coefficients, coefficients]),
            np.concatenate([-intercept, intercept]),
        )
    result[:, model.classes_] = coefficients.T
    bias[model.classes_] = intercept
    return result, bias


def _most_telling(
    matrix: sparse.csr_matrix, targets: Mapping[str, Targets], most: int
) -> npt.NDArray[np.int64]:
    """Columns with the largest chi-squared statistic over the heads' sure labels, in ascending order."""
    strength = np.zeros(matrix.shape[1])
    for item in targets.values():
        codes = item.codes()
        rows = np.flatnonzero(codes >= 0)
        if len(np.unique(codes[rows])) > 1:
            strength = np.maximum(strength, _chi2(matrix[rows], codes[rows]) * len(rows) ** -0.5)
    return np.sort(np.argsort(-strength, kind="stable")[:most])


def _chi2(matrix: sparse.csr_matrix, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    from sklearn.feature_selection import chi2

    statistic = np.asarray(chi2(matrix, codes)[0], np.float64)
    return np.nan_to_num(statistic, nan=0.0)
