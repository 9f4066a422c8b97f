"""Logs: one line per event, JSON for machines or plain for a terminal; never a resident's words.

Our own events hold numbers, codes and ids. What libraries log may quote what they worked on: of theirs
only the place is told, and of an exception its class and where it was raised, never its message.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson

__all__ = ["JsonLines", "PlainLines", "log", "request_id", "set_up_logs", "trace_id"]

LOGGER = "jiesu"
TRUSTED = (LOGGER, "uvicorn", "opentelemetry")  # their messages are constants, addresses and numbers
FRAMES = 8  # of an exception, the innermost ones
request_id: ContextVar[str] = ContextVar("request_id", default="")
trace_id: ContextVar[str] = ContextVar("trace_id", default="")


def log(event: str, level: int = logging.INFO, raised: BaseException | None = None, **facts: Any) -> None:
    """Write one event with its facts (numbers, codes, ids; never text of an appeal).

    Of `raised` the class and the places are written, not the message.
    """
    logger = logging.getLogger(LOGGER)
    if logger.isEnabledFor(level):
        info = (type(raised), raised, raised.__traceback__) if raised else None
        # Made here: logging would walk the stack at every event for a place that we never tell.
        record = logging.LogRecord(LOGGER, level, "", 0, event, (), info)
        record.__dict__["facts"] = facts
        logger.handle(record)


def set_up_logs(level: str, form: Literal["json", "text"], process: int | None = None) -> None:
    """Send the service's log, and the warnings of everything else, to standard error in one form.

    `process`: the number of this one of several, told with every event.
    """
    handler = _Own()
    if process is not None:
        handler.addFilter(_Numbered(process))
    handler.setFormatter(JsonLines() if form == "json" else PlainLines())
    for name, least in ((LOGGER, level.upper()), ("uvicorn", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least)
    root = logging.getLogger()
    root.handlers = [*(one for one in root.handlers if not isinstance(one, _Own)), handler]
    logging.captureWarnings(True)
    # Looked up for every event, and told with none.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class _Own(logging.Handler):
    """Writes to standard error; of an event that cannot be written it tells no more than that."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # logging's own way out would print the record with all it holds
            line = f'{{"level":"error","event":"log_failed","exception":"{type(error).__name__}"}}'
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


class _Numbered(logging.Filter):
    """Adds the process's number to the facts of every event."""

    def __init__(self, process: int) -> None:
        super().__init__()
        self._process = process

    def filter(self, record: logging.LogRecord) -> bool:
        record.facts = {"process": self._process, **getattr(record, "facts", {})}
        return True


def _event(record: logging.LogRecord) -> str:
    """Of several lines the last: uvicorn tells why an application did not start as a whole traceback."""
    told = record.getMessage() if record.name.split(".")[0] in TRUSTED else "library"
    return told.strip().rsplit("\n", 1)[-1]


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = dict(getattr(record, "facts", {}))
    if not record.name.startswith(LOGGER):
        facts |= {"logger": record.name, "place": f"{_short(record.pathname)}:{record.lineno}"}
    for name, known in (("request_id", request_id.get()), ("trace_id", trace_id.get())):
        if known:
            facts[name] = known
    if record.exc_info and record.exc_info[0]:
        facts["exception"] = record.exc_info[0].__name__
        facts["raised_at"] = _places(record.exc_info[1])
    return facts


def _places(error: BaseException | None) -> list[str]:
    """file:line function, from the outside in; no values."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:] if error else []
    return [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


class JsonLines(logging.Formatter):
    """{"at": …, "level": …, "event": …, facts…} on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _event(record),
        }
        line |= _facts(record)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class PlainLines(logging.Formatter):
    """time level event key=value …: for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        facts = " ".join(f"{key}={value}" for key, value in _facts(record).items())
        line = f"{at} {record.levelname.lower():7} {_event(record)} {facts}".rstrip()
        return " ".join(line.splitlines())
