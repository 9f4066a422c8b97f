"""Changes of a label scheme: which old code became which new ones, as a file that a person checks.

A change file (YAML) holds only what is different; a code that is in both versions keeps its meaning::

    from: "2024"
    to: "2025"
    dropped: [petition]                              # heads that the new version no longer has
    heads:
      category:
      - {step: merge, codes: ["0101", "0102"], into: "0110"}
      - {step: split, code: "0201", into: ["0203", "0204"]}   # may keep its own code for a part
      - {step: rename, code: "0205", into: "0206"}            # same meaning, new code
      - {step: retire, code: "0301", into: "0302"}            # its appeals go there from now on
      - {step: retire, code: "0302", unmapped: true, why: 不再受理}
      - {step: add, code: "0401"}

Labels under the old version are read in the new codes: one code, or several as a partial label. Models
trained on it still answer, by `translate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from data.errors import Problem, SchemeChangeError
from data.in_force import Reading
from data.marked_yaml import Loc, MarkedYaml, read_marked
from data.scheme import Head, Scheme

__all__ = [
    "HeadStart", "SchemeChange", "Step", "Translated", "heads_to_reinitialise", "reading_through",
    "translate_distribution", "translation_matrix",
]  # fmt: skip

F64 = npt.NDArray[np.float64]
Crosswalk = Mapping[str, Sequence[str]]  # old code → new codes; none: unmapped


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Codes = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Step(BaseModel):
    """One step: what happens to `codes` (of the old version), and `into` which codes (of the new one)."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    step: Literal["merge", "split", "rename", "retire", "add"]
    codes: Annotated[Codes, Field(alias="code")] = ()
    into: Codes = ()
    unmapped: bool = False
    why: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: Annotated[str, Field(alias="from", min_length=1)]
    to: Annotated[str, Field(min_length=1)]
    dropped: Codes = ()
    heads: dict[str, tuple[Step, ...]] = {}


@dataclass(frozen=True)
class SchemeChange:
    """A change that was read, not yet checked against its schemes (`check`)."""

    from_version: str
    to_version: str
    dropped: tuple[str, ...]
    heads: Mapping[str, tuple[Step, ...]]
    text: str = field(compare=False)
    file: str = field(default="change", compare=False)

    @classmethod
    def load(cls, path: Path) -> SchemeChange:
        """Read a change file. Raises SchemeChangeError that lists every place where its form is wrong."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SchemeChangeError(f"the change file {path} cannot be read: {error}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, file: str = "change") -> SchemeChange:
        """As `load`, from YAML text; `file` is only named in errors."""
        marked = read_marked(text, file)
        parsed = None if marked.problems else _parsed(marked)
        if parsed is None or marked.problems:
            raise SchemeChangeError(
                f"{file} is not a valid change file; correct these places:", marked.problems
            )
        return cls(parsed.from_, parsed.to, parsed.dropped, parsed.heads, text, file)

    def check(self, old: Scheme, new: Scheme) -> None:
        """Raises SchemeChangeError unless this leads from one version to the other with every code."""
        marked = read_marked(self.text, self.file)
        problems = [*_version_problems(self, old, new, marked), *_head_problems(self, old, new, marked)]
        for head in self.heads.keys() | (old.heads.keys() & new.heads.keys()):
            if head in old.heads and head in new.heads:
                problems += _step_problems(self, old.heads[head], new.heads[head], marked)
        if problems:
            message = f"{self.file} does not lead from {old.name} {old.version} to {new.version}; correct:"
            raise SchemeChangeError(message, sorted(problems, key=lambda one: (one.line, one.path, one.came)))

    def codes(self, head: str, code: str) -> tuple[str, ...] | None:
        """The new codes of an old one; itself where nothing is said of it; None: unmapped, or dropped."""
        if head in self.dropped:
            return None
        for step in self.heads.get(head, ()):
            if step.step != "add" and code in step.codes:
                return step.into or None
        return (code,)

    def crosswalk(self, head: Head) -> dict[str, tuple[str, ...]]:
        """Every code of an old head → its new codes; none: unmapped."""
        return {code: self.codes(head.name, code) or () for code in head.codes}


def _parsed(marked: MarkedYaml) -> _File | None:
    try:
        return _File.model_validate(marked.value)
    except ValidationError as error:
        for one in error.errors():
            loc = tuple(part for part in one["loc"] if not str(part).startswith("function-"))
            came = "nothing" if one["type"] == "missing" else repr(one["input"])[:80]
            expected = "a key that change files know" if one["type"] == "extra_forbidden" else one["msg"]
            marked.refuse(loc, expected, came)
    return None


# --- checks ---------------------------------------------------------------------------------------


def _version_problems(
    change: SchemeChange, old: Scheme, new: Scheme, marked: MarkedYaml
) -> Iterator[Problem]:
    if change.from_version != old.version:
        yield marked.problem(
            ("from",), f"the old scheme's version '{old.version}'", f"'{change.from_version}'"
        )
    if change.to_version != new.version:
        yield marked.problem(("to",), f"the new scheme's version '{new.version}'", f"'{change.to_version}'")
    if old.version == new.version:
        yield marked.problem(("to",), "a new version for a changed scheme", f"'{new.version}' again")


def _head_problems(change: SchemeChange, old: Scheme, new: Scheme, marked: MarkedYaml) -> Iterator[Problem]:
    gone = old.heads.keys() - new.heads.keys()
    for head in sorted(gone - set(change.dropped)):
        yield marked.problem(("dropped",), f"'{head}', which the new version lacks", "a list without it")
    for head in change.dropped:
        if head not in gone:
            yield marked.problem(("dropped",), "heads of the old version that the new one lacks", f"'{head}'")
    for head in change.heads:
        if head not in old.heads or head not in new.heads:
            both = ", ".join(sorted(old.heads.keys() & new.heads.keys()))
            yield marked.problem(("heads", head), f"one of the heads of both versions ({both})", f"'{head}'")


def _step_problems(change: SchemeChange, old: Head, new: Head, marked: MarkedYaml) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for index, step in enumerate(change.heads.get(old.name, ())):
        loc: Loc = ("heads", old.name, index)
        said = [*_shape(step), *_source_faults(step, old, new), *_target_faults(step, old, new)]
        problems += [marked.problem(loc, expected, came) for expected, came in said]
        for code in step.codes:
            if seen.setdefault(code, index) != index:
                problems.append(marked.problem(loc, "each code in one step", f"'{code}' again"))
    return problems + _left_over(change, old, new, marked)


Fault = tuple[str, str]  # what was expected, what came


def _shape(step: Step) -> Iterator[Fault]:
    """How many codes a step takes and gives."""
    takes, gives = len(set(step.codes)), len(set(step.into))
    if (takes < 2) if step.step == "merge" else (takes != 1):
        yield ("two codes or more" if step.step == "merge" else "one code"), f"{takes}"
    if step.step in ("merge", "rename") and gives != 1:
        yield "one code in `into`", f"{gives}"
    if step.step == "split" and gives < 2:
        yield "two codes or more in `into`", f"{gives}"
    if step.step == "add" and gives:
        yield "no `into` for a new code", f"{gives}"
    if step.step == "retire" and (gives > 1 or (gives == 1) == step.unmapped):
        yield "one code in `into`, or `unmapped: true`", f"{gives} and unmapped: {str(step.unmapped).lower()}"
    if step.step != "retire" and step.unmapped:
        yield "`unmapped` only where a code is retired", step.step


def _source_faults(step: Step, old: Head, new: Head) -> Iterator[Fault]:
    for code in step.codes:
        if step.step == "add":
            if code not in new.codes or code in old.codes:
                yield f"a label of {new.name} that only the new version has", f"'{code}'"
        elif code not in old.codes:
            yield f"an active label of {old.name} in the old version", f"'{code}'"
        elif code in new.codes and code not in step.into:
            yield (
                f"a code that the new version lacks, or one that is in `into`, for a {step.step}",
                f"'{code}'",
            )


def _target_faults(step: Step, old: Head, new: Head) -> Iterator[Fault]:
    for code in step.into:
        if code not in new.codes:
            yield f"active labels of {new.name} in the new version", f"'{code}'"
        elif step.step == "rename" and code in old.codes:
            yield (
                "a new code for a renamed label",
                f"'{code}', which the old version has (retire it into that)",
            )


def _left_over(change: SchemeChange, old: Head, new: Head, marked: MarkedYaml) -> list[Problem]:
    """Codes that no step speaks of, though one version lacks them."""
    steps, loc = change.heads.get(old.name, ()), ("heads", old.name)
    taken = {code for step in steps if step.step != "add" for code in step.codes}
    known = {code for step in steps for code in (step.into if step.step != "add" else step.codes)}
    lost = [code for code in old.codes if code not in new.codes and code not in taken]
    unheard = [code for code in new.codes if code not in old.codes and code not in known]
    return [
        marked.problem(loc, f"a step for '{code}', which the new version lacks (or `unmapped: true`)", "none")
        for code in lost
    ] + [
        marked.problem(loc, f"a step for '{code}', which is new (add, or `into`)", "none") for code in unheard
    ]


# --- reading history ------------------------------------------------------------------------------


def reading_through(changes: Sequence[SchemeChange], version: str, *, strict: bool = True) -> Reading:
    """How codes under any older version read under `version`, through the changes that lead there.

    For a version from which no change leads there the reading raises SchemeChangeError, or, if not
    `strict`, goes as far as changes lead. With an empty `version` that is the newest one.
    """
    following = {change.from_version: change for change in changes}
    known: dict[tuple[str, str, str], frozenset[str] | None] = {}

    def reading(head: str, code: str, written_under: str) -> frozenset[str] | None:
        key = (head, code, written_under)
        if key not in known:
            known[key] = _read(key, following, version, strict)
        return known[key]

    return reading


def _read(
    key: tuple[str, str, str], following: Mapping[str, SchemeChange], version: str, strict: bool
) -> frozenset[str] | None:
    head, code, at = key
    codes, seen = {code} if code else set[str](), {at}
    while at != version:
        change = following.get(at)
        if change is None or change.to_version in seen:
            if not strict:
                break
            raise SchemeChangeError(
                f"labels under version '{key[2]}' of the label scheme cannot be read under '{version}': "
                f"no change leads on from '{at}'; record one with: schemes migrate"
            )
        if head in change.dropped:
            return None
        codes = {new for one in codes for new in change.codes(head, one) or ()}
        if code and not codes:
            return None
        at = change.to_version
        seen.add(at)
    return frozenset(codes)


# --- old models -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Translated:
    """Probabilities in new codes [.., new labels], summing to 1 where the old ones did.

    `lost`: the part that stood on unmapped codes [..]; it is spread over all new codes, because the old
    model says nothing about where it belongs. `undecided`: old codes that were split, with the codes
    among which their part was spread evenly; nobody may act on the difference between those.
    """

    probabilities: F64
    lost: F64
    undecided: Mapping[str, tuple[str, ...]]


def translation_matrix(old: Head, new: Head, crosswalk: Crosswalk) -> F64:
    """[old labels, new labels]: which part of each old label goes to each new one; an unmapped row is zero.

    A merge is two rows with the same column, a split a row with several. Raises SchemeChangeError for a
    code that the new head lacks.
    """
    places = {code: place for place, code in enumerate(new.codes)}
    matrix = np.zeros((len(old.codes), len(new.codes)))
    for row, code in enumerate(old.codes):
        targets = tuple(dict.fromkeys(crosswalk.get(code, ())))
        unknown = [target for target in targets if target not in places]
        if unknown:
            problem = Problem(f"labels of {new.name} in the new version", ", ".join(unknown), path=code)
            raise SchemeChangeError("the crosswalk leads to codes that are not there:", [problem])
        for target in targets:
            matrix[row, places[target]] = 1 / len(targets)
    return matrix


def translate_distribution(
    probabilities: npt.ArrayLike, old_head: Head, new_head: Head, crosswalk: Crosswalk
) -> Translated:
    """Probabilities [.., old labels] of an old model in the new head's codes.

    Merged labels add up; a split one spreads evenly and is named in `undecided`.
    """
    given = np.asarray(probabilities, dtype=np.float64)
    moved = given @ translation_matrix(old_head, new_head, crosswalk)
    lost = np.maximum(given.sum(axis=-1) - moved.sum(axis=-1), 0.0)
    lost = np.where(lost < 1e-9, 0.0, lost)
    spread = moved + np.expand_dims(lost, -1) / len(new_head.codes)
    split = {
        code: tuple(crosswalk.get(code, ()))
        for code in old_head.codes
        if len(set(crosswalk.get(code, ()))) > 1
    }
    return Translated(spread, lost, split)


@dataclass(frozen=True)
class HeadStart:
    """What each label of a new head may start from: `rows[i]` are places in the old head's codes.

    One place: copy the row. Several: the labels were merged, average them. None: a new label. `same`:
    nothing changed, the head stays as it is.
    """

    head: str
    rows: tuple[tuple[int, ...], ...]
    same: bool

    @property
    def fresh(self) -> tuple[int, ...]:
        """Places of the new labels that begin from nothing."""
        return tuple(place for place, row in enumerate(self.rows) if not row)


def heads_to_reinitialise(
    old: Scheme, new: Scheme, change: SchemeChange | None = None
) -> dict[str, HeadStart]:
    """Per head of the new scheme what its labels start from. Without a change, equal codes are equal labels.

    A part of a split label starts from the label it came from.
    """
    return {name: _start(head, old.heads.get(name), change) for name, head in new.heads.items()}


def _start(new: Head, old: Head | None, change: SchemeChange | None) -> HeadStart:
    if old is None:
        return HeadStart(new.name, tuple(() for _ in new.codes), same=False)
    crosswalk = change.crosswalk(old) if change else {code: (code,) for code in old.codes}
    sources: dict[str, list[int]] = {code: [] for code in new.codes}
    for place, code in enumerate(old.codes):
        for target in crosswalk[code]:
            if target in sources:
                sources[target].append(place)
    rows = tuple(tuple(sources[code]) for code in new.codes)
    same = old.codes == new.codes and all(row == (place,) for place, row in enumerate(rows))
    return HeadStart(new.name, rows, same)
