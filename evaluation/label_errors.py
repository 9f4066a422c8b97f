"""Labels that are probably wrong: confident learning, for the reviewers' queue of suspects.

Northcutt, Jiang and Chuang (2021), "Confident learning: estimating uncertainty in dataset labels", as the
package `cleanlab` does it. The probabilities must come from a model that was not trained on these rows:
one that was has learnt their errors by heart.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues

from data.appeals import Row
from evaluation.errors import NothingToScore, ReportError, UnknownHead
from evaluation.scoring import Answers

__all__ = ["FEWEST_ROWS", "Suspect", "suspects", "write_suspects"]

FEWEST_ROWS = 50  # the method estimates a threshold per label from the rows


@dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong: ``given`` with its probability, and what the model says instead."""

    row: int
    id: str
    head: str
    given: str
    given_probability: float
    said: str
    said_probability: float


def suspects(rows: Sequence[Row], answers: Answers, head: str, most: int = 0) -> list[Suspect]:
    """The most suspicious first, at most ``most`` (0: all). Rows with several admissible labels are left out.

    Raises UnknownHead if the model lacks the head, NothingToScore for fewer than `FEWEST_ROWS` rows.
    """
    if head not in answers.heads:
        raise UnknownHead(f"head: expected one of {', '.join(answers.heads)}, got {head!r}")
    codes = answers.heads[head].codes
    place = {code: i for i, code in enumerate(codes)}
    sure = [(i, place[_only(row, head)]) for i, row in enumerate(rows) if _only(row, head) in place]
    if len(sure) < FEWEST_ROWS:
        raise NothingToScore(
            f"head {head}: expected {FEWEST_ROWS} rows with one label that the model knows, got {len(sure)}; "
            "label errors cannot be told from so few"
        )
    numbers, given = np.array(sure, dtype=np.int64).T
    probabilities = answers.probabilities[head][numbers]
    found = find_label_issues(
        given,
        probabilities,
        filter_by="confident_learning",  # off the diagonal of the confident joint; copes with absent labels
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    told = []
    for i in found[:most] if most else found:
        best = int(probabilities[i].argmax())
        told.append(
            Suspect(
                row=int(numbers[i]),
                id=rows[numbers[i]].id,
                head=head,
                given=codes[given[i]],
                given_probability=float(probabilities[i, given[i]]),
                said=codes[best],
                said_probability=float(probabilities[i, best]),
            )
        )
    return told


def write_suspects(found: Sequence[Suspect], path: Path) -> None:
    """A CSV file without texts. Raises ReportError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("id", "head", "given", "given_probability", "said", "said_probability"))
            writer.writerows(
                (one.id, one.head, one.given, f"{one.given_probability:.4f}", one.said,
                 f"{one.said_probability:.4f}")
                for one in found
            )  # fmt: skip
    except OSError as error:
        raise ReportError(f"--out: expected a file that can be written, got {path}: {error}") from error


def _only(row: Row, head: str) -> str:
    """The one sure label; empty where there is none or several are admissible."""
    labels = row.labels.get(head, frozenset())
    return next(iter(labels)) if len(labels) == 1 else ""
