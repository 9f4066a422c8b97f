"""The serving room's commands: run, migrate, backup, classify, bulk."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import orjson
import typer

from data.cleaning import is_blank
from serving.errors import StartError
from serving.security.commands import audit_cli, keys_cli, originals_cli, purge_command, users_cli
from serving.server import EXAMPLE, listen, serve
from serving.terminal import told as _told
from serving.version_commands import models_cli

if TYPE_CHECKING:
    from serving.settings import Settings

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The service: answers a resident's appeal with its category, urgency, unit and decision.",
)
cli.add_typer(keys_cli, name="keys")
cli.add_typer(users_cli, name="users")
cli.add_typer(audit_cli, name="audit")
cli.add_typer(originals_cli, name="originals")
cli.add_typer(models_cli, name="models")
cli.command("purge", epilog="Example: python -m serving purge --older-than 730 --dry-run")(purge_command)


@cli.command(epilog="Example: python -m serving run --port 8000")
def run(
    host: Annotated[str | None, typer.Option(help="Address to listen on \\[default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one \\[default: 8000]")] = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes that share the port, at most one a core \\[default: 1]")
    ] = None,
) -> None:
    """Migrate the database, check the model, and answer until stopped (Ctrl+C).

    The database is DATABASE_URL (default: sqlite:///var/jiesu.db); every other setting is an
    environment variable JIESU_…. With JIESU_ENVIRONMENT=production (see docs/security.md) callers need
    keys, people sign in, and insecure settings refuse to start.
    """
    with _told():
        settings = _settings(host=host, port=port, processes=processes)
        _refuse_insecure(settings)
        if settings.processes > 1:
            from serving.processes import run_processes

            run_processes(settings)
        else:
            # The port is taken before the model is loaded: a taken one is told at once.
            with listen(settings.host, settings.port) as listener:
                serve(settings, listener)


@cli.command(epilog="Example: DATABASE_URL=sqlite:///var/jiesu.db python -m serving migrate")
def migrate() -> None:
    """Bring the database's tables to the newest version."""
    with _told():
        from data.store import Store

        store = Store.open(_settings().database_url)
        store.migrate()
        store.check()
        store.close()
        typer.echo("the database is up to date")


@cli.command(epilog="Example: python -m serving backup /backup/jiesu-2031-05-04.db")
def backup(file: Annotated[Path, typer.Argument(help="A new file for the copy")]) -> None:
    """Copy a SQLite database while the service runs; for PostgreSQL, say which command does it.

    To restore: stop the service, put the copy in the database's place (without the -wal and -shm
    files beside it), start the service.
    """
    with _told():
        from data.backup import back_up
        from data.database import Database
        from data.progress import progress_bars

        with progress_bars() as told:
            made = back_up(Database.open(_settings().database_url), file, told)
        typer.echo(f"{made.file}: {made.appeals} appeals, {made.size} bytes, checked")


@cli.command(epilog=f"Example: python -m serving classify {EXAMPLE[:20]}")
def classify(
    text: Annotated[str, typer.Argument(help="The resident's words; - reads standard input")],
    title: Annotated[str, typer.Option(help="Title of the appeal")] = "",
) -> None:
    """Print the answer for one text as JSON; no server, nothing stored."""
    with _told():
        from serving.answer import Asked, answer_one
        from serving.models import load_model

        settings = _settings()
        now = datetime.now(ZoneInfo(settings.timezone)).replace(microsecond=0)
        words = sys.stdin.read() if text == "-" else text
        if is_blank(words):
            raise StartError("expected a text, got nothing visible; put the text in quotation marks")
        answer = answer_one(load_model(settings), Asked(words, now, title))
        option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        sys.stdout.buffer.write(orjson.dumps(answer.model_dump(mode="json"), option=option))


@cli.command(epilog="Example: python -m serving bulk history.csv --out answers.ndjson")
def bulk(
    file: Annotated[Path, typer.Argument(help="CSV or NDJSON, in UTF-8 or GB18030; may end in .gz")],
    out: Annotated[Path | None, typer.Option(help="NDJSON file for the answers")] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="File for refused rows \\[default: FILE.rejects.ndjson]")
    ] = None,
    format: Annotated[str | None, typer.Option(help="csv or ndjson \\[default: by FILE's name]")] = None,
    mapping: Annotated[
        str | None, typer.Option(help="Mapping file (their columns → ours) for a CSV file")
    ] = None,
) -> None:
    """Classify and store the rows of a history file; no server needed.

    CSV columns: text, and any of id, title, received_at, channel, city, district, street, community,
    grid, declared_type. NDJSON lines: as POST /v1/appeals takes them. A row without an id gets one of
    its content. Stopped or killed, the same command goes on where it was; no row is stored twice.
    Exit status: 0 all rows are stored, 1 some were refused, 2 it cannot work, 130 or 143 stopped.
    """
    with _told():
        from serving.bulk.run import Files, run
        from serving.models import load_model

        report = run(Files(file, out, rejects, format, mapping), _settings(), load_model)
    for line in report.told():
        typer.echo(line)
    raise typer.Exit(report.exit_status)


def _settings(**given: object) -> Settings:
    from serving.settings import load_settings

    return load_settings(**given)


def _refuse_insecure(settings: Settings) -> None:
    """Before anything is loaded: the application refuses as well, but cannot tell it as plainly."""
    from serving.security.starting import look, refuse_insecure, warnings

    found = look(settings)
    for problem in warnings(found):
        typer.secho(f"warning: {problem}", fg="yellow", err=True)
    refuse_insecure(found)


if __name__ == "__main__":
    cli()
