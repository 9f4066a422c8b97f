"""A first label scheme for a city, read off its own labelled export; and labels that a scheme lacks.

What comes out is a file to be edited by hand: names are the city's, codes are the names until someone gives
better ones, and definitions, tiers and clocks are left to be filled in.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from data.appeals import Row
from data.errors import Problem, SchemeError
from data.scheme import PATH_SEPARATOR, Scheme
from data.scheme_file import STANDARD_HEADS

__all__ = ["NewLabel", "change_text", "extended", "propose"]


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


# --- labels that a scheme lacks -------------------------------------------------------------------


@dataclass(frozen=True)
class NewLabel:
    """A label to add to a head. ``out_of``: catch-alls that hold appeals of it until now (codes)."""

    code: str
    name: str
    keywords: tuple[str, ...] = ()
    definition: str = ""
    out_of: tuple[str, ...] = ()


def extended(scheme: Scheme, head: str, labels: Sequence[NewLabel], version: str) -> str:
    """YAML of the scheme with more labels: beside the catch-all they come out of, else on the first level.

    The text is checked before it is returned. Raises SchemeError when it is no scheme, or for the version
    that the scheme has already.
    """
    if version == scheme.version:
        problem = Problem("a new version for a changed scheme", f"'{version}' again", path="version")
        message = f"scheme {scheme.name} {scheme.version} cannot be changed and keep its version:"
        raise SchemeError(message, [problem])
    content: dict[str, Any] = yaml.safe_load(scheme.to_yaml())
    content["version"] = version
    entries = _entries_of(content, head)
    for label in labels:
        beside = next((found for code in label.out_of if (found := _siblings(entries, code))), entries)
        beside.append(
            {
                "code": label.code,
                "name": label.name,
                "definition": label.definition,
                "keywords": list(label.keywords),
            }
        )
    text = str(yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=110))
    Scheme.parse(text, f"proposed scheme {scheme.name}")
    return text


def change_text(scheme: Scheme, head: str, labels: Sequence[NewLabel], version: str) -> str:
    """The change file (data.scheme_change) to `extended`: catch-alls are split, other labels are added."""
    lines = [f"from: {_quoted(scheme.version)}", f"to: {_quoted(version)}"]
    if not labels:
        return "\n".join([*lines, "heads: {}"]) + "\n"
    lines += ["heads:", f"  {head}:"]
    parts: dict[str, list[NewLabel]] = {}
    for label in labels:
        for code in label.out_of:
            parts.setdefault(code, []).append(label)
    for code, some in parts.items():
        into = ", ".join(_quoted(one) for one in (code, *(label.code for label in some)))
        named = ", ".join(label.name for label in some)
        lines.append(f"  - {{step: split, code: {_quoted(code)}, into: [{into}]}}  # {named}")
    added = [label for label in labels if not label.out_of]
    lines += [f"  - {{step: add, code: {_quoted(label.code)}}}  # {label.name}" for label in added]
    return "\n".join(lines) + "\n"


def _entries_of(content: dict[str, Any], head: str) -> list[Any]:
    """The list of a head's labels in a scheme's YAML."""
    if head in STANDARD_HEADS:
        standard: list[Any] = content[STANDARD_HEADS[head]]
        return standard
    extra: list[Any] = next(one for one in content["extra_heads"] if one["name"] == head)["labels"]
    return extra


def _siblings(entries: list[Any], code: str) -> list[Any] | None:
    """The list in which a label stands; None where it does not."""
    for entry in entries:
        if entry == code or (isinstance(entry, dict) and code in (entry.get("code"), entry.get("name"))):
            return entries
        below = entry.get("children") if isinstance(entry, dict) else None
        found = _siblings(below, code) if below else None
        if found is not None:
            return found
    return None


def _quoted(code: str) -> str:
    return json.dumps(code, ensure_ascii=False)
