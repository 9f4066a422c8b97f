"""What refuses to start, and what is only told: one function per check, two tuples that list them.

In development everything runs without set-up, but not for the network. Outside of development each
check that finds something names what to set; the service starts when none does.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from data.access import Access
from data.database import Database
from data.errors import StoreError
from serving.errors import StartError
from serving.settings import DEFAULT_DATABASE, Settings

__all__ = ["REFUSED", "TOLD", "Circumstances", "look", "refuse_insecure", "warnings"]


@dataclass(frozen=True)
class Circumstances:
    """What the checks look at. `live_keys`: API keys in force; None while the database is away."""

    settings: Settings
    live_keys: int | None

    @property
    def production(self) -> bool:
        """Outside of development."""
        return self.settings.environment == "production"


Check = Callable[[Circumstances], str]  # what is wrong and what to set; empty: nothing


def development_on_a_network(found: Circumstances) -> str:
    """In development nobody is asked for a key, so only this machine may ask."""
    if found.production or _is_loopback(found.settings.host):
        return ""
    return (
        f"development listens on this machine only, got host {found.settings.host}: "
        "set JIESU_ENVIRONMENT=production (with keys), or --host 127.0.0.1"
    )


def no_keys(found: Circumstances) -> str:
    """A service nobody can call is a mistake, and tempts to open it wide."""
    if not found.production or found.live_keys is None or found.live_keys > 0:
        return ""
    return "no API key is in force: python -m serving keys create NAME --scope intake"


def no_tls(found: Circumstances) -> str:
    """Keys, passwords and residents' words must not cross a network in the clear."""
    if not found.production or found.settings.trusted_proxies:
        return ""
    return (
        "no proxy that terminates TLS is declared: set JIESU_TRUSTED_PROXIES to its address, "
        "e.g. 127.0.0.1 or 10.0.0.0/24"
    )


def every_proxy_trusted(found: Circumstances) -> str:
    """Whoever is trusted may write any client address, which rate limits and login throttling count by."""
    trusted = [part.strip() for part in found.settings.trusted_proxies.split(",")]
    if not found.production or not {"*", "0.0.0.0/0", "::/0"} & set(trusted):
        return ""
    return "JIESU_TRUSTED_PROXIES trusts everybody: name the proxy's address or network"


def insecure_cookie(found: Circumstances) -> str:
    """A cookie that may travel without TLS can be read on the way."""
    if not found.production or found.settings.secure_cookie:
        return ""
    return "the session cookie is not secure: unset JIESU_COOKIE_SECURE"


def readable_secrets(found: Circumstances) -> str:
    """A key that every account of the machine can read protects nothing."""
    files = (found.settings.originals_key, found.settings.audit_key)
    open_ones = [str(path) for path in files if path is not None and _others_may_read(path)]
    if not found.production or not open_ones:
        return ""
    return f"others may read {', '.join(open_ones)}: chmod 600 {' '.join(open_ones)}"


def default_database(found: Circumstances) -> str:
    """Fine for one machine; a second replica would not see it."""
    if not found.production or found.settings.database_url != DEFAULT_DATABASE:
        return ""
    return f"the database is {DEFAULT_DATABASE} (set DATABASE_URL for another, PostgreSQL for replicas)"


def readable_database(found: Circumstances) -> str:
    """Masked texts are still residents' words."""
    path = _database_file(found.settings)
    if not found.production or path is None or not _others_may_read(path):
        return ""
    return f"other accounts of this machine may read {path}: chmod 600 it, start with umask 077"


def password_in_the_clear(found: Circumstances) -> str:
    """PostgreSQL on another machine is reached without being asked for TLS."""
    url = _url(found.settings)
    if not found.production or url is None or url.get_backend_name() != "postgresql" or not url.host:
        return ""
    mode = str(url.query.get("sslmode", "prefer"))
    if _is_loopback(url.host) or mode in ("require", "verify-ca", "verify-full"):
        return ""
    return f"the database at {url.host} is reached with sslmode={mode}: add ?sslmode=verify-full"


def unkeyed_audit(found: Circumstances) -> str:
    """Whoever owns the database could write the whole chain anew; a key outside of it prevents that."""
    if not found.production or found.settings.audit_key:
        return ""
    return "the audit log's hashes are not keyed (set JIESU_AUDIT_KEY); keep anchors outside instead"


def no_rate_limit(found: Circumstances) -> str:
    """One caller could take all of the service's time."""
    settings = found.settings
    limited = settings.key_requests_per_second > 0 and settings.address_requests_per_second > 0
    if not found.production or limited:
        return ""
    return "a rate limit is switched off (JIESU_KEY_… or JIESU_ADDRESS_REQUESTS_PER_SECOND=0)"


def runs_as_root(found: Circumstances) -> str:
    """The service needs no rights but to its own files."""
    if not found.production or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return ""
    return "the service runs as root: give it an account of its own"


def everything_is_open(found: Circumstances) -> str:
    """Development says so loudly."""
    if found.production:
        return ""
    return (
        "DEVELOPMENT: no keys, no login, no rate limits; not for residents' real appeals "
        "(JIESU_ENVIRONMENT=production closes the service)"
    )


REFUSED: tuple[Check, ...] = (
    development_on_a_network,
    no_keys,
    no_tls,
    every_proxy_trusted,
    insecure_cookie,
)
TOLD: tuple[Check, ...] = (
    everything_is_open,
    default_database,
    readable_secrets,
    readable_database,
    password_in_the_clear,
    unkeyed_audit,
    no_rate_limit,
    runs_as_root,
)


def look(settings: Settings) -> Circumstances:
    """The circumstances of these settings; outside of development the database is asked for keys."""
    if settings.environment == "development":
        return Circumstances(settings, None)
    database = Database.open(settings.database_url)
    try:
        database.migrate()
        return Circumstances(settings, len(Access(database).live_keys(datetime.now(UTC))))
    except StoreError:  # away: nobody can be let in, and the service tells it on /readyz
        return Circumstances(settings, None)
    finally:
        database.close()


def refuse_insecure(found: Circumstances) -> None:
    """Raise StartError that lists everything to set before the service may start."""
    problems = [problem for check in REFUSED if (problem := check(found))]
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise StartError(f"insecure settings, the service does not start:\n{lines}")


def warnings(found: Circumstances) -> list[str]:
    """What does not stop the service but must be known."""
    return [problem for check in TOLD if (problem := check(found))]


def _is_loopback(host: str) -> bool:
    if host in ("localhost", ""):
        return host == "localhost"
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _others_may_read(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:  # told where the file is read
        return False
    return bool(mode & (stat.S_IRGRP | stat.S_IROTH))


def _database_file(settings: Settings) -> Path | None:
    url = _url(settings)
    if url is None or url.get_backend_name() != "sqlite" or not url.database:
        return None
    return Path(url.database)


def _url(settings: Settings) -> URL | None:
    try:
        return make_url(settings.database_url)
    except ArgumentError:  # told where the database is opened
        return None
