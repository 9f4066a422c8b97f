"""The labelling loop, simulated: the cuts in time, what is picked, what it costs, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from data.appeals import Row
from data.queues import Rules, audit_slot
from data.suggestions import Suggested, Suggestion
from tests.fake_predictor import write_csv
from tests.models import SCHEME, TEXTS, toy_rows
from tests.reviewing import NOON
from training.__main__ import app
from training.config import Config
from training.errors import SimulationError
from training.simulate import Plan, Simulated, simulate
from training.simulate_choice import STRATEGIES, Waiting, audited, choose, uncertainties
from training.simulate_figures import figures_of
from training.simulate_timeline import timeline

ROOT = Path(__file__).parent.parent


def dated(count: int = 140) -> list[Row]:
    """Toy rows, the n-th of which came on the n-th day of a calm year."""
    random = np.random.default_rng(5)
    rows = toy_rows()
    order = random.permutation(len(rows))[:count].tolist()
    return [
        replace(rows[place], id=f"r{day:03d}", date=f"2031-{1 + day // 28:02d}-{1 + day % 28:02d}")
        for day, place in enumerate(order)
    ]


# -- cuts ------------------------------------------------------------------------------------------


def test_time_is_cut_and_what_is_tested_on_repeats_nothing_earlier() -> None:
    rows = dated()
    cut = timeline(rows[::-1], "2031-02-01", "2031-04-01", "2031-05-15")
    assert [len(cut.start), len(cut.pool)] == [28, 56]
    assert [row.id for row in cut.pool] == [f"r{day:03d}" for day in range(28, 84)]
    assert max(row.date for row in cut.start) < "2031-02-01" <= min(row.date for row in cut.pool)
    earlier = {row.group for row in (*cut.start, *cut.pool)}
    assert cut.test and not earlier & {row.group for row in cut.test}
    assert len(cut.test) + cut.repeated == 28 + 14
    assert max(row.date for row in cut.test) < "2031-05-15"


def test_rows_without_dates_are_cut_by_share_in_an_order_that_stays() -> None:
    rows = [replace(row, date="", group="") for row in dated()]
    cut, again = timeline(rows, "0.5", "0.75"), timeline(rows[::-1], "0.5", "0.75")
    assert cut == again
    assert [len(cut.start), len(cut.pool), len(cut.test) + cut.repeated] == [70, 35, 35]
    assert all(row.group and row.fold for row in cut.test)
    seeds = timeline([*rows, Row("s", "种子", fold="train")], "0.5", "0.75")
    assert seeds.start[-1].id == "s"


@pytest.mark.parametrize(
    ("since", "test_from", "said"),
    [
        ("2031-09-01", "2031-09-02", "expected rows before --since 2031-09-01"),
        ("1.5", "0.9", "--since: expected a share over 0, at most 1, got 1.5"),
        ("spring", "0.9", "--since: expected a date such as 2031-05-01"),
        ("0.5", "0.4", "after, got 70, -14 and 84 of 140 rows"),
    ],
)
def test_cuts_that_leave_nothing_are_refused(since: str, test_from: str, said: str) -> None:
    with pytest.raises(SimulationError, match=said):
        timeline(dated(), since, test_from)


# -- picking ---------------------------------------------------------------------------------------


def waiting(count: int = 40, hidden: int = 6) -> Waiting:
    """Appeals in pairs of near-duplicates: the later one came, the less certain its answer was."""
    random = np.random.default_rng(2)
    now = np.linspace(0.9, 0.1, count)
    first = (1 + now[::-1]) / 2
    shares = np.stack([first, 1 - first], axis=1).astype(np.float32)
    vectors = random.normal(size=(count, hidden)).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    audit = np.zeros(count, bool)
    audit[3] = True
    groups = [f"g{place // 2}" for place in range(count)]
    known = vectors[: count // 2]
    said = np.arange(count // 2) % 2
    return Waiting(now[::-1].copy(), now, {"unit": shares}, groups, audit, vectors, known, said)


def test_the_product_takes_the_least_certain_of_arrival_and_the_audit_slice() -> None:
    random = np.random.default_rng(0)
    assert choose("product", waiting(), 5, random).tolist() == [3, 36, 37, 38, 39]
    assert choose("refreshed", waiting(), 5, random).tolist() == [0, 1, 2, 3, 4]
    assert choose("once", waiting(), 4, random).tolist() == [0, 3, 4, 6]
    assert len(choose("random", waiting(4), 5, random)) == 4


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("hidden", [0, 6])
def test_every_strategy_gives_what_is_asked_for_once(name: str, hidden: int) -> None:
    picked = choose(name, waiting(hidden=hidden), 12, np.random.default_rng(1))
    assert len(picked) == 12 == len(set(picked.tolist()))
    assert np.array_equal(picked, choose(name, waiting(hidden=hidden), 12, np.random.default_rng(1)))
    assert (3 in picked) or name == "random"
    assert len(choose(name, waiting(hidden=hidden), 99, np.random.default_rng(1))) == 40


def test_certainty_and_audit_are_those_of_the_queues() -> None:
    shares = {
        "unit": np.array([[0.7, 0.2, 0.1], [0.4, 0.3, 0.3]], np.float32),
        "urgent": np.array([[0.5, 0.5], [0.9, 0.1]], np.float32),
    }
    told = Suggested({
        "unit": Suggestion("a", 0.7, (("b", 0.2), ("c", 0.1))),
        "urgent": Suggestion("a", 0.5, (("b", 0.5),)),
    })  # fmt: skip
    found = uncertainties(shares)
    assert found[0] == pytest.approx(told.uncertainty) == pytest.approx((0.5 + 1.0) / 2)
    assert found[1] == pytest.approx((0.9 + 0.2) / 2)
    rules = Rules(0.25, 0.0, (), "7", "x", NOON)
    ids = [f"r{i}" for i in range(400)]
    members = audited(ids, 0.25, "7")
    assert members.tolist() == [audit_slot(rules, id) < 0.25 for id in ids]
    assert 60 < members.sum() < 140


# -- the loop --------------------------------------------------------------------------------------


def toy_config(root: Path, **more: object) -> tuple[Config, str]:
    write_csv(root / "rows.csv", dated(), ("unit", "urgent"))
    (root / "scheme.yaml").write_text(SCHEME, encoding="utf-8")
    raw = {
        "name": "toy", "scheme": str(root / "scheme.yaml"), "data_root": str(root),
        "data": [{"path": "rows.csv"}], "lexical": {"words": False, "min_groups": 1}, **more,
    }  # fmt: skip
    return Config.model_validate(raw), 'name = "toy"\n[[data]]\npath = "rows.csv"\n'


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Simulated]:
    """An encoder of one layer, two strategies, and the full retraining at the end."""
    root = tmp_path_factory.mktemp("played")
    encoder = {"layers": 1, "epochs": 1, "batch": 16, "head_tokens": 24, "tail_tokens": 8,
               "precision": "fp32", "start": "runs/that-saw-everything"}  # fmt: skip
    config, toml = toy_config(root, encoder=encoder)
    plan = Plan("2031-02-20", "2031-04-01", rounds=3, labels=8, seeds=2, heads=("unit",), full=True)
    return root, simulate(config, toml, root / "run", plan, lambda message: None)


def test_a_loop_spends_what_was_planned_and_scores_every_round(played: tuple[Path, Simulated]) -> None:
    _, made = played
    assert made.heads == ("unit",)
    spent: dict[tuple[str, int], list[int]] = {(one.strategy, one.seed): [] for one in made.rounds}
    for one in made.rounds:
        spent[one.strategy, one.seed].append(one.labels)
        assert len(one.scored["unit"]) == len(made.timeline.test)
        assert one.trained_on <= one.labels
    assert spent == {(name, seed): [0, 8, 16, 24] for name in ("product", "random") for seed in (0, 1)}
    starts = [one.scored["unit"].probabilities for one in made.rounds if one.labels == 0]
    assert all(np.array_equal(starts[0], other) for other in starts)
    assert {one.strategy: one.labels for one in made.full} == {"": 0, "product": 24, "random": 24}
    assert all(len(one.scored["unit"]) == len(made.timeline.test) for one in made.full)


def test_the_start_knows_nothing_of_what_comes_and_is_taken_up_again(
    played: tuple[Path, Simulated],
) -> None:
    root, made = played
    origin = json.loads((root / "run" / "start" / "model" / "manifest.json").read_text("utf-8"))["origin"]
    in_training = [row for row in made.timeline.start if row.fold not in ("6", "7")]
    assert origin["rows"] == len(in_training)
    config, toml = toy_config(root, encoder={"layers": 1, "epochs": 1})
    told: list[str] = []
    plan = Plan("2031-02-20", "2031-04-01", rounds=1, labels=4, seeds=1, strategies=("entropy",))
    again = simulate(config, toml, root / "run", plan, told.append)
    assert any(line.startswith(f"start: {made.start} is there") for line in told)
    assert again.start == made.start and again.heads == ("unit", "urgent")
    with pytest.raises(SimulationError, match="--run: expected a folder without a start"):
        simulate(config, toml, root / "run", replace(plan, since="2031-02-10"), told.append)


def test_figures_are_paired_and_say_what_is_not_reached(played: tuple[Path, Simulated]) -> None:
    _, made = played
    shown = figures_of(made, resamples=50)
    own = shown.curve("unit", "accuracy", "product")
    assert [point.labels for point in own.points] == [0, 8, 16, 24]
    first = own.points[0]
    assert first.ahead is not None and (first.ahead.value, first.ahead.low, first.ahead.high) == (0, 0, 0)
    scored = [one.scored["unit"].correct.mean() for one in made.rounds
              if one.strategy == "product" and one.labels == 24]  # fmt: skip
    assert own.points[-1].value.value == pytest.approx(np.mean(scored))
    for one in shown.needed:
        assert one.labels is None or 0 <= one.labels.value <= 24
    full = {(strategy, measure) for strategy, _, measure, _ in shown.full}
    assert ("start", "accuracy") in full and ("random", "auto") in full


def test_what_cannot_be_played_is_said(tmp_path: Path) -> None:
    config, toml = toy_config(tmp_path, encoder_off=True)
    plan = Plan("2031-02-20", "2031-04-01")
    with pytest.raises(SimulationError, match="--strategy: expected some of product, random"):
        simulate(config, toml, tmp_path / "run", replace(plan, strategies=("oracle",)), print)
    with pytest.raises(SimulationError, match=r"--head: expected some of unit, urgent.*got tier"):
        simulate(config, toml, tmp_path / "run", replace(plan, heads=("tier",)), print)


def invoke(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)], catch_exceptions=False)


def test_the_command_runs_on_the_sample_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = invoke(
        "training/configs/samples.toml", "--rounds", 2, "--labels", 30, "--seeds", 1, "--head", "unit",
        "--run", tmp_path / "run", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "out" / "simulation.json").read_text(encoding="utf-8"))
    assert content["plan"]["strategies"] == ["product", "random"]
    assert [one["labels"] for one in content["rounds"]] == [0, 30, 60, 0, 30, 60]
    assert sum(content["rows"].values()) == 539
    report = (tmp_path / "out" / "simulation.md").read_text(encoding="utf-8")
    assert "| labels | product | random | product − random |" in report
    assert (tmp_path / "out" / "simulation_unit.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert (tmp_path / "out" / "simulation_unit.png").stat().st_size < 100_000
    sample = next(form for forms in TEXTS.values() for form in forms)
    assert sample.format("") not in report


def test_what_the_command_cannot_do_exits_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = invoke("training/configs/samples.toml", "--since", "2031-01-01", "--run", tmp_path / "run")
    assert done.exit_code == 2
    assert "--since: expected a date such as 2031-05-01 and rows that all have one" in done.output
