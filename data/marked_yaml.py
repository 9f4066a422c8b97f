"""YAML that remembers its lines, so that an error can say where it is.

Scalars stay the text that a person wrote (`code: 0101` is "0101", not the octal number 65), `null`
and an empty value become None. Duplicate keys and aliases are refused: both lose what was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from data.errors import Problem

Loc = tuple[str | int, ...]  # ("categories", 3, "children", 0, "code")

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads ten times faster
_NULL = "tag:yaml.org,2002:null"


def place(loc: Loc) -> str:
    """`("categories", 3, "code")` as people read it: `categories[3].code`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")


@dataclass
class MarkedYaml:
    """A parsed file: its value, the line of every place in it (from 1), and what is wrong with it."""

    file: str
    value: Any = None
    lines: dict[Loc, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def line(self, loc: Loc) -> int:
        """Line of the place, or of the nearest place around it that was written; 0 if unknown."""
        return next((self.lines[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in self.lines), 0)

    def problem(self, loc: Loc, expected: str, came: str) -> Problem:
        """What is wrong at the place, ready to be listed in an error."""
        return Problem(expected, came, file=self.file, line=self.line(loc), path=place(loc))

    def refuse(self, loc: Loc, expected: str, came: str) -> None:
        """Note a problem at the place."""
        self.problems.append(self.problem(loc, expected, came))

    def build(self, node: yaml.Node, loc: Loc) -> Any:
        """Plain lists, dicts and texts of the node; notes lines and problems on the way."""
        self.lines.setdefault(loc, node.start_mark.line + 1)
        if not isinstance(node, yaml.ScalarNode):
            if id(node) in self._seen:
                self.refuse(loc, "the entry written out", "an alias (*name) of another entry")
                return None
            self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*loc, index)) for index, child in enumerate(node.value)]
        return None if node.tag == _NULL else str(node.value)

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> Mapping[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            inner = (*loc, key)
            if key in values:
                self.refuse(inner, f"key '{key}' once", f"again in line {key_node.start_mark.line + 1}")
                continue
            self.lines[inner] = key_node.start_mark.line + 1
            values[key] = self.build(value_node, inner)
        return values


def read_marked(text: str, file: str) -> MarkedYaml:
    """Parse YAML text; what is wrong with it (syntax too) is in `problems` of the result."""
    marked = MarkedYaml(file)
    try:
        node = yaml.compose(text, Loader=_LOADER)
        if node is not None:
            marked.value = marked.build(node, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        marked.problems.append(Problem("valid YAML", str(error.problem or error), file=file, line=line))
    except (yaml.YAMLError, RecursionError) as error:
        marked.problems.append(Problem("valid YAML", f"{type(error).__name__}: {error}"[:200], file=file))
    return marked
