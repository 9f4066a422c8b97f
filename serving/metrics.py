"""What operators watch: Prometheus metrics, in a registry of their own per application."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.process_collector import ProcessCollector

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Metrics:
    """All metrics of one application; units are in their names."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        ProcessCollector(registry=own)
        self.requests = Counter(
            "jiesu_http_requests_total", "Answered requests", ["method", "route", "status"], registry=own
        )
        self.request_seconds = Histogram(
            "jiesu_http_request_seconds", "Request to answer", ["route"], buckets=SECONDS, registry=own
        )
        self.stage_seconds = Histogram(
            "jiesu_stage_seconds", "Time by stage", ["stage"], buckets=SECONDS, registry=own
        )
        self.queue = Gauge("jiesu_queue_texts", "Texts that wait for the model", ["lane"], registry=own)
        self.batch_texts = Histogram("jiesu_batch_texts", "Texts per batch", buckets=SIZES, registry=own)
        self.shed = Counter("jiesu_shed_total", "Texts refused because of load", ["limit"], registry=own)
        self.dropped = Counter("jiesu_dropped_total", "Texts whose caller had left", registry=own)
        self.failed = Counter("jiesu_model_failures_total", "Batches the model failed on", registry=own)
        self.decisions = Counter("jiesu_decisions_total", "Decisions", ["action"], registry=own)
        self.urgency = Counter("jiesu_urgency_total", "Answers by urgency", ["level"], registry=own)
        self.confidence = Histogram(
            "jiesu_confidence", "Probability of the first answer", ["head"], buckets=SHARES, registry=own
        )
        self.ready = Gauge("jiesu_ready", "1 when the part works", ["part"], registry=own)
        self.model = Info("jiesu_model", "The model that answers", registry=own)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage of an answer (understand, model, decide, store)."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds.labels(name).observe(time.perf_counter() - start)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
