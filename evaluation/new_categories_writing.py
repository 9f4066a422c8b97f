"""Proposed categories as files: a report to read, a label scheme and a change file to edit.

proposed.md    clusters with words, texts and the nearest known categories
scheme.yaml    the scheme in force with a label for each cluster, under names that a person must better
change.yaml    what leads there (data.scheme_change): a catch-all is split, other clusters are added
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.proposal import NewLabel, change_text, extended
from data.scheme import Scheme
from evaluation.errors import ReportError
from evaluation.new_categories import Found, Proposed

__all__ = ["new_labels", "write_proposed"]

_SHARE_OF_SPLIT = 0.1  # of a cluster's appeals, from which it also takes from a catch-all


def write_proposed(found: Found, scheme: Scheme, version: str, folder: Path) -> dict[str, Path]:
    """Write all files; returns them by kind. Raises ReportError, or SchemeError where the version is that of
    the scheme in force."""
    labels = new_labels(found, scheme)
    files = {name: folder / name for name in ("proposed.md", "scheme.yaml", "change.yaml")}
    texts = {
        "proposed.md": "\n".join(_lines(found, scheme, labels)) + "\n",
        "scheme.yaml": extended(scheme, found.head, labels, version),
        "change.yaml": change_text(scheme, found.head, labels, version),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            file.write_text(texts[name], encoding="utf-8")
    except OSError as error:
        raise ReportError(
            f"--out: expected a folder that can be written to, got {folder}: {error}"
        ) from error
    return files


def new_labels(found: Found, scheme: Scheme) -> list[NewLabel]:
    """A label for every cluster; its name are its words."""
    taken = {label.name for label in scheme.labels[found.head].values()} | set(scheme.labels[found.head])
    labels = []
    for number, one in enumerate(found.proposed, start=1):
        name = "、".join(one.words[:3]) or f"新类{number}"
        labels.append(
            NewLabel(
                code=_free(f"new{number}", taken),
                name=_free(name, taken),
                keywords=one.words,
                definition=f"由 {one.appeals} 件无处归类的诉求归纳，名称和定义待人工确定",
                out_of=_sources(one, scheme, found.head),
            )
        )
    return labels


def _free(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}{number}"
    taken.add(free)
    return free


def _sources(one: Proposed, scheme: Scheme, head: str) -> tuple[str, ...]:
    """Catch-alls from which a good part of the cluster comes."""
    codes = scheme.heads[head].codes
    return tuple(
        why for why, count in one.why.items() if why in codes and count >= _SHARE_OF_SPLIT * one.appeals
    )


def _lines(found: Found, scheme: Scheme, labels: Sequence[NewLabel]) -> Iterator[str]:
    names = scheme.heads[found.head].names
    total = sum(found.candidates.values())
    counted = ", ".join(f"{names.get(why, why)} {count}" for why, count in found.candidates.items())
    yield f"# Proposed categories ({found.head})"
    yield ""
    yield f"{total} appeals fit none ({counted}); {found.alone} of them are like no others."
    yield f"{len(found.proposed)} clusters. Rename, merge or delete in scheme.yaml and change.yaml, then:"
    yield ""
    yield "    python -m data schemes migrate change.yaml OLD.yaml scheme.yaml"
    for label, one in zip(labels, found.proposed, strict=True):
        why = ", ".join(f"{names.get(reason, reason)} {count}" for reason, count in one.why.items())
        nearest = ", ".join(f"{names.get(code, code)} {share:.2f}" for code, share in one.nearest)
        yield from ("", f"## {label.code} {label.name}", "")
        yield f"- appeals: {one.appeals}, unrelated ones among them {one.groups} ({why})"
        yield f"- words: {'、'.join(one.words)}"
        yield f"- nearest known: {nearest}"
        yield f"- cohesion {one.cohesion:.2f}; typical texts:"
        yield from (f"  - {json.dumps(text, ensure_ascii=False)}" for text in one.texts)
