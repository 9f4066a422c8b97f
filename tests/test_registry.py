"""The registry: pointers, history, verdicts, promotion by the gate, rollback, shadow and canary."""

from __future__ import annotations

import json
import multiprocessing
import stat
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classifier.errors import ModelError, RegistryError
from classifier.registry import Canary, Registry
from serving.__main__ import cli
from tests.models import toy_model


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model(tmp_path_factory.mktemp("toy") / "model")


def version_of(toy: Path, folder: Path, version: str) -> Path:
    """A copy of the toy model under another name."""
    folder.mkdir(parents=True)
    for file in toy.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": version}), encoding="utf-8")
    return folder


@pytest.fixture
def registry(toy: Path, tmp_path: Path) -> Registry:
    """Versions a, b and c; a is the champion."""
    made = Registry(tmp_path / "registry")
    for name in ("a", "b", "c"):
        made.add(version_of(toy, tmp_path / name, name), by="mei")
    made.promote("a", by="mei")
    return made


def passed(registry: Registry, version: str, champion: str) -> None:
    registry.judge(version, True, champion, (), {"sentence": "better"}, by="gate")


def test_the_history_says_who_did_what_and_why(registry: Registry) -> None:
    registry.promote("b", by="li", why="better on units")
    registry.rollback(by="wang", why="complaints")
    told = [(event.action, event.version, event.by, event.why) for event in registry.history()]
    assert told[:3] == [("add", name, "mei", "") for name in "abc"]
    assert told[3:] == [
        ("promote", "a", "mei", ""),
        ("promote", "b", "li", "better on units"),
        ("rollback", "a", "wang", "complaints"),
    ]
    assert all(event.at.endswith("+00:00") for event in registry.history())


def test_rolling_back_goes_one_further_back_each_time_and_never_forward(registry: Registry) -> None:
    registry.promote("b")
    registry.promote("c")
    assert registry.rollback().name == "b"
    assert registry.rollback().name == "a"
    with pytest.raises(RegistryError, match="expected a champion before a to go back to"):
        registry.rollback()
    assert registry.champion().name == "a"
    registry.promote("c")
    assert registry.rollback().name == "a"


def test_promoting_the_champion_again_keeps_the_way_back(registry: Registry) -> None:
    registry.promote("b")
    registry.promote("b")
    assert registry.rollback().name == "a"


def test_a_move_that_was_noted_but_cut_off_changes_nothing(registry: Registry) -> None:
    registry.promote("b")
    pointer = (registry.root / "champion.json").read_bytes()
    registry.promote("c")
    (registry.root / "champion.json").write_bytes(pointer)  # as if the process had died before the move
    assert registry.champion().name == "b"
    assert registry.rollback().name == "a"


def test_a_rollback_does_not_end_at_a_damaged_folder(registry: Registry) -> None:
    registry.promote("b")
    (registry.path("a") / "scores.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="damaged"):
        registry.rollback()
    assert registry.champion().name == "b"


def test_a_refused_version_is_promoted_only_by_force_and_with_a_reason(registry: Registry) -> None:
    registry.judge("b", False, "a", ("lower recall of urgent 0.9 → 0.5",), {}, by="gate")
    with pytest.raises(RegistryError, match=r"the gate refused it: lower recall of urgent 0\.9"):
        registry.promote("b")
    with pytest.raises(RegistryError, match="expected a reason for going against the gate"):
        registry.promote("b", force=True)
    registry.promote("b", by="li", why="the test rows were wrong", force=True)
    assert registry.champion().name == "b"
    assert registry.history()[-1].why == "the test rows were wrong"


def test_a_verdict_against_another_champion_is_stale(registry: Registry) -> None:
    passed(registry, "c", "a")
    registry.promote("b")
    with pytest.raises(RegistryError, match="compared it with a, but b is champion now"):
        registry.promote("c")
    passed(registry, "c", "b")
    registry.promote("c")
    assert registry.champion().name == "c"


def test_verdicts_are_kept_beside_the_folder_and_none_is_lost(registry: Registry) -> None:
    before = sorted(file.name for file in registry.path("b").iterdir())
    registry.judge("b", False, "a", ("bigger",), {"sentence": "no"}, by="gate")
    registry.judge("b", True, "a", (), {"sentence": "yes"}, by="gate")
    assert sorted(file.name for file in registry.path("b").iterdir()) == before
    assert sorted(file.name for file in (registry.root / "b.verdicts").iterdir()) == ["1.json", "2.json"]
    newest = registry.verdict("b")
    assert newest is not None and newest.passed and newest.content["sentence"] == "yes"
    listed = {entry.version: entry for entry in registry.entries()}
    assert set(listed) == {"a", "b", "c"}
    assert listed["b"].verdict == newest and listed["b"].added_by == "mei" and listed["c"].verdict is None


def test_a_verdict_changed_by_hand_is_seen(registry: Registry) -> None:
    registry.judge("b", False, "a", ("worse",), {}, by="gate")
    file = registry.root / "b.verdicts" / "1.json"
    stored = file.read_text(encoding="utf-8")
    file.write_text(stored.replace('"passed": false', '"passed": true'), encoding="utf-8")
    with pytest.raises(RegistryError, match="changed by hand"):
        registry.promote("b")


def test_a_verdict_belongs_to_one_content(registry: Registry) -> None:
    passed(registry, "b", "a")
    manifest = registry.path("b") / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(RegistryError, match="another content"):
        registry.promote("b")


def test_shadow_and_canary_are_set_ended_and_end_when_promoted(registry: Registry) -> None:
    assert registry.shadow() is None and registry.canary() is None
    registry.set_shadow("b", by="li")
    registry.set_canary("c", 0.1, by="li")
    shadow = registry.shadow()
    assert shadow is not None and shadow.name == "b"
    assert registry.canary() == Canary("c", 0.1)
    assert {(entry.version, entry.shadow, entry.canary) for entry in registry.entries()} == {
        ("a", False, 0.0), ("b", True, 0.0), ("c", False, 0.1),
    }  # fmt: skip
    registry.promote("b")
    assert registry.shadow() is None and registry.canary() == Canary("c", 0.1)
    registry.set_canary("", 0.0, by="li")
    assert registry.canary() is None
    assert [(event.action, event.version, event.share) for event in registry.history()[-4:]] == [
        ("shadow", "b", 0.0), ("canary", "c", 0.1), ("promote", "b", 0.0), ("canary", "", 0.0),
    ]  # fmt: skip


def test_what_cannot_be_a_shadow_or_a_canary_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="expected a challenger, got the champion"):
        registry.set_shadow("a")
    with pytest.raises(RegistryError, match="expected one of"):
        registry.set_shadow("nothing")
    for share in (0.0, -0.1, 0.6, float("nan")):
        with pytest.raises(RegistryError, match="expected a share"):
            registry.set_canary("b", share)
    registry.judge("b", False, "a", ("worse",), {}, by="gate")
    with pytest.raises(RegistryError, match="the gate refused it"):
        registry.set_canary("b", 0.1)
    registry.set_shadow("b")  # nobody sees its answers, so a refused one may be looked at
    assert registry.canary() is None


def test_a_canary_takes_its_share_and_always_the_same_appeals() -> None:
    small, large, other = Canary("b", 0.1), Canary("b", 0.3), Canary("c", 0.1)
    ids = [f"2031-{i}" for i in range(4000)]
    taken = {id for id in ids if small.takes(id)}
    assert 320 < len(taken) < 480
    assert taken == {id for id in ids if Canary("b", 0.1).takes(id)}
    assert taken < {id for id in ids if large.takes(id)}
    assert taken != {id for id in ids if other.takes(id)}


def test_a_line_that_a_dying_writer_left_unfinished_spoils_nothing(registry: Registry) -> None:
    with (registry.root / "history.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"at": "2031-01-01T00:00:00+00:00", "action": "prom')
    before = len(registry.history())
    registry.promote("b", by="li")
    assert len(registry.history()) == before + 1
    assert registry.rollback().name == "a"


def test_a_damaged_pointer_says_which_file(registry: Registry) -> None:
    (registry.root / "canary.json").write_text("{", encoding="utf-8")
    with pytest.raises(RegistryError, match=r"canary\.json: expected a pointer that names a version"):
        registry.canary()


def test_an_added_folder_can_be_read_by_the_services_account(toy: Path, tmp_path: Path) -> None:
    folder = version_of(toy, tmp_path / "a", "a")
    (folder / "lexical.safetensors").chmod(0o600)
    added = Registry(tmp_path / "registry").add(folder)
    assert {stat.S_IMODE(file.stat().st_mode) for file in added.iterdir()} == {0o644}


def test_two_who_promote_at_once_leave_one_history_and_one_champion(registry: Registry) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_promote, args=(registry.root, name)) for name in ("b", "c")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    crowned = [event for event in registry.history() if event.crowns]
    assert len(crowned) == 1 + 2 * 10
    assert registry.champion().name == crowned[-1].version
    assert all(two.earlier == one.version for one, two in pairwise(crowned) if one.version != two.version)


def _promote(root: Path, version: str) -> None:
    for _ in range(10):
        Registry(root).promote(version)


def test_a_registry_that_cannot_be_written_to_says_so(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "file")
    registry.root.mkdir()
    (registry.root / ".lock").mkdir()
    with pytest.raises(RegistryError, match="expected a registry that can be written to"):
        registry.rollback()


# -- the commands ----------------------------------------------------------------------------------


def command(*arguments: str | Path) -> Result:
    """A command on a machine without a database: what it says of that goes to standard error."""
    given = {"DATABASE_URL": "sqlite:////nowhere/jiesu.db"}
    return CliRunner().invoke(cli, ["models", *map(str, arguments)], env=given, catch_exceptions=False)


def test_operators_list_promote_and_roll_back_by_command(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JIESU_REGISTRY_DIR", str(registry.root))
    registry.judge("c", False, "a", ("worse on unit: accuracy 0.9 → 0.7",), {"sentence": "no"}, by="gate")
    assert command("promote", "b", "--why", "better on units").exit_code == 0
    assert registry.champion().name == "b"
    listed = command("list", "--history").output
    row = {line.split()[0]: line for line in listed.splitlines() if line}
    assert "champion" in row["b"] and "not asked" in row["b"] and "mei" in row["b"]
    assert "refused" in row["c"] and "worse on unit: accuracy 0.9 → 0.7" in row["c"]
    assert "better on units" in listed
    refused = command("promote", "c")
    assert refused.exit_code == 2 and "the gate refused it" in refused.output
    done = command("rollback", "--why", "complaints")
    assert done.exit_code == 0 and done.stdout == "champion: a\n"
    event = registry.history()[-1]
    assert (event.action, event.why) == ("rollback", "complaints") and event.by.startswith("cli:")


def test_shadow_and_canary_by_command(registry: Registry) -> None:
    at = ("--registry", registry.root)
    assert command("shadow", "b", *at).stdout == "shadow: b\n"
    assert command("canary", "c", "--share", "0.2", *at).stdout == "canary: c answers 20.0%\n"
    assert registry.canary() == Canary("c", 0.2)
    assert command("canary", "--off", *at).stdout == "canary: none\n"
    assert command("shadow", "--off", *at).stdout == "shadow: none\n"
    assert registry.shadow() is None and registry.canary() is None
    both = command("shadow", "b", "--off", *at)
    assert both.exit_code == 2 and "expected a version, or --off, got both" in both.output


def test_a_version_is_shown_with_all_that_the_gate_found(registry: Registry) -> None:
    at = ("--registry", registry.root)
    assert "the gate was not asked yet" in command("show", "b", *at).output
    details = {
        "sentence": "b may take over from a",
        "findings": [{"check": "size", "passed": True, "reason": "size: 4 MB on disk"}],
    }
    registry.judge("b", True, "a", (), details, by="gate")
    shown = command("show", "b", *at).output
    assert "b may take over from a" in shown and "passed  size   size: 4 MB on disk" in shown


def test_what_does_not_give_its_known_answer_is_neither_added_nor_promoted(
    registry: Registry, toy: Path, tmp_path: Path
) -> None:
    at = ("--registry", registry.root)
    added = command("add", version_of(toy, tmp_path / "d", "d"), *at)
    assert added.stdout == "added d\n" and registry.history()[-1].by.startswith("cli:")
    odd = version_of(toy, tmp_path / "e", "e")
    manifest = json.loads((odd / "manifest.json").read_text(encoding="utf-8"))
    known = manifest["known_answer"]
    labels = {"unit": {"code": "city", "probability": 0.9}, "urgent": known["labels"]["urgent"]}
    wrong = {**manifest, "known_answer": {**known, "labels": labels}}
    (odd / "manifest.json").write_text(json.dumps(wrong), encoding="utf-8")
    refused = command("add", odd, *at)
    assert refused.exit_code == 2 and "known answer for head unit" in refused.output
    registry.add(odd)
    assert command("promote", "e", *at).exit_code == 2
    assert command("shadow", "e", *at).exit_code == 2
    assert registry.champion().name == "a" and registry.shadow() is None


def test_without_a_registry_the_commands_say_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JIESU_REGISTRY_DIR", raising=False)
    done = command("list")
    assert done.exit_code == 2 and "set JIESU_REGISTRY_DIR or give --registry" in done.output
