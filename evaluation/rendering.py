"""Templates of reports, and how their cells are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

__all__ = ["cell", "rendered", "share"]


def rendered(template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """A template of evaluation/templates with these values; `share` and `cell` are there as filters."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"share": share, "cell": cell, **filters}
    return environment.get_template(template).render(**values)


def share(value: float | None) -> str:
    """A share of 1 in percent."""
    return "–" if value is None else f"{100 * value:.1f}"


def cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
