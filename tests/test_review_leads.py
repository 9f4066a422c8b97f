"""What leads decide over HTTP, and one label for many appeals at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.audit import AuditLog
from data.database import Database
from tests.guarded import Closed, closed
from tests.reviewers import TEXTS, Person, take_up
from tests.running import appeal, problem, running, samples


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Closed]:
    """Where every appeal is asked for twice."""
    with closed(tmp_path) as found:
        lead = Person(found.signed_in("lead"))
        assert lead.client.put("/v1/review/rules", json={"double_share": 1}).status_code == 200
        take_up(found.client, 4, headers=found.key("intake"))
        yield found


def audited(folder: Path) -> list[tuple[str, str, Any]]:
    database = Database.open(f"sqlite:///{folder / 'jiesu.db'}")
    found = [one for one in AuditLog(database).entries() if one.action.startswith("review.")]
    database.close()
    return [(one.actor, one.action, one.details) for one in found]


def dispute(office: Closed, id: str = "A-1") -> None:
    """Two people say different things of an appeal."""
    for person, code in ((Person(office.signed_in("reviewer")), "0203"), (key(office), "0604")):
        task = person.post(f"appeals/{id}/take").json()["task"]
        person.say(task, category=code)


def key(office: Closed) -> Person:
    return Person(office.client, office.key("review"))


# --- disputes and adjudication --------------------------------------------------------------------


def test_leads_see_what_reviewers_disagree_on_and_decide(office: Closed) -> None:
    dispute(office)
    lead = Person(office.signed_in("lead"))
    [told] = lead.get("disputes").json()["disputes"]
    assert told["id"] == "A-1" and told["text"] == TEXTS[0] and set(told["heads"]) == {"category"}
    voices = {one["reviewer"]: (one["code"], one["name"]) for one in told["heads"]["category"]}
    assert voices["user:reviewer"] == ("0203", "路灯") and len(voices) == 2
    task = lead.take("disputed")
    assert task["appeal"]["id"] == "A-1" and task["heads"][0]["in_force"]["state"] == "disputed"
    body = {
        "labels": {"category": "0202"}, "token": "a-1", "lease": task["lease"]["number"],
        "shown_version": task["shown_version"], "comment": "以井盖为准", "seconds": 9,
    }  # fmt: skip
    done = lead.post("appeals/A-1/adjudication", body).json()["done"]
    assert done == {"rows": 1, "confirmed": 0, "changed": 0, "unchanged": 0, "again": False}
    assert lead.post("appeals/A-1/adjudication", body).json()["done"]["again"] is True
    in_force = key(office).get("appeals/A-1").json()["task"]["heads"][0]["in_force"]
    assert in_force == {"code": "0202", "name": "井盖", "state": "adjudicated", "by": ["user:lead"]}
    assert lead.get("disputes").json() == {"disputes": []} and lead.take("disputed") is None
    page = samples(office.client, headers=office.key("operate"))
    assert page["jiesu_review_labels_total{kind=adjudicated}"] == 1
    back = lead.post(f"leases/{task['lease']['number']}/undo", {"token": "u-1"}).json()["task"]
    assert back["heads"][0]["in_force"]["state"] == "disputed"


def test_what_leads_do_is_for_leads(office: Closed) -> None:
    dispute(office)
    for person in (Person(office.signed_in("reviewer")), key(office)):
        body = {"labels": {"category": "0202"}, "token": "a-1"}
        many = {"ids": ["A-1"], "head": "category", "code": "0202", "final": True}
        for answer in (
            person.post("appeals/A-1/adjudication", body),
            person.get("disputes"),
            person.client.put("/v1/review/rules", json={"audit_share": 0}, headers=person.headers),
            person.post("take", {"queue": "disputed"}),
            person.post("bulk/preview", many),
            person.post("bulk", {**many, "fingerprint": "", "token": "b-1"}),
        ):
            error = problem(answer, 403, "not_allowed")
            assert error["field"] == "role" and "lead" in error["expected"]


def test_an_adjudication_is_checked_like_any_label(office: Closed) -> None:
    lead = Person(office.signed_in("lead"))
    wrong = lead.post("appeals/A-1/adjudication", {"labels": {"category": "02"}, "token": "a-1"})
    problem(wrong, 422, "review_refused")
    nowhere = lead.post("appeals/N-1/adjudication", {"labels": {"category": "0202"}, "token": "a-1"})
    problem(nowhere, 404, "appeal_not_found")


def test_rules_are_changed_one_by_one_and_audited(tmp_path: Path) -> None:
    with closed(tmp_path) as it:
        lead = Person(it.signed_in("lead"))

        def put(body: Any) -> Any:
            return lead.client.put("/v1/review/rules", json=body)

        first = put({"audit_share": 0.05}).json()
        assert first["audit_share"] == 0.05
        assert put({"double_share": 0.5}).json() == {"audit_share": 0.05, "double_share": 0.5}
        assert lead.get("queues").json()["rules"] == {"audit_share": 0.05, "double_share": 0.5}
        for wrong in ({"audit_share": 1.5}, {"double_share": -0.1}, {"audit_share": "viel"}):
            problem(put(wrong), 422, "invalid_input")
    told = audited(tmp_path)
    assert [(actor, action) for actor, action, _ in told] == [("user:lead", "review.rules_changed")] * 2
    assert "0.05" in str(told[0][2])


# --- many at once ---------------------------------------------------------------------------------


def test_many_get_a_label_as_the_preview_showed(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        take_up(client, 3)
        person = Person(client)
        person.say(person.post("appeals/A-2/take").json()["task"], category="0202")
        wish = {"ids": ["A-1", "A-2", "A-3", "A-1"], "head": "category", "code": "0203"}
        preview = person.post("bulk/preview", wish).json()
        assert preview["changing"] == 3 and (preview["head"], preview["code"]) == ("category", "0203")
        one, two, _ = preview["changes"]
        assert (one["id"], one["text"], one["by"]) == ("A-1", TEXTS[0], "model")
        assert (one["before_name"], one["after"], one["after_name"]) == ("井盖", "0203", "路灯")
        assert (two["by"], two["before"], two["stays"]) == ("person", "0202", "")
        sent = {**wish, "fingerprint": preview["fingerprint"], "token": "b-1"}
        done = person.post("bulk", sent).json()["done"]
        assert (done["rows"], done["again"]) == (3, False)
        assert person.post("bulk", sent).json()["done"] == {**done, "again": True}
        problem(person.post("bulk", {**sent, "token": "b-2"}), 409, "review_conflict")
        state = person.get("appeals/A-3").json()["task"]["heads"][0]
        assert state["in_force"]["code"] == state["mine"] == "0203"
        assert samples(client)["jiesu_review_labels_total{kind=bulk}"] == 3
        back = person.post("bulk/withdraw", {"said_under": "b-1", "token": "w-1"}).json()["done"]
        assert back["rows"] == 3
        assert person.get("appeals/A-3").json()["task"]["heads"][0]["in_force"] is None
        problem(person.post("bulk/withdraw", {"said_under": "b-9", "token": "w-2"}), 409, "review_conflict")


def test_a_preview_that_is_stale_is_refused(office: Closed) -> None:
    first, second = Person(office.signed_in("reviewer")), key(office)
    wish = {"ids": ["A-1", "A-2"], "head": "category", "code": "0203"}
    preview = first.post("bulk/preview", wish).json()
    second.say(second.post("appeals/A-1/take").json()["task"])
    sent = {**wish, "fingerprint": preview["fingerprint"], "token": "b-1"}
    error = problem(first.post("bulk", sent), 409, "review_conflict")
    assert error["field"] == "fingerprint" and "重新预览" in error["hint"]


def test_a_final_bulk_label_decides_and_is_audited(office: Closed, tmp_path: Path) -> None:
    dispute(office)
    lead = Person(office.signed_in("lead"))
    wish = {"ids": ["A-1", "A-2"], "head": "category", "code": "0202", "final": True}
    preview = lead.post("bulk/preview", wish).json()
    assert preview["changes"][0]["before"] is None and preview["changes"][0]["after"] == "0202"
    sent = {**wish, "fingerprint": preview["fingerprint"], "token": "b-1"}
    for again in (False, True):
        assert lead.post("bulk", sent).json()["done"]["again"] is again
    assert lead.get("appeals/A-1").json()["task"]["heads"][0]["in_force"]["state"] == "adjudicated"
    told = [entry for entry in audited(tmp_path) if entry[1] == "review.adjudicated"]
    assert len(told) == 1 and told[0][0] == "user:lead" and "0202" in str(told[0][2])


def test_wrong_bulk_requests_are_refused(office: Closed) -> None:
    person = key(office)
    wish: dict[str, Any] = {"ids": ["A-1"], "head": "category", "code": "0203"}

    def preview(**changes: Any) -> Any:
        return person.post("bulk/preview", {**wish, **changes})

    unknown = problem(preview(ids=["A-1", "N-1", "N-2"]), 404, "appeal_not_found")
    assert [one["got"] for one in unknown["more"]] == ["N-1", "N-2"]
    assert problem(preview(code="02"), 422, "review_refused")["field"] == "code.category"
    problem(preview(head="colour"), 422, "review_refused")
    problem(preview(ids=[]), 422, "invalid_input")
    problem(preview(ids=[f"A-{number}" for number in range(1001)]), 422, "invalid_input")
    assert preview(code="").status_code == 200, "that the text does not tell"


def test_long_texts_are_shortened_in_lists(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        client.post("/v1/appeals", json=appeal("A-1", "井盖" + "，还是没有人来修" * 100))
        wish = {"ids": ["A-1"], "head": "category", "code": "0203"}
        [change] = Person(client).post("bulk/preview", wish).json()["changes"]
    assert len(change["text"]) == 300 and change["text"].endswith("…")
