"""Reviewing over HTTP: second opinions, flags, looking around, and when something is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from data.database import Database
from data.reviews import NewAnswer, ReviewStore
from serving.app import create_app
from tests.fakes import FakePredictor, small_scheme
from tests.guarded import Closed, closed
from tests.reviewers import TEXTS, Person, people, rows, take_up
from tests.running import appeal, loads, problem, running, samples, settings, until


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with running(tmp_path) as found:
        yield found


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Closed]:
    with closed(tmp_path) as found:
        take_up(found.client, headers=found.key("intake"))
        yield found


# --- a second, independent opinion ----------------------------------------------------------------


def test_two_reviewers_get_the_same_appeal_only_where_it_is_asked_for(office: Closed) -> None:
    lead = Person(office.signed_in("lead"))
    rules = lead.client.put("/v1/review/rules", json={"double_share": 1.0})
    assert rules.json()["double_share"] == 1.0
    sent = appeal("B-1", TEXTS[3])
    office.client.post("/v1/appeals", json=sent, headers=office.key("intake"))
    first, second = people(office)
    task, same = first.post("appeals/B-1/take").json()["task"], second.post("appeals/B-1/take").json()["task"]
    assert (task["wanted"], task["missing"]) == (2, 2) and same["blind"] is True
    problem(lead.post("appeals/B-1/take"), 409, "lease_lost")
    first.say(task, category="0203")
    blind = second.get("appeals/B-1").json()["task"]
    assert blind["blind"] and all(head["in_force"] is None for head in blind["heads"])
    hidden = second.get("appeals/B-1/history").json()
    assert hidden["blind"] and not {"changed", "confirmed"} & {one["what"] for one in hidden["events"]}
    seen = first.get("appeals/B-1").json()["task"]
    assert seen["heads"][0]["in_force"]["code"] == "0203" and not seen["blind"]
    assert lead.get("appeals/B-1").json()["task"]["heads"][0]["in_force"]["code"] == "0203"
    second.say(same)
    told = second.get("appeals/B-1").json()["task"]
    assert told["missing"] == 1 and not told["blind"], "a lead is asked: they disagree"
    assert told["heads"][0]["in_force"]["state"] == "disputed"
    assert {one["who"] for one in second.get("appeals/B-1/history").json()["events"]} >= {"user:reviewer"}


# --- flags ----------------------------------------------------------------------------------------


def test_flagged_characters_are_covered_everywhere(client: TestClient) -> None:
    client.post("/v1/appeals", json=appeal("A-1", "住在梧桐里的李晓梅说井盖不见了，马上来人"))
    client.post("/v1/appeals", json=appeal("A-2", "梧桐里的李晓梅又说井盖不见了"))
    person = Person(client)
    assert person.get("appeals/A-1").json()["task"]["heads"][0]["evidence"]
    text = person.get("appeals/A-1").json()["task"]["appeal"]["text"]
    start, end = text.index("李晓梅"), text.index("不见")
    told = person.post("appeals/A-1/flags", {"spans": [[start, end], [start, end]]}).json()["flags"]
    assert [(one["start"], one["end"], one["reviewer"]) for one in told] == [(start, end, "developer")]
    task = person.get("appeals/A-1").json()["task"]
    shown = task["appeal"]["text"]
    assert len(shown) == len(text) and shown[start:end] == "█" * (end - start)
    assert task["heads"][0]["evidence"] == [], "what is covered no longer speaks for anything"
    for path in ("appeals/A-2/similar", "appeals/A-1/history"):
        assert "李晓梅说" not in person.get(path).text
    preview = {"ids": ["A-1"], "head": "category", "code": "0203"}
    assert "李晓梅" not in person.post("bulk/preview", preview).text
    for _ in range(2):
        assert client.delete(f"/v1/review/flags/{told[0]['number']}").json() == {}
    assert person.get("appeals/A-1").json()["task"]["appeal"]["text"] == text
    problem(client.delete("/v1/review/flags/999"), 422, "review_refused")


def test_flags_must_lie_in_the_text(client: TestClient) -> None:
    take_up(client, 1)
    person = Person(client)
    error = problem(
        person.post("appeals/A-1/flags", {"spans": [[0, 2], [5, 5], [0, 9999], [4, 2]]}),
        422,
        "review_refused",
    )
    assert error["field"] == "spans[1]" and [one["field"] for one in error["more"]] == [
        "spans[2]",
        "spans[3]",
    ]
    problem(person.post("appeals/A-1/flags", {"spans": [[0, 2**53 - 1]]}), 422, "review_refused")
    problem(person.post("appeals/A-1/flags", {"spans": []}), 422, "invalid_input")
    problem(person.post("appeals/N-1/flags", {"spans": [[0, 1]]}), 404, "appeal_not_found")


# --- around an appeal -----------------------------------------------------------------------------


def test_history_tells_who_when_from_to_why(client: TestClient) -> None:
    take_up(client, 1)
    person = Person(client)
    task = person.take()
    body = {**person.body(task, category="0203"), "comment": "是路灯"}
    person.post(f"leases/{task['lease']['number']}/labels", body)
    person.post(f"leases/{task['lease']['number']}/undo", {"token": "u-1"})
    events = person.get("appeals/A-1/history").json()["events"]
    whats = [one["what"] for one in events]
    assert whats[:2] == ["answered", "taken"] and whats.count("withdrawn") == 6
    [changed] = [one for one in events if one["what"] == "changed"]
    assert (changed["who"], changed["head"]) == ("developer", "category")
    assert (changed["before"], changed["before_name"]) == ("0202", "井盖")
    assert (changed["after"], changed["after_name"]) == ("0203", "路灯")
    assert (changed["why"], changed["model_version"], changed["seconds"]) == ("是路灯", "fake-1", 2.5)
    problem(person.get("appeals/N-1/history"), 404, "appeal_not_found")


def test_answers_of_further_versions_stand_beside_the_first(tmp_path: Path) -> None:
    """A shadow's answer is told beside the one that was given, which alone is suggested."""
    with running(tmp_path) as client:
        given = client.post("/v1/appeals", json=appeal("A-1", TEXTS[0])).json()
        reviews = ReviewStore(Database.open(f"sqlite:///{tmp_path / 'jiesu.db'}"))
        said = {**given, "category": {**given["category"], "code": "0203", "probability": 0.7}}
        other = NewAnswer(
            model_version="fake-9",
            scheme_version=given["scheme_version"],
            action="review",
            urgency="紧急",
            body=json.dumps(said),
            answered_at=datetime.now(UTC),
            appeal_number=reviews.appeal("A-1").number,
        )
        assert reviews.add_answers([other]) == 1
        reviews.database.close()
        task = Person(client).take("disagreement")
    assert task["heads"][0]["code"] == "0202" and task["shown_version"] == "fake-1"
    [beside] = task["others"]
    assert beside["model_version"] == "fake-9"
    assert beside["heads"]["category"] == {"code": "0203", "name": "路灯", "probability": 0.7}


def test_labels_of_an_earlier_scheme_are_read_in_todays_codes(tmp_path: Path) -> None:
    """What a model under another scheme suggested is named, and cannot be confirmed by accident."""
    with running(tmp_path) as client:
        take_up(client, 1)
    with running(tmp_path, FakePredictor(small_scheme(), version="fake-2")) as client:
        person = Person(client)
        task = person.take()
        assert [head["head"] for head in task["heads"]] == ["urgency", "unit"]
        assert {(head["code"], head["label"]) for head in task["heads"]} == {("", "紧急"), ("", "shizheng")}
        assert all(head["alternatives"] == [] for head in task["heads"])
        body = {"labels": {"urgency": "J", "unit": "U1"}, "token": "t-1", "shown_version": "fake-1"}
        done = person.post(f"leases/{task['lease']['number']}/labels", body).json()["done"]
        assert done["changed"] == 2


# --- when something is away -----------------------------------------------------------------------


def test_a_database_that_is_away_is_told_and_heals(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        take_up(client, 2)
        person = Person(client)
        task = person.take()
        body, path = person.body(task), f"leases/{task['lease']['number']}/labels"
        (tmp_path / "jiesu.db").rename(tmp_path / "away")
        for answer in (
            person.post(path, body),
            person.post("take", {"queue": "urgent"}),
            person.get("appeals/A-1/similar"),
            person.post("bulk", {**BULK, "token": "b-1", "fingerprint": ""}),
        ):
            assert problem(answer, 503, "store_not_ready")["hint"]
        assert person.get("labels").status_code == 200
        (tmp_path / "away").rename(tmp_path / "jiesu.db")
        until(lambda: client.get("/readyz").status_code == 200)
        assert person.post(path, body).json()["done"]["again"] is False


BULK = {"ids": ["A-1"], "head": "category", "code": "0203"}


def test_what_is_refused_does_not_count_as_a_database_that_is_away(client: TestClient) -> None:
    take_up(client, 1)
    person = Person(client)
    problem(person.post("leases/99/extend"), 409, "lease_lost")
    problem(person.get("appeals/N-1"), 404, "appeal_not_found")
    assert client.get("/readyz").status_code == 200
    assert samples(client)["jiesu_store_errors_total{kind=away}"] == 0


def test_the_store_knows_the_schemes_urgency_levels(tmp_path: Path) -> None:
    with running(tmp_path, FakePredictor(small_scheme())) as client:
        store = ReviewStore(Database.open(f"sqlite:///{tmp_path / 'jiesu.db'}"))
        assert store.rules().urgency_levels == ("P", "J") and store.rules().set_by == "service"
        store.database.close()
        (tmp_path / "jiesu.db").rename(tmp_path / "away")
        until(lambda: client.get("/readyz").status_code == 503)
        (tmp_path / "away").rename(tmp_path / "jiesu.db")
        until(lambda: client.get("/readyz").status_code == 200)
    assert rows(tmp_path, "SELECT count(*) FROM review_rules WHERE set_by = 'service'") == [(1,)]


def test_a_model_that_cannot_be_asked_explains_nothing(tmp_path: Path) -> None:
    fake = FakePredictor()
    with running(tmp_path, fake) as client:
        take_up(client, 2)
        person = Person(client)
        fake.fail_on = "井盖"
        task = person.get("appeals/A-1").json()["task"]
        assert task["explained"] is False and task["heads"][0]["code"] == "0202"
        assert task["heads"][0]["evidence"] == [] and task["urgency"]["triggers"] == []
        assert person.get("appeals/A-2").json()["task"]["explained"] is True
        fake.fail_on = ""
        assert person.get("appeals/A-1").json()["task"]["explained"] is True, "it is asked again"


def test_an_appeal_is_explained_once(tmp_path: Path) -> None:
    fake = FakePredictor()
    with running(tmp_path, fake) as client:
        take_up(client, 1)
        before = len(fake.batches)
        for _ in range(3):
            Person(client).get("appeals/A-1")
        assert len(fake.batches) == before + 1


def test_replicas_share_the_queues(tmp_path: Path) -> None:
    with (
        running(tmp_path) as one,
        TestClient(
            create_app(settings(tmp_path, environment="development"), loads(FakePredictor()))
        ) as other,
    ):
        take_up(one, 2)
        task = Person(one).take()
        there = Person(other)
        assert there.take()["lease"]["number"] == task["lease"]["number"], (
            "the same person at another replica"
        )
        assert there.say(task)["confirmed"] == 6
        assert Person(one).take()["appeal"]["id"] != task["appeal"]["id"]
        assert there.get(f"appeals/{task['appeal']['id']}/similar").json()["similar"]
