"""`python -m data`: files of appeals, label schemes, and the labels that reviewers gave."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from data.appeals import Row
from data.crosswalk import Coverage, Crosswalk, coverage
from data.errors import DataError, MappingError
from data.mapping import FileMapping, LabelRule, load_mapping
from data.progress import progress_bars
from data.proposal import propose
from data.readers import read, read_all, require_columns
from data.report import data_report, print_report
from data.scheme import Scheme, default_scheme
from data.splits import FOLDS, folds_of_rows, group_rows, sides, split, split_by_time
from data.tables import read_table

if TYPE_CHECKING:
    from data.database import Database

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
schemes = typer.Typer(help="Label schemes.", no_args_is_help=True)
app.add_typer(schemes, name="schemes")
queues = typer.Typer(help="Review queues.", no_args_is_help=True)
app.add_typer(queues, name="queues")

_MAPPINGS = "A mapping file, or the name of a shipped one; without it the file has our columns."
_SCHEME = "A scheme file, 'default', or 'none' (labels as they are). Default: the default scheme if it fits."
_FILE = "CSV, TSV, JSONL (these also .gz), Parquet or Excel."
File = Annotated[Path, typer.Argument(help=_FILE, show_default=False)]
SchemeFile = Annotated[Path, typer.Argument(help="A label scheme (YAML).", show_default=False)]
MappingOption = Annotated[str, typer.Option("--mapping", "-m", help=_MAPPINGS, show_default=False)]
SchemeOption = Annotated[str, typer.Option("--scheme", "-s", help=_SCHEME, show_default=False)]

_DATABASE_URLS = ["JIESU_DATABASE_URL", "DATABASE_URL"]
_DATABASE = "The service's database, such as sqlite:///var/jiesu.db."
_LABEL_SCHEME = "The label scheme in force (YAML); default: the one that ships."
DatabaseOption = Annotated[str, typer.Option(help=_DATABASE, envvar=_DATABASE_URLS)]
_FORMATS = "dataset, jsonl, label-studio, argilla, doccano, or opinions (CSV; only written)."
SchemeFileOption = Annotated[
    Path | None, typer.Option("--scheme", "-s", help=_LABEL_SCHEME, show_default=False)
]
FormatOption = Annotated[str, typer.Option("--format", "-f", help=_FORMATS)]
OutOption = Annotated[
    Path | None, typer.Option(help="File to write; of a dataset the folder of all versions.")
]
IncludeOption = Annotated[str, typer.Option(help="labelled, waiting (nobody labelled them yet) or all.")]
DEFAULT_DATABASE = "sqlite:///var/jiesu.db"


def _examples(*lines: str) -> str:
    return "Example:\n\n" + "\n\n".join(f"[bold]python -m data {line}[/bold]" for line in lines)


@contextmanager
def _errors_shown() -> Iterator[None]:
    """What the data room refuses is the user's to correct: the message, no traceback, exit code 2."""
    try:
        yield
    except (DataError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@app.command(epilog=_examples("check orders.csv", "check orders.xlsx --mapping my_city.yaml --json out.json"))
def check(
    file: File,
    mapping: MappingOption = "",
    scheme: SchemeOption = "",
    top: Annotated[int, typer.Option(help="Labels shown of each head.")] = 20,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the report here as JSON too.")] = None,
) -> None:
    """Report what a file holds: labels, lengths, duplicates, conflicts, personal data, leaks, bad rows.

    Exit code 2 if there are bad rows. No text is shown.
    """
    with _errors_shown(), progress_bars() as progress:
        chosen, labels = _chosen(mapping, scheme)
        report = data_report(read_all(file, chosen, labels, progress), labels, progress)
    print_report(report, Console(), labels, top)
    if as_json is not None:
        with _errors_shown():
            as_json.write_text(json.dumps(report.as_json(), ensure_ascii=False, indent=2), encoding="utf-8")
    if report.bad:
        raise typer.Exit(2)


@app.command("split", epilog=_examples(
    "split orders.csv --out sides.csv --test-folds 6,7 --validation-folds 5",
    "split orders.csv --out sides.csv --by-time 2024-05-01"))  # fmt: skip
def split_command(
    file: File,
    out: Annotated[Path, typer.Option(help="CSV to write: id, line, group, fold, side.")],
    mapping: MappingOption = "",
    test_folds: Annotated[str, typer.Option(help=f"Folds (0 to {FOLDS - 1}) of the test side.")] = "7",
    validation_folds: Annotated[str, typer.Option(help="Folds of the validation side.")] = "6",
    by_time: Annotated[str, typer.Option(help="Test from this date on, instead of by folds.")] = "",
    validation_from: Annotated[str, typer.Option(help="With --by-time: validation from this date on.")] = "",
) -> None:
    """Split a file into train, validation and test; no near-duplicate group is on two sides."""
    with _errors_shown():
        rows = _good_rows(file, mapping)
        if by_time:
            result = split_by_time(rows, by_time, validation_from)
        else:
            result = split(rows, _numbers(test_folds), _numbers(validation_folds))
        side = {row.id: name for name, members in sides(result) for row in members}
        _write_groups(out, rows, [side[row.id] for row in rows])
    for name, count in Counter(side.values()).items():
        typer.echo(f"{name}: {count} rows")
    typer.echo(f"written: {out}")


@app.command(epilog=_examples("groups orders.csv --out groups.csv"))
def groups(
    file: File,
    mapping: MappingOption = "",
    out: Annotated[Path | None, typer.Option(help="CSV to write: id, line, group, fold.")] = None,
) -> None:
    """Find near-duplicate groups: how many, how large; with --out, the group and fold of each row."""
    with _errors_shown():
        rows = _good_rows(file, mapping)
        sizes = Counter(_groups(rows))
        if out is not None:
            _write_groups(out, rows)
    table = Table("rows in a group", "groups")
    for size, count in sorted(Counter(sizes.values()).items()):
        table.add_row(f"{size}", f"{count}")
    Console().print(table)
    if out is not None:
        typer.echo(f"written: {out}")


@schemes.command(epilog=_examples("schemes validate my_city.yaml"))
def validate(file: SchemeFile) -> None:
    """Check a label scheme; every error names its place, what was expected and what came."""
    with _errors_shown():
        scheme = Scheme.load(file)
    typer.echo(f"{scheme.name} {scheme.version}: valid, sha256 {scheme.sha256}")
    for head in scheme.heads.values():
        typer.echo(f"  {head.name} ({head.kind}): {len(head.codes)} labels")


@schemes.command("propose", epilog=_examples("schemes propose orders.csv --mapping my_city.yaml"))
def propose_command(
    file: File,
    mapping: MappingOption = "",
    name: Annotated[str, typer.Option(help="Name of the new scheme.")] = "my_city",
    version: Annotated[str, typer.Option(help="Its version.")] = "1",
    min_rows: Annotated[int, typer.Option(help="Leave out labels with fewer rows.")] = 1,
    out: Annotated[Path | None, typer.Option(help="File to write; default: the screen.")] = None,
) -> None:
    """Read a first label scheme off a labelled file, to be edited by hand."""
    with _errors_shown():
        text = propose(read(file, mapping or None), name, version, min_rows)
        if out is None:
            typer.echo(text)
        else:
            out.write_text(text, encoding="utf-8")
            typer.echo(f"written: {out}")


@app.command("coverage", epilog=_examples("coverage haikou orders.csv", "coverage my_city.yaml orders.csv"))
def coverage_command(
    mapping: Annotated[str, typer.Argument(help=_MAPPINGS, show_default=False)],
    file: File,
    scheme: SchemeOption = "",
    top: Annotated[int, typer.Option(help="Unknown labels shown of each crosswalk.")] = 10,
) -> None:
    """Count how many rows each crosswalk of a mapping covers, and which labels it lacks."""
    with _errors_shown():
        chosen = load_mapping(mapping)
        _, labels = _chosen(mapping, scheme)
        found = list(_coverages(chosen, file, labels or default_scheme()))
        if not found:
            raise MappingError(f"expected a mapping with a crosswalk, got none in '{mapping}'")
    for head, one in found:
        typer.echo(f"{head} by {one}")
        for label, count in list(one.unknown.items())[:top]:
            typer.echo(f"    unknown: {label} ({count} rows)")


@app.command("export", epilog=_examples(
    "export --name reviewed", "export --format label-studio --include waiting --out tasks.json"))  # fmt: skip
def export_command(
    format: FormatOption = "dataset",
    name: Annotated[str, typer.Option(help="Name of the dataset version.")] = "reviewed",
    out: OutOption = None,
    include: IncludeOption = "labelled",
    since: Annotated[str, typer.Option(help="Received from this day on.")] = "",
    until: Annotated[str, typer.Option(help="Received before this day.")] = "",
    district: Annotated[str, typer.Option(help="Only of this district.")] = "",
    scheme: SchemeFileOption = None,
    database: DatabaseOption = DEFAULT_DATABASE,
) -> None:
    """Write what reviewers labelled: an immutable dataset version, or a file for another labelling tool."""
    from data.labels.files import export_dataset, export_file, selected

    with _errors_shown(), progress_bars() as progress:
        labels, chosen = _label_scheme(scheme), selected(include, since, until, district)
        opened = _database(database)
        if format == "dataset":
            folder = out or Path("var/datasets")
            lines = export_dataset(opened, folder, name, labels, chosen, datetime.now(UTC), progress)
        else:
            lines = export_file(opened, out, format, labels, chosen, progress)
    for line in lines:
        typer.echo(line)


@app.command("import", epilog=_examples(
    "import project-1.json --format label-studio",
    "import ann.jsonl --format doccano --reviewer user:ann"))  # fmt: skip
def import_command(
    file: Annotated[Path, typer.Argument(help="What another tool exported.", show_default=False)],
    format: FormatOption,
    reviewer: Annotated[str, typer.Option(help="Who labelled, where the file does not say.")] = "",
    adjudicated: Annotated[bool, typer.Option(help="These labels are final.")] = False,
    scheme: SchemeFileOption = None,
    database: DatabaseOption = DEFAULT_DATABASE,
) -> None:
    """Take labels back: all of them, or none and a list of what is wrong, with lines (exit code 2)."""
    from data.labels.files import import_file

    with _errors_shown(), progress_bars() as progress:
        labels, opened = _label_scheme(scheme), _database(database)
        now = datetime.now(UTC)
        lines = import_file(opened, file, format, labels, now, reviewer, adjudicated, progress)
    for line in lines:
        typer.echo(line)


@schemes.command("diff", epilog=_examples("schemes diff 2024.yaml 2025.yaml --out change.yaml"))
def diff_command(
    old: SchemeFile,
    new: SchemeFile,
    out: Annotated[Path | None, typer.Option(help="File to write; default: the screen.")] = None,
) -> None:
    """Propose a change file between two versions of a label scheme; lines with `check` are guesses."""
    from data.scheme_diff import propose_change

    with _errors_shown():
        text = propose_change(Scheme.load(old), Scheme.load(new))
        if out is not None:
            out.write_text(text, encoding="utf-8")
    typer.echo(text if out is None else f"written: {out}")


@schemes.command("migrate", epilog=_examples(
    "schemes migrate change.yaml 2024.yaml 2025.yaml",
    "schemes migrate change.yaml 2024.yaml 2025.yaml --database sqlite:///var/jiesu.db"))  # fmt: skip
def migrate_command(
    change: Annotated[Path, typer.Argument(help="A change file (YAML).", show_default=False)],
    old: SchemeFile,
    new: SchemeFile,
    crosswalks: Annotated[Path | None, typer.Option(help="Folder to write a CSV per head to.")] = None,
    database: Annotated[str, typer.Option(help="Record it here, for good; default: only check.")] = "",
) -> None:
    """Check a change file and say what becomes of every label; with a database, record it for all readers.

    Nothing that is stored changes: labels under the old version are read in the new codes.
    """
    from data.scheme_migration import migrate

    with _errors_shown():
        opened = _database(database) if database else None
        lines = migrate(change, Scheme.load(old), Scheme.load(new), opened, crosswalks, datetime.now(UTC))
    for line in lines:
        typer.echo(line)


@queues.command("rules", epilog=_examples("queues rules", "queues rules --audit-share 0.05"))
def rules_command(
    audit_share: Annotated[float | None, typer.Option(help="Share of appeals in the audit slice.")] = None,
    double_share: Annotated[float | None, typer.Option(help="Share that two reviewers label.")] = None,
    by: Annotated[str, typer.Option(help="Who sets it.")] = "cli",
    database: DatabaseOption = DEFAULT_DATABASE,
) -> None:
    """Show the shares of audit and double review, or set them for appeals stored from now on."""
    from data.reviews import ReviewStore

    with _errors_shown():
        store = ReviewStore(_database(database))
        if audit_share is None and double_share is None:
            rules = store.rules()
        else:
            rules = store.set_rules(
                by, now=datetime.now(UTC), audit_share=audit_share, double_share=double_share
            )
    shares = f"audit {rules.audit_share:.1%}, double review {rules.double_share:.1%}"
    typer.echo(f"{shares}; set by {rules.set_by}")


@queues.command("rebuild", epilog=_examples("queues rebuild"))
def rebuild_command(database: DatabaseOption = DEFAULT_DATABASE) -> None:
    """Make all review queues anew; needed once for appeals stored by a version without them."""
    from data.reviews import ReviewStore

    with _errors_shown(), progress_bars() as progress:
        count = ReviewStore(_database(database)).rebuild_queues(progress)
    typer.echo(f"{count} appeals")


@queues.command("suspect", epilog=_examples("queues suspect reports/label-errors.csv"))
def suspect_command(
    file: Annotated[Path, typer.Argument(help="What `python -m evaluation label-errors` wrote.")],
    database: DatabaseOption = DEFAULT_DATABASE,
) -> None:
    """Have people look at labels that are probably wrong: put them into the queue `suspected`."""
    from data.labels.files import suspect_file

    with _errors_shown():
        lines = suspect_file(_database(database), file, datetime.now(UTC))
    for line in lines:
        typer.echo(line)


def _label_scheme(file: Path | None) -> Scheme:
    return default_scheme() if file is None else Scheme.load(file)


def _database(url: str) -> Database:
    from data.database import Database
    from data.errors import StoreError

    opened = Database.open(url)
    if opened.file is not None and not opened.file.exists():
        raise StoreError(f"expected a database at {opened.file}, found none; give its URL with --database")
    opened.check()
    return opened


def _coverages(mapping: FileMapping, file: Path, scheme: Scheme) -> Iterator[tuple[str, Coverage]]:
    table = read_table(file)
    require_columns(file, table, mapping)
    records = [record for _, record in table.records() if not mapping.drops(record)]
    for head, rules in mapping.heads.items():
        for rule in rules:
            if rule.crosswalk:
                crosswalk = Crosswalk.load(Path(rule.crosswalk), scheme, head)
                yield head, coverage(crosswalk, _labels(rule, records))


def _labels(rule: LabelRule, records: Sequence[dict[str, str]]) -> list[str]:
    return [label for record in records if (label := rule.label(record))]


def _chosen(mapping: str, scheme: str) -> tuple[FileMapping | None, Scheme | None]:
    chosen = load_mapping(mapping) if mapping else None
    if scheme == "none":
        return chosen, None
    if scheme and scheme != "default":
        return chosen, Scheme.load(Path(scheme))
    default = default_scheme()
    fits = scheme == "default" or chosen is None or set(chosen.heads) <= set(default.heads)
    return chosen, default if fits else None


def _good_rows(file: Path, mapping: str) -> list[Row]:
    """Rows for grouping: labels don't matter, so those that no scheme knows are taken as they are."""
    with progress_bars() as progress:
        return read_all(file, load_mapping(mapping) if mapping else None, None, progress).good_rows()


def _groups(rows: Sequence[Row]) -> list[str]:
    with progress_bars() as progress:
        return group_rows(rows, progress)


def _numbers(text: str) -> set[int]:
    try:
        return {int(part) for part in text.split(",") if part.strip()}
    except ValueError as error:
        raise DataError(f"expected folds such as 6,7, got '{text}'") from error


def _write_groups(out: Path, rows: Sequence[Row], side: Sequence[str] = ()) -> None:
    groups_of = group_rows(rows)
    folds = folds_of_rows(rows, groups=groups_of)
    names = ["id", "line", "group", "fold", *(["side"] if side else [])]
    with out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        for index, row in enumerate(rows):
            cells = [row.id, row.line, groups_of[index], folds[index]]
            writer.writerow([*cells, side[index]] if side else cells)


if __name__ == "__main__":
    app(prog_name="python -m data")
