"""/metrics: what is on it, that each figure moves by what it counts, and that no label can run away."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.metrics import MetricWrapperBase

from data.appeals import Place
from data.errors import RowRefused
from data.store import NewAppeal
from serving.app import create_app
from serving.errors import STATUS
from serving.metrics import AUTH_CODES, Metrics
from serving.models import Model
from serving.security.roles import SCOPES
from serving.settings import Settings
from tests.fakes import FakePredictor, furnish, small_scheme
from tests.guarded import PASSWORD, closed, new_key, opened
from tests.handbook import documented
from tests.running import appeal, problem, running, samples, settings, until

URGENT = "快救命！孩子掉进河里了！"
NDJSON = {"Content-Type": "application/x-ndjson"}


def on_the_page(text: str) -> dict[str, str]:
    """name → type of every metric on the page."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def test_the_handbook_tells_of_every_metric_and_of_no_other(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        page = on_the_page(client.get("/metrics").text)
    assert {name: kind for name, (kind, _) in documented().items()} == page


def test_the_handbook_tells_every_label() -> None:
    found = {
        family.name + ("_total" if family.type == "counter" else ""): frozenset(metric._labelnames)
        for metric in vars(Metrics()).values()
        if isinstance(metric, MetricWrapperBase)
        for family in metric.describe()
        if family.type != "info"
    }
    told = {name: labels for name, (_, labels) in documented().items() if name.startswith("jiesu_")}
    assert {name: told[name] for name in found} == found
    assert set(told) - set(found) == {"jiesu_build_info"}


def test_names_follow_the_conventions(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        page = on_the_page(client.get("/metrics").text)
    for name, kind in page.items():
        assert name.startswith(("jiesu_", "process_")), name
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search(r"_(ms|millis|milliseconds|minutes|mb|kb|percent)(_|$)", name), name


def test_an_alarm_on_growth_sees_the_first_case(tmp_path: Path) -> None:
    """A counter that appears with its first case was never seen to grow: these are there from the start."""
    with running(tmp_path) as client:
        page = samples(client)
    for name in (
        "jiesu_shed_total{limit=queue_texts}", "jiesu_shed_total{limit=queue_chars}",
        "jiesu_shed_total{limit=queue_rows}", "jiesu_shed_total{limit=bulk_streams}",
        "jiesu_store_errors_total{kind=away}", "jiesu_store_errors_total{kind=refused}",
        "jiesu_expired_total{}", "jiesu_dropped_total{}", "jiesu_model_failures_total{}",
        "jiesu_model_load_failures_total{}", "jiesu_clock_jumps_total{}",
        "jiesu_decisions_total{action=review}", "jiesu_queue_wait_seconds_count{lane=urgent}",
    ):  # fmt: skip
        assert page[name] == 0, name


def test_answers_are_counted_by_decision_reason_urgency_and_confidence(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        first = client.post("/v1/appeals", json=appeal("C-1", URGENT)).json()
        second = client.post("/v1/classify", json={"texts": ["请问医保怎么报销，需要带什么材料"]}).json()
        page = samples(client)
    answers = [first, second["results"][0]]
    for answer in answers:
        assert page[f"jiesu_decisions_total{{action={answer['decision']['action']}}}"] >= 1
        for reason in answer["decision"]["reasons"]:
            assert page[f"jiesu_decision_reasons_total{{reason={reason['code']}}}"] >= 1
    assert page["jiesu_urgency_total{level=特急,source=rule}"] == 1
    assert page["jiesu_urgency_total{level=较急,source=model}"] == 1
    for head in ("category", "appeal_type", "urgency", "tier", "unit", "petition"):
        total = sum((one["extra"].get(head) or one.get(head))["probability"] for one in answers)
        assert page[f"jiesu_confidence_sum{{head={head}}}"] == pytest.approx(total)
        assert page[f"jiesu_confidence_count{{head={head}}}"] == 2
    for stage in ("understand", "queue", "model", "decide"):
        assert page[f"jiesu_stage_seconds_count{{stage={stage}}}"] == 2
    assert page["jiesu_stage_seconds_count{stage=store}"] == 1
    assert page["jiesu_queue_wait_seconds_count{lane=urgent}"] == 1
    assert page["jiesu_queue_wait_seconds_count{lane=rest}"] == 1
    assert page["jiesu_store_commit_seconds_count{}"] == page["jiesu_store_group_rows_sum{}"] == 1


def test_a_scheme_without_a_head_is_counted_without_it(tmp_path: Path) -> None:
    with running(tmp_path, FakePredictor(small_scheme())) as client:
        assert client.post("/v1/classify", json={"texts": ["河堤上的护栏松了"]}).status_code == 200
        page = samples(client)
    assert page["jiesu_confidence_count{head=unit}"] == 1
    assert not any("head=category" in name for name in page)


@contextmanager
def held(predictor: FakePredictor) -> Iterator[None]:
    predictor.batches.clear()
    predictor.held.clear()
    try:
        yield
    finally:
        predictor.held.set()


def test_the_queue_is_seen_as_it_is_and_what_it_refuses_is_counted(tmp_path: Path) -> None:
    fake = FakePredictor()
    with running(tmp_path, fake, queue_texts=2) as client, ThreadPoolExecutor(8) as pool:
        with held(fake):
            first = pool.submit(client.post, "/v1/classify", json={"texts": ["占住"]})
            until(lambda: fake.batches)
            fill = pool.submit(client.post, "/v1/classify", json={"texts": ["灯不亮", "灯又不亮"]})
            until(lambda: samples(client)["jiesu_queue_texts{lane=rest}"] == 2)
            urgent = pool.submit(client.post, "/v1/classify", json={"texts": [URGENT]})
            until(lambda: samples(client)["jiesu_queue_texts{lane=urgent}"] == 1)
            problem(client.post("/v1/classify", json={"texts": ["又一条"]}), 429, "overloaded")
            page = samples(client)
        assert [one.result().status_code for one in (first, fill, urgent)] == [200] * 3
        after = samples(client)
    assert page["jiesu_queue_oldest_seconds{lane=rest}"] > page["jiesu_queue_oldest_seconds{lane=urgent}"] > 0
    assert page["jiesu_http_requests_in_flight{}"] == 4, "three that wait, and the one that asks"
    assert page["jiesu_shed_total{limit=queue_texts}"] == page["jiesu_errors_total{code=overloaded}"] == 1
    assert after["jiesu_queue_texts{lane=rest}"] == after["jiesu_queue_oldest_seconds{lane=rest}"] == 0
    assert after["jiesu_batch_texts_sum{}"] == 4
    assert after["jiesu_batch_tokens_sum{}"] >= 4


def test_texts_that_expired_are_counted(tmp_path: Path) -> None:
    fake = FakePredictor()
    with running(tmp_path, fake, answer_seconds=0.2) as client, held(fake):
        with ThreadPoolExecutor(2) as pool:
            holding = pool.submit(client.post, "/v1/classify", json={"texts": ["占住"]})
            until(lambda: fake.batches)
            problem(client.post("/v1/classify", json={"texts": ["等不到"]}), 503, "too_slow")
            holding.result()
            fake.held.set()
            until(lambda: samples(client)["jiesu_queue_texts{lane=rest}"] == 0)
        page = samples(client)
    assert page["jiesu_dropped_total{}"] + page["jiesu_expired_total{}"] >= 1
    assert page["jiesu_errors_total{code=too_slow}"] == 2


def test_a_failing_model_and_one_that_does_not_load_are_counted(tmp_path: Path) -> None:
    with running(tmp_path, FakePredictor(fail_on="毒")) as client:
        problem(client.post("/v1/classify", json={"texts": ["毒"]}), 503, "model_failed")
        assert samples(client)["jiesu_model_failures_total{}"] == 1

    def broken(_: Settings) -> Model:
        raise OSError("the disk is gone")

    with TestClient(create_app(settings(tmp_path), broken)) as client:
        until(lambda: samples(client)["jiesu_model_load_failures_total{}"] >= 2)
        page = samples(client)
    assert page["jiesu_ready{part=model}"] == 0 and page["jiesu_ready{part=store}"] == 1
    assert not any(name.startswith("jiesu_model_info") for name in page)


def test_a_database_that_is_away_and_a_row_it_refuses_are_counted(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, heal_seconds=60), lambda _: furnish(FakePredictor()))
    row = NewAppeal(
        id="R-1", body_sha256="0" * 64, text="路灯", place=Place(), channel="", declared_type="",
        received_at=datetime.now(UTC), answered_at=datetime.now(UTC), answer="{}", action="review",
        urgency="一般", model_version="m", scheme_version="1",
    )  # fmt: skip
    with TestClient(app) as client:
        service = app.state.service

        def refuse(_: object) -> None:
            raise RowRefused("a wrong value")

        with pytest.raises(RowRefused):
            client.portal.call(lambda: service.in_database(refuse))  # type: ignore[union-attr]
        assert samples(client)["jiesu_store_errors_total{kind=refused}"] == 1
        (tmp_path / "jiesu.db").unlink()
        problem(client.post("/v1/appeals", json=appeal(row.id)), 503, "store_not_ready")
        page = samples(client)
    assert page["jiesu_store_errors_total{kind=away}"] >= 1
    assert page["jiesu_errors_total{code=store_not_ready}"] == 1
    assert page["jiesu_ready{part=store}"] == 0


def test_bulk_is_counted_by_row(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        body = '{"id": "B-1", "text": "路灯坏了"}\n{"id": "B-2"}\n{"id": "B-1", "text": "路灯坏了"}\n'
        assert client.post("/v1/appeals:bulk", content=body.encode(), headers=NDJSON).status_code == 200
        page = samples(client)
    assert page["jiesu_bulk_rows_total{status=201}"] == 1
    assert page["jiesu_bulk_rows_total{status=200}"] == page["jiesu_bulk_rows_total{status=422}"] == 1
    assert page["jiesu_bulk_streams{}"] == 0


def test_who_was_not_let_in_is_counted_by_reason_and_scope_not_by_name(tmp_path: Path) -> None:
    texts = {"texts": ["路灯坏了"]}
    with closed(tmp_path, key_requests_per_second=0.01, key_requests_burst=2) as it:
        it.client.post("/v1/classify", json=texts)
        it.client.post("/v1/classify", headers={"Authorization": "Bearer jiesu_guess_x"}, json=texts)
        it.client.get("/metrics", headers=it.key("intake"))
        browser = it.browser()
        browser.get("/")  # sent to the login page: nothing to worry about
        browser.post("/v1/session", json={"name": "lead", "password": "falsch-falsch-falsch"})
        it.client.post("/v1/session", json={"name": "lead", "password": PASSWORD}, headers={"Origin": "x"})
        for _ in range(4):
            it.client.post("/v1/classify", headers=it.key("review"), json=texts)
        page = samples(it.client, headers=it.key("operate"))
    classify = "scope=intake|review|train"
    assert page[f"jiesu_auth_failures_total{{reason=not_signed_in,{classify}}}"] == 2
    assert page["jiesu_auth_failures_total{reason=not_allowed,scope=operate}"] == 1
    assert page["jiesu_auth_failures_total{reason=wrong_login,scope=session}"] == 1
    assert page["jiesu_auth_failures_total{reason=foreign_request,scope=session}"] == 1
    assert page[f"jiesu_rate_limited_total{{limit=key_requests_per_second,{classify}}}"] == 2
    assert page["jiesu_errors_total{code=rate_limited}"] == 2
    told = "\n".join(page)
    assert "lead" not in told and "client" not in told and "guess" not in told
    assert sum(value for name, value in page.items() if name.startswith("jiesu_auth_failures_total")) == 5


def test_keys_in_force_and_when_the_next_one_ends_are_told_by_scope(tmp_path: Path) -> None:
    with opened(tmp_path) as access:
        new_key(access, "early", "intake", "review", days=3)
        new_key(access, "late", "intake", days=300)
        operator = new_key(access, "prometheus", "operate")
    with closed(tmp_path) as it:
        page = samples(it.client, headers={"Authorization": f"Bearer {operator}"})
    assert page["jiesu_api_keys{scope=intake}"] == 3
    assert page["jiesu_api_keys{scope=operate}"] == 2
    ends = page["jiesu_api_key_expiry_timestamp_seconds{scope=intake}"]
    soon = (datetime.now(UTC) + timedelta(days=3)).timestamp()
    assert abs(ends - soon) < 3600
    assert page["jiesu_api_key_expiry_timestamp_seconds{scope=operate}"] == float("inf")


def test_a_scope_without_a_key_has_no_end() -> None:
    metrics = Metrics()
    metrics.keys_in_force([({"intake"}, datetime(2031, 5, 4, tzinfo=UTC))])
    metrics.keys_in_force([])
    text = metrics.text().decode()
    assert 'jiesu_api_keys{scope="intake"} 0.0' in text
    assert "jiesu_api_key_expiry_timestamp_seconds{" not in text


def test_labels_cannot_run_away(tmp_path: Path) -> None:
    """Whatever callers send, no new series is made of it."""
    with running(tmp_path) as client:
        samples(client)
        for number in range(3):
            client.get(f"/v1/appeals/nummer-{number}")
            client.get(f"/wege/{number}")
            client.request(f"VERB{number}", "/livez")
            client.post("/v1/appeals", json={"id": f"x{number}", "text": "路灯坏了", f"feld{number}": 1})
        one = samples(client)
        for number in range(3, 30):
            client.get(f"/v1/appeals/nummer-{number}")
            client.get(f"/wege/{number}")
            client.request(f"VERB{number}", "/livez")
            client.post("/v1/appeals", json={"id": f"x{number}", "text": "路灯坏了", f"feld{number}": 1})
        two = samples(client)
    assert set(two) == set(one)
    assert set(re.findall(r"code=(\w+)", "\n".join(two))) <= {kind.code for kind in STATUS}


def test_the_security_metrics_know_every_code_and_scope() -> None:
    codes = {kind.code for kind, status in STATUS.items() if status in (401, 403)} | {"login_wait"}
    assert codes == AUTH_CODES
    text = Metrics().text().decode()
    assert {scope for scope in SCOPES if f'jiesu_api_keys{{scope="{scope}"}} 0.0' in text} == SCOPES


def test_metrics_are_read_while_they_are_written() -> None:
    """The model's thread counts while the event loop reads."""
    metrics, stop = Metrics(), threading.Event()

    def count() -> None:
        while not stop.is_set():
            with metrics.stage("model"):
                metrics.failed.inc()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        pages = [metrics.text() for _ in range(50)]
    finally:
        stop.set()
        thread.join()
    assert all(b"jiesu_model_failures_total" in page for page in pages)


def test_a_request_that_is_cancelled_is_no_longer_in_flight(tmp_path: Path) -> None:
    from serving.observed import Observed

    metrics = Metrics()

    async def forever(*_: object) -> None:
        await asyncio.Event().wait()

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nobody asks")

    async def send(_: MutableMapping[str, Any]) -> None:
        raise AssertionError("nobody answers")

    async def cancelled() -> None:
        observed = Observed(forever, metrics, {})
        scope = {"type": "http", "method": "POST", "path": "/v1/appeals", "headers": []}
        task = asyncio.create_task(observed(scope, receive, send))
        await asyncio.sleep(0)
        assert "jiesu_http_requests_in_flight 1.0" in metrics.text().decode()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    text = metrics.text().decode()
    assert "jiesu_http_requests_in_flight 0.0" in text and 'status="499"' in text
