"""A real PostgreSQL for tests: a cluster in a temporary folder, reached by a socket file, never by a port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

__all__ = ["POSTGRES_MISSING", "Postgres", "postgres_folder", "started_postgres"]

POSTGRES_MISSING = "PostgreSQL's programs are not installed (initdb, postgres); try: apt install postgresql"
USER = "jiesu"
SECONDS = 60.0  # for a start on a busy machine


def postgres_folder() -> Path | None:
    """Where initdb and postgres are; the newest version when there are several."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """One cluster. `stop` and `start` again are a database that goes away and comes back."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{USER}@/{name}?host={self._folder}"

    def fresh(self, like: str = "") -> str:
        """The URL of a new database: empty, or as the one of that URL, to which nobody may be connected."""
        name = f"t{uuid.uuid4().hex[:12]}"
        template = f' TEMPLATE "{_name(like)}"' if like else ""
        with self._admin() as connection:
            connection.execute(f'CREATE DATABASE "{name}"{template}'.encode())
        return self.url(name)

    def drop(self, url: str) -> None:
        """Delete a database, whoever is connected to it."""
        name = _name(url)
        with self._admin() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def create(self) -> None:
        """Make the cluster's files."""
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={USER}"]
        command = [str(self._programs / "initdb"), *options, str(self._folder / "data")]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, **_owner())

    def start(self) -> None:
        """Start, and wait until it answers. It syncs nothing: processes are killed here, not machines."""
        options = [f"-cunix_socket_directories={self._folder}", "-clisten_addresses=", "-cfsync=off"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", *options],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                **_owner(),
            )
        end = time.monotonic() + SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "log").read_text(encoding="utf-8")[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop as at a power cut: no goodbye to anyone connected."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(SECONDS)

    def _answers(self) -> bool:
        try:
            self._admin().close()
        except psycopg.OperationalError:
            return False
        return True

    def _admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url("postgres"), autocommit=True)


@contextmanager
def started_postgres(programs: Path) -> Iterator[Postgres]:
    """A running cluster, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="jiesu-pg-"))  # short: a socket's path has at most 107 bytes
    if os.getuid() == 0:
        os.chown(folder, _owner()["user"], -1)
    cluster = Postgres(programs, folder)
    try:
        cluster.create()
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _name(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


def _owner() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as its own user, or as nobody."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
