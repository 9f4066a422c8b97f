"""Measure models: `python -m evaluation report MODEL DATA` and `python -m evaluation compare A B DATA`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from classifier.errors import ClassifierError
from classifier.predictor import Predictor
from data.errors import DataError
from data.scheme import Scheme
from evaluation import scoring
from evaluation.bootstrap import RESAMPLES
from evaluation.comparison import Comparison, HeadComparison, compare
from evaluation.console import comparison_table, report_table, urgency_table
from evaluation.errors import EvaluationError
from evaluation.report import build_report, parts_of
from evaluation.rows import LabelledRows, load_rows
from evaluation.writing import write_report

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Data = Annotated[Path, typer.Argument(help="Labelled file: CSV, TSV, JSONL, Parquet or Excel, also .gz.")]
MappingOption = Annotated[
    str | None,
    typer.Option("--mapping", help="Mapping file (their columns and labels → ours), or a shipped name."),
]
SchemeOption = Annotated[
    Path | None, typer.Option("--scheme", help="Label scheme to read the labels by; default: the model's.")
]
Folds = Annotated[
    list[str] | None, typer.Option("--folds", help="Only rows of these folds: 7, or 6,7; repeatable.")
]
Heads = Annotated[list[str] | None, typer.Option("--head", help="Only this head; repeatable.")]
Resamples = Annotated[int, typer.Option("--resamples", min=2, max=100_000, help="Bootstrap resamples.")]


@app.command("report")
def report_command(
    model: Annotated[str, typer.Argument(help="Model folder, or 'shipped'.")],
    data: Data,
    mapping: MappingOption = None,
    scheme: SchemeOption = None,
    folds: Folds = None,
    head: Heads = None,
    part: Annotated[
        str, typer.Option("--part", help="joined, encoder, lexical, or all; default: the model's.")
    ] = "",
    out: Annotated[
        Path, typer.Option("--out", help="Folder for report.html, report.md, scores.json.")
    ] = Path("reports/latest"),
    min_support: Annotated[
        int,
        typer.Option("--min-support", min=0, help="Also score labels with at least this many rows in DATA."),
    ] = 50,
    resamples: Resamples = RESAMPLES,
) -> None:
    """Score a model on a labelled file; writes HTML, Markdown and JSON, prints the main figures.

    Example: python -m evaluation report shipped appeals.csv --folds 7 --part all --out reports/fold7
    """
    with _problems_told():
        predictor = scoring.load_model(model)
        labelled = _rows(data, mapping, scheme, predictor, folds)
        parts = parts_of(predictor, part)
        with _stages() as stage:
            made = build_report(predictor, labelled, head or (), parts, min_support, stage, resamples)
            files = write_report(made, out, stage)
    console = _console()
    console.print(report_table(made))
    if (urgent := urgency_table(made)) is not None:
        console.print(urgent)
    for one in made.main:
        for note in one.notes:
            console.print(f"{one.head}: {note}", markup=False, highlight=False)
    console.print(
        f"written: {', '.join(map(str, files.values()))}", markup=False, highlight=False, soft_wrap=True
    )


@app.command("compare")
def compare_command(
    a: Annotated[str, typer.Argument(help="Model folder or 'shipped'; FOLDER@lexical takes one part of it.")],
    b: Annotated[str, typer.Argument(help="The other model, written likewise.")],
    data: Data,
    mapping: MappingOption = None,
    scheme: SchemeOption = None,
    folds: Folds = None,
    head: Heads = None,
    resamples: Resamples = RESAMPLES,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Compare two models on the same rows and say which is better, and how sure that is.

    Example: python -m evaluation compare shipped@lexical shipped appeals.csv --folds 7
    """
    with _problems_told():
        (first, first_part), (second, second_part) = _model_and_part(a), _model_and_part(b)
        labelled = _rows(data, mapping, scheme, first, folds)
        with _stages() as stage:
            advance = stage("answering", 2 * len(labelled.rows))
            answers_a = scoring.answer(first, labelled.rows, first_part, advance)
            answers_b = scoring.answer(second, labelled.rows, second_part, advance)
            made = compare(labelled.rows, answers_a, answers_b, first.scheme, head or (), resamples)
    _print_comparison(made, as_json)


def _print_comparison(made: Comparison, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(made.to_json(), ensure_ascii=False, indent=1))
        return
    console = _console()
    console.print(comparison_table(made))
    for one in made.heads:
        _print_changes(console, one)
    console.print(made.verdict, style="bold", markup=False, highlight=False, soft_wrap=True)


def _print_changes(console: Console, one: HeadComparison) -> None:
    counts = (
        f"{one.head}: both right {one.both_right}, only A {one.only_a}, only B {one.only_b}, "
        f"both wrong {one.both_wrong}; resampled by {'group' if one.by_group else 'row'}"
    )
    console.print(counts, markup=False, highlight=False)
    for name, changes in (("B loses most on", one.losers), ("B wins most on", one.winners)):
        if changes:
            shown = ", ".join(f"{change.title} {change.net:+d} of {change.support}" for change in changes)
            console.print(f"  {name}: {shown}", markup=False, highlight=False)


def _model_and_part(name: str) -> tuple[Predictor, str]:
    """``FOLDER@part`` → its predictor and the part; a folder whose own name has an @ is taken as it is."""
    folder, at, part = name.rpartition("@")
    if not at or Path(name).is_dir():
        folder, part = name, ""
    predictor = scoring.load_model(folder)
    return predictor, part or predictor.default_part


def _rows(
    data: Path, mapping: str | None, scheme: Path | None, predictor: Predictor, folds: list[str] | None
) -> LabelledRows:
    read_by = Scheme.load(scheme) if scheme else predictor.scheme
    chosen = [fold.strip() for one in folds or () for fold in one.split(",") if fold.strip()]
    return load_rows(data, mapping, read_by, chosen)


@contextmanager
def _problems_told() -> Iterator[None]:
    """Print what is wrong and exit 2, without a traceback."""
    try:
        yield
    except (ClassifierError, DataError, EvaluationError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@contextmanager
def _stages() -> Iterator[scoring.Stage]:
    """Progress bars on stderr, one per stage, gone when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def begin(name: str, total: int) -> scoring.Progress:
            task = progress.add_task(name, total=total)
            return lambda done: progress.advance(task, done)

        yield begin


def _console() -> Console:
    """As wide as the terminal; wide where there is none, so that tables in a file are not broken."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


if __name__ == "__main__":
    app()
