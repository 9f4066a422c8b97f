"""The API under generated requests: what OpenAPI says holds for 10,000 of them, and nothing breaks.

Requests are made from the OpenAPI document: such as fit it, and such as do not. They reach the
application without sockets, and each answer is compared with what the document promises.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import Phase, settings
from hypothesis import strategies as st
from schemathesis import CheckContext, GenerationMode, Response
from schemathesis.config import ChecksConfig, GenerationConfig, ProjectConfig, ProjectsConfig
from schemathesis.config._checks import NegativeDataRejectionConfig
from schemathesis.core.result import Ok
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from serving.app import create_app
from serving.errors import STATUS
from serving.messages import ID_PATTERN, Problem
from serving.security.roles import SCOPES
from tests.fakes import FakePredictor
from tests.fuzzing import MOMENTS, QUIET, fuzz
from tests.guarded import bearer, cheaply, new_key, opened, production
from tests.running import loads
from tests.running import settings as own_settings

Case: TypeAlias = schemathesis.Case[Any]
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
OUR_PAGE = {"Sec-Fetch-Site": "same-origin"}
APPEALS, CLASSIFY, SESSION = "/v1/appeals", "/v1/classify", "/v1/session"
ONE, ORIGINAL, BULK = "/v1/appeals/{id}", "/v1/appeals/{id}/original", "/v1/appeals:bulk"


@dataclass(frozen=True)
class Plan:
    """So many cases for one route; `key` is the scope of the key they are sent with, in production."""

    method: str
    path: str
    mode: GenerationMode
    cases: int
    key: str | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.mode.value} {self.key or 'development'}"


DEVELOPMENT = (
    Plan("POST", APPEALS, POSITIVE, 1500),
    Plan("POST", APPEALS, NEGATIVE, 500),
    Plan("POST", CLASSIFY, POSITIVE, 800),
    Plan("POST", CLASSIFY, NEGATIVE, 500),
    Plan("GET", ONE, POSITIVE, 1300),
    Plan("GET", ONE, NEGATIVE, 700),
    Plan("GET", ORIGINAL, POSITIVE, 1000),
    Plan("GET", ORIGINAL, NEGATIVE, 600),
    Plan("POST", SESSION, POSITIVE, 700),
    Plan("POST", SESSION, NEGATIVE, 600),
    *(
        Plan(method, f"/v1/review/{path}", mode, 100)
        for method, path in (
            ("POST", "take"),
            ("POST", "leases/{number}/labels"),
            ("POST", "appeals/{id}/adjudication"),
            ("POST", "appeals/{id}/flags"),
            ("POST", "bulk"),
            ("PUT", "rules"),
        )
        for mode in (POSITIVE, NEGATIVE)
    ),
)
PRODUCTION = (
    Plan("POST", APPEALS, POSITIVE, 400, "intake"),
    Plan("POST", APPEALS, NEGATIVE, 300, "intake"),
    Plan("POST", CLASSIFY, POSITIVE, 200, "train"),
    Plan("POST", CLASSIFY, NEGATIVE, 200, "review"),
    Plan("GET", ONE, POSITIVE, 200, "review"),
    Plan("GET", ONE, NEGATIVE, 100, "intake"),
    Plan("GET", ORIGINAL, POSITIVE, 100, "review"),
    Plan("POST", SESSION, POSITIVE, 100, "anonymous"),
)
OPENED_BY = {APPEALS: {"intake"}, CLASSIFY: {"intake", "review", "train"}, ONE: {"intake", "review"},
             ORIGINAL: {"review"}}  # fmt: skip
FORBIDDEN = tuple(
    Plan("POST" if path in (APPEALS, CLASSIFY) else "GET", path, mode, 100, "strangers")
    for path in OPENED_BY
    for mode in (POSITIVE, NEGATIVE)
)


def test_ten_thousand_cases_are_planned() -> None:
    # Each test below fails when it sends fewer than its plan says.
    assert sum(plan.cases for plan in (*DEVELOPMENT, *PRODUCTION, *FORBIDDEN)) >= 10_000


schemathesis.openapi.format("date-time", MOMENTS.map(datetime.isoformat))


# What fits the document and is refused all the same: JSON Schema cannot say these.
UNSAID = re.compile(r"内容为空：应至少有一个非空白字符|时间超出范围：应在 \d+ 年至 \d+ 年之间")


# Python, which makes ids by the pattern, and the service do not agree on a few letters (²); to the maker of
# wrong ids, þ is none.
OTHER_LETTERS = re.compile(r"[^A-Za-z0-9\u4e00-\u9fff.:@()（）〔〕\[\]+~_-]")
REFUSALS = [401, 403, 404, 405, 409, 413, 415, 422, 429]


def told_in_full(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """Every error has the common body, a status of the table, and is no fault of ours."""
    assert response.status_code < 500, response.text
    if response.status_code >= 400 and case.method != "HEAD":
        error = Problem.model_validate_json(response.content).error
        assert error.code and error.message
        assert response.status_code in STATUS.values()
    return None


def headers_are_whole(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """Each header once, printable, with the security headers and the request's id on all answers."""
    for name, values in response.headers.items():
        assert re.fullmatch(r"[a-z0-9-]+", name) and len(values) == 1, (name, values)
        assert re.fullmatch(r"[\x20-\x7e]*", values[0]), (name, values)
    assert response.headers["x-content-type-options"] == ["nosniff"]
    assert response.headers["x-request-id"][0]
    if response.status_code in (429, 503):
        assert int(response.headers["retry-after"][0]) >= 1
    return None


def accepted(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """What fits the document is accepted, but for what it cannot say."""
    if response.status_code != 422 or case.meta is None or not case.meta.generation.mode.is_positive:
        return positive_data_acceptance(ctx, response, case)
    error = Problem.model_validate_json(response.content).error
    if error.code == "review_refused":  # which labels there are, and how long a text is
        return None
    for fault in (error, *error.more):
        if fault.field == "id" and OTHER_LETTERS.search(_id_of(case)):
            continue
        assert UNSAID.fullmatch(fault.message), (fault, case)
    return None


def rejected(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """What doesn't fit the document is refused."""
    return None if _fits_after_all(response, case) else negative_data_rejection(ctx, response, case)


def _fits_after_all(response: Response, case: Case) -> bool:
    """Whether what was accepted was meant to be wrong, but has an id of letters as the pattern asks for."""
    if response.status_code >= 300 or case.meta is None or case.meta.generation.mode.is_positive:
        return False
    return bool(OTHER_LETTERS.search(_id_of(case)) and re.fullmatch(ID_PATTERN, _id_of(case)))


def _id_of(case: Case) -> str:
    body = case.body if isinstance(case.body, dict) else {}
    return str(case.path_parameters.get("id", body.get("id", "")))


@dataclass
class Api:
    """An application with the schema made of its own document, and the headers of each kind of caller."""

    app: FastAPI
    schema: BaseSchema
    guarded: bool
    callers: dict[str | None, dict[str, str]]
    seen: Counter[int] = field(default_factory=Counter)

    def send(self, case: Case, caller: str | None = None) -> Response:
        """Send a case, and check its answer against the document."""
        answer: Response = case.call_and_validate(
            headers={**OUR_PAGE, **self.callers[caller]},
            additional_checks=[told_in_full, headers_are_whole, accepted, rejected],
            excluded_checks=[
                positive_data_acceptance,
                negative_data_rejection,
                *([] if self.guarded else [ignored_auth]),
            ],
        )
        if not _fits_after_all(answer, case):
            self.seen[answer.status_code] += 1
        return answer


def api_of(app: FastAPI, callers: dict[str | None, dict[str, str]], guarded: bool) -> Api:
    generation = GenerationConfig(with_security_parameters=False)  # callers are ours to choose
    checks = ChecksConfig(negative_data_rejection=NegativeDataRejectionConfig(expected_statuses=REFUSALS))
    project = ProjectConfig(generation=generation, checks=checks)
    config = schemathesis.Config(projects=ProjectsConfig(default=project))
    schema = schemathesis.openapi.from_dict(app.openapi(), config=config)
    schema.app = app
    return Api(app, schema, guarded, callers)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """In development: everybody may do everything."""
    app = create_app(own_settings(tmp_path, **QUIET), loads(FakePredictor()))
    cheaply(app)
    return api_of(app, {None: {}}, guarded=False)


@pytest.fixture
def closed_api(tmp_path: Path) -> Api:
    """In production: a key per scope."""
    limits = {"key_requests_per_second": 0.0, "address_requests_per_second": 0.0}  # 429 is not what is tested
    with opened(tmp_path) as access:
        keys: dict[str | None, dict[str, str]] = {"anonymous": {}}
        keys |= {scope: bearer(new_key(access, f"{scope}-client", scope)) for scope in sorted(SCOPES)}
    app = create_app(production(tmp_path, **QUIET, **limits), loads(FakePredictor()))
    cheaply(app)
    return api_of(app, keys, guarded=True)


def cases_of(api: Api, plan: Plan) -> st.SearchStrategy[Case]:
    return api.schema[plan.path][plan.method].as_strategy(generation_mode=plan.mode)


# --- one request at a time --------------------------------------------------------------------------


@pytest.mark.parametrize("plan", DEVELOPMENT, ids=str)
def test_generated_requests(plan: Plan, api: Api, pytestconfig: pytest.Config) -> None:
    tried = fuzz(pytestconfig, cases_of(api, plan), lambda case: _sent(api, plan, case), plan.cases)
    good = sum(count for status, count in api.seen.items() if status < 300)
    if plan.mode is NEGATIVE:
        assert good == 0 and api.seen[422] + api.seen[404] + api.seen[405] > tried / 2, api.seen
    elif plan.path in (APPEALS, CLASSIFY):
        assert good > tried / 10, f"hardly anything was accepted: {api.seen}"


@pytest.mark.parametrize("plan", PRODUCTION, ids=str)
def test_generated_requests_with_a_key(plan: Plan, closed_api: Api, pytestconfig: pytest.Config) -> None:
    fuzz(pytestconfig, cases_of(closed_api, plan), lambda case: _sent(closed_api, plan, case), plan.cases)
    assert plan.path == SESSION or not closed_api.seen[401] + closed_api.seen[403], closed_api.seen


@pytest.mark.parametrize("plan", FORBIDDEN, ids=str)
def test_generated_requests_of_strangers(plan: Plan, closed_api: Api, pytestconfig: pytest.Config) -> None:
    strangers = itertools.cycle(sorted({"anonymous", *SCOPES} - OPENED_BY[plan.path]))
    # An id with a slash in it, or none at all, is another address: nobody has that one.
    elsewhere = {404, 405} if plan.path in (ONE, ORIGINAL) and plan.mode is NEGATIVE else set()

    def refused(case: Case) -> None:
        caller = next(strangers)
        status = closed_api.send(case, caller).status_code
        assert status in {401 if caller == "anonymous" else 403, *elsewhere}

    fuzz(pytestconfig, cases_of(closed_api, plan), refused, plan.cases)
    assert closed_api.seen[401] and closed_api.seen[403], closed_api.seen


def _sent(api: Api, plan: Plan, case: Case) -> None:
    api.send(case, plan.key)


# --- the borders of every field, every method, every route ------------------------------------------


def borders(api: Api, check: Callable[[Case], object]) -> int:
    """Check the cases that schemathesis makes without chance: each border of each field; how many."""
    tried = 0

    def counted(case: Case) -> None:
        nonlocal tried
        tried += 1
        check(case)

    modes = [HypothesisTestMode.EXAMPLES, HypothesisTestMode.COVERAGE]
    explicit = settings(phases=(Phase.explicit,), database=None, deadline=None)
    for found in api.schema.exclude(path=BULK).get_all_operations():
        config = HypothesisTestConfig(api.schema.config, modes, explicit)
        assert isinstance(found, Ok)
        create_test(operation=found.ok(), test_func=counted, config=config)()
    return tried


def test_borders_of_every_field(api: Api) -> None:
    assert borders(api, api.send) > 300


def test_borders_of_every_field_with_a_key(closed_api: Api) -> None:
    opens = {APPEALS: "intake", CLASSIFY: "train", "/metrics": "operate"}
    assert borders(closed_api, lambda case: closed_api.send(case, opens.get(case.path, "review"))) > 300


# --- one request after the other --------------------------------------------------------------------


def test_what_was_taken_up_is_found_again(api: Api, pytestconfig: pytest.Config) -> None:
    read, original = api.schema[ONE]["GET"], api.schema[ORIGINAL]["GET"]

    def walk(case: Case) -> None:
        first = api.send(case)
        if first.status_code not in (200, 201):
            return
        again = api.send(case)
        assert (again.status_code, again.content) == (200, first.content)
        sent: Any = case.body
        id = {"id": sent["id"]}
        assert api.send(read.Case(path_parameters=dict(id))).content == first.content
        assert api.send(original.Case(path_parameters=dict(id))).status_code == 404  # none are kept
        other = {**sent, "text": sent["text"][:99_000] + "另"}
        assert api.send(case.operation.Case(body=other, media_type="application/json")).status_code == 409

    fuzz(pytestconfig, cases_of(api, Plan("POST", APPEALS, POSITIVE, 0)), walk, 100)
    assert api.seen[201] > 20, api.seen
