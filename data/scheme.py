"""The label scheme: the heads of a deployment with their label lists and trees.

A city brings its own as a YAML file (`data/schemes/README.md`); the shipped one is `default_scheme()`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml

from data.errors import Problem, SchemeError
from data.marked_yaml import MarkedYaml
from data.scheme_checks import check
from data.scheme_file import (
    PATH_SEPARATOR,
    STANDARD_HEADS,
    CategoryEntry,
    Clock,
    Kind,
    Placed,
    SchemeFile,
    TierEntry,
    UnitEntry,
    UrgencyEntry,
    heads_in,
    parse_scheme,
    read_text,
)

__all__ = [
    "PATH_SEPARATOR", "Category", "Clock", "Head", "Label", "Scheme", "Tier", "Unit", "UrgencyLevel",
    "default_scheme",
]  # fmt: skip

L = TypeVar("L", bound="Label")

DEFAULT_SCHEME = Path(__file__).parent / "schemes" / "default.yaml"

_KINDS: Mapping[str, Kind] = {
    "category": "tree", "appeal_type": "flat", "urgency": "ordinal", "tier": "ordinal", "unit": "flat",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Label:
    """One label of a head. `parent` is empty on the first level, `replaced_by` where nothing replaces it."""

    code: str
    name: str
    parent: str = ""
    level: int = 1
    definition: str = ""
    keywords: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    active: bool = True
    replaced_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Category(Label):
    """A category with its default tier and lead unit (codes; empty where the scheme names none)."""

    tier: str = ""
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Unit(Label):
    """A unit and the tier it stands on (code; empty where unknown)."""

    tier: str = ""


@dataclass(frozen=True, kw_only=True)
class Tier(Label):
    """A tier; rank 0 is the lowest, where a matter starts."""

    rank: int
    leaders: tuple[str, ...] = ()

    @property
    def leader(self) -> str:
        """Who leads there, as people read it (`楼栋长、物业长`)."""
        return "、".join(self.leaders)


@dataclass(frozen=True, kw_only=True)
class UrgencyLevel(Label):
    """An urgency level; rank 0 is the lowest. Clocks: answer, on_site, first_report, result, at_most."""

    rank: int
    clocks: Mapping[str, Clock] = field(default_factory=dict)


@dataclass(frozen=True)
class Head:
    """One output of the classifier: `codes` are the active leaves in the order of its outputs."""

    name: str
    kind: Kind
    codes: tuple[str, ...]
    names: Mapping[str, str]
    title: str = ""


@dataclass(frozen=True)
class Scheme:
    """A checked label scheme. `labels[head]` holds every label of a head, inner and inactive ones too."""

    name: str
    version: str
    title: str
    heads: Mapping[str, Head]
    labels: Mapping[str, Mapping[str, Label]]

    @classmethod
    def load(cls, path: Path | str) -> Scheme:
        """Read a scheme file. Raises SchemeError that lists every problem with file, line and place."""
        return cls.parse(read_text(Path(path)), str(path))

    @classmethod
    def parse(cls, text: str, file: str = "scheme") -> Scheme:
        """Scheme from YAML text; `file` is only named in errors. Raises SchemeError as `load` does."""
        parsed, marked = parse_scheme(text, file)
        return cls._checked(parsed, marked)

    @classmethod
    def _checked(cls, parsed: SchemeFile, marked: MarkedYaml) -> Scheme:
        problems = check(parsed, marked)
        if problems:
            raise SchemeError(f"{marked.file} is not a valid label scheme; correct these places:", problems)
        labels = {head: _labels(places) for head, places in heads_in(parsed).items()}
        kinds: dict[str, Kind] = {**_KINDS, **{extra.name: _kind(extra) for extra in parsed.extra_heads}}
        titles = {extra.name: extra.title for extra in parsed.extra_heads}
        heads = {
            head: _head(head, kinds[head], those, titles.get(head, "")) for head, those in labels.items()
        }
        return cls(parsed.name, parsed.version, parsed.title, heads, labels)

    @cached_property
    def categories(self) -> Mapping[str, Category]:
        """Categories by code, inner nodes included; empty where the scheme has none."""
        return self._of("category", Category)

    @cached_property
    def appeal_types(self) -> Mapping[str, Label]:
        """Appeal types by code."""
        return self._of("appeal_type", Label)

    @cached_property
    def urgency_levels(self) -> Mapping[str, UrgencyLevel]:
        """Urgency levels by code, the lowest first."""
        return self._of("urgency", UrgencyLevel)

    @cached_property
    def tiers(self) -> Mapping[str, Tier]:
        """Tiers by code, the lowest first."""
        return self._of("tier", Tier)

    @cached_property
    def units(self) -> Mapping[str, Unit]:
        """Units by code."""
        return self._of("unit", Unit)

    def _of(self, head: str, kind: type[L]) -> Mapping[str, L]:
        found = self.labels.get(head, {})
        return {code: label for code, label in found.items() if isinstance(label, kind)}

    def label(self, head: str, term: str) -> Label:
        """Label by code, name, alias or path of names (`市容环卫 / 垃圾清运`).

        Raises SchemeError if the head or the label is unknown, or if a name fits several labels.
        """
        codes = self._terms(head).get(term.strip(), ())
        if len(codes) == 1:
            return self.labels[head][codes[0]]
        if not codes:
            problem = Problem(f"a code, name or alias of head '{head}'", f"'{term}'")
        else:
            problem = Problem(f"a code, since '{term}' is the name of several labels", "、".join(codes))
        raise SchemeError(f"scheme {self.name} {self.version} cannot find the label:", [problem])

    def leaves(self, head: str, code: str) -> frozenset[str]:
        """Active leaf codes that a label may mean: under an inner node, or the leaf itself.

        Replaced labels are followed, so a branch also holds the leaves that took over from its
        retired ones; a label retired without a replacement gives the empty set. Takes what `label`
        takes and raises what it raises.
        """
        found = self.label(head, code).code
        return self._all_leaves[head][found]

    def path(self, code: str, head: str = "category") -> tuple[str, ...]:
        """Names from the first level down to the label. Raises SchemeError if it is unknown."""
        codes = self.path_codes(code, head)
        return tuple(self.labels[head][one].name for one in codes)

    def path_codes(self, code: str, head: str = "category") -> tuple[str, ...]:
        """Codes from the first level down to the label. Raises SchemeError if it is unknown."""
        found = self.label(head, code).code
        return _path(self.labels[head], found)

    @cached_property
    def sha256(self) -> str:
        """Hash of the content: the same for two files that say the same in another form or order of keys."""
        canonical = json.dumps(self._content(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_yaml(self) -> str:
        """The scheme as a file that `load` reads back to an equal scheme."""
        return str(yaml.safe_dump(self._content(), allow_unicode=True, sort_keys=False, width=110))

    def dump(self, path: Path) -> None:
        """Write `to_yaml` to a file (UTF-8)."""
        path.write_text(self.to_yaml(), encoding="utf-8")

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {"name": self.name, "version": self.version}
        if self.title:
            content["title"] = self.title
        for head, part in STANDARD_HEADS.items():
            if head in self.labels:
                content[part] = _entries(self.labels[head].values())
        extras = [_extra(self.heads[head], self.labels[head]) for head in self.labels if head not in _KINDS]
        return {**content, "extra_heads": extras} if extras else content

    def _terms(self, head: str) -> Mapping[str, tuple[str, ...]]:
        if head not in self.labels:
            problem = Problem(f"one of the heads {', '.join(self.labels)}", f"'{head}'")
            raise SchemeError(f"scheme {self.name} {self.version} has no such head:", [problem])
        return self._all_terms[head]

    @cached_property
    def _all_terms(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        return {head: _terms(labels) for head, labels in self.labels.items()}

    @cached_property
    def _all_leaves(self) -> Mapping[str, Mapping[str, frozenset[str]]]:
        return {head: _leaf_sets(labels) for head, labels in self.labels.items()}


@cache
def default_scheme() -> Scheme:
    """The scheme that ships with the project; read once per process."""
    return Scheme.load(DEFAULT_SCHEME)


def _kind(extra: Any) -> Kind:
    deep = any(entry.children for entry in extra.labels)
    kind: Kind = extra.kind or ("tree" if deep else "flat")
    return kind


def _labels(places: list[Placed]) -> dict[str, Label]:
    made: dict[str, Label] = {}
    for rank, placed in enumerate(places):
        made[placed.code] = _label(placed, made.get(placed.parent), rank)
    return made


def _label(placed: Placed, above: Label | None, rank: int) -> Label:
    entry = placed.entry
    common: dict[str, Any] = {
        "code": placed.code,
        "name": entry.shown,
        "parent": placed.parent,
        "level": placed.level,
        "definition": entry.definition,
        "keywords": entry.keywords,
        "aliases": entry.aliases,
        "active": entry.active and (above is None or above.active),
        "replaced_by": entry.replaced_by or "",
    }
    if isinstance(entry, CategoryEntry):
        tier, unit = (above.tier, above.unit) if isinstance(above, Category) else ("", "")
        return Category(**common, tier=entry.tier or tier, unit=entry.unit or unit)
    if isinstance(entry, UnitEntry):
        return Unit(**common, tier=entry.tier or "")
    if isinstance(entry, TierEntry):
        return Tier(**common, rank=rank, leaders=entry.leader)
    if isinstance(entry, UrgencyEntry):
        written = entry.clocks.model_dump(exclude_none=True)
        clocks = {key: Clock.parse(text) for key, text in written.items()}
        return UrgencyLevel(**common, rank=rank, clocks=clocks)
    return Label(**common)


def _head(name: str, kind: Kind, labels: Mapping[str, Label], title: str) -> Head:
    inner = {label.parent for label in labels.values()}
    leaves = {code: one.name for code, one in labels.items() if one.active and code not in inner}
    return Head(name=name, kind=kind, codes=tuple(leaves), names=leaves, title=title)


def _path(labels: Mapping[str, Label], code: str) -> tuple[str, ...]:
    path = [code]
    while parent := labels[path[0]].parent:
        path.insert(0, parent)
    return tuple(path)


def _terms(labels: Mapping[str, Label]) -> dict[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {}
    for code, label in labels.items():
        path = PATH_SEPARATOR.join(labels[one].name for one in _path(labels, code))
        for term in {label.name, path, *label.aliases}:
            names.setdefault(term, []).append(code)
    terms = {term: tuple(codes) for term, codes in names.items()}
    return terms | {code: (code,) for code in labels}


def _leaf_sets(labels: Mapping[str, Label]) -> dict[str, frozenset[str]]:
    below: dict[str, list[str]] = {}
    for label in labels.values():
        below.setdefault(label.parent, []).append(label.code)
    return {code: frozenset(_leaves_from(code, labels, below)) for code in labels}


def _leaves_from(code: str, labels: Mapping[str, Label], below: Mapping[str, list[str]]) -> set[str]:
    waiting, seen, leaves = [code], set[str](), set[str]()
    while waiting:
        one = waiting.pop()
        if one in seen:  # a label may be replaced by the branch it stood in
            continue
        seen.add(one)
        if labels[one].replaced_by:
            waiting.append(labels[one].replaced_by)
        elif one in below:
            waiting += below[one]
        elif labels[one].active:
            leaves.add(one)
    return leaves


def _entries(labels: Iterable[Label]) -> list[dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    top: list[dict[str, Any]] = []
    for label in labels:
        entries[label.code] = entry = _entry(label)
        siblings = entries[label.parent].setdefault("children", []) if label.parent else top
        siblings.append(entry)
    return top


def _entry(label: Label) -> dict[str, Any]:
    values: dict[str, Any] = {
        "code": label.code,
        "name": label.name,
        "definition": label.definition,
        "keywords": list(label.keywords),
        "aliases": list(label.aliases),
        "replaced_by": label.replaced_by,
        "tier": getattr(label, "tier", ""),
        "unit": getattr(label, "unit", ""),
        "leader": list(getattr(label, "leaders", ())),
        "clocks": {key: str(clock) for key, clock in getattr(label, "clocks", {}).items()},
    }
    written = {key: value for key, value in values.items() if value}
    return written if label.active else {**written, "active": False}


def _extra(head: Head, labels: Mapping[str, Label]) -> dict[str, Any]:
    title = {"title": head.title} if head.title else {}
    return {"name": head.name, **title, "kind": head.kind, "labels": _entries(labels.values())}
