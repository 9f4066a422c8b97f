"""Three challengers from the sample corpus, through the commands people type: a good one takes over and is
taken back; one trained on shuffled labels, and one that learnt to overlook the urgent, are refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classifier.folder import open_folder
from classifier.registry import Registry, Verdict
from data.appeals import Row
from data.readers import read
from data.scheme import default_scheme
from data.splits import fold_of, group_rows
from serving.version_commands import models_cli
from tests.fake_predictor import write_csv
from training.__main__ import app

SAMPLES = Path(__file__).parent.parent / "data" / "samples" / "appeals.csv"
HEADS = ("unit", "urgency", "tier", "appeal_type")
LOWEST = "一般"
CONFIG = """
name = "{name}"
data_root = "{root}"
encoder_off = true
[[data]]
path = "{name}.csv"
[split]
validation_folds = [5]
test_folds = [6, 7]
[lexical]
words = false
min_groups = 2
"""
# What a machine under load times, what a tiny model weighs, and how little it knows, decide nothing here.
LIMITS = """
latency_ratio = 100
size_ratio = 3
memory_ratio = 3
overall_margin = 0.05
urgent_recall = 0.2
ece = 0.3
resamples = 200
"""


@dataclass(frozen=True)
class Bench:
    """A champion trained on half of the labels, and the other half as what reviewers added."""

    root: Path
    registry: Registry
    champion: str
    rows: tuple[Row, ...]

    def places(self) -> list[Path | str]:
        return ["--data", self.root / "new.csv", "--registry", self.registry.root,
                "--limits", self.root / "limits.toml", "--runs", self.root / "runs"]  # fmt: skip


def run(*arguments: Path | str) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def models(registry: Registry, *arguments: str) -> Result:
    """A command of `python -m serving models`; the audit log goes into a database that is not there."""
    url = f"sqlite:///{registry.root.parent / 'none.db'}"
    given = [*arguments, "--registry", str(registry.root)]
    return CliRunner(env={"JIESU_DATABASE_URL": url}).invoke(models_cli, given)


def samples() -> list[Row]:
    """The corpus with its near-duplicate groups, and the folds that follow from them."""
    rows = read(SAMPLES, None, default_scheme())
    groups = group_rows(rows)
    kept = [{head: codes for head, codes in row.labels.items() if head in HEADS} for row in rows]
    return [
        replace(row, labels=labels, group=group, fold=str(fold_of(group)))
        for row, labels, group in zip(rows, kept, groups, strict=True)
    ]


def write_run(root: Path, name: str, rows: Sequence[Row]) -> Path:
    """A configuration with rows of its own."""
    write_csv(root / f"{name}.csv", rows, HEADS)
    config = root / f"{name}.toml"
    config.write_text(CONFIG.format(name=name, root=root), encoding="utf-8")
    return config


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("bench")
    rows = samples()
    training = [row for row in rows if row.fold < "5"]
    random.Random(1).shuffle(training)
    new = training[: len(training) // 2]
    left = {row.id for row in new}
    config = write_run(root, "champion", [row for row in rows if row.id not in left])
    write_csv(root / "new.csv", new, HEADS)
    (root / "limits.toml").write_text(LIMITS, encoding="utf-8")
    registry = Registry(root / "registry")
    assert run("fit", config, "--run", root / "runs" / "champion").exit_code == 0
    made = run("publish", root / "runs" / "champion" / "model", "--registry", registry.root)
    assert made.exit_code == 0, made.output
    return Bench(root, registry, registry.champion().name, tuple(rows))


def spoilt(bench: Bench, name: str, spoil: Callable[[list[Row]], list[Row]]) -> Verdict:
    """The verdict on a challenger trained on all rows, those it learns from spoilt."""
    learnt = [row for row in bench.rows if row.fold < "6"]
    tested = [row for row in bench.rows if row.fold >= "6"]
    config = write_run(bench.root, name, [*spoil(learnt), *tested])
    folder = bench.root / "runs" / name / "model"
    assert run("fit", config, "--run", folder.parent).exit_code == 0
    added = models(bench.registry, "add", str(folder))
    assert added.exit_code == 0, added.output
    judged = run("gate", bench.root / "champion.toml", folder, *bench.places())
    assert judged.exit_code == 1, judged.output
    assert " is refused: " in judged.output
    verdict = bench.registry.verdict(open_folder(folder).manifest.version)
    assert verdict is not None and not verdict.passed and verdict.champion == bench.champion
    return verdict


def shuffled(rows: list[Row]) -> list[Row]:
    """Everybody gets somebody else's labels."""
    labels = [row.labels for row in rows]
    random.Random(2).shuffle(labels)
    return [replace(row, labels=some) for row, some in zip(rows, labels, strict=True)]


def deaf(rows: list[Row]) -> list[Row]:
    """Of five urgent appeals four are labelled as ordinary ones; nothing else is touched."""
    draw = random.Random(3)
    ordinary = frozenset([LOWEST])
    return [
        replace(row, labels={**row.labels, "urgency": ordinary})
        if row.labels["urgency"] != ordinary and draw.random() < 0.8
        else row
        for row in rows
    ]


def refused(verdict: Verdict) -> dict[str, list[str]]:
    """Reasons by check."""
    found: dict[str, list[str]] = {}
    for one in verdict.content["findings"]:
        if one["passed"] is False:
            found.setdefault(one["check"], []).append(one["reason"])
    return found


def test_a_good_challenger_takes_over_and_one_command_takes_it_back(bench: Bench) -> None:
    done = run("retrain", bench.root / "champion.toml", *bench.places(), "--promote",
               "--run", bench.root / "runs" / "good")  # fmt: skip
    assert done.exit_code == 0, done.output
    good = bench.registry.champion().name
    assert good != bench.champion and f"champion: {good}" in done.output
    assert f"{good} may take over from {bench.champion}: " in done.output
    verdict = bench.registry.verdict(good)
    assert verdict is not None and verdict.passed and not refused(verdict)
    back = models(bench.registry, "rollback", "--why", "a test")
    assert back.exit_code == 0 and back.output.splitlines()[0] == f"champion: {bench.champion}"
    assert bench.registry.champion().name == bench.champion
    assert [event.action for event in bench.registry.history()][-2:] == ["promote", "rollback"]


def test_one_trained_on_shuffled_labels_is_refused_for_all_it_lost(bench: Bench) -> None:
    reasons = refused(spoilt(bench, "shuffled", shuffled))
    assert {"overall", "heads", "urgent"} <= reasons.keys()
    assert reasons["overall"][0].startswith("worse: mean accuracy over 4 heads -")
    assert any(reason.startswith("worse on unit: accuracy 0.") for reason in reasons["heads"])


def test_one_that_overlooks_the_urgent_is_refused_for_that_alone(bench: Bench) -> None:
    verdict = spoilt(bench, "deaf", deaf)
    reasons = refused(verdict)
    assert any(reason.startswith("lower recall of urgent 0.") for reason in reasons["urgent"])
    others = [reason for check in reasons for reason in reasons[check] if check not in ("urgent", "overall")]
    assert all("urgency" in reason for reason in others)  # nothing is said against its other heads
    assert models(bench.registry, "promote", verdict.version).exit_code == 2
    assert bench.registry.champion().name == bench.champion
