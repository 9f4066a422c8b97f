"""python -m serving: what it prints, how it refuses, how it stops."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from classifier.errors import ClassifierError
from classifier.registry import shipped_model
from serving import models
from serving.__main__ import cli
from serving.errors import StartError
from serving.settings import Settings, load_settings
from tests.fakes import FakePredictor, furnish

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "datasets", "sklearn", "pandas", "scipy", "pyarrow", "matplotlib")


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JIESU_")}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


@contextmanager
def started(folder: Path, **changes: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`python -m serving run` on a free port, with what it printed up to the curl line."""
    command = [sys.executable, "-m", "serving", "run", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**changes),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith("curl"):
                    break
            yield process, lines
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def paste(curl: str) -> dict[str, Any]:
    """Do what a printed curl line says."""
    words = shlex.split(curl)
    url = next(word for word in words if word.startswith("http"))
    body, header = words[words.index("-d") + 1], words[words.index("-H") + 1]
    name, _, value = header.partition(": ")
    request = urllib.request.Request(url, body.encode(), {name: value})
    with urllib.request.urlopen(request, timeout=30) as reply:
        answer: dict[str, Any] = json.loads(reply.read())
    return answer


def test_help_shows_an_example_of_every_command() -> None:
    for command in ("run", "migrate", "classify"):
        shown = CliRunner().invoke(cli, [command, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0
        assert f"python -m serving {command}" in shown.stdout


def test_classify_prints_the_answer_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "load_model", lambda _: furnish(FakePredictor()))
    shown = CliRunner().invoke(cli, ["classify", "小区门口的井盖不见了，请尽快处理", "--title", "井盖"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["category"]["path"] == ["市政设施", "井盖"]
    piped = CliRunner().invoke(cli, ["classify", "-"], input="烧烤店油烟太大")
    assert json.loads(piped.stdout)["category"]["code"] == "0604"
    empty = CliRunner().invoke(cli, ["classify", " "])
    assert empty.exit_code == 2
    assert "expected a text" in empty.stderr


def test_migrate_makes_the_database(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving", "migrate"]
    for _ in range(2):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "var" / "jiesu.db").exists()


def test_a_wrong_database_is_told_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving", "migrate"]
    changes = environment(DATABASE_URL="nowhere://user:geheim@host/x")
    done = subprocess.run(command, cwd=tmp_path, env=changes, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "geheim" not in done.stderr


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        shown = CliRunner().invoke(cli, ["run", "--port", port])
    assert shown.exit_code == 2
    assert "--port" in shown.stderr


def test_unknown_and_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIESU_QUEUE_TEXT", "5")
    with pytest.raises(StartError, match="JIESU_QUEUE_TEXTS"):
        load_settings()
    monkeypatch.delenv("JIESU_QUEUE_TEXT")
    for name, value in (
        ("PORT", "99999"),
        ("TIMEZONE", "Mars/Olympus"),
        ("BATCH_TEXTS", "0"),
        ("LOG_LEVEL", "loud"),
    ):
        monkeypatch.setenv(f"JIESU_{name}", value)
        with pytest.raises(StartError, match=name.lower()):
            load_settings()
        monkeypatch.delenv(f"JIESU_{name}")


def test_the_database_is_named_by_either_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///a.db")
    assert load_settings().database_url == "sqlite:///a.db"
    monkeypatch.setenv("JIESU_DATABASE_URL", "sqlite:///b.db")
    assert load_settings().database_url == "sqlite:///b.db"
    assert Settings(database_url="sqlite:///c.db").database_url == "sqlite:///c.db"


def test_serving_imports_nothing_heavy() -> None:
    code = (
        "import sys, serving.__main__, serving.app\n"
        "from data.cleaning import prepare; prepare('請問這裡，電話13912345678')\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"


def test_run_without_a_model_says_so_and_stops_when_told(tmp_path: Path) -> None:
    with started(tmp_path, JIESU_MODEL_DIR=str(tmp_path / "none")) as (process, lines):
        address = next(line.split()[1] for line in lines if line.startswith("page"))
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(f"{address}readyz", timeout=30)
        assert told.value.code == 503
        assert "none" in json.loads(told.value.read())["problems"]["model"]
        told.value.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)


def test_the_printed_curl_gets_a_full_answer(tmp_path: Path) -> None:
    try:
        shipped_model()
    except ClassifierError as error:
        pytest.skip(f"no model ships: {error}")
    start = time.monotonic()
    with started(tmp_path) as (process, lines):
        answer = paste(lines[-1])
        seconds = time.monotonic() - start
        resident = _resident_mib(process.pid)
    assert answer["category"]["path"] and answer["unit"]["lead"]["name"] and answer["decision"]["reasons"]
    assert answer["urgency"]["level"] in ("紧急", "特急")
    print(f"first answer after {seconds:.1f} s, {resident:.0f} MiB resident")
    assert resident < 600


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
