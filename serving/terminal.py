"""What every command shares: errors as one message, tables, and who is at the terminal."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from classifier.errors import ClassifierError
from data.errors import DataError
from serving.errors import ServingError

__all__ = ["REFUSALS", "at_terminal", "table", "told"]

REFUSALS = (ServingError, DataError, ClassifierError)  # what we say no with, in words for whoever asked


@contextmanager
def told() -> Iterator[None]:
    """Print what we refuse, and exit 2: a traceback is for bugs only."""
    try:
        yield
    except REFUSALS as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def at_terminal() -> str:
    """How the audit log names whoever runs a command: the account of the machine."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's account without a name
        return "cli:unknown"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
