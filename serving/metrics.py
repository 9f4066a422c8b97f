"""What operators watch: Prometheus metrics, in a registry of their own per application.

Every label takes a bounded set of values: routes, codes, limits, lanes, heads and levels of the scheme;
never an id, a key's name or an address. What docs/operations.md says of each is tested to be complete.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.process_collector import ProcessCollector

from serving.messages import Told
from serving.together import Together
from serving.tracing import Tracing

__all__ = ["CONTENT_TYPE_LATEST", "LANES", "Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS = (16, 32, 64, 128, 192, 256, 384, 512, 1024, 2048)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
REVIEW_SECONDS = (1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 300, 600)

LANES = ("urgent", "rest")
STAGES = ("understand", "queue", "model", "decide", "store")
ACTIONS = ("auto_dispatch", "review", "transfer")
CANARY_OUTCOMES = ("answered", "left_to_champion")
SHADOW_OUTCOMES = ("answered", "dropped", "failed")
SHED_LIMITS = ("queue_texts", "queue_chars", "queue_rows", "bulk_streams")
RATE_LIMITS = ("key_requests_per_second", "address_requests_per_second")
AUTH_CODES = frozenset({"not_signed_in", "not_allowed", "foreign_request", "wrong_login", "login_wait"})
REVIEW_KINDS = ("confirmed", "changed", "adjudicated", "bulk", "withdrawn", "skipped", "undone")
MEMORY_EFFECTS = ("changed", "held_back", "moved")
MEMORY_STATES = ("kept", "missing")
SCOPES = ("intake", "operate", "review", "train")


class Metrics:
    """All metrics of one application; units are in their names. `tracing` draws the stages as spans.

    `together`: this process is one of several, and tells the metrics of all.
    """

    def __init__(self, tracing: Tracing | None = None, together: Together | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series, and nobody asks for them
        self.tracing = tracing or Tracing()
        self._together = together
        self._standing = set[tuple[str, str]]()
        self.under_way = 0  # requests being answered; the event loop's alone
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._add_requests(self.registry)
        self._add_queue(self.registry)
        self._add_answers(self.registry)
        self._add_store(self.registry)
        self._add_model(self.registry)
        self._add_security(self.registry)
        self._add_review(self.registry)
        self._add_memory(self.registry)
        self._find_series()
        self._begin_at_zero()

    def _add_requests(self, own: CollectorRegistry) -> None:
        self.requests = Counter(
            "jiesu_http_requests_total", "Answered requests", ["method", "route", "status"], registry=own
        )
        self.request_seconds = Histogram(
            "jiesu_http_request_seconds", "Request to answer", ["route"], buckets=SECONDS, registry=own
        )
        self.in_flight = Gauge("jiesu_http_requests_in_flight", "Requests being answered", registry=own)
        self.in_flight.set_function(lambda: self.under_way)
        self.errors = Counter("jiesu_errors_total", "Requests refused, by error code", ["code"], registry=own)
        self.stage_seconds = Histogram(
            "jiesu_stage_seconds", "Time by stage of an answer", ["stage"], buckets=SECONDS, registry=own
        )
        self.bulk_streams = Gauge("jiesu_bulk_streams", "Bulk requests being answered", registry=own)
        self.bulk_rows = Counter(
            "jiesu_bulk_rows_total", "Rows of bulk requests, by status", ["status"], registry=own
        )

    def _add_queue(self, own: CollectorRegistry) -> None:
        self.queue = Gauge("jiesu_queue_texts", "Texts that wait for the model", ["lane"], registry=own)
        self.queue_oldest = Gauge(
            "jiesu_queue_oldest_seconds", "How long the oldest text has waited", ["lane"], registry=own
        )
        self.queue_seconds = Histogram(
            "jiesu_queue_wait_seconds", "Wait for the model", ["lane"], buckets=SECONDS, registry=own
        )
        self.batch_texts = Histogram("jiesu_batch_texts", "Texts per batch", buckets=SIZES, registry=own)
        self.batch_tokens = Histogram(
            "jiesu_batch_tokens",
            "Tokens per batch as its limit counts them: longest text times texts",
            buckets=TOKENS,
            registry=own,
        )
        self.shed = Counter("jiesu_shed_total", "Refused because of load, by limit", ["limit"], registry=own)
        self.dropped = Counter("jiesu_dropped_total", "Texts whose caller had left", registry=own)
        self.expired = Counter("jiesu_expired_total", "Texts whose deadline had passed", registry=own)
        self.failed = Counter("jiesu_model_failures_total", "Batches the model failed on", registry=own)

    def _add_answers(self, own: CollectorRegistry) -> None:
        self.decisions = Counter("jiesu_decisions_total", "Decisions, by action", ["action"], registry=own)
        self.reasons = Counter(
            "jiesu_decision_reasons_total", "Reasons given with decisions", ["reason"], registry=own
        )
        self.urgency = Counter(
            "jiesu_urgency_total", "Answers by urgency, and who raised it", ["level", "source"], registry=own
        )
        self.confidence = Histogram(
            "jiesu_confidence", "Probability of the answer told", ["head"], buckets=SHARES, registry=own
        )

    def _add_store(self, own: CollectorRegistry) -> None:
        self.store_queue = Gauge(
            "jiesu_store_queue_rows", "Answered appeals that wait for the disk", registry=own
        )
        self.group_rows = Histogram(
            "jiesu_store_group_rows", "Appeals per transaction", buckets=SIZES, registry=own
        )
        self.commit_seconds = Histogram(
            "jiesu_store_commit_seconds", "Transactions that store appeals", buckets=SECONDS, registry=own
        )
        self.store_errors = Counter(
            "jiesu_store_errors_total", "Database away, or a row refused", ["kind"], registry=own
        )
        self.clock_jumps = Counter("jiesu_clock_jumps_total", "Jumps of the wall clock", registry=own)

    def _add_model(self, own: CollectorRegistry) -> None:
        self.ready = Gauge("jiesu_ready", "1 when the part works", ["part"], registry=own)
        self.model = Gauge("jiesu_model_info", "The model that answers", ["version", "scheme"], registry=own)
        self.swaps = Counter("jiesu_model_swaps_total", "Models let in for an earlier one", registry=own)
        self.load_failures = Counter(
            "jiesu_model_load_failures_total", "Models that did not load or failed their check", registry=own
        )
        self.fallback = Gauge(
            "jiesu_model_fallback", "1 while a version before the promoted one answers", registry=own
        )
        self.challengers = Gauge(
            "jiesu_challenger_info", "Versions beside the champion", ["place", "version"], registry=own
        )
        self.canary_texts = Counter(
            "jiesu_canary_texts_total", "Appeals of the canary's share", ["outcome"], registry=own
        )
        self.shadow_texts = Counter(
            "jiesu_shadow_texts_total", "Appeals that the shadow was to answer", ["outcome"], registry=own
        )
        self.shadow_queue = Gauge(
            "jiesu_shadow_queue_texts", "Appeals that wait for the shadow", registry=own
        )
        self.build = Info("jiesu_build", "The program", registry=own)
        self.build.info({"version": _version(), "python": platform.python_version()})

    def _add_security(self, own: CollectorRegistry) -> None:
        self.auth_failures = Counter(
            "jiesu_auth_failures_total", "Callers not let in", ["reason", "scope"], registry=own
        )
        self.rate_limited = Counter(
            "jiesu_rate_limited_total", "Requests over their rate limit", ["limit", "scope"], registry=own
        )
        self.keys = Gauge("jiesu_api_keys", "API keys in force", ["scope"], registry=own)
        self.key_expiry = Gauge(
            "jiesu_api_key_expiry_timestamp_seconds", "When the next key ends", ["scope"], registry=own
        )

    def _add_review(self, own: CollectorRegistry) -> None:
        self.review_labels = Counter(
            "jiesu_review_labels_total", "Labels that reviewers gave, by kind", ["kind"], registry=own
        )
        self.review_seconds = Histogram(
            "jiesu_review_seconds", "Time a reviewer took for an appeal", buckets=REVIEW_SECONDS, registry=own
        )
        self.review_waiting = Gauge(
            "jiesu_review_waiting", "Appeals that wait for a reviewer", ["queue"], registry=own
        )
        self.review_held = Gauge(
            "jiesu_review_held", "Appeals that are before a reviewer", ["queue"], registry=own
        )

    def _add_memory(self, own: CollectorRegistry) -> None:
        self.memory_answers = Counter(
            "jiesu_memory_answers_total", "Answers that corrections moved", ["effect"], registry=own
        )
        self.memory_appeals = Gauge(
            "jiesu_memory_appeals", "Corrected appeals in the memory", ["state"], registry=own
        )
        self.memory_bytes = Gauge("jiesu_memory_bytes", "Embeddings of corrected appeals", registry=own)
        self.memory_age = Gauge(
            "jiesu_memory_age_seconds", "Since corrections were last looked for", registry=own
        )

    def _find_series(self) -> None:
        """By labels, of all that every answer counts: to find one anew costs more than to count."""
        self._requests = cache(self.requests.labels)
        self._request_seconds = cache(self.request_seconds.labels)
        self._stage_seconds = cache(self.stage_seconds.labels)
        self._queue_seconds = cache(self.queue_seconds.labels)
        self._decisions = cache(self.decisions.labels)
        self._reasons = cache(self.reasons.labels)
        self._urgency = cache(self.urgency.labels)
        self._confidence = cache(self.confidence.labels)

    def _begin_at_zero(self) -> None:
        """Series that are there from the start: an alarm on growth misses what begins at 1."""
        for lane in LANES:
            self.queue.labels(lane), self.queue_oldest.labels(lane), self.queue_seconds.labels(lane)
        for metric, values in (
            (self.stage_seconds, STAGES),
            (self.shed, SHED_LIMITS),
            (self.decisions, ACTIONS),
            (self.store_errors, ("away", "refused")),
            (self.keys, SCOPES),
            (self.review_labels, REVIEW_KINDS),
            (self.memory_answers, MEMORY_EFFECTS),
            (self.canary_texts, CANARY_OUTCOMES),
            (self.shadow_texts, SHADOW_OUTCOMES),
        ):
            for value in values:
                metric.labels(value)

    def watch_lane(self, lane: str, texts: Callable[[], int], oldest: Callable[[], float]) -> None:
        """Ask for a lane's length, and the oldest text's wait in seconds, whenever metrics are read."""
        self.queue.labels(lane).set_function(texts)
        self.queue_oldest.labels(lane).set_function(oldest)

    def watch_memory(
        self, appeals: Callable[[str], int], size: Callable[[], int], age: Callable[[], float]
    ) -> None:
        """Ask for what the correction memory holds, by state, whenever metrics are read."""
        for state in MEMORY_STATES:
            self.memory_appeals.labels(state).set_function(partial(appeals, state))
        self.memory_bytes.set_function(size)
        self.memory_age.set_function(age)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time one stage of an answer (understand, model, decide, store), and draw it as a span."""
        return _Stage(self._stage_seconds(name), self.tracing.span(name))

    def waited(self, lane: str, seconds: float) -> None:
        """A text's time in the queue is over."""
        self._stage_seconds("queue").observe(seconds)
        self._queue_seconds(lane).observe(seconds)

    def responded(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered, however it was."""
        self._requests(method, route, str(status)).inc()
        self._request_seconds(route).observe(seconds)

    def answered(self, answer: Told) -> None:
        """Count what was answered (Answer)."""
        decision, urgency = answer["decision"], answer["urgency"]
        self._decisions(decision["action"]).inc()
        for reason in decision["reasons"]:
            self._reasons(reason["code"]).inc()
        self._urgency(urgency["level"], _raised_by(urgency)).inc()
        for head, probability in _probabilities(answer):
            self._confidence(head).observe(probability)
        if answer["memory"]:
            self.memory_answers.labels(_memory_effect(answer)).inc()

    def answers_with(self, version: str, scheme: str) -> None:
        """The model that answers from now on."""
        self.model.clear()
        self.model.labels(version, scheme).set(1)

    def stands(self, place: str, version: str) -> None:
        """The version beside the champion; empty: none."""
        for labels in [labels for labels in self._standing if labels[0] == place]:
            self.challengers.remove(*labels)
            self._standing.remove(labels)
        if version:
            self._standing.add((place, version))
            self.challengers.labels(place, version).set(1)

    def refused(self, code: str, scope: str = "session") -> None:
        """A request was told an error; `scope` is what its route asks for, where nobody else says."""
        self.errors.labels(code).inc()
        if code in AUTH_CODES:
            self.auth_failures.labels(code, scope).inc()

    def keys_in_force(self, keys: Iterable[tuple[Iterable[str], datetime | None]]) -> None:
        """All API keys in force, each with its scopes and when it ends (None: never)."""
        held = [(frozenset(scopes), ends.timestamp() if ends else math.inf) for scopes, ends in keys]
        self.key_expiry.clear()
        for scope in SCOPES:
            ends = [end for scopes, end in held if scope in scopes]
            self.keys.labels(scope).set(len(ends))
            if ends:
                self.key_expiry.labels(scope).set(min(ends))

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return self._together.text(self.registry) if self._together else generate_latest(self.registry)

    async def keep(self) -> None:
        """Tell the processes beside this one, where there are any, again and again."""
        if self._together:
            await self._together.keep(self.registry)


class _Stage:
    """Times what is done inside it, and draws its span around that."""

    __slots__ = ("_seconds", "_span", "_start")

    def __init__(self, seconds: Histogram, span: AbstractContextManager[None]) -> None:
        self._seconds, self._span, self._start = seconds, span, 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()
        self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._span.__exit__(kind, error, trace)
        self._seconds.observe(time.perf_counter() - self._start)


def _raised_by(urgency: Told) -> str:
    """rule where one stands for the level; else the model is alone with it, the lowest level included."""
    level, triggers = urgency["level"], urgency["triggers"]
    by_rule = any(one["source"] == "rule" and one["level"] == level for one in triggers)
    return "rule" if by_rule else "model"


def _memory_effect(answer: Told) -> str:
    """changed: another label is told; held_back: a person looks because of it; else probabilities moved."""
    codes = {reason["code"] for reason in answer["decision"]["reasons"]}
    if "memory_changed" in codes:
        return "changed"
    return "held_back" if codes & {"memory_doubt", "memory_unproven"} else "moved"


def _probabilities(answer: Told) -> Iterator[tuple[str, float]]:
    for head in ("category", "appeal_type", "urgency", "tier", "unit"):
        told = answer[head]
        if told is not None:
            yield head, told["probability"]
    for head, told in answer["extra"].items():
        yield head, told["probability"]


def _version() -> str:
    try:
        return version("jiesu")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"
