"""Measure models (`report`, `compare`), the service that runs them (`speed`), what it meets (`drift`),
the labels of its reviewers (`agreement`, `label-errors`, `new-categories`) and what they do before any
retraining (`memory-effect`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from classifier.errors import ClassifierError
from classifier.neighbours import Rule
from classifier.predictor import Predictor
from data.errors import DataError
from data.scheme import Scheme, default_scheme
from evaluation import scoring
from evaluation.bootstrap import RESAMPLES
from evaluation.comparison import Comparison, compare
from evaluation.console import (
    changes_told,
    comparison_table,
    memory_tables,
    pairs_table,
    report_table,
    urgency_table,
)
from evaluation.errors import EvaluationError
from evaluation.look_alikes import memory_effect
from evaluation.report import build_report, parts_of
from evaluation.rows import LabelledRows, load_rows
from evaluation.speed import needs
from evaluation.speed.texts import SAMPLES
from evaluation.writing import write_report

if TYPE_CHECKING:
    from evaluation.speed.run import Result  # at run time only once its packages are known to be there

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


@app.command("speed")
def speed_command(
    model: Annotated[str, typer.Argument(help="Model folder, or 'shipped'.")] = "shipped",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Servers by name or kind: ours, plain, batching; comma or repeated."),
    ] = None,
    mix: Annotated[
        str, typer.Option("--mix", help="Lengths of the texts: hotline, board or short.")
    ] = "hotline",
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, help="Length of one stage.")] = 10.0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds; medians are shown.")] = 1,
    rates: Annotated[
        str, typer.Option("--rates", help="Texts a second to time all servers at: 20,100; default: chosen.")
    ] = "",
    bound: Annotated[
        float, typer.Option("--bound-ms", min=1, help="p99 allowed at the highest sustained rate.")
    ] = 200.0,
    in_flight: Annotated[
        int, typer.Option("--in-flight", min=1, help="Texts under way at saturation.")
    ] = 128,
    steps: Annotated[int, typer.Option("--steps", min=0, help="Steps of the search for that rate.")] = 5,
    arrivals: Annotated[
        Literal["poisson", "constant"], typer.Option("--arrivals", help="How requests of a rate are spaced.")
    ] = "poisson",
    data: Annotated[
        Path | None, typer.Option("--data", help="Labelled file for accuracy; default: the sample corpus.")
    ] = None,
    mapping: MappingOption = None,
    folds: Folds = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy/--no-accuracy", help="Compare accuracy with 32-bit floats.")
    ] = True,
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", help="Model it was distilled from: the plain way is timed with it, too."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One second a stage, one step: shows that all runs, not how fast.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder for speed.md and speed.json.")] = Path(
        "reports/speed"
    ),
) -> None:
    """Time the service beside the plain way and published inference servers with the same weights.

    Every server runs alone and is driven from another process in open loop; about ten minutes a round.
    Where wrk is installed, it measures saturation once more. Our service takes its JIESU_* settings from
    the environment. Needs jiesu\\[speed].

    Example: python -m evaluation speed shipped --seconds 30 --rounds 3 --out reports/speed
    """
    with _problems_told():
        needs.require()
        from evaluation.speed import run, tables, texts, trial

        effort = trial.Effort(seconds, min(3.0, seconds), in_flight, bound / 1000, steps, arrivals)
        plan = run.plan(run.commas(only), mix, effort, rounds, run.commas([rates]), quick, teacher)
        predictor = scoring.load_model(model)
        labelled = _rows(data or texts.SAMPLES, mapping, None, predictor, folds) if accuracy else None
        labelled = run.shortened(labelled) if labelled and quick else labelled
        with _stages() as stage:
            result = run.measure(predictor, plan, labelled, stage)
        files = tables.write(result, out)
    _print_speed(result, files)


@app.command("drift")
def drift_command(
    model: Annotated[str, typer.Argument(help="Model folder, or 'shipped'.")],
    base: Annotated[Path, typer.Argument(help="What it was trained on, or any earlier appeals.")],
    recent: Annotated[Path, typer.Argument(help="Recent appeals; labels of reviewers count as corrections.")],
    mapping: Annotated[
        str | None, typer.Option("--mapping", help="Mapping of BASE: a file, or a shipped name.")
    ] = None,
    recent_mapping: Annotated[
        str | None, typer.Option("--recent-mapping", help="Mapping of RECENT; default: none.")
    ] = None,
    scheme: SchemeOption = None,
    since: Annotated[str, typer.Option("--since", help="RECENT only from this day on: 2031-05-05")] = "",
    most: Annotated[int, typer.Option("--most", min=50, help="Appeals of each file looked at.")] = 3000,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for drift.html, drift.md, drift.json.")
    ] = Path("reports/drift"),
) -> None:
    """Compare recent appeals with those a model was trained on, and say what to do.

    Example: python -m evaluation drift shipped base.csv week.csv --out reports/drift
    """
    with _problems_told():
        from evaluation.drift import DriftLimits, drift
        from evaluation.drift_writing import write_drift

        predictor = scoring.load_model(model)
        before = _rows(base, mapping, scheme, predictor, None).rows
        after = _rows(recent, recent_mapping, scheme, predictor, None).rows
        after = tuple(row for row in after if row.date >= since)
        with _stages() as stage:
            made = drift(predictor, before, after, DriftLimits(most=most), stage, (base.name, recent.name))
        files = write_drift(made, out)
    console = _console()
    for line in (*(f"  {shift.told}" for shift in made.mattering), *made.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    written = f"written: {', '.join(map(str, files.values()))}"
    console.print(written, markup=False, highlight=False, soft_wrap=True)
    console.print(made.sentence, style="bold", markup=False, highlight=False, soft_wrap=True)


@app.command("agreement")
def agreement_command(
    data: Annotated[Path, typer.Argument(help="Table with the columns appeal, reviewer, head, code.")],
    scheme: Annotated[
        Path | None, typer.Option("--scheme", help="Label scheme of the labels; default: the shipped one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """How far reviewers agree: Krippendorff's alpha per head and pair, and what they confuse.

    Example: python -m evaluation agreement labels.csv
    """
    with _problems_told():
        from evaluation import agreement

        read_by = Scheme.load(scheme) if scheme else default_scheme()
        found = agreement.agreement(agreement.read_judged(data), read_by)
    if as_json:
        typer.echo(json.dumps([agreement.to_json(one) for one in found], ensure_ascii=False, indent=1))
        return
    console = _console()
    for one in found:
        console.print(pairs_table(one))
    for one in found:
        console.print(agreement.verdict(one), markup=False, highlight=False, soft_wrap=True)


@app.command("label-errors")
def label_errors_command(
    model: Annotated[str, typer.Argument(help="Model folder that was not trained on DATA, or 'shipped'.")],
    data: Data,
    mapping: MappingOption = None,
    scheme: SchemeOption = None,
    head: Heads = None,
    most: Annotated[int, typer.Option("--most", min=0, help="The worst of each head; 0: all.")] = 200,
    out: Annotated[Path, typer.Option("--out", help="CSV: id, head, given, said and probabilities.")] = Path(
        "reports/label-errors.csv"
    ),
) -> None:
    """Find labels that are probably wrong (confident learning), for people to look at.

    Example: python -m evaluation label-errors runs/default/model labels.csv --out suspects.csv
    """
    with _problems_told():
        from evaluation import label_errors

        predictor = scoring.load_model(model)
        rows = _rows(data, mapping, scheme, predictor, None).rows
        with _stages() as stage:
            advance = stage("answering", len(rows))
            answers = scoring.answer(predictor, rows, predictor.default_part, advance)
        chosen = scoring.chosen_heads(rows, predictor.heads, head or ())
        found = [one for name in chosen for one in label_errors.suspects(rows, answers, name, most)]
        label_errors.write_suspects(found, out)
    typer.echo(f"{len(found)} labels are probably wrong; written: {out}")


@app.command("memory-effect")
def memory_effect_command(
    model: Annotated[str, typer.Argument(help="Model folder, or 'shipped'.")] = "shipped",
    data: Annotated[Path | None, typer.Argument(help="Labelled file; default: the sample corpus.")] = None,
    mapping: MappingOption = None,
    folds: Folds = None,
    head: Heads = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of appeals that are corrected.")] = 1.0,
    threshold: Annotated[float, typer.Option(min=0, max=0.9999, help="Least cosine.")] = Rule.threshold,
    bound: Annotated[float, typer.Option(min=0, max=1, help="Most that is followed.")] = Rule.bound,
    resamples: Resamples = RESAMPLES,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Answer appeals in the order of time, without and with the memory of the corrections before them.

    Example: python -m evaluation memory-effect shipped appeals.csv --folds 7
    """
    with _problems_told():
        predictor, rule = scoring.load_model(model), Rule(threshold=threshold, bound=bound)
        labelled = _rows(data or SAMPLES, mapping, None, predictor, folds)
        with _stages() as stage:
            made = memory_effect(predictor, labelled, head or (), rule, share, resamples, stage)
    for shown in [json.dumps(made.to_json(), ensure_ascii=False)] if as_json else memory_tables(made):
        (typer.echo if as_json else _console().print)(shown)


@app.command("new-categories")
def new_categories_command(
    model: Annotated[str, typer.Argument(help="Model folder, or 'shipped'.")],
    data: Annotated[
        Path | None, typer.Argument(help="Labelled file instead of the service's database.")
    ] = None,
    mapping: MappingOption = None,
    scheme: SchemeOption = None,
    head: Annotated[str, typer.Option("--head", help="The head that may lack labels.")] = "category",
    catch_all: Annotated[
        list[str] | None,
        typer.Option("--catch-all", help="Code of what fits nowhere; repeatable. Default: by its name."),
    ] = None,
    least: Annotated[
        float, typer.Option("--least", min=0, max=1, help="Below this probability an answer is unsure.")
    ] = 0.3,
    smallest: Annotated[int, typer.Option("--smallest", min=2, help="Unrelated appeals of a cluster.")] = 10,
    most: Annotated[int, typer.Option("--most", min=1, help="Clusters.")] = 20,
    version: Annotated[str, typer.Option("--version", help="Of the proposed scheme; default: next.")] = "",
    database: Annotated[
        str, typer.Option(help="The service's database.", envvar=["JIESU_DATABASE_URL", "DATABASE_URL"])
    ] = "sqlite:///var/jiesu.db",
    out: Annotated[
        Path, typer.Option("--out", help="Folder for proposed.md, scheme.yaml, change.yaml.")
    ] = Path("reports/new-categories"),
) -> None:
    """Cluster appeals that fit no category and propose new ones, as a scheme change for a person to edit.

    Those that reviewers put into a catch-all or could not tell, and those that the model is unsure of.

    Example: python -m evaluation new-categories shipped --database sqlite:///var/jiesu.db
    """
    with _problems_told():
        from evaluation import new_categories as found_by
        from evaluation.new_categories_writing import write_proposed

        predictor = scoring.load_model(model)
        read_by = Scheme.load(scheme) if scheme else predictor.scheme
        wide = catch_all or found_by.catch_alls(read_by, head)
        with _stages() as stage:
            if data is not None:
                rows = _rows(data, mapping, scheme, predictor, None).rows
                open_ones = found_by.candidates_of_rows(rows, predictor, head, wide, least, stage)
            else:
                store = found_by.opened(database)
                open_ones = found_by.candidates_of_store(store, read_by, head, wide, least)
            found = found_by.propose_categories(open_ones, predictor, head, smallest, most, stage)
        files = write_proposed(found, read_by, version or f"{read_by.version}-proposed", out)
    for one in found.proposed:
        typer.echo(f"{one.appeals:5d} appeals, {one.groups} unrelated: {'、'.join(one.words[:6])}")
    total = sum(found.candidates.values())
    alone = f"{found.alone} like no others"
    typer.echo(f"{len(found.proposed)} clusters of {total} appeals that fit none, {alone}")
    typer.echo(f"written: {', '.join(map(str, files.values()))}")


def _print_speed(result: Result, files: Mapping[str, Path]) -> None:
    from evaluation.speed import tables

    console = _console()
    for line in (*result.circumstances, ""):
        console.print(line, markup=False, highlight=False)
    for grid in tables.grids(result):
        console.print(tables.rich_table(grid))
        for note in (*grid.notes, ""):
            console.print(note, markup=False, highlight=False, soft_wrap=True)
    for line in (*tables.words(result), f"written: {', '.join(map(str, files.values()))}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_comparison(made: Comparison, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(made.to_json(), ensure_ascii=False, indent=1))
        return
    console = _console()
    console.print(comparison_table(made))
    for line in (line for one in made.heads for line in changes_told(one)):
        console.print(line, markup=False, highlight=False)
    console.print(made.verdict, style="bold", markup=False, highlight=False, soft_wrap=True)


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
