"""The rooms' imports run one way, and serving stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "data": set[str](),
    "classifier": {"data"},
    "evaluation": {"data", "classifier"},
    "training": {"data", "classifier", "evaluation"},
    "serving": {"data", "classifier"},
}
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "sklearn",
    "pandas",
    "scipy",
    "matplotlib",
    "training",
    "evaluation",
)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def wrong_arrows(room: str, modules: set[str]) -> set[str]:
    rooms = {name.split(".")[0] for name in modules} & {*MAY_IMPORT, "tests"}
    return rooms - MAY_IMPORT[room] - {room}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_one_way(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = {
        str(path.relative_to(ROOT)): found for path in files if (found := wrong_arrows(room, imported(path)))
    }
    assert wrong == {}


def test_a_wrong_arrow_is_seen() -> None:
    assert wrong_arrows("serving", {"training.fit", "data.scheme"}) == {"training"}
    assert wrong_arrows("data", {"classifier"}) == {"classifier"}


def test_serving_loads_nothing_heavy() -> None:
    code = (
        "import sys, serving.app, classifier.predictor, serving.__main__\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_room_has_a_vague_module() -> None:
    vague = {"utils", "core", "common", "helpers", "manager", "managers", "misc"}
    found = [path for room in MAY_IMPORT for path in (ROOT / room).rglob("*") if path.stem in vague]
    assert found == []
