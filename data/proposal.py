"""A first label scheme for a city, read off its own labelled export.

What comes out is a file to be edited by hand: names are the city's, codes are the names until someone gives
better ones, and definitions, tiers and clocks are left to be filled in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from data.appeals import Row
from data.scheme import PATH_SEPARATOR, Scheme
from data.scheme_file import STANDARD_HEADS

__all__ = ["propose"]


def propose(rows: Iterable[Row], name: str, version: str, min_rows: int = 1) -> str:
    """YAML of a scheme with every label that ``min_rows`` rows or more carry, most frequent first.

    ``rows`` are read without a scheme, so that their labels are the city's own; a label with `` / `` in it is
    a path of a tree. The text is checked before it is returned. Raises SchemeError when it is no scheme.
    """
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        for head, carried in row.labels.items():
            counts.setdefault(head, Counter()).update(carried)
    content: dict[str, Any] = {"name": name, "version": version}
    extras: list[dict[str, Any]] = []
    for head, found in counts.items():
        kept = [label for label, count in found.most_common() if count >= min_rows]
        if len(kept) < 2:  # a head that has nothing to choose from
            continue
        labels = _tree(kept)
        if head in STANDARD_HEADS:
            content[STANDARD_HEADS[head]] = labels
        else:
            extras.append({"name": head, "labels": labels})
    if extras:
        content["extra_heads"] = extras
    text = str(yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=110))
    Scheme.parse(text, f"proposed scheme {name}")
    return text


def _tree(labels: Sequence[str]) -> list[dict[str, Any]]:
    roots: dict[str, Any] = {}
    for label in labels:
        level = roots
        for part in label.split(PATH_SEPARATOR):
            level = level.setdefault(part, {})
    return _entries(roots)


def _entries(level: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "children": _entries(below)} if below else {"name": name}
        for name, below in level.items()
    ]
