"""Wrong, strange and hostile input: a clear refusal or a sound answer, never a 5xx, never a hang."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.messages import ClassifyOut, Problem
from tests.fakes import FakePredictor
from tests.running import JSON, MANHOLE, appeal, loads, problem, running, settings


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One application for the tests that leave nothing behind that another one would see."""
    with running(tmp_path_factory.mktemp("api")) as client:
        yield client


SOUND = {
    "emoji only": "😀🚒🔥👨‍👩‍👧‍👦",
    "English": "The street lamp in front of my house has been broken for two weeks.",
    "binary rubbish": bytes(range(1, 256)).decode("latin-1") * 4,
    "control characters and one word": "\x00\x01\x02井\x00盖\x1b[31m",
    "marks": "？？？！！！……",
    "one character": "水",
    "right to left": "\u202eمرحبا\u202c",
    "many combining marks": "a" + "\u0301" * 5000,
    "markup": "<script>alert(1)</script>井盖<img src=x onerror=alert(1)>" * 40,
    "formula": "=cmd|' /C calc'!A0",
    "statement": "'; DROP TABLE appeals; --",
    "100,000 characters": "路灯坏了没人修，" * 12_500,
    "100,000 times one character": "火" * 100_000,
    "100,000 traditional characters": "請儘快處理這個問題，" * 10_000,
    "100,000 digits": "1" * 100_000,
    "100,000 numerals": "好几" * 50_000,
    "numerals and commas": "一二三四五六七八九十，" * 9_000,
    "100,000 brackets": "（" * 100_000,
    "25,000 phone numbers' worth": "13912345678 " * 8_000,
}


@pytest.mark.parametrize("text", SOUND.values(), ids=SOUND.keys())
def test_strange_texts_get_a_sound_answer(shared: TestClient, text: str) -> None:
    start = time.process_time()  # a busy machine does not count
    response = shared.post("/v1/classify", json={"texts": [text]})
    assert response.status_code == 200, response.text[:300]
    (answer,) = ClassifyOut.model_validate(response.json()).results
    assert answer.decision.action in ("auto_dispatch", "review", "transfer")
    for trigger in answer.urgency.triggers if answer.urgency else ():
        assert trigger.start is not None and 0 <= trigger.start < (trigger.end or 0) <= len(text)
    assert time.process_time() - start < 10


# --- refusals -----------------------------------------------------------------------------------

WRONG = [
    ({}, "id"),
    ({"id": "x"}, "text"),
    ({"text": "y"}, "id"),
    (appeal(id=""), "id"),
    (appeal(id="a b"), "id"),
    (appeal(id="a/b"), "id"),
    (appeal(id="x" * 129), "id"),
    (appeal(id=7), "id"),
    (appeal(id=None), "id"),
    (appeal(text=""), "text"),
    (appeal(text=" \n\t　"), "text"),
    (appeal(text="\x00\x01\u200b"), "text"),
    (appeal(text="<script>alert(1)</script>"), "text"),
    (appeal(text=None), "text"),
    (appeal(text=5), "text"),
    (appeal(text=["a"]), "text"),
    (appeal(text={"a": 1}), "text"),
    (appeal(text=True), "text"),
    (appeal(text="字" * 100_001), "text"),
    (appeal(title="字" * 501), "title"),
    (appeal(title=1), "title"),
    (appeal(received_at="yesterday"), "received_at"),
    (appeal(received_at=1741087200), "received_at"),
    (appeal(received_at="1999-12-31T23:59:59"), "received_at"),
    (appeal(received_at="9999-12-31T23:59:59+08:00"), "received_at"),
    (appeal(received_at="2025-02-30T00:00:00"), "received_at"),
    (appeal(received_at=""), "received_at"),
    (appeal(channel="电话\x00"), "channel"),
    (appeal(channel="x" * 65), "channel"),
    (appeal(place="江城"), "place"),
    (appeal(place=[]), "place"),
    (appeal(place={"city": 3}), "place.city"),
    (appeal(place={"planet": "火星"}), "place.planet"),
    (appeal(place={"city": "a\nb"}), "place.city"),
    (appeal(declared_type=3), "declared_type"),
    (appeal(urgency="特急"), "urgency"),
    ([], "body"),
    ("text", "body"),
    (None, "body"),
    (3, "body"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
def test_a_wrong_field_is_named_with_what_was_expected_and_what_came(
    shared: TestClient, body: object, field: str
) -> None:
    response = shared.post("/v1/appeals", content=orjson.dumps(body), headers=JSON)
    error = problem(response, 422, "invalid_input")
    assert error["field"] == field
    assert error["got"]
    assert error["expected"] or "应" in error["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "texts"),
        ({"texts": []}, "texts"),
        ({"texts": "a"}, "texts"),
        ({"texts": ["a"] * 257}, "texts"),
        ({"texts": ["好", "", "好"]}, "texts[1]"),
        ({"texts": [None]}, "texts[0]"),
        ({"texts": ["a"], "ids": [1]}, "ids"),
    ],
)
def test_wrong_texts_are_refused_with_their_place(shared: TestClient, body: object, field: str) -> None:
    response = shared.post("/v1/classify", content=orjson.dumps(body), headers=JSON)
    error = problem(response, 422, "invalid_input")
    assert error["field"] == field


def test_all_faults_are_told_and_none_quotes_the_text(shared: TestClient) -> None:
    body = {"id": "bad id", "text": "", "title": "我家住址在这里" * 90, "channel": 1}
    error = problem(shared.post("/v1/appeals", json=body), 422, "invalid_input")
    assert [error["field"], *(one["field"] for one in error["more"])] == ["id", "text", "title", "channel"]
    assert "住址" not in orjson.dumps(error).decode()


NOT_JSON = {
    "nothing": b"",
    "half": b'{"id": "x", "text": "',
    "NaN": b'{"id": "x", "text": NaN}',
    "infinity": b'{"id": "x", "text": -Infinity}',
    "lone surrogate": b'{"id": "x", "text": "\\ud83d"}',
    "not UTF-8": '{"id": "x", "text": "井盖"}'.encode("gb18030"),
    "raw control character": b'{"id": "x", "text": "a\x01b"}',
    "deep arrays": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "two documents": b"{}{}",
    "byte order mark": b'\xef\xbb\xbf{"id": "x", "text": "a"}',
    "zip": b"PK\x03\x04" + bytes(200),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_is_refused(shared: TestClient, body: bytes) -> None:
    error = problem(shared.post("/v1/appeals", content=body, headers=JSON), 422, "invalid_input")
    assert error["field"] == "body"
    assert "JSON" in error["expected"]


def test_another_media_type_is_refused(shared: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        response = shared.post("/v1/appeals", content=orjson.dumps(appeal()), headers={"Content-Type": kind})
        assert problem(response, 415, "wrong_media_type")["expected"] == "application/json"


def test_a_body_over_the_limit_is_refused_with_and_without_its_length(tmp_path: Path) -> None:
    with running(tmp_path, max_body_bytes=2000) as client:
        declared = client.post("/v1/appeals", content=b"x" * 2001, headers=JSON)
        streamed = client.post("/v1/appeals", content=(b"x" * 500 for _ in range(9)), headers=JSON)
        lying = client.post("/v1/appeals", content=b"{}", headers={**JSON, "Content-Length": "9" * 30})
        fits = client.post("/v1/appeals", json=appeal())
    for refused in (declared, streamed, lying):
        assert "2000" in problem(refused, 413, "body_too_large")["expected"]
    assert fits.status_code == 201


def test_unknown_addresses_and_methods_are_told(shared: TestClient) -> None:
    for path in ("/v2/appeals", "/v1/appeals/", "/static/../app.py", "/static/none.js", "/wp.php", "/%00"):
        problem(shared.get(path), 404, "not_found")
    response = shared.delete("/v1/appeals/x")
    assert problem(response, 405, "method_not_allowed")["expected"] == response.headers["Allow"] == "GET"
    problem(shared.get("/v1/classify"), 405, "method_not_allowed")


# --- ten thousand rows --------------------------------------------------------------------------

BAD: dict[str, list[object]] = {
    "id": ["", None, 1, "a b", "../etc", "x" * 200, "r\x00", [], True],
    "text": ["", " ", None, 5, [], {}, True, "\x00\x01", "\ufeff", "<br>", "字" * 100_001],
    "title": [None, 3, "长" * 501, ["题"]],
    "received_at": ["2025-13-01", 5, "", "0001-01-01T00:00:00+23:59", "now", {}],
    "place": ["江城", None, {"city": None}, {"x": 1}, {"city": "a\x00"}, [1]],
    "urgency": ["特急"],
}
ODD_TEXTS = [
    "😀",
    "English only",
    "水" * 2000,
    "\u202e倒",
    "１３９１２３４５６７８",
    "<p>井盖",
    "'; DROP TABLE appeals; --",
    "NULL",
    "nan",
]


def _row(n: int) -> bytes:
    """A row that is right, odd or wrong in up to all of its fields, or no JSON at all."""
    if n % 50 == 49:  # a caller that is not sure whether it was heard
        return _row(n - 1)
    dice = random.Random(n)
    row: dict[str, object] = {"id": f"r-{dice.randrange(5000)}", "text": dice.choice([MANHOLE, *ODD_TEXTS])}
    for field, values in BAD.items():
        if dice.random() < 0.1:
            row[field] = dice.choice(values)
    if dice.random() < 0.05:
        row.pop(dice.choice(list(row)))
    body = orjson.dumps(row)
    broken = (body[:-1], body[: len(body) // 2], b"\xff" + body, b"[" * 5000, b"")
    return dice.choice(broken) if dice.random() < 0.1 else body


async def _asked(app: FastAPI, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """One request, without a client in between: those take longer than the answer."""
    coming = iter([{"type": "http.request", "body": body, "more_body": False}])
    told: list[Any] = []

    async def receive() -> Any:
        for message in coming:
            return message
        await asyncio.Event().wait()  # the caller stays

    async def send(message: Any) -> None:
        told.append(message)

    headers = [(b"host", b"test"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    about = {"http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("test", 80)}
    await app({**scope, **about}, receive, send)
    return told[0]["status"], b"".join(message.get("body", b"") for message in told[1:])


def test_ten_thousand_rows_with_every_kind_of_error(tmp_path: Path) -> None:
    seen: Counter[int] = Counter()
    numbers = iter(range(10_000))

    async def caller(app: FastAPI) -> None:
        for n in numbers:
            status, body = await _asked(app, "POST", "/v1/appeals", _row(n))
            seen[status] += 1
            assert status in (200, 201, 409, 422), body
            if status >= 400:
                assert Problem.model_validate_json(body).error.message

    async def many() -> int:
        app = create_app(settings(tmp_path), loads(FakePredictor()))
        async with app.router.lifespan_context(app):
            await asyncio.gather(*(caller(app) for _ in range(32)))
            return (await _asked(app, "GET", "/readyz"))[0]

    assert asyncio.run(many()) == 200
    assert sum(seen.values()) == 10_000
    assert min(seen[200], seen[201], seen[409], seen[422]) > 50
    with closing(sqlite3.connect(tmp_path / "jiesu.db")) as plain:
        assert plain.execute("SELECT count(*) FROM appeals").fetchone() == (seen[201],)
