"""What the README promises is tried out: its example, its figures' source, its commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from classifier.registry import shipped_model
from serving.app import create_app
from serving.settings import Settings

ROOT = Path(__file__).parent.parent
READMES = ["README.md", "README.zh-CN.md"]
MOVING = {"received_at", "respond_by", "resolve_by", "model_version"}


def example(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request and the answer that a README shows."""
    text = (ROOT / name).read_text(encoding="utf-8")
    request = re.search(r"-d '(\{\"texts\".*?\})'", text)
    answer = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert request and answer
    return json.loads(request[1]), json.loads(answer[1])


def without_what_moves(value: Any) -> Any:
    """Drop times and versions, round what differs a little from CPU to CPU away."""
    if isinstance(value, dict):
        return {key: without_what_moves(item) for key, item in value.items() if key not in MOVING}
    if isinstance(value, list):
        return [without_what_moves(item) for item in value]
    return round(value, 1) if isinstance(value, float) else value


@pytest.mark.parametrize("name", READMES)
def test_the_example_is_answered_as_shown(name: str, tmp_path: Path) -> None:
    request, shown = example(name)
    settings = Settings(database_url=f"sqlite:///{tmp_path}/readme.db")
    with TestClient(create_app(settings)) as client:
        answer = client.post("/v1/classify", json=request)
    assert answer.status_code == 200, answer.text
    ours, theirs = answer.json()["results"][0], shown["results"][0]
    for key in ("category", "appeal_type", "tier"):
        assert ours[key]["code"] == theirs[key]["code"]
    assert ours["unit"]["lead"] == theirs["unit"]["lead"]
    assert ours["urgency"]["level"] == theirs["urgency"]["level"]
    assert ours["decision"]["action"] == theirs["decision"]["action"]
    assert without_what_moves(ours).keys() == without_what_moves(theirs).keys()


@pytest.mark.parametrize("name", READMES)
def test_nothing_was_left_to_be_filled_in(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "@@" not in text and "TODO" not in text


@pytest.mark.parametrize("name", READMES)
def test_the_commands_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\w+)", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets >= {"run", "test"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    rooms = set(re.findall(r"python -m (\w+) (\w+)", text))
    assert ("training", "fit") in rooms
    for room, command in rooms:
        source = (ROOT / room / "__main__.py").read_text(encoding="utf-8")
        assert re.search(rf'(command\("{command}"|def {command}\b|name="{command}")', source), (
            f"{room} {command}"
        )


def test_the_shipped_model_is_small_and_whole() -> None:
    folder = shipped_model()
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    assert size <= 40 * 1024 * 1024
    assert {"encoder.onnx", "lexical.safetensors", "tokenizer.json", "README.md"} <= {
        p.name for p in folder.iterdir()
    }
    assert not [
        path for path in folder.iterdir() if path.suffix in {".pkl", ".pickle", ".joblib", ".bin", ".pt"}
    ]
