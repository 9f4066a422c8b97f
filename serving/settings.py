"""The one settings object of the service: environment variables JIESU_*, unknown ones refused."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.errors import StartError

__all__ = ["Settings", "load_settings"]

PREFIX = "JIESU_"
DEFAULT_DATABASE = "sqlite:///var/jiesu.db"


class Settings(BaseSettings):
    """Everything an operator may set. Two also read a name usual elsewhere: DATABASE_URL, OTEL_…_ENDPOINT."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, populate_by_name=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    database_url: str = Field(
        DEFAULT_DATABASE, validation_alias=AliasChoices(f"{PREFIX}DATABASE_URL", "DATABASE_URL")
    )
    model_dir: Path | None = None  # one model folder; empty: the registry's champion, or the shipped one
    registry_dir: Path | None = None
    scheme: Path | None = None  # the label scheme in force; empty: each model's own
    dispatch_table: Path | None = None  # CSV; empty: the one that ships
    holidays: Path | None = None  # one day a line, as serving.decision.WorkingDays reads them
    timezone: str = "Asia/Shanghai"
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    answer_seconds: float = Field(30.0, gt=0)  # deadline of one request
    grace_seconds: float = Field(35.0, ge=0)  # how long a stop waits; over answer_seconds, none is dropped
    heal_seconds: float = Field(2.0, gt=0)  # pause between tries to load or connect again
    processes: int = Field(1, ge=1, le=64)  # that share the port, each a whole service; at most one per core
    model_workers: int = Field(0, ge=0, le=64)  # batches at a time of a process; 0: one per core it has
    batch_texts: int = Field(32, ge=1)
    batch_tokens: int = Field(1024, ge=1)  # of one batch: longest text × texts; more gains nothing
    batch_seconds: float = Field(10.0, gt=0)  # after which a batch counts as hung
    queue_texts: int = Field(1024, ge=1)
    queue_chars: int = Field(4_000_000, ge=1)
    queue_rows: int = Field(4096, ge=1)  # answered appeals that wait for the disk
    shadow_share: float = Field(1.0, ge=0, le=1)  # of the appeals, that the shadow is shown; 0: none
    shadow_texts: int = Field(256, ge=1)  # answered appeals that wait for the shadow; more are dropped
    upload_bytes: int = Field(1024**3, ge=0)  # of a model version sent to /v1/versions; 0: none is taken
    bulk_texts: int = Field(64, ge=1)  # rows of all bulk streams together that may be in the queue at once
    bulk_streams: int = Field(4, ge=1)  # bulk requests at a time
    bulk_idle_seconds: float = Field(60.0, gt=0)  # a bulk client that neither sends nor takes is given up
    environment: Literal["development", "production"] = "development"
    trusted_proxies: str = ""  # addresses or networks of the proxy that terminates TLS, separated by commas
    cookie_secure: bool | None = None  # empty: outside of development
    session_idle_minutes: float = Field(60.0, gt=0)
    session_hours: float = Field(12.0, gt=0, le=24 * 30)
    key_refresh_seconds: float = Field(2.0, gt=0)  # how soon a new or revoked key is felt
    key_requests_per_second: float = Field(100.0, ge=0)  # of each key or user; 0: no limit
    key_requests_burst: int = Field(1000, ge=1)
    address_requests_per_second: float = Field(10.0, ge=0)  # of each address without a key
    address_requests_burst: int = Field(100, ge=1)
    correction_memory: bool = True  # whether look-alikes that people corrected adjust an answer
    correction_memory_appeals: int = Field(20_000, ge=1)  # the newest ones are kept
    correction_memory_seconds: float = Field(2.0, gt=0)  # how soon a correction of another replica is felt
    lease_minutes: float = Field(15.0, gt=0, le=24 * 60)  # an appeal is one reviewer's for so long
    audit_key: Path | None = None  # file with a secret that keys the audit log's hashes
    originals_key: Path | None = None  # file with keys for encrypted originals; empty: they are not kept
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"
    tracing_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        validation_alias=AliasChoices(f"{PREFIX}TRACING_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    )  # an OpenTelemetry collector (OTLP over HTTP); empty: no tracing
    tracing_share: float = Field(1.0, ge=0, le=1)  # of requests that are traced

    @property
    def secure_cookie(self) -> bool:
        """Whether the session cookie travels over TLS only."""
        return self.environment == "production" if self.cookie_secure is None else self.cookie_secure

    @property
    def workers(self) -> int:
        """Batches that the model of one process answers at a time."""
        return self.model_workers or min(64, self._own_cores)

    @property
    def worker_threads(self) -> int:
        """Cores for each: two batches on a core each are done sooner than one after the other on both."""
        return max(1, self._own_cores // self.workers)

    @property
    def _own_cores(self) -> int:
        """A process's share of the machine."""
        return max(1, _cores() // self.processes)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"expected a time zone like Asia/Shanghai, got {name!r}") from error
        return name


def load_settings(**given: object) -> Settings:
    """Settings from the environment, overridden by those given (None counts as not given).

    Raises StartError that lists every wrong or unknown variable.
    """
    problems = _unknown_variables()
    if problems:
        raise StartError("\n".join(problems))
    try:
        return Settings(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise StartError("wrong settings:\n" + "\n".join(f"  {line}" for line in lines)) from error


def _unknown_variables() -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    strange = [name for name in os.environ if name.startswith(PREFIX) and name not in known]
    return [_refusal(name, known) for name in sorted(strange)]


def _refusal(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown setting {name}: " + (f"did you mean {close[0]}?" if close else "unset it")


def _cores() -> int:
    return len(os.sched_getaffinity(0))
