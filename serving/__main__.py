"""The serving room's commands: run, migrate, backup, classify, bulk."""

from __future__ import annotations

import gc
import socket
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
from serving.terminal import told as _told
from serving.version_commands import models_cli

if TYPE_CHECKING:
    from serving.settings import Settings

EXAMPLE = "梧桐里小区3号楼门口的污水井盖不见了，晚上没有路灯，今天已经有老人差点踩空，请尽快派人处理。"
# Allocations between two searches for cyclic garbage, and how many of these go one generation deeper.
# Answers leave no cycles behind, and with Python's own 700 a tenth of the processor's time went into looking.
GARBAGE = (20_000, 50, 100)

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
) -> None:
    """Migrate the database, check the model, and answer until stopped (Ctrl+C).

    The database is DATABASE_URL (default: sqlite:///var/jiesu.db); every other setting is an
    environment variable JIESU_…. With JIESU_ENVIRONMENT=production (see docs/security.md) callers need
    keys, people sign in, and insecure settings refuse to start.
    """
    with _told():
        settings = _settings(host=host, port=port)
        _refuse_insecure(settings)
        with _listen(settings) as listener:
            _serve(settings, listener)


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


def _listen(settings: Settings) -> socket.socket:
    """Take the port before the model is loaded: a taken one is told at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise StartError(
            f"expected a free port at {settings.host}:{settings.port}, got: {error.strerror or error}; "
            "choose another one with --port"
        ) from error
    return listener


def _serve(settings: Settings, listener: socket.socket) -> None:
    import uvicorn

    from serving.app import create_app
    from serving.logs import set_up_logs

    set_up_logs(settings.log_level, settings.log_format)
    gc.set_threshold(*GARBAGE)
    service_app = create_app(settings)
    host, port = listener.getsockname()[:2]

    class Announcing(uvicorn.Server):
        """Says where it listens only when a pasted curl would be answered."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _announce(host, port, service_app.state.service.problems, settings.environment)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            service_app.state.service.bulk.stop()  # a stream may be longer than any grace
            await super().shutdown(sockets)

    grace = max(1, round(settings.grace_seconds))
    config = uvicorn.Config(
        service_app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        timeout_graceful_shutdown=grace,
    )
    Announcing(config).run(sockets=[listener])


def _announce(host: str, port: int, problems: dict[str, str], environment: str) -> None:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    address = f"http://{shown}:{port}"
    body = orjson.dumps({"id": f"demo-{datetime.now():%Y%m%d-%H%M%S}", "text": EXAMPLE}).decode()
    for part, problem in problems.items():
        typer.secho(f"{part} is not ready: {problem}", fg="red", err=True)
    typer.echo(f"page     {address}/\nready    {address}/readyz\nopenapi  {address}/openapi.json\n\ntry it:")
    key = "" if environment == "development" else ' -H "Authorization: Bearer $KEY"'
    typer.echo(f"curl -s {address}/v1/appeals -H 'Content-Type: application/json'{key} -d '{body}'")
    sys.stdout.flush()


if __name__ == "__main__":
    cli()
