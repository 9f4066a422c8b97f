"""The correction memory in the service: felt at once, bounded, told, and gone when it is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete

from classifier.neighbours import Neighbour, Neighbours
from classifier.predictor import Prediction
from data.corrected import Corrected
from data.database import Database
from data.purge import purge
from data.review_tables import embeddings
from data.reviews import ReviewStore
from serving.answer import Asked, respond, understand
from serving.bulk.run import Files, run
from serving.memory.kept import Kept
from serving.messages import Answer
from tests.fakes import FakePredictor, furnish
from tests.guarded import bearer, closed, new_key, opened
from tests.remembering import (
    OTHER,
    QUICK,
    SURE,
    UNSURE,
    classify,
    codes,
    correct,
    plain,
    remembered,
    take_up,
)
from tests.reviewers import Alike, Person
from tests.running import appeal, loads, running, samples, settings, until


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with running(tmp_path, Alike(), **QUICK) as found:
        yield found


# --- felt -----------------------------------------------------------------------------------------


def test_a_correction_is_felt_by_look_alikes_and_told(client: TestClient) -> None:
    before = take_up(client, "A-1")
    assert before["memory"] == [] and before["without_memory"] == {}
    correct(client, "A-1", category="0604")
    until(lambda: classify(client)["memory"])
    answer = take_up(client, "A-2")
    assert before["category"]["code"] != "0604" == answer["category"]["code"]
    [vote] = answer["memory"]
    told = (vote["appeal_id"], vote["head"], vote["code"], vote["similarity"])
    assert told == ("A-1", "category", "0604", 1)
    assert vote["name"] == answer["category"]["name"]
    assert vote["weight"] == pytest.approx(0.4, abs=0.01)
    assert answer["without_memory"]["category"]["code"] == before["category"]["code"]
    assert answer["decision"]["action"] == "review" and "memory_changed" in codes(answer)
    [reason] = [one for one in answer["decision"]["reasons"] if one["code"] == "memory_changed"]
    assert "1条已复核的相似诉求" in reason["text"] and "事项分类" in reason["text"]
    assert answer["model_version"] == before["model_version"]
    assert client.get("/v1/appeals/A-2").json() == answer
    Answer.model_validate(answer)


def test_bulk_rows_feel_it_too(client: TestClient) -> None:
    take_up(client, "A-1")
    correct(client, "A-1", category="0604")
    until(lambda: remembered(client) == 1)
    lines = b"\n".join(orjson.dumps(appeal(f"B-{n}", text)) for n, text in enumerate((UNSURE, OTHER)))
    told = client.post("/v1/appeals:bulk", content=lines, headers={"Content-Type": "application/x-ndjson"})
    one, other, _ = (orjson.loads(line) for line in told.content.splitlines())
    assert one["answer"]["category"]["code"] == "0604" and one["answer"]["memory"]
    assert other["answer"]["memory"] == []


def test_a_file_answered_without_a_server_feels_it_too(tmp_path: Path) -> None:
    with running(tmp_path, Alike(), **QUICK) as client:
        take_up(client, "A-1")
        correct(client, "A-1", category="0604")
    file, out = tmp_path / "history.ndjson", tmp_path / "answers.ndjson"
    file.write_bytes(orjson.dumps(appeal("H-1", UNSURE)) + b"\n")
    run(Files(file, out), settings(tmp_path), loads(Alike()))
    [line] = out.read_bytes().splitlines()
    assert orjson.loads(line)["answer"]["memory"][0]["appeal_id"] == "A-1"


def test_switched_off_by_one_setting(tmp_path: Path) -> None:
    with running(tmp_path, Alike(), correction_memory=False, **QUICK) as client:
        before = take_up(client, "A-1")
        correct(client, "A-1", category="0604")
        assert plain(take_up(client, "A-2")) == plain(before)
        assert remembered(client) == 0
        assert samples(client)["jiesu_memory_age_seconds{}"] == 0
    with running(tmp_path, Alike(), **QUICK) as client:
        until(lambda: classify(client)["memory"])


def test_a_dissimilar_text_is_answered_as_if_there_were_no_memory(client: TestClient) -> None:
    before = {text: classify(client, text) for text in (OTHER, SURE)}
    take_up(client, "A-1")
    correct(client, "A-1", category="0604", unit="xiaofang", appeal_type="举报", urgency="特急", tier="市")
    until(lambda: classify(client)["memory"])
    for text, answer in before.items():
        assert plain(classify(client, text)) == plain(answer)
        assert codes(classify(client, text)) == codes(answer)


def test_a_sure_answer_is_held_back_by_one_correction_and_turned_by_more(client: TestClient) -> None:
    before = take_up(client, "A-1", SURE)
    assert before["decision"]["action"] == "auto_dispatch" and before["unit"]["lead"]["code"] == "yibao"
    correct(client, "A-1", unit="renshe")
    until(lambda: classify(client, SURE)["memory"])
    doubted = classify(client, SURE)
    assert doubted["unit"]["lead"]["code"] == "yibao"
    assert doubted["decision"]["action"] == "review" and "memory_doubt" in codes(doubted)
    for number in (2, 3, 4):
        take_up(client, f"A-{number}", SURE)
        correct(client, f"A-{number}", unit="renshe")
    until(lambda: remembered(client) == 4)
    turned = classify(client, SURE)
    assert len(turned["memory"]) == 4
    assert turned["without_memory"]["unit"]["code"] == "yibao"
    assert turned["decision"]["action"] == "review"
    assert {"memory_changed", "memory_doubt"} & codes(turned)


def test_nothing_is_dispatched_because_look_alikes_agree() -> None:
    model = furnish(Alike())
    understood = understand(Asked(SURE, datetime(2031, 5, 5, 9, tzinfo=UTC)), model)
    [found] = model.predict([understood.prepared.text])
    unit = found.probabilities["unit"].copy()
    unit[:] = 0.25 / (len(unit) - 1)
    unit[found.codes["unit"].index("yibao")] = 0.75  # the threshold is 0.8
    unsure = Prediction({**found.probabilities, "unit": unit}, found.codes, found.evidence, found.embedding)
    alike = [Neighbour(Corrected(n, {"unit": "yibao"}, n, f"A-{n}"), 1.0) for n in range(8)]
    alone, together = respond(model, understood, unsure), respond(model, understood, unsure, alike)
    assert alone.unit is not None
    assert together.unit is not None
    assert alone.unit.probability < 0.8 < together.unit.probability
    assert together.unit.lead == alone.unit.lead
    assert (alone.decision.action, together.decision.action) == ("review", "review")
    assert [reason.code for reason in together.decision.reasons] == ["memory_unproven"]


def test_urgency_is_never_lowered(client: TestClient) -> None:
    urgent = "梧桐里小区3号楼门口的污水井盖不见了，请尽快派人处理。"
    before = take_up(client, "A-1", urgent)
    correct(client, "A-1", urgency="一般")
    until(lambda: remembered(client) == 1)
    assert classify(client, urgent)["urgency"] == before["urgency"]
    assert classify(client, urgent)["decision"]["action"] == before["decision"]["action"]


# --- what does not vote ---------------------------------------------------------------------------


def test_what_was_taken_back_is_forgotten(client: TestClient) -> None:
    before = take_up(client, "A-1")
    person = Person(client)
    lease = correct(client, "A-1", person, category="0604")
    until(lambda: classify(client)["memory"])
    assert person.post(f"leases/{lease}/undo", {"token": person.token()}).status_code == 200
    until(lambda: remembered(client) == 0)
    assert plain(classify(client)) == plain(before)


def test_a_disputed_label_and_one_that_cannot_be_told_do_not_vote(tmp_path: Path) -> None:
    with closed(tmp_path, Alike(), **QUICK) as office:
        intake, operate = office.key("intake"), office.key("operate")
        for id in ("A-1", "A-2"):
            take_up(office.client, id, headers=intake)
        one, other = Person(office.signed_in("reviewer")), Person(office.signed_in("lead"))
        correct(one.client, "A-1", one, category="0604")
        until(lambda: classify(office.client, headers=intake)["memory"])
        correct(other.client, "A-1", other, category="0303")
        correct(one.client, "A-2", one, category="")
        until(lambda: samples(office.client, headers=operate)["jiesu_memory_appeals{state=kept}"] == 0)
        assert classify(office.client, headers=intake)["memory"] == []
        decided = other.post("appeals/A-1/adjudication", {"labels": {"category": "0303"}, "token": "t-lead"})
        assert decided.status_code == 200, decided.text
        until(lambda: classify(office.client, headers=intake)["category"]["code"] == "0303")


def test_an_id_is_told_to_those_who_may_see_that_appeal(tmp_path: Path) -> None:
    with opened(tmp_path) as access:
        another = bearer(new_key(access, "another", "intake"))
    with closed(tmp_path, Alike(), **QUICK) as office:
        take_up(office.client, "A-1", headers=office.key("intake"))
        reviewer = Person(office.signed_in("reviewer"))
        correct(reviewer.client, "A-1", reviewer, category="0604")
        until(lambda: classify(office.client, headers=another)["memory"])
        told = {
            name: classify(office.client, headers=headers)["memory"][0]["appeal_id"]
            for name, headers in (
                ("own", office.key("intake")), ("another", another), ("review", office.key("review")),
            )
        }  # fmt: skip
        assert told == {"own": "A-1", "another": None, "review": "A-1"}
        stored = take_up(office.client, "B-1", headers=another)
        assert stored["memory"][0]["appeal_id"] is None


def test_the_newest_corrections_are_kept(tmp_path: Path) -> None:
    with running(tmp_path, Alike(), correction_memory_appeals=1, **QUICK) as client:
        for id, text in (("A-1", UNSURE), ("A-2", OTHER)):
            take_up(client, id, text)
            correct(client, id, category="0604")
        until(lambda: classify(client, OTHER)["memory"])
        assert classify(client)["memory"] == []
        assert remembered(client) == 1


# --- elsewhere, later -----------------------------------------------------------------------------


def test_another_replica_feels_it(tmp_path: Path) -> None:
    with running(tmp_path, Alike(), **QUICK) as one, running(tmp_path, Alike(), **QUICK) as other:
        take_up(one, "A-1")
        correct(one, "A-1", category="0604")
        until(lambda: classify(other)["memory"])


def test_a_restart_reads_it_from_the_database_without_asking_the_model(tmp_path: Path) -> None:
    with running(tmp_path, Alike(), **QUICK) as client:
        take_up(client, "A-1")
        correct(client, "A-1", category="0604")
    predictor = Alike()
    with running(tmp_path, predictor, **QUICK) as client:
        until(lambda: remembered(client) == 1)
        asked = [text for batch in predictor.batches for text in batch]
        assert UNSURE not in asked
        assert classify(client)["category"]["code"] == "0604"


def test_a_new_model_version_makes_the_embeddings_that_are_missing(tmp_path: Path) -> None:
    predictor = Alike()
    with running(tmp_path, predictor, **QUICK) as client:
        take_up(client, "A-1")
        correct(client, "A-1", category="0604")
        until(lambda: classify(client)["memory"])
        predictor._version = "fake-2"  # as if it were promoted
        assert classify(client)["model_version"] == "fake-2"
        until(lambda: classify(client)["memory"])
        until(lambda: len(vectors(tmp_path, "fake-2")) == 1)
        assert samples(client)["jiesu_memory_appeals{state=missing}"] == 0
    assert len(vectors(tmp_path, "fake-1")) == 1


def test_an_appeal_without_an_embedding_gets_one(tmp_path: Path) -> None:
    with running(tmp_path, Alike(), **QUICK) as client:
        take_up(client, "A-1")
        correct(client, "A-1", category="0604")
    database = Database.open(f"sqlite:///{tmp_path / 'jiesu.db'}")
    with database.begin() as connection:
        connection.execute(delete(embeddings))
    database.close()
    with running(tmp_path, Alike(), **QUICK) as client:
        until(lambda: classify(client)["memory"])
        until(lambda: len(vectors(tmp_path, "fake-1")) == 1)


def test_a_text_the_model_fails_on_is_given_up_and_the_others_are_not(tmp_path: Path) -> None:
    with running(tmp_path, Alike(), **QUICK) as client:
        for id, text in (("A-1", UNSURE), ("A-2", OTHER)):
            take_up(client, id, text)
            correct(client, id, category="0604")
    failing = Alike(version="fake-2")
    failing.fail_on = "图书馆"
    with running(tmp_path, failing, **QUICK) as client:
        until(lambda: remembered(client) == 1)
        until(lambda: samples(client)["jiesu_memory_appeals{state=missing}"] == 0)
        assert classify(client)["memory"]


def test_a_model_without_embeddings_has_no_memory(tmp_path: Path) -> None:
    with running(tmp_path, FakePredictor(), **QUICK) as client:
        before = take_up(client, "A-1")
        correct(client, "A-1", category="0604")
        until(lambda: samples(client)["jiesu_memory_appeals{state=missing}"] == 0)
        assert plain(classify(client)) == plain(before)
        assert remembered(client) == 0


def vectors(folder: Path, version: str) -> list[tuple[int, bytes]]:
    database = Database.open(f"sqlite:///{folder / 'jiesu.db'}")
    found = ReviewStore(database).embeddings(version)
    database.close()
    return found


def test_what_is_purged_is_forgotten(tmp_path: Path) -> None:
    with running(tmp_path, Alike(), **QUICK) as client:
        take_up(client, "A-1")
        correct(client, "A-1", category="0604")
    database = Database.open(f"sqlite:///{tmp_path / 'jiesu.db'}")
    kept = Kept("fake-1", "1", 10)
    kept.look(database)
    assert len(kept.neighbours) == 1
    purge(database, datetime(2099, 1, 1, tzinfo=UTC), "cli:test")
    kept.look(database)
    assert len(kept.neighbours) == 1  # not asked for at every look
    kept.forget_purged(database)
    assert len(kept.neighbours) == 0
    database.close()


# --- cost and trouble -----------------------------------------------------------------------------


def test_one_look_for_a_whole_batch_and_none_while_nothing_is_remembered(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    nearest = Neighbours.nearest

    def counted(self: Neighbours, rows: np.ndarray[Any, Any]) -> list[tuple[Neighbour, ...]]:
        looked.append(len(rows))
        return nearest(self, rows)

    monkeypatch.setattr(Neighbours, "nearest", counted)
    take_up(client, "A-1")
    assert looked == []
    correct(client, "A-1", category="0604")
    until(lambda: remembered(client) == 1)
    looked.clear()
    client.post("/v1/classify", json={"texts": [UNSURE] * 8})
    assert sum(looked) == 8 and len(looked) < 8


def test_trouble_in_the_memory_costs_no_answer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Neighbours, rows: object) -> None:
        raise RuntimeError("out of order")

    take_up(client, "A-1")
    correct(client, "A-1", category="0604")
    until(lambda: remembered(client) == 1)
    monkeypatch.setattr(Neighbours, "nearest", broken)
    assert classify(client)["memory"] == []


def test_metrics_tell_what_the_memory_holds_and_does(client: TestClient) -> None:
    take_up(client, "A-1")
    take_up(client, "A-2", SURE)
    correct(client, "A-1", category="0604")
    correct(client, "A-2", unit="renshe")
    until(lambda: remembered(client) == 2)
    before = samples(client)
    assert before["jiesu_memory_bytes{}"] > 0
    assert 0 <= before["jiesu_memory_age_seconds{}"] < 60
    classify(client)
    classify(client, SURE)
    classify(client, OTHER)
    after = samples(client)
    moved = {
        effect: after[name] - before[name]
        for effect in ("changed", "held_back", "moved")
        if (name := f"jiesu_memory_answers_total{{effect={effect}}}")
    }
    assert moved == {"changed": 1, "held_back": 1, "moved": 0}
