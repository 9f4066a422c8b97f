"""New categories, proposed from appeals that fit none: clusters of them, with words and texts that show why.

Vectors are the encoder's embeddings beside a latent semantic analysis of the words (Deerwester et al. 1990):
an encoder that was tuned on the known categories tends to draw unknown ones towards these, words don't.
Clusters are found by density (HDBSCAN: Campello, Moulavi and Sander 2013), so that what is like nothing else
stays out. Near-duplicates count once: a campaign of one text is no category. Words are told by class-based
TF-IDF (Grootendorst 2022, "BERTopic").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from classifier.predictor import Prediction, Predictor
from classifier.words import word_bounds
from data.appeals import Row
from data.cleaning import prepare
from data.database import Database
from data.errors import StoreError
from data.labels.records import LabelRecord, Selection, records
from data.progress import Progress
from data.scheme import Scheme
from data.scheme_history import reading_for
from data.splits import near_duplicate_groups
from evaluation.bootstrap import SEED
from evaluation.errors import NothingToScore, UnknownHead
from evaluation.scoring import Stage, silent

__all__ = [
    "FEWEST", "Candidate", "Found", "Proposed", "candidates_of_rows", "candidates_of_store", "catch_alls",
    "opened", "propose_categories",
]  # fmt: skip

F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FEWEST = 20  # candidates; fewer hold no cluster that says anything
UNTOLD, UNSURE = "cannot be told", "unsure"
_CATCH_ALL = ("其他", "其它", "待定", "综合", "无法归类", "未分类", "other")
_BATCH = 64
_DIMENSIONS = 50
_WORDS = 10
_TEXTS = 5


@dataclass(frozen=True)
class Candidate:
    """An appeal that fits no category: `why` is the catch-all's code that people gave it, `cannot be told`
    (a person said so), or `unsure` (no person looked; the model gives its best category little)."""

    id: str
    text: str
    why: str


@dataclass(frozen=True)
class Proposed:
    """A cluster. ``appeals``: how many, near-duplicates included; ``groups``: how many without.

    ``words``: what tells it from the others, best first; ``texts``: prepared texts, the most typical ones,
    each of another group; ``why``: its appeals by why they fit none; ``nearest``: known categories (code,
    mean probability), the likeliest first; ``cohesion``: mean cosine to the cluster's centre.
    """

    appeals: int
    groups: int
    words: tuple[str, ...]
    texts: tuple[str, ...]
    ids: tuple[str, ...]
    why: Mapping[str, int]
    nearest: tuple[tuple[str, float], ...]
    cohesion: float


@dataclass(frozen=True)
class Found:
    """All clusters, the largest first, and how many candidates there were, and stayed alone."""

    head: str
    candidates: Mapping[str, int]
    alone: int
    proposed: tuple[Proposed, ...]


# -- candidates ------------------------------------------------------------------------------------


def catch_alls(scheme: Scheme, head: str) -> tuple[str, ...]:
    """Leaves whose name says that they hold what fits nowhere. Raises UnknownHead."""
    if head not in scheme.heads:
        raise UnknownHead(f"head: expected one of {', '.join(scheme.heads)}, got {head!r}")
    names = scheme.heads[head].names
    return tuple(code for code in scheme.heads[head].codes if names[code].lower().startswith(_CATCH_ALL))


def opened(url: str) -> Database:
    """The service's database. Raises StoreError where there is none, or one of another version."""
    database = Database.open(url)
    if database.file is not None and not database.file.exists():
        raise StoreError(f"expected a database at {database.file}, found none; give its URL with --database")
    database.check()
    return database


def candidates_of_store(
    database: Database,
    scheme: Scheme,
    head: str,
    catch_all: Sequence[str],
    least: float,
    progress: Progress | None = None,
) -> list[Candidate]:
    """Stored appeals that people put nowhere, and those nobody looked at whose answer is below ``least``.

    Texts are prepared, and what reviewers flagged is covered. Raises DataError as the store does.
    """
    told = progress or (lambda what, done, total: None)
    stored = records(database, reading_for(database, scheme), Selection("all"), told=told)
    found = ((one.id, one.text, _why_stored(one, head, catch_all, least)) for one in stored)
    return [Candidate(id, text, why) for id, text, why in found if why]


def _why_stored(record: LabelRecord, head: str, catch_all: Sequence[str], least: float) -> str:
    label = record.labels.get(head)
    if label is not None:
        if label.state == "untellable":
            return UNTOLD
        return label.code if label.code is not None and label.code in catch_all else ""
    suggestion = record.suggestions.get(head)
    unsure = suggestion is not None and suggestion.probability < least and not record.opinions
    return UNSURE if unsure else ""


def candidates_of_rows(
    rows: Sequence[Row],
    predictor: Predictor,
    head: str,
    catch_all: Sequence[str],
    least: float,
    stage: Stage = silent,
) -> list[Candidate]:
    """The same of a labelled file; rows without a label of the head are asked of the model."""
    texts = {row.id: prepare(row.text, row.title).text for row in rows}
    open_ones = [row for row in rows if not row.labels.get(head)]
    answers = _answers(predictor, [texts[row.id] for row in open_ones], stage)
    why = {
        row.id: UNSURE for row, given in zip(open_ones, answers, strict=True) if given.top(head)[0][1] < least
    }
    for row in rows:
        codes = row.labels.get(head, frozenset())
        if codes and codes <= set(catch_all):
            why[row.id] = sorted(codes)[0]
    return [Candidate(id, texts[id], reason) for id, reason in why.items()]


# -- clusters --------------------------------------------------------------------------------------


def propose_categories(
    candidates: Sequence[Candidate],
    predictor: Predictor,
    head: str,
    smallest: int = 10,
    most: int = 20,
    stage: Stage = silent,
) -> Found:
    """Clusters of ``smallest`` unrelated appeals or more, at most ``most``.

    Raises UnknownHead for a head that the model lacks, NothingToScore for fewer than `FEWEST` candidates.
    """
    if head not in predictor.heads:
        raise UnknownHead(f"head: expected one of {', '.join(predictor.heads)}, got {head!r}")
    groups = near_duplicate_groups([one.text for one in candidates])
    first = _firsts(groups)
    if len(first) < max(FEWEST, 2 * smallest):
        raise NothingToScore(
            f"expected {max(FEWEST, 2 * smallest)} different appeals that fit no category, got {len(first)}; "
            "let reviewers label more, or raise --least"
        )
    texts = [candidates[place].text for place in first]
    answers = _answers(predictor, texts, stage)
    words = [_words(text) for text in texts]
    vectors = _vectors([given.embedding for given in answers], words)
    clusters = _clusters(vectors, smallest)
    telling = _telling(words, clusters)
    members = {group: [i for i, own in enumerate(groups) if own == group] for group in set(groups)}
    proposed = []
    for number in range(int(clusters.max()) + 1):
        inside = np.flatnonzero(clusters == number)
        typical, cohesion = _typical(vectors, inside)
        every = [place for one in inside.tolist() for place in members[groups[first[one]]]]
        proposed.append(
            Proposed(
                appeals=len(every),
                groups=len(inside),
                words=telling[number],
                texts=tuple(texts[one] for one in typical),
                ids=tuple(candidates[place].id for place in every),
                why=dict(Counter(candidates[place].why for place in every).most_common()),
                nearest=_nearest([answers[one] for one in inside.tolist()], head),
                cohesion=cohesion,
            )
        )
    proposed.sort(key=lambda one: (-one.groups, one.words))
    counts = dict(Counter(one.why for one in candidates).most_common())
    alone = sum(len(members[groups[first[one]]]) for one in np.flatnonzero(clusters < 0).tolist())
    return Found(head, counts, alone, tuple(proposed[:most]))


def _answers(predictor: Predictor, texts: Sequence[str], stage: Stage) -> list[Prediction]:
    advance = stage("answering", len(texts))
    found: list[Prediction] = []
    for start in range(0, len(texts), _BATCH):
        some = texts[start : start + _BATCH]
        found += predictor.predict(some, evidence=False)
        advance(len(some))
    return found


def _firsts(groups: Sequence[str]) -> list[int]:
    places: dict[str, int] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, place)
    return list(places.values())


def _words(text: str) -> list[str]:
    """Words of two characters or more with a letter in them."""
    found = (text[start:end].lower() for start, end in word_bounds(text))
    return [word for word in found if len(word) > 1 and any(letter.isalpha() for letter in word)]


def _itself(words: list[str]) -> list[str]:
    return words


def _vectors(embeddings: Sequence[F32], words: Sequence[list[str]]) -> Floats:
    """[texts, dimensions]: both views, each of length 1."""
    views = [_reduced(np.stack(embeddings).astype(np.float64))] if len(embeddings[0]) else []
    weighted = TfidfVectorizer(analyzer=_itself, min_df=2, max_df=0.5, sublinear_tf=True)
    try:
        views.append(_reduced(weighted.fit_transform(words)))
    except ValueError:  # no word stands in two texts
        if not views:
            raise NothingToScore("expected texts with words in common, got none") from None
    return np.concatenate(views, axis=1)


def _reduced(matrix: Floats) -> Floats:
    """The main directions, rows of length 1: density means little where there are hundreds."""
    size = min(_DIMENSIONS, min(matrix.shape) - 1)
    centred = matrix - matrix.mean(axis=0) if isinstance(matrix, np.ndarray) else matrix
    if size < 2:
        return np.asarray(normalize(centred if isinstance(centred, np.ndarray) else centred.toarray()))
    found = TruncatedSVD(size, random_state=SEED).fit_transform(centred)
    return np.asarray(normalize(found), np.float64)


def _clusters(vectors: Floats, smallest: int) -> Ints:
    """[texts]: number of the cluster, -1 for none."""
    found = HDBSCAN(min_cluster_size=smallest, min_samples=max(2, smallest // 2), copy=True,
                    cluster_selection_method="leaf").fit(vectors)  # fmt: skip
    return np.asarray(found.labels_, np.int64)


def _telling(words: Sequence[list[str]], clusters: Ints) -> dict[int, tuple[str, ...]]:
    """Of each cluster the words with the largest class-based TF-IDF; each counts once a text."""
    everywhere = Counter(word for some in words for word in set(some))
    sizes = Counter(clusters.tolist())
    mean = sum(everywhere.values()) / max(1, len(sizes))
    found = {}
    for number in sizes:
        own = Counter(
            word
            for some, cluster in zip(words, clusters, strict=True)
            if cluster == number
            for word in set(some)
        )
        weight = {
            word: count / sizes[number] * np.log(1 + mean / everywhere[word])
            for word, count in own.items()
            if count >= 2
        }
        found[number] = tuple(_best(weight))
    return found


def _best(weight: Mapping[str, float]) -> Iterator[str]:
    """The heaviest words, none of which is a part of another."""
    kept: list[str] = []
    for word in sorted(weight, key=lambda word: (-weight[word], word)):
        if len(kept) == _WORDS:
            break
        if not any(word in other or other in word for other in kept):
            kept.append(word)
    return iter(kept)


def _typical(vectors: Floats, inside: Ints) -> tuple[list[int], float]:
    """The members nearest to the centre, and the mean cosine of all to it."""
    own = vectors[inside]
    centre = own.mean(axis=0)
    cosine = own @ centre / (np.linalg.norm(own, axis=1) * max(float(np.linalg.norm(centre)), 1e-12))
    return inside[np.argsort(-cosine, kind="stable")[:_TEXTS]].tolist(), float(cosine.mean())


def _nearest(answers: Iterable[Prediction], head: str, count: int = 3) -> tuple[tuple[str, float], ...]:
    listed = list(answers)
    mean = np.mean([given.probabilities[head] for given in listed], axis=0)
    best = np.argsort(-mean, kind="stable")[:count]
    return tuple((listed[0].codes[head][i], float(mean[i])) for i in best.tolist())
