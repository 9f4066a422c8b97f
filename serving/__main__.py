"""The serving room's commands: run, migrate, classify."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import orjson
import typer

from classifier.errors import ClassifierError
from data.cleaning import is_blank
from data.errors import DataError
from serving.errors import ServingError, StartError

if TYPE_CHECKING:
    from serving.settings import Settings

EXAMPLE = "梧桐里小区3号楼门口的污水井盖不见了，晚上没有路灯，今天已经有老人差点踩空，请尽快派人处理。"

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The service: answers a resident's appeal with its category, urgency, unit and decision.",
)


@cli.command(epilog="Example: python -m serving run --host 0.0.0.0 --port 8000")
def run(
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one [default: 8000]")] = None,
) -> None:
    """Migrate the database, check the model, and answer until stopped (Ctrl+C).

    The database is DATABASE_URL (default: sqlite:///var/jiesu.db); every other setting is an
    environment variable JIESU_….
    """
    with _told():
        settings = _settings(host=host, port=port)
        listener = _listen(settings)
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


@contextmanager
def _told() -> Iterator[None]:
    """Print what we refuse, and exit 2: a traceback is for bugs only."""
    try:
        yield
    except (ServingError, DataError, ClassifierError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _settings(**given: object) -> Settings:
    from serving.settings import load_settings

    return load_settings(**given)


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
    service_app = create_app(settings)
    host, port = listener.getsockname()[:2]

    class Announcing(uvicorn.Server):
        """Says where it listens only when a pasted curl would be answered."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _announce(host, port, service_app.state.service.problems)

    grace = max(1, round(settings.grace_seconds))
    config = uvicorn.Config(
        service_app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=grace,
    )
    Announcing(config).run(sockets=[listener])


def _announce(host: str, port: int, problems: dict[str, str]) -> None:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    address = f"http://{shown}:{port}"
    body = orjson.dumps({"id": f"demo-{datetime.now():%Y%m%d-%H%M%S}", "text": EXAMPLE}).decode()
    for part, problem in problems.items():
        typer.secho(f"{part} is not ready: {problem}", fg="red", err=True)
    typer.echo(f"page     {address}/\nready    {address}/readyz\nopenapi  {address}/openapi.json\n\ntry it:")
    typer.echo(f"curl -s {address}/v1/appeals -H 'Content-Type: application/json' -d '{body}'")
    sys.stdout.flush()


if __name__ == "__main__":
    cli()
