"""--help of every command: what its docstring says in square brackets is shown, and none is empty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

APPS = {
    "data": import_module("data.__main__").app,
    "evaluation": import_module("evaluation.__main__").app,
    "training": import_module("training.__main__").app,
    "serving": import_module("serving.__main__").cli,
}
MARKUP = re.compile(r"\[/?(?:bold|italic|dim)\]")  # meant as such; \[ stands for a bracket


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for part, below in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {part}", below)


ALL = dict(one for room, app in APPS.items() for one in commands(room, get_command(app)))


def brackets(command: Any) -> list[str]:
    """What stands in square brackets in a command's texts, without white space."""
    told = [command.help, command.epilog, *(getattr(one, "help", None) for one in command.params)]
    text = MARKUP.sub("", " ".join(one for one in told if one))
    return [re.sub(r"\s", "", found) for found in re.findall(r"\[[^\[\]]*\]", text.replace("\\[", "["))]


@pytest.mark.parametrize("name", ALL)
def test_square_brackets_are_shown(name: str) -> None:
    room, *words = name.split()
    shown = CliRunner().invoke(APPS[room], [*words, "--help"], env={"COLUMNS": "300"})
    assert shown.exit_code == 0, shown.output
    told = re.sub(r"[\s│]", "", shown.stdout)
    assert [one for one in brackets(ALL[name]) if one not in told] == []


def test_there_are_such_brackets() -> None:
    assert "[speed]" in brackets(ALL["evaluation speed"])
