"""What a label scheme must mean: one function per rule, and `check` that lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from data.errors import Problem
from data.marked_yaml import Loc, MarkedYaml
from data.scheme_file import PATH_SEPARATOR, STANDARD_HEADS, Placed, SchemeFile, heads_in

RESERVED = (*STANDARD_HEADS, "id", "text", "title", "date", "group", "fold", "weight", "source", "line")
LEAST_LABELS = 2  # a head with one label has nothing to decide

Labels = list[Placed]


def check(file: SchemeFile, marked: MarkedYaml) -> list[Problem]:
    """Every rule over every head; an empty list means the scheme is sound."""
    heads = heads_in(file)
    problems = list(_some_head(heads, marked))
    problems += _extra_names(file, marked)
    problems += _extra_kinds(file, marked)
    problems += _references(heads, marked)
    for head, labels in heads.items():
        problems += _codes_once(head, labels, marked)
        problems += _codes_clean(labels, marked)
        problems += _siblings_differ(labels, marked)
        problems += _aliases_once(labels, marked)
        problems += _keywords_once(labels, marked)
        problems += _replacements(labels, marked)
        problems += _circles(labels, marked)
        problems += _enough(head, labels, marked)
    return problems


def _some_head(heads: Mapping[str, Labels], marked: MarkedYaml) -> Iterator[Problem]:
    if not heads:
        parts = ", ".join([*STANDARD_HEADS.values(), "extra_heads"])
        yield marked.problem((), f"at least one of {parts}", "none of them")


def _extra_names(file: SchemeFile, marked: MarkedYaml) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, extra in enumerate(file.extra_heads):
        loc: Loc = ("extra_heads", index, "name")
        if extra.name in RESERVED:
            yield marked.problem(loc, f"a name other than {', '.join(RESERVED)}", extra.name)
        if extra.name in seen:
            yield marked.problem(loc, "each extra head once", f"'{extra.name}' again")
        seen.add(extra.name)


def _extra_kinds(file: SchemeFile, marked: MarkedYaml) -> Iterator[Problem]:
    for index, extra in enumerate(file.extra_heads):
        deep = any(entry.children for entry in extra.labels)
        if deep and extra.kind not in (None, "tree"):
            loc: Loc = ("extra_heads", index, "kind")
            yield marked.problem(loc, "kind tree, since labels have children", str(extra.kind))


def _codes_once(head: str, labels: Labels, marked: MarkedYaml) -> Iterator[Problem]:
    first: dict[str, Placed] = {}
    for label in labels:
        if label.code in first:
            line = marked.line(first[label.code].loc)
            yield marked.problem(
                (*label.loc, "code"), f"each code of {head} once", f"'{label.code}' of line {line} again"
            )
        first.setdefault(label.code, label)


def _codes_clean(labels: Labels, marked: MarkedYaml) -> Iterator[Problem]:
    for label in labels:
        if "|" in label.code or "\n" in label.code:
            yield marked.problem((*label.loc, "code"), "a code without '|' or a line break", repr(label.code))
        if PATH_SEPARATOR in label.entry.shown and label.entry.name:
            yield marked.problem((*label.loc, "name"), "a name without ' / '", repr(label.entry.shown))


def _siblings_differ(labels: Labels, marked: MarkedYaml) -> Iterator[Problem]:
    count = Counter((label.parent, label.entry.shown) for label in labels)
    seen: set[tuple[str, str]] = set()
    for label in labels:
        key = (label.parent, label.entry.shown)
        if count[key] > 1 and key in seen:
            yield marked.problem((*label.loc, "name"), "names that differ side by side", f"'{key[1]}' again")
        seen.add(key)


def _aliases_once(labels: Labels, marked: MarkedYaml) -> Iterator[Problem]:
    taken = {term: label.code for label in labels for term in (label.code, label.entry.shown)}
    for label in labels:
        for index, alias in enumerate(label.entry.aliases):
            owner = taken.setdefault(alias, f"{label.code}\n{index}")
            if owner != f"{label.code}\n{index}":
                whose = owner.split("\n")[0]
                yield marked.problem(
                    (*label.loc, "aliases", index),
                    "an alias that no other name, code or alias has",
                    f"'{alias}', which is also of {whose}",
                )


def _keywords_once(labels: Labels, marked: MarkedYaml) -> Iterator[Problem]:
    for label in labels:
        seen: set[str] = set()
        for index, word in enumerate(label.entry.keywords):
            if word in seen:
                loc = (*label.loc, "keywords", index)
                yield marked.problem(loc, "each keyword once in a label", f"'{word}' again")
            seen.add(word)


def _references(heads: Mapping[str, Labels], marked: MarkedYaml) -> Iterator[Problem]:
    codes = {head: {label.code for label in labels} for head, labels in heads.items()}
    for label in (*heads.get("category", []), *heads.get("unit", [])):
        for key in ("tier", "unit"):
            wanted = getattr(label.entry, key, None)
            if wanted is not None and wanted not in codes.get(key, set()):
                part = STANDARD_HEADS[key]
                yield marked.problem((*label.loc, key), f"a code listed under {part}", f"'{wanted}'")


def _replacements(labels: Labels, marked: MarkedYaml) -> Iterator[Problem]:
    codes = {label.code for label in labels}
    for label in labels:
        wanted = label.entry.replaced_by
        loc = (*label.loc, "replaced_by")
        if wanted is None:
            continue
        if wanted not in codes:
            yield marked.problem(loc, "a code of the same head", f"'{wanted}'")
        if label.entry.active:
            yield marked.problem(loc, "active: false where replaced_by is given", "an active label")


def _circles(labels: Labels, marked: MarkedYaml) -> Iterator[Problem]:
    following = {label.code: label.entry.replaced_by for label in labels if label.entry.replaced_by}
    for label in labels:
        steps = [label.code]
        while (after := following.get(steps[-1])) and after not in steps:
            steps.append(after)
        if after == label.code:
            came = " → ".join([*steps, label.code])
            yield marked.problem((*label.loc, "replaced_by"), "a replacement that ends somewhere", came)


def _enough(head: str, labels: Labels, marked: MarkedYaml) -> Iterator[Problem]:
    inner = {label.parent for label in labels}
    leaves = [label for label in labels if label.code not in inner and label.entry.active]
    if len(leaves) < LEAST_LABELS:
        loc: Loc = labels[0].loc[:-1] if labels else ()
        yield marked.problem(loc, f"at least {LEAST_LABELS} active labels in {head}", f"{len(leaves)}")
