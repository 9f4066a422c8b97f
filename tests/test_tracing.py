"""Traces: off unless asked for; one span per request with its stages below it, and no text in any."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from typer.testing import CliRunner

from serving import tracing
from serving.__main__ import cli
from serving.app import create_app
from serving.errors import StartError
from serving.logs import set_up_logs
from serving.settings import Settings, load_settings
from serving.tracing import MOST_SPANS, Tracing, exporter
from tests.fakes import FakePredictor
from tests.running import appeal, loads, problem, running, settings

ROOT = Path(__file__).parent.parent
TEXT = "我叫欧阳翠花，电话13987654321，紫色骆驼在屋顶弹琵琶，井盖不见了"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NDJSON = {"Content-Type": "application/x-ndjson"}
ENDPOINT = "http://127.0.0.1:4318"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where spans go instead of a collector; complete once the application has stopped."""
    kept = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "exporter", lambda endpoint: kept)
    return kept


def tree(spans: Sequence[ReadableSpan]) -> dict[str, list[str]]:
    """Name of each request → names of its stages, in the order they began."""
    children: dict[int, list[ReadableSpan]] = {}
    for span in spans:
        if span.parent is not None:
            children.setdefault(span.parent.span_id, []).append(span)
    requests = [span for span in spans if span.kind.name == "SERVER"]
    for stages in children.values():
        stages.sort(key=lambda stage: stage.start_time or 0)
    return {one.name: [stage.name for stage in children.get(_id(one), [])] for one in requests}


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def request_span(spans: Sequence[ReadableSpan]) -> ReadableSpan:
    (span,) = [span for span in spans if span.kind.name == "SERVER"]
    return span


def facts(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


# --- off ----------------------------------------------------------------------------------------


def test_it_is_off_by_default_and_then_not_even_imported(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from serving.app import create_app\n"
        "from serving.settings import Settings\n"
        f"app = create_app(Settings(database_url='sqlite:///{tmp_path}/a.db'))\n"
        "assert not app.state.service.metrics.tracing.on\n"
        "heavy = ('opentelemetry.sdk', 'opentelemetry.exporter', 'requests')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_either_variable_turns_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().tracing_endpoint == ""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318")
    assert load_settings().tracing_endpoint == "https://collector:4318"
    monkeypatch.setenv("JIESU_TRACING_ENDPOINT", ENDPOINT)
    assert load_settings().tracing_endpoint == ENDPOINT
    monkeypatch.setenv("JIESU_TRACING_ENDPOINT", "collector:4318")
    with pytest.raises(StartError, match="TRACING_ENDPOINT"):
        load_settings()


def test_without_the_extra_the_start_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(StartError, match=r"jiesu\[tracing\]"):
        create_app(settings(tmp_path, tracing_endpoint=ENDPOINT), loads(FakePredictor()))
    monkeypatch.setenv("JIESU_TRACING_ENDPOINT", ENDPOINT)
    monkeypatch.setenv("JIESU_DATABASE_URL", f"sqlite:///{tmp_path / 'jiesu.db'}")
    shown = CliRunner().invoke(cli, ["run", "--port", "0"])
    assert shown.exit_code == 2
    assert "pip install 'jiesu[tracing]'" in shown.stderr and "Traceback" not in shown.stderr


def test_a_collectors_address_may_be_a_base_or_complete() -> None:
    for given in ("http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"):
        made: Any = exporter(given)
        assert made._endpoint == "http://c:4318/v1/traces"
        made.shutdown()


# --- on -----------------------------------------------------------------------------------------


def test_an_appeal_is_a_span_with_its_five_stages(memory: InMemorySpanExporter, tmp_path: Path) -> None:
    with running(tmp_path, tracing_endpoint=ENDPOINT) as client:
        answer = client.post("/v1/appeals", json=appeal("T-1", TEXT), headers={"X-Request-ID": "req-9"})
        assert answer.status_code == 201
    spans = memory.get_finished_spans()
    assert tree(spans) == {"POST /v1/appeals": ["understand", "queue", "model", "decide", "store"]}
    request = request_span(spans)
    assert facts(request) == {
        "http.request.method": "POST", "http.route": "/v1/appeals", "http.response.status_code": 201,
        "jiesu.request_id": "req-9",
    }  # fmt: skip
    assert request.parent is None and request.resource.attributes["service.name"] == "jiesu"
    for span in spans:
        assert (request.start_time or 0) - 1_000_000 <= (span.start_time or 0) <= (span.end_time or 0)
        assert span.context is not None and request.context is not None
        assert span.context.trace_id == request.context.trace_id


def test_each_request_has_its_own_stages_though_they_share_a_batch(
    memory: InMemorySpanExporter, tmp_path: Path
) -> None:
    with running(tmp_path, tracing_endpoint=ENDPOINT) as client:
        client.post("/v1/classify", json={"texts": ["路灯坏了", "井盖不见了", TEXT]})
        client.get("/v1/scheme")
        client.get("/v1/appeals/none")
    spans = memory.get_finished_spans()
    assert tree(spans) == {
        "POST /v1/classify": ["understand", "queue", "model", "decide"],
        "GET /v1/scheme": [],
        "GET /v1/appeals/{id}": [],
    }
    (model,) = [span for span in spans if span.name == "model"]
    assert facts(model) == {"jiesu.texts": 3}


def test_a_request_goes_on_with_its_callers_trace(memory: InMemorySpanExporter, tmp_path: Path) -> None:
    with running(tmp_path, tracing_endpoint=ENDPOINT) as client:
        client.get("/v1/scheme", headers={"traceparent": CALLER, "tracestate": f"x={'y' * 99}"})
    span = request_span(memory.get_finished_spans())
    assert span.parent is not None and span.context is not None
    assert f"{span.context.trace_id:032x}" in CALLER and f"{span.parent.span_id:016x}" in CALLER
    assert not span.context.trace_state


@pytest.mark.parametrize("broken", ["", "x", "00-0-0-01", CALLER[:-3], CALLER.replace("0af7", "gggg")])
def test_a_broken_header_begins_a_trace_of_its_own(
    memory: InMemorySpanExporter, tmp_path: Path, broken: str
) -> None:
    with running(tmp_path, tracing_endpoint=ENDPOINT) as client:
        assert client.get("/v1/scheme", headers={"traceparent": broken}).status_code == 200
    assert request_span(memory.get_finished_spans()).parent is None


def test_what_is_asked_all_the_time_is_not_traced(memory: InMemorySpanExporter, tmp_path: Path) -> None:
    with running(tmp_path, tracing_endpoint=ENDPOINT) as client:
        for path in ("/livez", "/readyz", "/metrics", "/", "/static/page.js"):
            client.get(path)
    assert memory.get_finished_spans() == ()


def test_nothing_is_sampled_at_share_0_whatever_a_caller_says(
    memory: InMemorySpanExporter, tmp_path: Path
) -> None:
    with running(tmp_path, tracing_endpoint=ENDPOINT, tracing_share=0) as client:
        client.get("/v1/scheme", headers={"traceparent": CALLER})
        client.post("/v1/classify", json={"texts": [TEXT]})
    assert memory.get_finished_spans() == ()


def test_no_text_gets_into_a_span_not_even_by_an_error(memory: InMemorySpanExporter, tmp_path: Path) -> None:
    class Talkative(FakePredictor):
        def _one(self, text: str) -> Any:
            raise ValueError(f"cannot work on {text}, {TEXT}")

    fake = FakePredictor()
    with running(tmp_path, fake, tracing_endpoint=ENDPOINT) as client:
        fake._one = Talkative()._one  # type: ignore[method-assign]
        problem(client.post("/v1/appeals", json=appeal(TEXT, TEXT)), 422, "invalid_input")
        problem(client.post("/v1/appeals", json=appeal("T-1", TEXT)), 503, "model_failed")
        client.get(f"/v1/appeals/{TEXT}?q={TEXT}")
        client.get(f"/v1/{TEXT}")
    spans = memory.get_finished_spans()
    assert len(spans) >= 4
    told = "".join(span.to_json() for span in spans)
    for word in ("翠花", "骆驼", "13987654321", TEXT.encode("unicode_escape").decode()[:30]):
        assert word not in told and word.encode("unicode_escape").decode() not in told
    assert not any(span.events for span in spans)
    failed = [span for span in spans if facts(span).get("http.response.status_code") == 503]
    assert [span.status.status_code for span in failed] == [StatusCode.ERROR]
    refused = [span for span in spans if facts(span).get("http.response.status_code") == 422]
    assert refused and all(span.status.status_code is not StatusCode.ERROR for span in refused)


def test_a_long_stream_draws_a_bounded_number_of_spans(memory: InMemorySpanExporter, tmp_path: Path) -> None:
    rows = b"".join(
        orjson.dumps(appeal(f"b-{n}", f"路灯坏了{n}"), option=orjson.OPT_APPEND_NEWLINE) for n in range(1000)
    )
    with running(tmp_path, tracing_endpoint=ENDPOINT) as client:
        assert client.post("/v1/appeals:bulk", content=rows, headers=NDJSON).status_code == 200
    (stages,) = tree(memory.get_finished_spans()).values()
    assert len(stages) == MOST_SPANS


def test_lines_of_the_log_lead_to_the_trace(
    memory: InMemorySpanExporter, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_up_logs("info", "json")
    with running(tmp_path, tracing_endpoint=ENDPOINT) as client:
        client.get("/v1/scheme", headers={"traceparent": CALLER})
        client.get("/static/none.js")
    written = [orjson.loads(line) for line in capfd.readouterr().err.splitlines()]
    told = [line for line in written if line["event"] == "request"]
    assert told[0]["trace_id"] == CALLER.split("-")[1]
    assert "trace_id" not in told[1]


def test_a_collector_that_hangs_holds_up_neither_an_answer_nor_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = threading.Event()

    class Hangs(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            back.wait(60)
            return SpanExportResult.FAILURE

    monkeypatch.setattr(tracing, "exporter", lambda endpoint: Hangs())
    monkeypatch.setattr(tracing, "CLOSE_SECONDS", 0.1)
    with running(tmp_path, tracing_endpoint=ENDPOINT) as client:
        answer = client.post("/v1/appeals", json=appeal("T-1", TEXT))
    assert answer.status_code == 201
    assert not back.is_set()
    back.set()


def test_a_provider_that_others_have_set_up_is_told_nothing(tmp_path: Path) -> None:
    """FastAPI would send it every request, with the words of every exception."""
    code = (
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "from pathlib import Path\n"
        "from tests.running import appeal, running\n"
        "kept, provider = InMemorySpanExporter(), TracerProvider()\n"
        "provider.add_span_processor(SimpleSpanProcessor(kept))\n"
        "trace.set_tracer_provider(provider)\n"
        f"with running(Path({str(tmp_path)!r})) as client:\n"
        "    assert client.post('/v1/appeals', json=appeal()).status_code == 201\n"
        "print(kept.get_finished_spans())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "()"


def test_off_every_method_does_nothing() -> None:
    off = Tracing.of(Settings())
    with off.request("", "/v1/appeals") as named, off.span("model"):
        named("POST", "/v1/appeals", 200)
    off.past("queue", 0.0, 1.0)
    off.close()
    assert not off.on
