"""Commands about who may come in, what was noted, and what is kept: keys, users, audit, originals, purge."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from serving.errors import StartError
from serving.terminal import at_terminal, told

if TYPE_CHECKING:
    from data.access import Access
    from data.audit import Anchor, AuditLog, Entry
    from data.database import Database
    from serving.settings import Settings

__all__ = ["audit_cli", "keys_cli", "originals_cli", "purge_command", "users_cli"]

NAME = r"[\w.@-]{1,64}"
keys_cli = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")
users_cli = typer.Typer(no_args_is_help=True, help="People who may sign in at the page.")
audit_cli = typer.Typer(no_args_is_help=True, help="The audit log: verify, export, anchor.")
originals_cli = typer.Typer(no_args_is_help=True, help="Keys of encrypted originals.")


# --- keys ---------------------------------------------------------------------------------------


@keys_cli.command("create", epilog="Example: python -m serving keys create intake-system --scope intake")
def create_key(
    name: Annotated[str, typer.Argument(help="The client; two keys of one name are one client")],
    scope: Annotated[list[str], typer.Option(help="intake, review, train or operate; may be repeated")],
    days: Annotated[int, typer.Option(min=0, help="Days until it expires; 0: never")] = 365,
) -> None:
    """Make a key and show it this once; only its hash is stored."""
    with _access() as access:
        from serving.security.keys import make_key

        now = datetime.now(UTC)
        key = make_key(_name(name), _scopes(scope), now + timedelta(days=days) if days else None)
        access.add_key(key.stored, at_terminal(), now)
        typer.echo(key.shown)
        typer.echo("keep it now: it is not shown again. Send it as  Authorization: Bearer <key>", err=True)


@keys_cli.command("list", epilog="Example: python -m serving keys list")
def list_keys() -> None:
    """Show all keys by their public prefix."""
    with _access() as access:
        now = datetime.now(UTC)
        rows = [
            (
                key.prefix,
                key.name,
                " ".join(sorted(key.scopes)),
                "in force" if key.live(now) else "revoked" if key.revoked_at else "expired",
                _day(key.created_at),
                _day(key.expires_at),
                _day(key.last_used_at),
            )
            for key in access.all_keys()
        ]
        _table(("prefix", "name", "scopes", "state", "created", "expires", "last used"), rows)


@keys_cli.command("revoke", epilog="Example: python -m serving keys revoke k7m2p9xwqa")
def revoke_key(prefix: Annotated[str, typer.Argument(help="As keys list shows it")]) -> None:
    """End a key for good; running services feel it within seconds."""
    with _access() as access:
        access.revoke_key(prefix, at_terminal(), datetime.now(UTC))
        typer.echo(f"revoked {prefix}")


# --- users --------------------------------------------------------------------------------------


@users_cli.command("create", epilog="Example: python -m serving users create ming --role reviewer")
def create_user(
    name: str,
    role: Annotated[str, typer.Option(help="reviewer, lead, trainer or operator")],
    stdin: Annotated[bool, typer.Option(help="Read the password from standard input")] = False,
) -> None:
    """Add a person; asks for the password."""
    with _access() as access:
        plain, role = _user_name(name), _role(role)
        access.add_user(plain, _password_hash(plain, stdin), role, at_terminal(), datetime.now(UTC))
        typer.echo(f"created {plain} ({role})")


@users_cli.command("list", epilog="Example: python -m serving users list")
def list_users() -> None:
    """Show everybody."""
    with _access() as access:
        rows = [
            (
                user.name,
                user.role,
                "disabled" if user.disabled_at else "in force",
                _day(user.created_at),
                _day(user.password_at),
                _day(user.last_login_at),
            )
            for user in access.all_users()
        ]
        _table(("name", "role", "state", "created", "password", "last login"), rows)


@users_cli.command("password", epilog="Example: python -m serving users password ming")
def set_password(
    name: str, stdin: Annotated[bool, typer.Option(help="Read the password from standard input")] = False
) -> None:
    """Set a new password; ends all of their sessions."""
    with _access() as access:
        plain = _user_name(name)
        access.set_password(plain, _password_hash(plain, stdin), at_terminal(), datetime.now(UTC))
        typer.echo(f"new password for {plain}; their sessions have ended")


@users_cli.command("role", epilog="Example: python -m serving users role ming --role lead")
def set_role(
    name: str, role: Annotated[str, typer.Option(help="reviewer, lead, trainer or operator")]
) -> None:
    """Give another role; ends all of their sessions."""
    with _access() as access:
        access.set_role(_user_name(name), _role(role), at_terminal())
        typer.echo(f"{name} is {role} now; their sessions have ended")


@users_cli.command("disable", epilog="Example: python -m serving users disable ming")
def disable_user(name: str) -> None:
    """Let a person in no more; ends all of their sessions at once."""
    with _access() as access:
        access.disable_user(_user_name(name), at_terminal(), datetime.now(UTC))
        typer.echo(f"disabled {name}")


@users_cli.command("enable", epilog="Example: python -m serving users enable ming")
def enable_user(name: str) -> None:
    """Let a disabled person in again."""
    with _access() as access:
        access.enable_user(_user_name(name), at_terminal())
        typer.echo(f"enabled {name}")


# --- audit --------------------------------------------------------------------------------------


@audit_cli.command("verify", epilog="Example: python -m serving audit verify --anchors anchors.jsonl")
def verify_audit(
    anchors: Annotated[Path | None, typer.Option(help="Lines that `audit anchor` printed")] = None,
    file: Annotated[Path | None, typer.Option(help="An exported log instead of the database")] = None,
) -> None:
    """Follow the chain; names every entry that was changed, removed or moved, and exits 1."""
    with _audit() as (log, key):
        from data.audit import verify

        found = verify(_exported(file) if file else log.entries(), key, _anchors(anchors))
        head = found.head
        typer.echo(f"{found.entries} entries, {found.keyed} keyed; newest {head.number} {head.hash}")
        for problem in found.problems:
            typer.secho(problem, fg="red", err=True)
    if found.problems:
        raise typer.Exit(1)


@audit_cli.command("export", epilog="Example: python -m serving audit export > audit.jsonl")
def export_audit() -> None:
    """Print all entries, one JSON object a line, as `audit verify --file` reads them."""
    with _audit() as (log, _):
        for entry in log.entries():
            sys.stdout.buffer.write(orjson.dumps(entry.line(), option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()


@audit_cli.command("anchor", epilog="Example: python -m serving audit anchor >> /mnt/elsewhere/anchors.jsonl")
def anchor_audit() -> None:
    """Note the newest entry's hash for a place that the database's owner cannot change."""
    with _audit() as (log, _):
        entry = log.add(at_terminal(), "audit.anchored", "audit")
        sys.stdout.buffer.write(orjson.dumps({"number": entry.number, "hash": entry.hash}) + b"\n")
        sys.stdout.flush()


# --- originals and retention --------------------------------------------------------------------


@originals_cli.command("key", epilog="Example: python -m serving originals key /etc/jiesu/originals.key")
def make_original_key(file: Annotated[Path, typer.Argument(help="A new file")]) -> None:
    """Make a key for encrypted originals, in a file that only its owner can read."""
    with told():
        from serving.security.sealing import make_key_file

        make_key_file(file)
        typer.echo(f"made {file}; keep a copy, but apart from the database's backups")


@originals_cli.command("rotate", epilog="Example: python -m serving originals rotate")
def rotate_originals() -> None:
    """Seal every original with the first key of JIESU_ORIGINALS_KEY; then older lines may go."""
    with _database() as (settings, database):
        from data.originals import Originals
        from data.progress import progress_bars
        from serving.security.sealing import Sealer

        if settings.originals_key is None:
            raise StartError("expected JIESU_ORIGINALS_KEY to name the file of keys, got nothing")
        sealer, originals = Sealer.read(settings.originals_key), Originals(database, _audit_key(settings))
        left, done = sum(originals.count(but=sealer.key_id).values()), 0
        with progress_bars() as show:
            while batch := originals.reseal(sealer.key_id, sealer.renew, at_terminal()):
                done += batch
                show("sealing anew", done, left)
        typer.echo(f"sealed {done} originals with key {sealer.key_id}")


def purge_command(
    older_than: Annotated[int, typer.Option(min=1, help="Days since an appeal was received or stored")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count")] = False,
) -> None:
    """Delete old appeals with their answers and originals, in batches; noted in the audit log."""
    with _database() as (settings, database):
        from data.progress import progress_bars
        from data.purge import purge

        before, key = datetime.now(UTC) - timedelta(days=older_than), _audit_key(settings)
        total = purge(database, before, at_terminal(), dry_run=True)
        if not dry_run:
            with progress_bars() as show:
                total = purge(
                    database,
                    before,
                    at_terminal(),
                    audit_key=key,
                    on_batch=lambda done: show("deleting appeals", done, total["appeals"]),
                )
        told_counts = ", ".join(f"{number} {table}" for table, number in total.items())
        typer.echo(f"{'would delete' if dry_run else 'deleted'} {told_counts} from before {before:%Y-%m-%d}")


# --- what they share ----------------------------------------------------------------------------


@contextmanager
def _database() -> Iterator[tuple[Settings, Database]]:
    with told():
        from data.database import Database
        from serving.settings import load_settings

        settings = load_settings()
        database = Database.open(settings.database_url)
        database.migrate()
        try:
            yield settings, database
        finally:
            database.close()


@contextmanager
def _access() -> Iterator[Access]:
    with _database() as (settings, database):
        from data.access import Access

        yield Access(database, _audit_key(settings))


@contextmanager
def _audit() -> Iterator[tuple[AuditLog, bytes | None]]:
    with _database() as (settings, database):
        from data.audit import AuditLog

        key = _audit_key(settings)
        yield AuditLog(database, key), key


def _audit_key(settings: Settings) -> bytes | None:
    from serving.security.sealing import read_secret

    return read_secret(settings.audit_key, "JIESU_AUDIT_KEY") if settings.audit_key else None


def _name(name: str) -> str:
    import re

    if not re.fullmatch(NAME, name):
        raise StartError(f"expected a name of 1 to 64 letters, digits and . _ @ -, got {name[:80]!r}")
    return name


def _user_name(name: str) -> str:
    from serving.security.login import plain_name

    return _name(plain_name(name))


def _scopes(given: list[str]) -> list[str]:
    from serving.security.roles import SCOPES

    if strange := sorted(set(given) - SCOPES):
        raise StartError(f"expected scopes out of {', '.join(sorted(SCOPES))}, got {', '.join(strange)}")
    return given


def _role(given: str) -> str:
    from serving.security.roles import ROLES

    if given not in ROLES:
        raise StartError(f"expected one of the roles {', '.join(ROLES)}, got {given!r}")
    return given


def _password_hash(name: str, stdin: bool) -> str:
    from serving.security.passwords import Passwords, accept

    if stdin:
        given = sys.stdin.readline().rstrip("\r\n")
    else:
        given = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return Passwords().hash(accept(given, name))


def _anchors(path: Path | None) -> list[Anchor]:
    from data.audit import Anchor

    return [Anchor(int(line["number"]), str(line["hash"])) for line in _lines(path)] if path else []


def _exported(path: Path) -> Iterator[Entry]:
    from data.audit import entry_of

    for number, line in enumerate(_lines(path), 1):
        try:
            yield entry_of(line)
        except (KeyError, TypeError, ValueError) as error:
            raise StartError(f"expected an exported entry at {path}:{number}, got: {error}") from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                read = orjson.loads(line)
                if not isinstance(read, dict):
                    raise StartError(f"expected a JSON object at {path}:{number}")
                yield read
    except (OSError, orjson.JSONDecodeError) as error:
        raise StartError(f"expected lines of JSON in {path}, got: {error}") from error


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
