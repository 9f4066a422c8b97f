"""OpenTelemetry spans: one per request, with its stages below it. Off unless an endpoint is set.

    POST /v1/appeals
    ├── understand   prepare the text, read the urgency rules
    ├── queue        from the queue's end to the model's next batch
    ├── model        the batch that the text was in
    ├── decide       urgency, tier, unit, decision
    └── store        until the appeal is on disk

Attributes hold methods, routes, codes, numbers and the request's id: never a text, and never an
exception's words, which may quote one. OpenTelemetry is the extra `tracing`, imported only when it is on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from serving.errors import StartError
from serving.logs import request_id, trace_id
from serving.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

__all__ = ["Named", "Tracing"]

MOST_SPANS = 64  # of one request: a bulk stream has as many stages as groups of lines
CLOSE_SECONDS = 5.0  # a collector that is away must not hold up a stop
TRACES = "/v1/traces"
Named = Callable[[str, str, int], None]


@dataclass
class _Room:
    """How many spans the request at hand may still draw."""

    left: int = MOST_SPANS


_room: ContextVar[_Room | None] = ContextVar("_room", default=None)


class Tracing:
    """Draws spans with a provider; without one every method does nothing."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("jiesu") if provider else None

    @classmethod
    def of(cls, settings: Settings) -> Tracing:
        """As the settings say. Raises StartError when it is on and OpenTelemetry is not installed."""
        if not settings.tracing_endpoint:
            return cls()
        try:
            return cls(_provider(settings))
        except ImportError as error:
            raise StartError(
                "JIESU_TRACING_ENDPOINT (or OTEL_EXPORTER_OTLP_ENDPOINT) is set: expected OpenTelemetry, "
                f"got: {error}; install it (pip install 'jiesu[tracing]') or unset the variable"
            ) from error

    @property
    def on(self) -> bool:
        """Whether spans are drawn."""
        return self._tracer is not None

    def request(self, traceparent: str, path: str) -> AbstractContextManager[Named]:
        """The span of a request to the API, below its caller's if that one told its own.

        Gives what is to be called once method, route and status are known.
        """
        if self._tracer is None or not path.startswith("/v1/"):
            return nullcontext(_unnamed)
        return self._request(self._tracer, traceparent)

    @contextmanager
    def _request(self, tracer: Tracer, traceparent: str) -> Iterator[Named]:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
        with tracer.start_as_current_span(
            "request", parent, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            sampled = span.is_recording()
            room = _room.set(_Room() if sampled else None)
            known = trace_id.set(f"{span.get_span_context().trace_id:032x}" if sampled else "")
            try:
                yield partial(_named, span)
            finally:
                _room.reset(room)
                trace_id.reset(known)

    def span(self, name: str) -> AbstractContextManager[None]:
        """A stage of the request at hand; nothing outside of one."""
        if self._tracer is None or not _taken():
            return nullcontext()
        return self._span(self._tracer, name)

    @contextmanager
    def _span(self, tracer: Tracer, name: str) -> Iterator[None]:
        with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
            yield

    def past(self, name: str, began: float, ended: float, **facts: int | str) -> None:
        """A stage that is over, and that ran for several requests at once; moments of time.monotonic."""
        if self._tracer is None or not _taken():
            return
        epoch = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            name,
            start_time=epoch + int(began * 1e9),
            attributes={f"jiesu.{key}": fact for key, fact in facts.items()},
        )
        span.end(epoch + int(ended * 1e9))

    def close(self) -> None:
        """Send what is left, for a few seconds at most. Blocks."""
        if self._provider is None:
            return
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def exporter(endpoint: str) -> SpanExporter:
    """What sends spans to a collector, by OTLP over HTTP; `endpoint` with or without /v1/traces."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    base = endpoint.rstrip("/")
    return OTLPSpanExporter(endpoint=base if base.endswith(TRACES) else base + TRACES)


def _provider(settings: Settings) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    share = TraceIdRatioBased(settings.tracing_share)
    provider = TracerProvider(
        # A stranger's header must not decide that everything is sampled: our share holds for them as well.
        sampler=ParentBased(share, remote_parent_sampled=share),
        resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "jiesu")}),
        shutdown_on_exit=False,  # `close` does it, and waits less long
    )
    provider.add_span_processor(BatchSpanProcessor(exporter(settings.tracing_endpoint)))
    return provider


def _taken() -> bool:
    room = _room.get()
    if room is None or room.left <= 0:
        return False
    room.left -= 1
    return True


def _named(span: Span, method: str, route: str, status: int) -> None:
    from opentelemetry.trace import StatusCode

    span.update_name(f"{method} {route}")
    span.set_attributes(
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "jiesu.request_id": request_id.get(),
        }
    )
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def _unnamed(method: str, route: str, status: int) -> None:
    """No span, no name."""
