"""Reviewing over HTTP: taking, saying, undoing, skipping."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.guarded import Closed, closed
from tests.reviewers import TEXTS, Person, people, rows, take_up
from tests.running import appeal, problem, running, samples, until

HEADS = ["category", "appeal_type", "urgency", "tier", "unit", "petition"]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with running(tmp_path) as found:
        yield found


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Closed]:
    with closed(tmp_path) as found:
        take_up(found.client, headers=found.key("intake"))
        yield found


# --- tasks ----------------------------------------------------------------------------------------


def test_the_page_learns_what_waits_and_who_reviews(office: Closed) -> None:
    reviewer, key = people(office)
    until(
        lambda: {one["queue"]: one for one in reviewer.get("queues").json()["queues"]}["uncertain"]["waiting"]
    )
    told = reviewer.get("queues").json()
    assert told["me"] == {"name": "user:reviewer", "lead": False}
    assert [one["queue"] for one in told["queues"]] == [
        "urgent", "uncertain", "disagreement", "suspected", "audit",
    ]  # fmt: skip
    assert all(one["name"] and one["about"] for one in told["queues"])
    assert told["queues"][1]["waiting"] == 3 and told["queues"][1]["more"] is False
    assert {one["code"] for one in told["skip_reasons"]} >= {"unclear", "other"}
    assert told["lease_minutes"] == 15 and 0 <= told["rules"]["audit_share"] <= 1
    lead = Person(office.signed_in("lead")).get("queues").json()
    assert lead["me"]["lead"] is True and lead["queues"][-1]["queue"] == "disputed"
    assert key.get("queues").json()["me"]["name"].startswith("key:")


def test_a_task_holds_all_a_reviewer_needs(client: TestClient) -> None:
    place = {"city": "江城市", "district": "临江区", "street": "柳荫街道"}
    received = "2025-03-04T19:20:00+08:00"
    sent = appeal("A-1", TEXTS[0], place=place, channel="电话", declared_type="求助", received_at=received)
    stored = client.post("/v1/appeals", json=sent).json()
    task = Person(client).take()
    assert task["appeal"]["id"] == "A-1" and task["appeal"]["text"] == TEXTS[0]
    assert task["appeal"]["received_at"] == received and task["appeal"]["channel"] == "电话"
    assert task["appeal"]["place"] == {**place, "community": "", "grid": ""}
    assert task["lease"]["queue"] == "uncertain" and task["lease"]["expires_at"] > task["lease"]["taken_at"]
    assert (task["shown_version"], task["scheme_version"]) == (
        stored["model_version"],
        stored["scheme_version"],
    )
    assert [head["head"] for head in task["heads"]] == HEADS
    category = task["heads"][0]
    assert (category["code"], category["label"], category["path"]) == ("0202", "井盖", ["市政设施", "井盖"])
    assert category["name"] == "事项分类" and category["probability"] == 0.9
    assert [one["code"] for one in category["alternatives"]] == [
        one["code"] for one in stored["category"]["alternatives"]
    ]
    assert category["in_force"] is None and category["mine"] is None
    [span] = category["evidence"]
    assert task["appeal"]["text"][span["start"] : span["end"]] == "井盖"
    assert task["urgency"]["level"] == stored["urgency"]["level"] == "紧急"
    words = {task["appeal"]["text"][one["start"] : one["end"]] for one in task["urgency"]["triggers"]}
    assert any("井盖不见" in word for word in words)
    assert task["decision"] == stored["decision"] and task["others"] == task["memory"] == []
    assert (task["wanted"], task["missing"], task["blind"], task["explained"]) == (1, 1, False, True)


def test_spans_speak_of_the_prepared_text(client: TestClient) -> None:
    text = "您好！我的电话是13912345678。<br>小区的井盖不见了，马上来人！"
    client.post("/v1/appeals", json=appeal("A-1", text, title="井盖丢失"))
    task = Person(client).take()
    shown = task["appeal"]["text"]
    assert "13912345678" not in shown and shown != text
    spans = [span for head in task["heads"] for span in head["evidence"]] + task["urgency"]["triggers"]
    assert {shown[span["start"] : span["end"]] for span in spans} >= {"井盖", "马上"}


def test_of_two_reviewers_none_gets_the_others_appeal(office: Closed) -> None:
    first, second = people(office)
    mine: list[Any] = []
    others: list[Any] = []
    for _ in range(3):
        mine.append(first.take(holding=[task["lease"]["number"] for task in mine if task]))
        others.append(second.take(holding=[task["lease"]["number"] for task in others if task]))
    taken = [task["appeal"]["id"] for task in mine + others if task]
    assert sorted(taken) == ["A-1", "A-2", "A-3"] and mine.count(None) + others.count(None) == 3


def test_a_lost_answer_or_a_page_loaded_anew_loses_nothing(office: Closed) -> None:
    person, _ = people(office)
    first = person.take()
    again = person.take()
    assert again["lease"]["number"] == first["lease"]["number"] and again["appeal"] == first["appeal"]
    ahead = person.take(holding=[first["lease"]["number"]])
    assert ahead["appeal"]["id"] != first["appeal"]["id"]


def test_filters_take_branches_places_and_times(client: TestClient) -> None:
    client.post("/v1/appeals", json=appeal("A-1", TEXTS[0], place={"district": "临江区"}))
    client.post(
        "/v1/appeals",
        json=appeal("A-2", TEXTS[1], place={"street": "柳荫街道"}, received_at="2025-03-04T10:00:00"),
    )
    person = Person(client)
    assert person.take(categories=["02"])["appeal"]["id"] == "A-1"  # 市政设施, a branch
    person.client.post("/v1/review/leases/1/release")
    assert person.take(street="柳荫街道")["appeal"]["id"] == "A-2"
    person.client.post("/v1/review/leases/2/release")
    assert person.take(since="2025-03-01", until="2025-03-05T00:00:00+08:00")["appeal"]["id"] == "A-2"
    person.client.post("/v1/review/leases/3/release")
    assert person.take(district="东山区") is None
    refused = person.post("take", {"queue": "urgent", "filters": {"categories": ["02", "nichts"]}})
    assert problem(refused, 422, "review_refused")["field"] == "filters.categories[1]"
    problem(person.post("take", {"queue": "everything"}), 422, "invalid_input")


def test_a_very_appeal_can_be_taken_unless_another_has_it(office: Closed) -> None:
    first, second = people(office)
    task = first.post("appeals/A-2/take").json()["task"]
    assert task["appeal"]["id"] == "A-2" and task["lease"]["queue"] == ""
    error = problem(second.post("appeals/A-2/take"), 409, "lease_lost")
    assert error["message"] == "这条诉求正由他人处理"
    first.say(task)
    assert second.post("appeals/A-2/take").status_code == 200, "what was answered can be looked at again"
    problem(first.post("appeals/N-9/take"), 404, "appeal_not_found")


def test_a_lease_is_kept_and_given_back(office: Closed) -> None:
    first, second = people(office)
    task = first.take()
    number = task["lease"]["number"]
    kept = first.post(f"leases/{number}/extend").json()
    assert kept["expires_at"] >= task["lease"]["expires_at"]
    problem(second.post(f"leases/{number}/extend"), 409, "lease_lost")
    problem(second.post(f"leases/{number}/release"), 409, "lease_lost")
    for _ in range(2):
        assert first.post(f"leases/{number}/release").json() == {}
    assert second.take()["appeal"]["id"] == task["appeal"]["id"]
    problem(first.post(f"leases/{number}/extend"), 409, "lease_lost")
    problem(first.post("leases/0/extend"), 422, "invalid_input")
    problem(first.post(f"leases/{2**53}/extend"), 422, "invalid_input")


def test_signing_out_gives_everything_back(office: Closed) -> None:
    first, second = people(office)
    held = first.take()["appeal"]["id"]
    assert first.client.delete("/v1/session").status_code == 204
    assert second.take()["appeal"]["id"] == held


def test_a_session_that_ended_keeps_the_lease(office: Closed) -> None:
    first, second = people(office)
    task = first.take()
    body = first.body(task)
    first.client.cookies.clear()
    path = f"leases/{task['lease']['number']}/labels"
    problem(first.post(path, body), 401, "not_signed_in")
    assert second.take()["appeal"]["id"] != task["appeal"]["id"]
    again = Person(office.signed_in("reviewer"))
    done = again.post(path, body)
    assert done.status_code == 200 and done.json()["done"]["again"] is False


# --- saying ---------------------------------------------------------------------------------------


def test_what_is_confirmed_and_what_is_changed_are_told_apart(client: TestClient, tmp_path: Path) -> None:
    take_up(client, 1)
    person = Person(client)
    task = person.take()
    done = person.say(task, category="0203", unit="")
    assert done == {"rows": 6, "confirmed": 4, "changed": 2, "unchanged": 0, "again": False}
    found = rows(
        tmp_path, "SELECT head, code, shown, kind, reviewer, model_version, seconds FROM corrections"
    )
    assert ("category", "0203", "0202", "changed", "developer", "fake-1", 2.5) in found
    assert ("unit", "", "shizheng", "changed", "developer", "fake-1", 2.5) in found
    assert ("tier", "街道", "街道", "confirmed", "developer", "fake-1", 2.5) in found
    seen = {head["head"]: head for head in person.get("appeals/A-1").json()["task"]["heads"]}
    assert seen["category"]["in_force"] == {
        "code": "0203", "name": "路灯", "state": "agreed", "by": ["developer"],
    }  # fmt: skip
    assert (
        seen["unit"]["in_force"]["state"] == "untellable" and seen["unit"]["in_force"]["name"] == "无法判断"
    )
    assert (seen["category"]["mine"], seen["unit"]["mine"], seen["category"]["code"]) == ("0203", "", "0202")


def test_what_the_page_showed_is_not_the_clients_to_tell(client: TestClient, tmp_path: Path) -> None:
    take_up(client, 1)
    person = Person(client)
    task = person.take()
    path = f"leases/{task['lease']['number']}/labels"
    problem(person.post(path, {**person.body(task), "shown": {"category": "0203"}}), 422, "invalid_input")
    error = problem(person.post(path, {**person.body(task), "shown_version": "m-9"}), 422, "review_refused")
    assert error["field"] == "shown_version"
    assert person.post(path, {**person.body(task), "shown_version": ""}).json()["done"]["changed"] == 6
    assert {row[0] for row in rows(tmp_path, "SELECT shown FROM corrections")} == {""}


def test_a_request_sent_twice_writes_once(client: TestClient, tmp_path: Path) -> None:
    take_up(client, 1)
    person = Person(client)
    task = person.take()
    path, body = f"leases/{task['lease']['number']}/labels", person.body(task)
    first, again = person.post(path, body).json()["done"], person.post(path, body).json()["done"]
    assert again == {**first, "again": True}
    assert rows(tmp_path, "SELECT count(*) FROM corrections") == [(6,)]
    changed = {**body, "labels": {**body["labels"], "category": "0203"}}
    problem(person.post(path, changed), 409, "review_conflict")
    page = samples(client)
    assert page["jiesu_review_labels_total{kind=confirmed}"] == 6
    assert page["jiesu_review_seconds_count{}"] == 1 and page["jiesu_review_seconds_sum{}"] == 2.5


def test_wrong_labels_are_refused_together_and_in_chinese(client: TestClient) -> None:
    take_up(client, 1)
    person = Person(client)
    task = person.take()
    labels = {"category": "02", "colour": "red", "urgency": "特别急", "tier": "市"}
    path = f"leases/{task['lease']['number']}/labels"
    error = problem(person.post(path, {"labels": labels, "token": "t-1"}), 422, "review_refused")
    assert (error["field"], error["message"]) == ("labels.category", "不是最末级的标签")
    assert [one["field"] for one in error["more"]] == ["labels.colour", "labels.urgency"]
    problem(person.post(path, {"labels": {}, "token": "t-1"}), 422, "invalid_input")
    problem(person.post(path, {"labels": {"tier": "市"}, "token": "a b"}), 422, "invalid_input")
    problem(person.post(path, {"labels": {"tier": "市"}, "token": "t", "seconds": -1}), 422, "invalid_input")


def test_comments_are_masked_before_they_are_stored(client: TestClient, tmp_path: Path) -> None:
    take_up(client, 2)
    person = Person(client)
    task = person.take()
    comment = "回访号码13912345678，\n确认是路灯"
    person.post(f"leases/{task['lease']['number']}/labels", {**person.body(task), "comment": comment})
    other = person.take()
    why = {"reason": "other", "comment": "来电13912345678要求撤回"}
    assert person.post(f"leases/{other['lease']['number']}/skip", why).json() == {}
    stored = rows(tmp_path, "SELECT comment FROM corrections UNION ALL SELECT reason FROM leases")
    assert not any("13912345678" in text for (text,) in stored)
    assert any("确认是路灯" in text for (text,) in stored)
    told = person.get(f"appeals/{other['appeal']['id']}/history").json()["events"]
    assert [one["why"][:5] for one in told if one["what"] == "skipped"] == ["其他原因："]


def test_work_is_taken_after_the_lease_ran_out(tmp_path: Path) -> None:
    with running(tmp_path, lease_minutes=0.0005) as client:
        take_up(client, 1)
        person = Person(client)
        task = person.take()
        time.sleep(0.2)  # six times as long as the lease holds
        assert person.post(f"leases/{task['lease']['number']}/extend").status_code == 409
        assert person.say(task)["confirmed"] == 6


def test_undo_brings_the_appeal_back_as_it_was(office: Closed) -> None:
    first, second = people(office)
    task = first.take()
    number = task["lease"]["number"]
    first.say(task, category="0203")
    back = first.post(f"leases/{number}/undo", {"token": "u-1"}).json()["task"]
    assert back["appeal"] == task["appeal"] and back["heads"][0]["in_force"] is None
    assert back["lease"]["number"] != number
    again = first.post(f"leases/{number}/undo", {"token": "u-1"}).json()["task"]
    assert again["lease"]["number"] == back["lease"]["number"], "sent twice, undone once"
    assert second.take()["appeal"]["id"] != task["appeal"]["id"]
    first.say(back)
    second.post(f"appeals/{task['appeal']['id']}/take")
    problem(first.post(f"leases/{number}/undo", {"token": "u-2"}), 409, "lease_lost")


def test_what_was_skipped_goes_to_others_and_comes_back_by_undo(office: Closed) -> None:
    first, second = people(office)
    task = first.take()
    number = task["lease"]["number"]
    for _ in range(2):
        assert first.post(f"leases/{number}/skip", {"reason": "unclear", "seconds": 4}).json() == {}
    assert second.take()["appeal"]["id"] == task["appeal"]["id"]
    second.post("leases/2/release")
    assert first.take()["appeal"]["id"] != task["appeal"]["id"]
    back = first.post(f"leases/{number}/undo", {"token": "u-1"}).json()["task"]
    assert back["appeal"]["id"] == task["appeal"]["id"]
    first.say(back)
    done = back["lease"]["number"]
    problem(first.post(f"leases/{done}/skip", {"reason": "unclear"}), 409, "review_conflict")
    problem(first.post(f"leases/{done}/skip", {"reason": "bored"}), 422, "invalid_input")
