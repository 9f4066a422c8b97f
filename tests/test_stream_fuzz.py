"""Generated streams of rows, cut, gzipped and broken in any way: each line is answered, nothing breaks."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from serving.messages import Answer, Problem
from tests.bulk_requests import URL as BULK
from tests.fuzzing import MOMENTS, QUIET, fuzz
from tests.running import MANHOLE, running

STREAMS = 500
LIMIT = 4096  # bytes of a line, so that huge ones are cheap
IDS = st.sampled_from(["A", "B", "C", "乙", "2025-1"]) | st.from_regex(r"\A[A-Za-z0-9]{1,12}\Z")
TEXTS = st.text(max_size=60) | st.just(MANHOLE) | st.text("着火了救命漏气。谢1 \n", min_size=1, max_size=12)
APPEAL = st.fixed_dictionaries(
    {"id": IDS, "text": TEXTS},
    optional={"title": st.text(max_size=9), "received_at": MOMENTS.map(datetime.isoformat)},
)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
JSON = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(st.text(max_size=5), SCALAR, max_size=3)
ALMOST = st.tuples(APPEAL, st.dictionaries(st.sampled_from(["id", "text", "place", "more"]), JSON)).map(
    lambda two: two[0] | two[1]
)
ODD = (
    b"",
    b" \t",
    b"\r",
    b"{",
    b"null",
    b'{"id": "x", "text": "\\ud800"}',
    b'{"id": "x\\n", "text": "a"}',
    b'{"id": "x", "text": "\\u0000"}',
    b'{"id": "x", "text": NaN}',
    b'{"id": "x", "id": "y", "text": "a"}',
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"[" * 2000,
    b"\x85",
    b"\x1c",
)
HUGE = (b'{"id": "x", "text": "' + b"a" * LIMIT + b'"}', b"a" * (3 * LIMIT))
LINE = st.one_of(
    APPEAL.map(orjson.dumps),
    (ALMOST | JSON).map(json.dumps).map(str.encode),
    st.sampled_from(ODD),
    st.sampled_from(HUGE),
    st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")),
)


@dataclass(frozen=True)
class Stream:
    """A request body: its lines, how it is cut, and whether it is gzipped (and then cut short)."""

    lines: Sequence[bytes]
    ended: bool
    zipped: bool
    lost: int  # bytes that are missing at the end
    cuts: Sequence[float]

    def parts(self) -> list[bytes]:
        plain = b"\n".join(self.lines) + (b"\n" if self.ended else b"")
        sent = gzip.compress(plain, mtime=0) if self.zipped else plain
        sent = sent[: max(0, len(sent) - self.lost)]
        at = [0, *sorted(int(share * len(sent)) for share in self.cuts), len(sent)]
        return [sent[a:b] for a, b in itertools.pairwise(at)]


STREAM = st.builds(
    Stream,
    lines=st.lists(LINE, max_size=12) | st.lists(APPEAL.map(orjson.dumps), max_size=80),
    ended=st.booleans(),
    zipped=st.booleans(),
    lost=st.just(0) | st.integers(0, 30),
    cuts=st.lists(st.floats(0, 1, exclude_max=True), max_size=8),
)


async def posted(app: ASGIApp, parts: Sequence[bytes], headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of a bulk request that comes in these very parts."""
    coming = iter([*((part, True) for part in parts), (b"", False)])
    told: list[Message] = []

    async def receive() -> Message:
        part, more = next(coming)
        return {"type": "http.request", "body": part, "more_body": more}

    async def send(message: Message) -> None:
        told.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "root_path": "",
        "path": BULK, "raw_path": BULK.encode(), "query_string": b"", "client": ("test", 1),
        "server": ("test", 80), "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    await app(scope, receive, send)
    assert not told[-1]["more_body"]
    return told[0]["status"], b"".join(message.get("body", b"") for message in told)


def arrived(stream: Stream) -> list[bytes]:
    """The lines that a stream delivers when all of it arrives."""
    plain = b"\n".join(stream.lines) + (b"\n" if stream.ended else b"")
    return (plain if stream.zipped else plain[: max(0, len(plain) - stream.lost)]).split(b"\n")


def wanted_lines(lines: Sequence[bytes]) -> list[int]:
    """Numbers of the lines that must be answered: all but blank ones; a huge one is never blank."""
    first = [lines[0].removeprefix(b"\xef\xbb\xbf") if len(lines[0]) <= LIMIT else lines[0], *lines[1:]]
    return [n for n, line in enumerate(first, 1) if len(line) > LIMIT or line.strip()]


def check_stream(app: ASGIApp, call: Callable[..., Any], seen: Counter[Any], stream: Stream) -> None:
    headers = {"Content-Type": "application/x-ndjson"} | (
        {"Content-Encoding": "gzip"} if stream.zipped else {}
    )
    status, told = call(functools.partial(posted, app, stream.parts(), headers))
    assert status == 200, told
    *lines, last = [orjson.loads(line) for line in told.splitlines()]
    cut_short = stream.zipped and stream.lost > 0
    check_end(lines, last, cut_short and bool(b"".join(stream.parts())))
    numbers = [line["line"] for line in lines]
    wanted = wanted_lines(arrived(stream))
    if cut_short:
        assert len(numbers) <= len(wanted) and numbers[:-1] == wanted[: len(numbers[:-1])]
    else:
        assert numbers == wanted
    for line in lines:
        check_line(line)
        seen[line["status"]] += 1


def check_end(lines: Sequence[dict[str, Any]], last: dict[str, Any], broken: bool) -> None:
    """The last line counts the others, and says whether the stream was whole."""
    statuses = dict(sorted(Counter(str(line["status"]) for line in lines).items()))
    assert last["end"] == {"rows": len(lines), "statuses": statuses, "complete": not broken}
    if broken:
        assert Problem.model_validate({"error": last["error"]}).error.code == "invalid_input"


def check_line(line: dict[str, Any]) -> None:
    """A line is an answer or a problem, with a status that a single request could have had."""
    if line["status"] in (200, 201):
        assert set(line) == {"line", "id", "status", "answer"}
        assert Answer.model_validate(line["answer"]).id == line["id"]
        return
    assert line["status"] in (409, 413, 422), line
    assert set(line) == {"line", "id", "status", "error"}
    assert Problem.model_validate({"error": line["error"]}).error.message
    assert line["id"] is None or re.fullmatch(r"[^\s\x00-\x1f]{1,128}", line["id"]), line


def test_generated_streams(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    seen: Counter[Any] = Counter()
    with running(tmp_path, max_body_bytes=LIMIT, **QUIET) as client:
        assert client.portal is not None
        check = functools.partial(check_stream, client.app, client.portal.call, seen)
        fuzz(pytestconfig, STREAM, check, STREAMS)
    assert all(seen[status] >= 5 for status in (200, 201, 409, 413, 422)), seen
