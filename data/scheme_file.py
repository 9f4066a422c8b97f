"""The label scheme as a person writes it: the shape of the YAML file, before its meaning is checked.

`python -m data` and the README beside the schemes show an example; `data.scheme_checks` then checks
what the shape alone cannot say (codes used twice, units that do not exist, circles of replaced_by).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)

from data.errors import Problem, SchemeError
from data.marked_yaml import Loc, MarkedYaml, read_marked

STANDARD_HEADS = {
    "category": "categories",
    "appeal_type": "appeal_types",
    "urgency": "urgency_levels",
    "tier": "tiers",
    "unit": "units",
}
PATH_SEPARATOR = " / "

Kind = Literal["flat", "tree", "ordinal"]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

_MINUTES = {"分钟": 1, "分": 1, "min": 1, "minutes": 1, "小时": 60, "h": 60, "hours": 60}
_WORKING_DAYS = ("个工作日", "工作日", "working days", "working day")
_CLOCK = re.compile(rf"(\d+)\s*({'|'.join([*_MINUTES, *_WORKING_DAYS])})")


@dataclass(frozen=True)
class Clock:
    """A time limit: in minutes (calendar time) or in working days."""

    amount: int
    unit: Literal["minutes", "working_days"]

    @classmethod
    def parse(cls, text: str) -> Clock:
        """`30 分钟`, `2 小时`, `5 工作日` (or `30 min`, `2 h`, `5 working days`); else ValueError."""
        match = _CLOCK.fullmatch(text.strip())
        if match is None:
            raise ValueError("a time limit such as `30 分钟`, `2 小时` or `5 工作日`")
        amount, unit = int(match[1]), match[2]
        if unit in _WORKING_DAYS:
            return cls(amount, "working_days")
        return cls(amount * _MINUTES[unit], "minutes")

    def __str__(self) -> str:
        if self.unit == "working_days":
            return f"{self.amount} 工作日"
        hours, minutes = divmod(self.amount, 60)
        return f"{self.amount} 分钟" if minutes or not hours else f"{hours} 小时"


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _clock(text: str) -> str:
    return str(Clock.parse(text))


Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed)]
ClockText = Annotated[Text, AfterValidator(_clock)]


class Part(BaseModel):
    """Base of every part of the file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelEntry(Part):
    """One label; written as a text it is its own name. Code or name may be left out, not both."""

    code: Text | None = None
    name: Text | None = None
    definition: str = ""
    keywords: Texts = ()
    aliases: Texts = ()
    active: bool = True
    replaced_by: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and not (value.get("code") or value.get("name")):
            raise ValueError("a label with a code or a name")
        return value

    @property
    def shown(self) -> str:
        """The name, or the code where no name is written."""
        return self.name or self.code or ""

    @property
    def branches(self) -> tuple[LabelEntry, ...]:
        """Labels below this one; none in a flat list."""
        return ()


class TreeEntry(LabelEntry):
    """A label of a tree, with the labels below it."""

    children: tuple[TreeEntry, ...] = ()

    @property
    def branches(self) -> tuple[LabelEntry, ...]:
        return self.children


class CategoryEntry(LabelEntry):
    """A category; tier and unit not written are those of the branch above."""

    tier: Text | None = None
    unit: Text | None = None
    children: tuple[CategoryEntry, ...] = ()

    @property
    def branches(self) -> tuple[LabelEntry, ...]:
        return self.children


class ClocksEntry(Part):
    """Time limits of an urgency level."""

    answer: ClockText | None = None
    on_site: ClockText | None = None
    first_report: ClockText | None = None
    result: ClockText | None = None
    at_most: ClockText | None = None


class UrgencyEntry(LabelEntry):
    """An urgency level; the file lists them from the lowest to the highest."""

    clocks: ClocksEntry = ClocksEntry()


class TierEntry(LabelEntry):
    """A tier; the file lists them from the lowest to the highest."""

    leader: Texts = ()


class UnitEntry(LabelEntry):
    """A unit that gets orders, and the tier it stands on."""

    tier: Text | None = None


class ExtraHead(Part):
    """A further head of the deployment: a flat list, a tree or an ordered list of labels."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    title: str = ""
    kind: Kind | None = None
    labels: tuple[TreeEntry, ...]


class SchemeFile(Part):
    """The whole file. Every part is optional; a head exists if its part does."""

    name: Text
    version: Text
    title: str = ""
    categories: tuple[CategoryEntry, ...] = ()
    appeal_types: tuple[LabelEntry, ...] = ()
    urgency_levels: tuple[UrgencyEntry, ...] = ()
    tiers: tuple[TierEntry, ...] = ()
    units: tuple[UnitEntry, ...] = ()
    extra_heads: tuple[ExtraHead, ...] = ()


@dataclass(frozen=True)
class Placed:
    """A label of the file with its place: final code, the code above it, level from 1, and location."""

    entry: LabelEntry
    code: str
    parent: str
    level: int
    loc: Loc
    path: tuple[str, ...]


def placed(entries: tuple[LabelEntry, ...], loc: Loc, above: Placed | None = None) -> Iterator[Placed]:
    """Walk a list or tree in file order. A code that is not written is the names from the top, joined."""
    for index, entry in enumerate(entries):
        path = (*(above.path if above else ()), entry.shown)
        one = Placed(
            entry=entry,
            code=entry.code or PATH_SEPARATOR.join(path),
            parent=above.code if above else "",
            level=len(path),
            loc=(*loc, index),
            path=path,
        )
        yield one
        yield from placed(entry.branches, (*one.loc, "children"), one)


def heads_in(file: SchemeFile) -> dict[str, list[Placed]]:
    """Every head that the file defines, standard heads first, with all labels (inner and inactive too)."""
    heads = {
        head: list(placed(getattr(file, part), (part,)))
        for head, part in STANDARD_HEADS.items()
        if getattr(file, part)
    }
    for index, extra in enumerate(file.extra_heads):
        heads.setdefault(extra.name, list(placed(extra.labels, ("extra_heads", index, "labels"))))
    return heads


_ENTRY_OF_PART: dict[str, type[Part]] = {
    "categories": CategoryEntry,
    "appeal_types": LabelEntry,
    "urgency_levels": UrgencyEntry,
    "tiers": TierEntry,
    "units": UnitEntry,
}


def _model_at(loc: Loc) -> type[Part]:
    if len(loc) == 1:
        return SchemeFile
    if "clocks" in loc[:-1]:
        return ClocksEntry
    if loc[0] == "extra_heads":
        return TreeEntry if "labels" in loc[:-1] else ExtraHead
    return _ENTRY_OF_PART.get(str(loc[0]), SchemeFile)


def _shape_problem(marked: MarkedYaml, error: Any) -> Problem:
    loc: Loc = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(_model_at(loc).model_fields)
        return marked.problem(loc, f"one of the keys {known}", f"unknown key '{loc[-1]}'")
    if error["type"] == "missing":
        return marked.problem(loc, f"key '{loc[-1]}'", "no such key")
    expected = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return marked.problem(loc, expected, repr(error["input"])[:80])


def parse_scheme(text: str, file: str) -> tuple[SchemeFile, MarkedYaml]:
    """Shape of a scheme's text, and its lines. Raises SchemeError that lists every wrong place."""
    marked = read_marked(text, file)
    problems = list(marked.problems)
    parsed: SchemeFile | None = None
    if not problems and not isinstance(marked.value, dict):
        problems.append(marked.problem((), "keys name, version and parts such as categories", "none"))
    elif not problems or marked.value:
        try:
            parsed = SchemeFile.model_validate(marked.value)
        except ValidationError as error:
            problems += [_shape_problem(marked, one) for one in error.errors()]
    if problems or parsed is None:
        raise SchemeError(f"{file} is not a valid label scheme; correct these places:", problems)
    return parsed, marked


def read_text(path: Path) -> str:
    """Text of a scheme file. Raises SchemeError if there is none or it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        came = error.strerror or type(error).__name__
        raise SchemeError("no label scheme:", [Problem("a readable file", came, file=str(path))]) from error
    except UnicodeDecodeError as error:
        problem = Problem("UTF-8 text", f"byte {error.start} is not UTF-8", file=str(path))
        raise SchemeError("the label scheme cannot be read; save it as UTF-8:", [problem]) from error
