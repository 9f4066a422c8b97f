"""Agreement of reviewers from a table of labels; what the figures mean, in a sentence.

The figures themselves (Krippendorff's alpha with its interval, pairs, confusions) are data.reviews.agreement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.reviews.agreement import FAIR, GOOD, HeadAgreement, Level, head_agreement
from data.scheme import Scheme
from data.tables import read_table
from evaluation.errors import BadJudgements

__all__ = ["Judged", "agreement", "read_judged", "to_json", "verdict"]

_COLUMNS = ("appeal", "reviewer", "head", "code")


@dataclass(frozen=True)
class Judged:
    """What one reviewer said of one head of one appeal; an empty ``code`` says that it cannot be told."""

    appeal: str
    reviewer: str
    head: str
    code: str


def agreement(judged: Iterable[Judged], scheme: Scheme) -> list[HeadAgreement]:
    """Agreement per head, in the scheme's order. The last of a reviewer's labels of an appeal counts.

    Raises BadJudgements when a head or code is not in the scheme, or no appeal has labels of two reviewers.
    """
    last = {(one.head, one.appeal, one.reviewer): one.code for one in judged}
    by_head: dict[str, dict[str, dict[str, str]]] = {}
    for (head, appeal, reviewer), code in last.items():
        by_head.setdefault(head, {}).setdefault(appeal, {})[reviewer] = code
    _check(by_head, scheme)
    found = [_head(head, by_head[head], scheme) for head in scheme.heads if head in by_head]
    compared = [one for one in found if one.appeals]
    if not compared:
        raise BadJudgements(
            f"expected appeals that two reviewers labelled, found none among {len(last)} labels; "
            "ask for double review of a share of the appeals"
        )
    return compared


def read_judged(path: Path) -> list[Judged]:
    """Labels from a table with the columns appeal, reviewer, head, code, in the order of their making.

    Raises BadJudgements where a column is missing, ReadError as the readers do.
    """
    table = read_table(path)
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise BadJudgements(
            f"{path}: expected the columns {', '.join(_COLUMNS)}; missing: {', '.join(missing)}; "
            f"the file has {', '.join(table.columns)}"
        )
    return [Judged(*(record[name].strip() for name in _COLUMNS)) for _, record in table.records()]


def verdict(one: HeadAgreement) -> str:
    """What the figure means and what to do about it, in one sentence."""
    counted = f"{one.appeals} appeals with labels of two or more of {one.reviewers} reviewers"
    if one.alpha is None:
        return f"{one.head}: all of {counted} have the same label, so agreement cannot be told from chance"
    shown = f"{one.head}: alpha {one.alpha.value:.2f} on {counted}"
    if one.alpha.value >= GOOD:
        return f"{shown}: reliable"
    worst = one.confused[0] if one.confused else None
    told = f"; most often {worst.first} against {worst.second} ({worst.appeals})" if worst else ""
    if one.alpha.value >= FAIR:
        return f"{shown}: usable, talk about the disagreements{told}"
    return f"{shown}: too low to train on, sharpen the definitions first{told}"


def _check(by_head: Mapping[str, Mapping[str, Mapping[str, str]]], scheme: Scheme) -> None:
    for head, appeals in by_head.items():
        if head not in scheme.heads:
            raise BadJudgements(f"head: expected one of {', '.join(scheme.heads)}, got {head!r}")
        said = {code for labels in appeals.values() for code in labels.values() if code}
        unknown = sorted(said - set(scheme.labels[head]))
        if unknown:
            raise BadJudgements(
                f"head {head}: expected codes of scheme {scheme.name} {scheme.version}, got "
                f"{', '.join(unknown[:5])}; give the scheme that the labels were made by (--scheme)"
            )


def _head(head: str, appeals: Mapping[str, Mapping[str, str]], scheme: Scheme) -> HeadAgreement:
    level: Level = "ordinal" if scheme.heads[head].kind == "ordinal" else "nominal"
    return head_agreement(head, level, list(scheme.labels[head]), appeals)


def to_json(one: HeadAgreement) -> dict[str, Any]:
    """As plain JSON values."""
    return {**asdict(one), "verdict": verdict(one)}
