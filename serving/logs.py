"""Logs: one line per event, JSON for machines or plain for a terminal; never a resident's words."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

__all__ = ["JsonLines", "PlainLines", "log", "request_id", "set_up_logs"]

LOGGER = "jiesu"
request_id: ContextVar[str] = ContextVar("request_id", default="")


def log(event: str, level: int = logging.INFO, **facts: Any) -> None:
    """Write one event with its facts (numbers, codes, ids; never text of an appeal)."""
    logging.getLogger(LOGGER).log(level, event, extra={"facts": facts})


def set_up_logs(level: str, form: Literal["json", "text"]) -> None:
    """Send the service's log, and the server's warnings, to standard error in one form."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else PlainLines())
    for name, least in ((LOGGER, level.upper()), ("uvicorn", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = dict(getattr(record, "facts", {}))
    if request_id.get():
        facts["request_id"] = request_id.get()
    if record.exc_info and record.exc_info[0]:
        facts["exception"] = record.exc_info[0].__name__
    return facts


class JsonLines(logging.Formatter):
    """{"at": …, "level": …, "event": …, facts…} on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_facts(record),
        }
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class PlainLines(logging.Formatter):
    """time level event key=value …: for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        facts = " ".join(f"{key}={value}" for key, value in _facts(record).items())
        return f"{at} {record.levelname.lower():7} {record.getMessage()} {facts}".rstrip()
