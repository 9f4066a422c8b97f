"""One process that answers at a port: taking the port, running the application, saying where it listens."""

from __future__ import annotations

import gc
import socket
import sys
from datetime import datetime

import orjson
import typer

from serving.errors import StartError
from serving.settings import Settings
from serving.together import Together

__all__ = ["EXAMPLE", "listen", "serve"]

EXAMPLE = "梧桐里小区3号楼门口的污水井盖不见了，晚上没有路灯，今天已经有老人差点踩空，请尽快派人处理。"
# Allocations between two searches for cyclic garbage, and how many of these go one generation deeper.
# Answers leave no cycles behind, and with Python's own 700 a tenth of the processor's time went into looking.
GARBAGE = (20_000, 50, 100)


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket at the port; ``shared``: several processes may take it, and the kernel deals connections out.

    Raises StartError when another program has it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(
            f"expected a free port at {host}:{port}, got: {error.strerror or error}; "
            "choose another one with --port"
        ) from error
    return listener


def serve(settings: Settings, listener: socket.socket, together: Together | None = None) -> None:
    """Answer at the socket until stopped.

    ``together``: one of several processes at this port; the first of them says where they listen.
    """
    import uvicorn

    from serving.app import create_app
    from serving.logs import set_up_logs

    set_up_logs(settings.log_level, settings.log_format, together.number if together else None)
    gc.set_threshold(*GARBAGE)
    application = create_app(settings, together=together)
    host, port = listener.getsockname()[:2]

    class Announcing(uvicorn.Server):
        """Says where it listens only when a pasted curl would be answered."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and (together is None or together.number == 0):
                _announce(host, port, application.state.service.problems, settings.environment)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            application.state.service.bulk.stop()  # a stream may be longer than any grace
            await super().shutdown(sockets)

    grace = max(1, round(settings.grace_seconds))
    config = uvicorn.Config(
        application,
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
