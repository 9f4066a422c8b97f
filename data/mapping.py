"""The mapping file: which of their columns are ours, and how their labels become ours.

A city writes one small YAML file per export; `data/mappings/` ships four as examples. All keys but
`text` are optional, unknown keys are refused::

    source: hotline                    # names the file in group ids; default: the file's name
    id: order_no
    text:
      columns: [title, detail]         # joined by `join` (。); empty ones are left out
      fallback: summary                # used where all of `columns` are empty …
      fallback_when: {has_detail: "0"} # … or, if given, where this holds
      fallback_without_spaces: true    # for text that was cut into words
    title: subject
    date: received
    group: group
    fold: fold
    weight: weight
    drop_when:                         # rows to leave out: any of these conditions holds
      - {type: [其他类]}
    placeholders: {"[TEL]": "[手机号]"} # their masks → ours
    boilerplate: [智慧城市]             # literal phrases of this city's forms, removed from the text
    narrow_category: unit_categories   # crosswalk unit → categories: a vague category is narrowed by its unit
    heads:
      category:                        # the first rule that gives a label wins
        - columns: [level1, level2]    # joined by " / " as a path
          when: {scheme: A}
          crosswalk: mine.csv          # shipped by name, or a path beside the mapping file
          unknown: skip                # label the crosswalk lacks: no label; default `error`: a bad row
      urgency:
        columns: [is_urgent]
        values: {"0": 一般, "1": [较急, 紧急], "9": []}  # several: one of these; none: no label
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from data.crosswalk import Crosswalk
from data.errors import MappingError, Problem, SchemeError
from data.marked_yaml import MarkedYaml, read_marked
from data.scheme import PATH_SEPARATOR, Scheme, default_scheme

__all__ = [
    "SHIPPED",
    "FileMapping",
    "HeadLabels",
    "LabelRule",
    "TextColumns",
    "load_mapping",
    "plain_mapping",
    "shipped_mappings",
]

SHIPPED = Path(__file__).parent / "mappings"
CROSSWALKS = Path(__file__).parent / "crosswalks"

Record = Mapping[str, str]  # column → cell of one row


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _rules_listed(value: Any) -> Any:
    return [value] if isinstance(value, dict | LabelRule) else value


def _written(value: Any) -> Any:
    """An empty YAML value is None; here it means the empty text."""
    return {key: cell or "" for key, cell in value.items()} if isinstance(value, dict) else value


def _text_columns(value: Any) -> Any:
    return {"columns": value} if isinstance(value, str | list) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Condition = dict[str, Texts]  # column → values; holds where every column has one of its values


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextColumns(_Strict):
    """Where the text stands."""

    columns: Texts
    join: str = "。"
    fallback: Texts = ()
    fallback_when: Condition = {}
    fallback_without_spaces: bool = False

    def text(self, record: Record) -> str:
        """The text of one record, empty if it has none."""
        own = self.join.join(cell for column in self.columns if (cell := record[column].strip()))
        instead = holds(self.fallback_when, record) if self.fallback_when else not own
        if not (self.fallback and instead):
            return own
        other = self.join.join(cell for column in self.fallback if (cell := record[column].strip()))
        return re.sub(r"\s+", "", other) if self.fallback_without_spaces else other


class LabelRule(_Strict):
    """How one head's label is read from a record."""

    columns: Texts
    when: Condition = {}
    crosswalk: str = ""
    values: dict[str, Texts] | None = None
    separator: str = ""  # between several admissible labels in one cell
    shorten: bool = False  # a path that the scheme lacks is tried without its last parts
    depth: int = 0  # parts of the path that are kept where there is no scheme; 0: all
    unknown: Literal["error", "skip"] = "error"

    def label(self, record: Record) -> str:
        """Their label as a path joined by ' / '; empty if it has none or the rule is not for it."""
        if not holds(self.when, record):
            return ""
        cells = [record[column].strip() for column in self.columns]
        while cells and not cells[-1]:
            cells.pop()
        return PATH_SEPARATOR.join(cells)


Rules = Annotated[tuple[LabelRule, ...], BeforeValidator(_rules_listed)]


class FileMapping(_Strict):
    """A mapping file, validated. `read` takes one; `load_mapping` reads it from YAML."""

    source: str = ""
    text: Annotated[TextColumns, BeforeValidator(_text_columns)]
    id: str = ""
    title: str = ""
    date: str = ""
    group: str = ""
    fold: str = ""
    weight: str = ""
    drop_when: tuple[Condition, ...] = ()
    placeholders: Annotated[dict[str, str], BeforeValidator(_written)] = {}
    boilerplate: Texts = ()
    narrow_category: str = ""
    heads: dict[str, Rules] = {}

    def columns(self) -> tuple[str, ...]:
        """Every column of the file that the mapping speaks of, each once."""
        single = [self.id, self.title, self.date, self.group, self.fold, self.weight]
        rules = [rule for rules in self.heads.values() for rule in rules]
        conditions = [*self.drop_when, self.text.fallback_when, *(rule.when for rule in rules)]
        lists = [self.text.columns, self.text.fallback, *(rule.columns for rule in rules), *conditions]
        return tuple(dict.fromkeys(filter(None, [*single, *(name for names in lists for name in names)])))

    def drops(self, record: Record) -> bool:
        """Whether the record is to be left out (silent calls, tests)."""
        return any(holds(condition, record) for condition in self.drop_when)

    def text_of(self, record: Record) -> str:
        """The record's text with their placeholders made ours and their forms' phrases removed."""
        text = self.text.text(record)
        for theirs, ours in self.placeholders.items():
            text = text.replace(theirs, ours)
        for phrase in self.boilerplate:
            text = text.replace(phrase, "")
        return text


def holds(condition: Condition, record: Record) -> bool:
    """Whether every column of the condition has one of its values; an empty condition holds."""
    return all(record[column].strip() in values for column, values in condition.items())


def shipped_mappings() -> tuple[str, ...]:
    """Names of the mappings that ship with the project."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def load_mapping(mapping: FileMapping | Path | str) -> FileMapping:
    """A mapping by path, or by name if it is shipped (`haikou`). Raises MappingError with every problem."""
    if isinstance(mapping, FileMapping):
        return mapping
    path = _mapping_path(mapping)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(f"the mapping file {path} cannot be read: {error}") from error
    marked = read_marked(text, str(path))
    parsed = None if marked.problems else _parsed(marked)
    if parsed is None or marked.problems:
        raise _not_valid(marked)
    return _with_crosswalk_paths(parsed, path.parent, marked)


def plain_mapping(columns: tuple[str, ...], scheme: Scheme | None) -> FileMapping:
    """For a file in our own columns: text (id, title, date, group, fold, weight) and one per head's name.

    A cell may hold several admissible codes, separated by `|`.
    """
    heads = (scheme or default_scheme()).heads
    own = {name: name for name in ("id", "title", "date", "group", "fold", "weight") if name in columns}
    rules = {head: (LabelRule(columns=(head,), separator="|"),) for head in heads if head in columns}
    return FileMapping(text=TextColumns(columns=("text",)), heads=rules, **own)


def _not_valid(marked: MarkedYaml) -> MappingError:
    return MappingError(f"{marked.file} is not a valid mapping file; correct these places:", marked.problems)


def _mapping_path(mapping: Path | str) -> Path:
    path = Path(mapping)
    if path.exists() or path.suffix:
        return path
    shipped = SHIPPED / f"{mapping}.yaml"
    if not shipped.exists():
        known = ", ".join(shipped_mappings())
        raise MappingError(f"expected a mapping file or a shipped mapping ({known}), got '{mapping}'")
    return shipped


def _parsed(marked: MarkedYaml) -> FileMapping | None:
    try:
        return FileMapping.model_validate(marked.value)
    except ValidationError as error:
        for one in error.errors():
            loc = tuple(part for part in one["loc"] if not str(part).startswith("function-"))
            came = "nothing" if one["type"] == "missing" else repr(one["input"])[:80]
            expected = "a key that mapping files know" if one["type"] == "extra_forbidden" else one["msg"]
            marked.refuse(loc, expected, came)
    return None


def _with_crosswalk_paths(parsed: FileMapping, folder: Path, marked: MarkedYaml) -> FileMapping:
    heads = {
        head: tuple(
            rule.model_copy(update={"crosswalk": _crosswalk_path(rule.crosswalk, folder)}) for rule in rules
        )
        for head, rules in parsed.heads.items()
    }
    for head, rules in heads.items():
        for rule in rules:
            _check_rule(rule, head, marked)
    narrow = _crosswalk_path(parsed.narrow_category, folder)
    if narrow and not Path(narrow).exists():
        marked.refuse(("narrow_category",), _expected_crosswalk(), parsed.narrow_category)
    if marked.problems:
        raise _not_valid(marked)
    return parsed.model_copy(update={"heads": heads, "narrow_category": narrow})


def _check_rule(rule: LabelRule, head: str, marked: MarkedYaml) -> None:
    if not rule.columns:
        marked.refuse(("heads", head), "at least one column", "none")
    if rule.crosswalk and rule.values is not None:
        marked.refuse(("heads", head), "either a crosswalk or values", "both")
    if rule.crosswalk and not Path(rule.crosswalk).exists():
        marked.refuse(("heads", head), _expected_crosswalk(), rule.crosswalk)


def _expected_crosswalk() -> str:
    known = ", ".join(sorted(path.name for path in CROSSWALKS.glob("*.csv")))
    return f"a crosswalk file, or one of {known}"


def _crosswalk_path(crosswalk: str, folder: Path) -> str:
    if not crosswalk:
        return ""
    name = crosswalk if crosswalk.endswith(".csv") else f"{crosswalk}.csv"
    beside, shipped = folder / name, CROSSWALKS / name
    return str(shipped if shipped.exists() and not beside.exists() else beside)


class HeadLabels:
    """Reads one head's label from records; remembers what each of their labels became."""

    def __init__(self, head: str, rules: tuple[LabelRule, ...], scheme: Scheme | None) -> None:
        """Raises MappingError if the scheme lacks the head, CrosswalkError if a crosswalk is not valid."""
        if scheme is not None and head not in scheme.heads:
            heads = ", ".join(scheme.heads)
            problem = Problem(f"one of the heads {heads}", f"'{head}'", path=f"heads.{head}")
            message = f"the scheme {scheme.name} has no such head; map to another or leave it out:"
            raise MappingError(message, [problem])
        self.head = head
        self._rules = [(rule, _translation(head, rule, scheme), _Seen()) for rule in rules]

    def codes(self, record: Record) -> frozenset[str] | Problem:
        """Admissible codes of the record; empty if it has no label; a Problem if the label is unknown."""
        for rule, translate, seen in self._rules:
            label = rule.label(record)
            if not label:
                continue
            if label not in seen:
                seen[label] = translate(label)
            codes = seen[label]
            if codes is not None or rule.unknown == "skip":
                return codes or frozenset()
            expected = f"a label of head '{self.head}' that {_source_of_labels(rule)} knows"
            return Problem(expected, f"'{label}'", path=", ".join(rule.columns))
        return frozenset()


class _Seen(dict[str, "frozenset[str] | None"]):
    """What each of their labels became."""


def _source_of_labels(rule: LabelRule) -> str:
    if rule.crosswalk:
        return f"the crosswalk {Path(rule.crosswalk).name}"
    return "the mapping" if rule.values is not None else "the scheme"


# Their label → codes: the empty set if it is known to mean none of ours, None if it is unknown.
Translation = Callable[[str], "frozenset[str] | None"]


def _translation(head: str, rule: LabelRule, scheme: Scheme | None) -> Translation:
    if rule.crosswalk:
        crosswalk = Crosswalk.load(Path(rule.crosswalk), scheme or default_scheme(), head)
        return lambda label: crosswalk.codes(label) if crosswalk.knows(label) else None
    if rule.values is not None:
        values = rule.values
        return lambda label: _leaves(head, values[label], scheme) if label in values else None
    return lambda label: _own_label(head, label, rule, scheme)


def _own_label(head: str, label: str, rule: LabelRule, scheme: Scheme | None) -> frozenset[str] | None:
    parts = label.split(PATH_SEPARATOR)
    if scheme is None:
        parts = parts[: rule.depth or None]
    shortest = 1 if rule.shorten and scheme is not None else len(parts)
    for length in range(len(parts), shortest - 1, -1):
        term = PATH_SEPARATOR.join(parts[:length])
        terms = term.split(rule.separator) if rule.separator else [term]
        if codes := _leaves(head, [one.strip() for one in terms], scheme):
            return codes
    return None


def _leaves(head: str, terms: Sequence[str], scheme: Scheme | None) -> frozenset[str] | None:
    if scheme is None:
        return frozenset(terms)
    try:
        return frozenset().union(*(scheme.leaves(head, term) for term in terms))
    except SchemeError:
        return None
