"""Look-alikes: which are nearest, with which labels, and that what is in memory follows the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from fastapi.testclient import TestClient

from data.database import Database
from data.reviews import ReviewStore
from serving.review import similar
from serving.review.similar import Looks, Vectors, unit_rows
from tests.reviewers import Alike, Person
from tests.reviewing import appeal as stored_appeal
from tests.reviewing import opened
from tests.running import appeal, problem, running

NEAR = "梧桐里小区3号楼门口的污水井盖不见了，请尽快派人处理。"
WORDS = {
    "A-1": NEAR,
    "A-2": NEAR + "急",
    "A-3": "梧桐里小区5号楼后面的井盖也松了",
    "A-4": "请问灵活就业的医保怎么缴费，需要带什么材料？",
}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with running(tmp_path, Alike()) as found:
        for id, text in WORDS.items():
            found.post("/v1/appeals", json=appeal(id, text, received_at="2025-03-04T10:00:00+08:00"))
        yield found


def test_the_nearest_are_told_first_and_the_appeal_itself_is_left_out(client: TestClient) -> None:
    found = Person(client).get("appeals/A-1/similar").json()["similar"]
    assert [one["id"] for one in found] == ["A-2", "A-3", "A-4"]
    assert [one["duplicate"] for one in found] == [True, False, False]
    shares = [one["similarity"] for one in found]
    assert shares == sorted(shares, reverse=True) and 0 < shares[-1] < shares[0] <= 1
    assert found[0]["text"] == WORDS["A-2"] and found[0]["received_at"] == "2025-03-04T10:00:00+08:00"
    assert "井盖" in found[0]["same_evidence"] and "井盖" in found[1]["same_evidence"]
    assert found[2]["same_evidence"] == []
    assert found[0]["labels"]["category"] == {
        "code": "0202", "name": "井盖", "by": "model", "state": "suggested",
    }  # fmt: skip
    assert len(Person(client).get("appeals/A-1/similar?limit=1").json()["similar"]) == 1
    problem(Person(client).get("appeals/N-1/similar"), 404, "appeal_not_found")
    problem(Person(client).get("appeals/A-1/similar?limit=0"), 422, "invalid_input")


def test_labels_of_people_go_before_suggestions(client: TestClient) -> None:
    person = Person(client)
    person.say(person.post("appeals/A-2/take").json()["task"], category="0203", unit="")
    [first] = person.get("appeals/A-1/similar?limit=1").json()["similar"]
    assert first["labels"]["category"] == {"code": "0203", "name": "路灯", "by": "person", "state": "agreed"}
    assert first["labels"]["unit"]["name"] == "无法判断"


def test_of_those_as_alike_labelled_ones_are_told(tmp_path: Path) -> None:
    with running(tmp_path, Alike()) as client:
        for number in range(1, 6):
            client.post("/v1/appeals", json=appeal(f"A-{number}", NEAR))
        person = Person(client)
        person.say(person.post("appeals/A-5/take").json()["task"])
        assert person.get("appeals/A-1/similar?limit=2").json()["similar"][0]["id"] in ("A-2", "A-5")
        told = {one["id"] for one in person.get("appeals/A-1/similar?limit=2").json()["similar"]}
        assert "A-5" in told


def test_new_appeals_are_found_at_once(client: TestClient) -> None:
    person = Person(client)
    assert len(person.get("appeals/A-4/similar").json()["similar"]) == 3
    client.post("/v1/appeals", json=appeal("A-5", WORDS["A-4"]))
    assert person.get("appeals/A-4/similar").json()["similar"][0]["id"] == "A-5"


def test_appeals_of_bulk_requests_have_vectors_as_well(client: TestClient) -> None:
    lines = b"".join(orjson.dumps(appeal(f"B-{n}", NEAR), option=orjson.OPT_APPEND_NEWLINE) for n in range(3))
    client.post("/v1/appeals:bulk", content=lines, headers={"Content-Type": "application/x-ndjson"})
    told = {one["id"] for one in Person(client).get("appeals/B-0/similar").json()["similar"]}
    assert told >= {"B-1", "B-2", "A-1"}


def test_an_appeal_without_a_vector_is_compared_by_the_one_of_now(tmp_path: Path) -> None:
    """An earlier version of the program stored none."""
    store, _ = opened(f"sqlite:///{tmp_path / 'jiesu.db'}")
    store.add(stored_appeal("A-0", text=NEAR, model_version="fake-1"))
    store.close()
    with running(tmp_path, Alike()) as client:
        client.post("/v1/appeals", json=appeal("A-1", NEAR))
        assert [one["id"] for one in Person(client).get("appeals/A-0/similar").json()["similar"]] == ["A-1"]
        assert Person(client).get("appeals/A-1/similar").json()["similar"] == []


def test_after_a_new_model_old_appeals_are_compared_as_before(tmp_path: Path) -> None:
    with running(tmp_path, Alike()) as client:
        for id, text in WORDS.items():
            client.post("/v1/appeals", json=appeal(id, text))
    with running(tmp_path, Alike(version="fake-2")) as client:
        person = Person(client)
        assert person.get("appeals/A-1/similar").json()["similar"][0]["id"] == "A-2"
        client.post("/v1/appeals", json=appeal("A-9", NEAR))
        assert person.get("appeals/A-9/similar").json()["similar"] == []


# --- vectors in memory ----------------------------------------------------------------------------


def filled(folder: Path, vectors: Mapping[int, list[float]], version: str = "m1") -> Database:
    """A database with appeals 1 … and vectors of some of them."""
    store, reviews = opened(f"sqlite:///{folder / 'jiesu.db'}")
    store.add_many([stored_appeal(f"A-{number}") for number in range(1, 31)])
    add(reviews, vectors, version)
    return store.database


def add(reviews: ReviewStore, vectors: Mapping[int, list[float]], version: str = "m1") -> None:
    raw = {number: np.array(one, "<f2").tobytes() for number, one in vectors.items()}
    reviews.add_embeddings(version, raw)


def numbers(vectors: Vectors) -> list[int]:
    return sorted(vectors.numbers.tolist())


def test_the_newest_are_kept(tmp_path: Path) -> None:
    database = filled(tmp_path, {number: [1.0, number] for number in range(1, 21)})
    looks = Looks(most=5)
    assert numbers(looks.of(database, "m1")) == [16, 17, 18, 19, 20]
    add(ReviewStore(database), {21: [1, 0], 22: [1, 0]})
    assert numbers(looks.of(database, "m1")) == [18, 19, 20, 21, 22]
    assert numbers(looks.of(database, "m2")) == []
    database.close()


def test_what_came_in_between_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "OVERLAP", 2)
    database = filled(tmp_path, {10: [1, 0], 20: [0, 1]})
    looks = Looks()
    assert numbers(looks.of(database, "m1")) == [10, 20]
    add(ReviewStore(database), {19: [1, 1], 5: [1, 1]})
    assert numbers(looks.of(database, "m1")) == [10, 19, 20], "beside the last one"
    monkeypatch.setattr(similar, "COUNTED_EVERY", 0.0)
    assert numbers(looks.of(database, "m1")) == [5, 10, 19, 20], "a history that was filled in"
    database.close()


def test_pages_are_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "PAGE", 3)
    database = filled(tmp_path, {number: [1.0, number] for number in range(1, 21)})
    assert numbers(Looks().of(database, "m1")) == list(range(1, 21))
    database.close()


def test_broken_vectors_are_no_neighbours(tmp_path: Path) -> None:
    vectors: dict[int, list[float]] = {1: [1, 0], 2: [1, 0.1], 3: [0, 0], 4: [float("nan"), 1], 5: [1, 0, 0]}
    database = filled(tmp_path, vectors)
    found = Looks().of(database, "m1")
    assert numbers(found) == [1, 2, 3, 4]
    near = found.nearest(np.array([1, 0], np.float32), 9, without=1)
    assert near[0].number == 2 and near[0].similarity == pytest.approx(0.995, abs=2e-3)
    assert found.nearest(np.zeros(2, np.float32), 9, without=1) == []
    assert found.nearest(np.ones(3, np.float32), 9, without=1) == []
    database.close()


def test_two_versions_are_kept_and_the_oldest_forgotten(tmp_path: Path) -> None:
    database = filled(tmp_path, {1: [1, 0]})
    looks = Looks()
    first = looks.of(database, "m1")
    looks.of(database, "m2")
    assert looks.of(database, "m1") is first
    looks.of(database, "m3")
    looks.of(database, "m2")
    assert looks.of(database, "m1") is not first
    database.close()


def test_products_of_unit_rows_are_cosines() -> None:
    rows = np.array([[3, 4], [0, 0], [np.inf, 1]], np.float32)
    found = unit_rows(rows).astype(np.float32)
    assert found[0] == pytest.approx([0.6, 0.8], abs=1e-3) and not found[1].any()
    assert np.isfinite(found).all()


def test_nearest_agrees_with_sorting_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "AT_ONCE", 7)
    random = np.random.default_rng(3)
    made = {number: random.normal(size=8).tolist() for number in range(1, 31)}
    database = filled(tmp_path, made)
    vectors = replace_lock(Looks().of(database, "m1"))
    query = np.array(made[1], np.float32)
    wide = {n: np.array(one) / np.linalg.norm(one) for n, one in made.items()}
    expected = sorted((n for n in wide if n != 1), key=lambda n: -float(wide[n] @ wide[1]))[:5]
    assert [one.number for one in vectors.nearest(query, 5, without=1)] == expected
    database.close()


def replace_lock(vectors: Vectors) -> Vectors:
    """Looking does not wait for a refresh."""
    assert vectors._lock.acquire(timeout=1)
    return replace(vectors)
