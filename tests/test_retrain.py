"""Retraining: what is trained and tested on, where weights come from, the verdict, when a full run is due."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from typer.testing import Result

from classifier.folder import ModelFolder, open_folder
from classifier.predictor import Predictor
from classifier.registry import Registry
from data.dataset_card import CARD_FORMAT
from data.dataset_version import CARD, LABELS
from data.errors import DatasetError
from data.scheme import Scheme
from tests.models import SCHEME, TEXTS, toy_model, toy_rows
from tests.tiny_runs import TinyRun, invoke
from training.config import Config, LexicalConfig, RetrainConfig, load_config
from training.dataset import load_scheme
from training.errors import ConfigError, RetrainError
from training.gathering import Gathered, gather, read_dataset
from training.retrain import Opponent, Places, full_run_due, opponent, sets_of, tuned
from training.weights import champion_weights, for_heads, from_onnx, run_of

LIMITS = """
urgent_head = "urgent"
latency_ratio = 100
size_ratio = 2
resamples = 200
overall_margin = 0.2
"""
NEW_PLACES = ["金沙", "银滩", "翠屏", "玉泉", "宝山", "石桥", "马鞍", "梅岭", "杏林", "桃源", "竹溪", "松岗"]
Line = Mapping[str, str]


@dataclass(frozen=True)
class Tiny(TinyRun):
    """A run, and a registry whose champion it is."""

    registry: Registry

    @property
    def champion(self) -> ModelFolder:
        return open_folder(self.registry.champion())

    @property
    def places(self) -> Places:
        return Places(self.registry, self.root / "runs")


@pytest.fixture(scope="module")
def tiny(tiny_run: TinyRun) -> Tiny:
    """The tiny run as champion of a registry."""
    root, registry = tiny_run.root, Registry(tiny_run.root / "registry")
    (root / "limits.toml").write_text(LIMITS, encoding="utf-8")
    assert invoke("publish", tiny_run.run / "model", "--registry", registry.root).exit_code == 0
    return Tiny(root, tiny_run.config, tiny_run.run, registry)


def reviewed(count: int = 96) -> list[Line]:
    """New appeals, as reviewers labelled them."""
    forms = [(unit, form) for unit, those in TEXTS.items() for form in those]
    return [
        {
            "id": f"n{i}",
            "text": forms[i % len(forms)][1].format(NEW_PLACES[i // len(forms) % len(NEW_PLACES)]),
            "date": f"2031-05-{1 + i % 28:02d} 08:00:00",
            "unit": forms[i % len(forms)][0],
            "urgent": str(int(i % len(forms) in (0, 1, 4, 5))),
            "unit_by": "mei",
        }
        for i in range(count)
    ]


def dataset(folder: Path, lines: Sequence[Line]) -> Path:
    """A dataset version's folder."""
    folder.mkdir(parents=True)
    columns = {name: [line.get(name, "") for line in lines] for name in lines[0]}
    pq.write_table(pa.table(columns), folder / LABELS)
    sha256 = hashlib.sha256((folder / LABELS).read_bytes()).hexdigest()
    card = {"format": CARD_FORMAT, "name": "week", "created_at": "2031-05-29T20:00:00+08:00"}
    (folder / CARD).write_text(json.dumps({**card, "files": {LABELS: sha256}}), encoding="utf-8")
    return folder


def gathered(tiny: Tiny, *datasets: Path, champion: ModelFolder | None = None) -> Gathered:
    config = load_config(tiny.config)
    return gather(config, load_scheme(config), datasets, champion or tiny.champion)


def with_origin(folder: ModelFolder, **origin: Any) -> ModelFolder:
    manifest = replace(folder.manifest, origin={**folder.manifest.origin, **origin})
    return replace(folder, manifest=manifest)


# -- what is trained and tested on -----------------------------------------------------------------


def test_a_dataset_version_is_read_without_its_provenance(tmp_path: Path) -> None:
    made = dataset(tmp_path / "v1", [*reviewed(3), {"id": "x", "text": "没有标签的诉求"}])
    rows = read_dataset(made, Scheme.parse(SCHEME))
    assert [row.id for row in rows] == ["n0", "n1", "n2"]
    assert rows[0].date == "2031-05-01T08:00:00"
    assert set(rows[0].labels) == {"unit", "urgent"}
    assert read_dataset(tmp_path, Scheme.parse(SCHEME)) == rows  # the newest of a folder of versions
    with pytest.raises(ConfigError, match="expected a dataset version's folder or a labelled file"):
        read_dataset(tmp_path / "none", Scheme.parse(SCHEME))
    (made / LABELS).write_bytes(b"changed")
    with pytest.raises(DatasetError, match="expected the content with sha256"):
        read_dataset(made, Scheme.parse(SCHEME))


def test_what_nearly_repeats_a_test_row_is_never_trained_on(tiny: Tiny, tmp_path: Path) -> None:
    base = [row.text for row in toy_rows()]
    tested, trained = base[7], base[8]
    lines = [
        *reviewed(),
        {**reviewed(1)[0], "id": "same-as-test", "text": f"{tested}！", "unit": "city"},
        {**reviewed(1)[0], "id": "same-as-train", "text": f"{trained}。", "unit": "city"},
    ]
    found = gathered(tiny, dataset(tmp_path / "v1", lines))
    assert "same-as-test" in {row.id for row in found.newest}
    assert "same-as-train" in {row.id for row in found.reviewed}
    assert {row.group for row in found.train}.isdisjoint(row.group for row in (*found.newest, *found.frozen))
    (corrected,) = [row for row in found.train if row.text == trained]
    assert corrected.labels["unit"] == {"city"}  # the reviewer's label in the place of the older one
    (frozen,) = [row for row in found.frozen if row.text == tested]
    assert frozen.labels["unit"] == {"water"}
    assert {row.fold for row in found.frozen} == {"7"} and len(found.frozen) == 18
    assert all(row.weight == 2.0 for row in found.reviewed)
    assert found.train[-len(found.reviewed) :] == found.reviewed


def test_the_later_dataset_version_counts(tiny: Tiny, tmp_path: Path) -> None:
    first, second = reviewed(40), [{**line, "unit": "city"} for line in reviewed(40)[:20]]
    found = gathered(tiny, dataset(tmp_path / "v1", first), dataset(tmp_path / "v2", second))
    rows = (*found.reviewed, *found.newest, *found.validation)
    units = {row.id: next(iter(row.labels["unit"])) for row in rows}
    assert all(units[line["id"]] == "city" for line in second if line["id"] in units)
    assert units["n25"] == first[25]["unit"]
    assert set(found.datasets) == {"v1", "v2"} and len(set(found.datasets.values())) == 2


def test_test_rows_that_the_champion_was_trained_on_are_left_out(tiny: Tiny, tmp_path: Path) -> None:
    made = dataset(tmp_path / "v1", reviewed())
    shipped = with_origin(tiny.champion, trained_on="all folds")
    found = gathered(tiny, made, champion=shipped)
    assert found.frozen == () and found.seen == 18
    (only,) = sets_of(found, Opponent(shipped, "tiny-1"))
    assert only.name == "newest reviewed rows" and only.proves
    with pytest.raises(RetrainError, match="give the model that it was measured by"):
        sets_of(replace(found, newest=()), Opponent(shipped, "tiny-1"))
    elsewhere = with_origin(tiny.champion, trained_on="all folds", data_sha256={"rows.csv": "other"})
    assert len(gathered(tiny, made, champion=elsewhere).frozen) == 18
    frozen, newest = sets_of(gathered(tiny, made), Opponent(tiny.champion, "tiny-1"))
    assert frozen.proves and not newest.proves


def test_no_reviewed_row_is_said(tiny: Tiny, tmp_path: Path) -> None:
    empty = dataset(tmp_path / "v1", [{**line, "unit": "", "urgent": ""} for line in reviewed(5)])
    with pytest.raises(RetrainError, match="expected reviewed appeals to train on"):
        gathered(tiny, empty)


# -- weights ---------------------------------------------------------------------------------------


def test_exported_weights_are_read_back_but_for_quantisation(tiny: Tiny) -> None:
    exact = load_file(tiny.run / "encoder" / "best.safetensors")
    back = from_onnx(tiny.champion.path / "encoder.onnx", tiny.champion.manifest.heads)
    assert set(back) == set(exact)
    for name, value in exact.items():
        assert back[name].shape == value.shape
        # Inputs that hardly ever speak were rounded coarsely, in favour of those that do.
        assert value.ndim < 2 or np.corrcoef(back[name].ravel(), value.ravel())[0, 1] > 0.95, name
        assert value.ndim > 1 or np.abs(back[name] - value).max() <= 0.1 * np.abs(value).max() + 0.02, name
    assert np.corrcoef(back["heads.unit.weight"].ravel(), exact["heads.unit.weight"].ravel())[0, 1] > 0.999


def test_weights_come_from_the_run_where_there_is_one(tiny: Tiny, tmp_path: Path) -> None:
    heads, runs = tiny.champion.manifest.heads, tiny.root / "runs"
    assert run_of(tiny.champion.manifest.version, runs) == tiny.run
    found, source = champion_weights(tiny.champion, runs, heads, tmp_path / "a.safetensors")
    assert found is not None and "in full precision" in source
    exact = load_file(tiny.run / "encoder" / "best.safetensors")
    assert all(np.array_equal(value, exact[name]) for name, value in load_file(found).items())
    found, source = champion_weights(tiny.champion, tmp_path, heads, tmp_path / "b.safetensors")
    assert found is not None and "read back from its exported weights" in source


def test_a_champion_without_an_encoder_gives_no_weights(tmp_path: Path) -> None:
    folder = open_folder(toy_model(tmp_path / "toy"))
    found, source = champion_weights(folder, tmp_path, folder.manifest.heads, tmp_path / "a.safetensors")
    assert found is None and "starts from the base encoder" in source


def test_an_encoder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"no model")
    with pytest.raises(ConfigError, match="expected the encoder of a model folder"):
        from_onnx(tmp_path / "encoder.onnx", {})


def test_labels_that_stay_keep_their_weights_and_new_ones_start_small() -> None:
    weights = {
        "encoder.x": np.ones(2, np.float32),
        "heads.unit.weight": np.array([[1, 1], [2, 2], [3, 3]], np.float32),
        "heads.unit.bias": np.array([0.1, -0.4, 0.3], np.float32),
        "heads.gone.weight": np.ones((2, 2), np.float32),
        "heads.gone.bias": np.ones(2, np.float32),
    }
    old = {"unit": ("a", "b", "c"), "gone": ("x", "y")}
    found = for_heads(weights, old, {"unit": ("c", "new", "a"), "fresh": ("p", "q")})
    assert set(found) == {"encoder.x", "heads.unit.weight", "heads.unit.bias"}
    assert found["heads.unit.weight"][[0, 2]].tolist() == [[3, 3], [1, 1]]
    assert np.abs(found["heads.unit.weight"][1]).max() < 0.2
    assert found["heads.unit.bias"].tolist() == pytest.approx([0.3, -0.4, 0.1])


# -- which model to beat ---------------------------------------------------------------------------


def test_a_champion_trained_on_all_folds_is_represented_by_the_model_it_was_measured_by(
    tiny: Tiny, shipped_run: Path, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "registry")
    shipped = registry.add(shipped_run / "model").name
    registry.promote(shipped)
    found = opponent(Places(registry, tiny.root / "runs"))
    assert found.stands_in and found.champion == shipped
    assert found.folder.path == tiny.run / "model"
    assert not opponent(Places(registry, tmp_path / "no-runs")).stands_in
    assert opponent(Places(registry, tmp_path / "no-runs", champion=tiny.run / "model")).stands_in
    other = toy_model(tmp_path / "other")
    with pytest.raises(RetrainError, match="which has other scores"):
        opponent(Places(registry, tmp_path, champion=other))
    assert not opponent(tiny.places).stands_in


# -- when a full run is due ------------------------------------------------------------------------


def test_a_full_run_is_due_for_many_labels_another_scheme_drift_or_long_ago(tiny: Tiny) -> None:
    settings, scheme, champion = RetrainConfig(), Scheme.parse(SCHEME), tiny.champion
    rows = champion.manifest.origin["rows"]
    calm = full_run_due(champion, settings, 5, scheme)
    version = champion.manifest.version
    assert calm.startswith(f"no full run is due: 5 reviewed rows came to the {rows} of {version}")
    assert f"60 reviewed rows came to the {rows}" in full_run_due(champion, settings, 60, scheme)
    other = Scheme.parse(SCHEME.replace("version: '1'", "version: '2'"))
    assert "the label scheme changed since (toy 1" in full_run_due(champion, settings, 5, other)
    drifted = full_run_due(champion, settings, 5, scheme, "new words")
    assert drifted == "a full run is due (python -m training fit): new words"
    old = with_origin(champion, generation=9, full_run={"version": "v", "rows": 1000, "scheme": ""})
    assert "this is retraining 10 since (limit 10)" in full_run_due(old, settings, 5, scheme)
    assert "a full run is due" in full_run_due(with_origin(champion, rows=0), settings, 5, scheme)


def test_retraining_is_gentler_and_starts_from_the_champion_alone() -> None:
    raw = {"name": "x", "data": [{"path": "a.csv"}], "encoder": {"start": "runs/y", "learning_rate": 1e-3}}
    encoder = tuned(Config.model_validate(raw)).encoder
    assert encoder is not None
    assert (encoder.epochs, encoder.learning_rate, encoder.start) == (2, 5e-5, "")
    none = Config.model_validate({"name": "x", "data": [{"path": "a.csv"}], "encoder": None})
    assert tuned(none) == none


# -- the whole walk --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def candidate(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiny, Path, Result]:
    """A challenger retrained on 96 reviewed appeals, in a registry of its own."""
    root = tmp_path_factory.mktemp("retrained")
    registry = Registry(root / "registry")
    registry.add(tiny.run / "model")
    registry.promote(tiny.champion.manifest.version)
    made = dataset(root / "week-1", reviewed())
    done = invoke(
        "retrain", tiny.config, "--data", made, "--registry", registry.root, "--runs", tiny.root / "runs",
        "--limits", tiny.root / "limits.toml", "--run", root / "run",
    )  # fmt: skip
    return replace(tiny, root=root, run=root / "run", registry=registry), made, done


def test_a_challenger_joins_the_registry_with_its_verdict_and_is_not_promoted(
    tiny: Tiny, candidate: tuple[Tiny, Path, Result]
) -> None:
    new, made, done = candidate
    assert done.exit_code == 0, done.output
    challenger = Predictor.load(new.run / "model")
    assert new.registry.champion().name == tiny.champion.manifest.version
    verdict = new.registry.verdict(challenger.version)
    assert verdict is not None and verdict.passed and verdict.champion == tiny.champion.manifest.version
    assert set(verdict.content["sets"]) == {"frozen test", "newest reviewed rows"}
    assert verdict.content["sets"]["frozen test"]["rows"] == 18
    origin = challenger.card["origin"]
    assert origin["retrained_from"] == tiny.champion.manifest.version
    assert origin["datasets"].keys() == {made.name} and origin["generation"] == 1
    assert origin["full_run"]["version"] == tiny.champion.manifest.version
    assert "in full precision" in done.output and "2 heads with it" in done.output
    assert "a full run is due (python -m training fit): " in done.output
    assert f"candidate: {challenger.version}" in done.output
    assert [event.action for event in new.registry.history()][-2:] == ["add", "verdict"]


def test_a_run_goes_on_where_it_was_and_promotes_when_asked_to(
    tiny: Tiny, candidate: tuple[Tiny, Path, Result], tmp_path: Path
) -> None:
    new, made, _ = candidate
    registry, run = Registry(tmp_path / "registry"), tmp_path / "run"
    registry.add(tiny.run / "model")
    registry.promote(tiny.champion.manifest.version)
    shutil.copytree(new.run / "encoder", run / "encoder")
    done = invoke(
        "retrain", tiny.config, "--data", made, "--registry", registry.root, "--runs", tiny.root / "runs",
        "--limits", tiny.root / "limits.toml", "--run", run, "--promote",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "epoch 1:" not in done.output  # the encoder was trained already
    version = open_folder(run / "model").manifest.version
    assert registry.champion().name == version
    assert f"champion: {version}" in done.output and "passed      overall: " in done.output
    assert registry.rollback().name == tiny.champion.manifest.version


def test_a_blind_challenger_is_refused_and_stays_a_candidate(
    candidate: tuple[Tiny, Path, Result], tmp_path: Path
) -> None:
    new, made, _ = candidate
    lexical = LexicalConfig(words=False, min_groups=1, low=1, high=1, buckets=3, cost=0.001)
    blind = toy_model(tmp_path / "blind", lexical)
    version = new.registry.add(blind).name
    done = invoke(
        "gate", new.config, blind, "--data", made, "--registry", new.registry.root,
        "--limits", new.config.parent / "limits.toml",
    )  # fmt: skip
    assert done.exit_code == 1
    assert f"{version} is refused: worse: mean accuracy over 2 heads -" in done.output
    verdict = new.registry.verdict(version)
    assert verdict is not None and not verdict.passed
    stored = json.loads((new.registry.root / f"{version}.verdicts" / "1.json").read_text(encoding="utf-8"))
    assert stored["reasons"] == list(verdict.reasons)


def test_what_cannot_be_retrained_exits_with_2(tiny: Tiny, tmp_path: Path) -> None:
    made = dataset(tmp_path / "v1", reviewed(5))
    done = invoke("retrain", tiny.config, "--data", made, "--registry", tmp_path / "none")
    assert done.exit_code == 2
    assert "add a model folder and promote it first" in done.output
    done = invoke("retrain", tiny.config, "--data", tmp_path / "none", "--registry", tiny.registry.root)
    assert done.exit_code == 2
    assert "--data: expected a dataset version's folder" in done.output
