"""Appeals that a correction is remembered of, and how a test corrects them."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from serving.messages import Answer
from tests.reviewers import Person
from tests.running import appeal, samples

# No word that the fake model knows: it leads with the first label, unsure.
UNSURE = "巷口修鞋摊的凉棚被风吹歪了，路过的人都绕着走，希望有人去扶一扶。"
OTHER = "图书馆自习室周末不开门，孩子们没有地方看书，盼着能早些开放。"
SURE = "请问灵活就业的医保怎么缴费，需要带什么材料？"
QUICK: dict[str, Any] = {"correction_memory_seconds": 0.05}


def classify(client: TestClient, text: str = UNSURE, **headers: Any) -> Any:
    answer = client.post("/v1/classify", json={"texts": [text]}, **headers)
    assert answer.status_code == 200, answer.text
    [result] = answer.json()["results"]
    Answer.model_validate(result)  # as OpenAPI says, memory and all
    return result


def take_up(client: TestClient, id: str, text: str = UNSURE, **headers: Any) -> Any:
    answer = client.post("/v1/appeals", json=appeal(id, text), **headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


def correct(client: TestClient, id: str, person: Person | None = None, **labels: str) -> Any:
    """Take an appeal and give it these labels alone; what the page would send again to undo it."""
    person = person or Person(client)
    task = person.post(f"appeals/{id}/take").json()["task"]
    lease, body = task["lease"]["number"], person.body(task)
    done = person.post(f"leases/{lease}/labels", {**body, "labels": labels})
    assert done.status_code == 200, done.text
    return lease


def remembered(client: TestClient) -> float:
    return samples(client)["jiesu_memory_appeals{state=kept}"]


def codes(answer: Any) -> set[str]:
    return {reason["code"] for reason in answer["decision"]["reasons"]}


def plain(answer: Any) -> Any:
    """An answer without the moment."""
    return {key: value for key, value in answer.items() if key not in ("received_at", "decision", "id")}
