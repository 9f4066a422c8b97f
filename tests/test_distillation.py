"""A shallower encoder that learns from a deeper one: which layers it begins with, and what it is taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import toy_dataset
from tests.tiny_runs import TinyRun
from training.config import load_config
from training.dataset import Targets
from training.encoder_stage import train_encoder
from training.errors import ConfigError
from training.losses import Taught, head_loss
from training.start import layers_in, thinned
from training.teacher import taught_by


def weights(layers: int) -> dict[str, torch.Tensor]:
    name = "encoder.encoder.layer.{}.output.dense.bias"
    found = {name.format(layer): torch.full((2,), float(layer)) for layer in range(layers)}
    return {**found, "encoder.embeddings.word_embeddings.weight": torch.zeros(3, 2)}


def layers_of(found: dict[str, torch.Tensor]) -> list[float]:
    biases = [found[f"encoder.encoder.layer.{n}.output.dense.bias"] for n in range(layers_in(found))]
    return [float(bias[0]) for bias in biases]


@pytest.mark.parametrize(
    ("have", "want", "kept"),
    [(6, 4, [0, 2, 3, 5]), (6, 3, [0, 2, 5]), (12, 6, [0, 2, 4, 7, 9, 11]), (6, 1, [0]), (3, 6, [0, 1, 2])],
)
def test_the_first_and_the_last_layer_stay(have: int, want: int, kept: list[int]) -> None:
    found = thinned(weights(have), want)
    assert layers_of(found) == kept
    assert "encoder.embeddings.word_embeddings.weight" in found


def taught(logits: list[list[float]], share: float, temperature: float) -> Taught:
    return Taught((torch.tensor(logits) / temperature).half(), share, temperature)


def test_a_row_without_a_label_learns_from_the_teacher_alone() -> None:
    targets = Targets(np.array([[True, False], [False, False]]))
    alone = head_loss(targets, np.ones(2), 1.0, 0.0, 0.0)
    helped = head_loss(targets, np.ones(2), 1.0, 0.0, 0.0, taught([[0.0, 2.0], [0.0, 2.0]], 0.5, 1.0))
    logits = torch.zeros(1, 2, requires_grad=True)
    assert float(alone(logits, [1]).detach()) == 0
    loss = helped(logits, [1])
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and logits.grad[0, 1] < 0 < logits.grad[0, 0]  # towards the teacher


def test_labels_and_teacher_share_the_loss() -> None:
    targets = Targets(np.array([[True, False]]))
    teacher, logits = [[0.0, 2.0]], torch.tensor([[1.0, -0.5]])
    hard = head_loss(targets, np.ones(1), 1.0, 0.0, 0.0)(logits, [0])
    soft = head_loss(targets, np.ones(1), 1.0, 0.0, 0.0, taught(teacher, 1.0, 2.0))(logits, [0])
    both = head_loss(targets, np.ones(1), 1.0, 0.0, 0.0, taught(teacher, 0.25, 2.0))(logits, [0])
    assert float(both) == pytest.approx(0.75 * float(hard) + 0.25 * float(soft))


def test_the_teacher_is_matched_at_any_temperature() -> None:
    targets = Targets(np.zeros((1, 3), bool))
    teacher = [[1.0, 0.5, -1.0]]
    loss = head_loss(targets, np.ones(1), 1.0, 0.0, 0.0, taught(teacher, 1.0, 4.0))
    same = torch.tensor(teacher, requires_grad=True)
    loss(same, [0]).backward()  # type: ignore[no-untyped-call]
    assert same.grad is not None and same.grad.abs().max() < 1e-3  # half precision


def test_of_a_partial_label_the_teacher_chooses_among_the_admissible() -> None:
    targets = Targets(np.array([[True, True, False]]))
    loss = head_loss(targets, np.ones(1), 1.0, 0.0, 0.0, taught([[0.0, 1.0, 9.0]], 1.0, 1.0))
    logits = torch.zeros(1, 3, requires_grad=True)
    loss(logits, [0]).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0, 2] > 0 > logits.grad[0, 1]  # the third is not admissible, whatever the teacher says


def test_a_run_is_taught_by_another(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = load_config(tiny_run.config)
    assert config.encoder is not None
    _, dataset = toy_dataset()
    settings = config.encoder.model_copy(update={"teacher": str(tiny_run.run), "epochs": 1, "smoothing": 0.0})
    told: list[str] = []
    made = train_encoder(config, settings, dataset, dataset, tmp_path / "a", told.append)
    assert f"teacher: {tiny_run.run} answers {len(dataset)} training texts" in told
    alone = train_encoder(
        config, settings.model_copy(update={"teacher": ""}), dataset, dataset, tmp_path / "b", told.append
    )
    first, second = (one.network.state_dict()["heads.unit.bias"] for one in (made, alone))
    assert not torch.allclose(first, second)


def test_the_teacher_answers_as_its_run_does(tiny_run: TinyRun) -> None:
    config = load_config(tiny_run.config)
    assert config.encoder is not None
    _, dataset = toy_dataset()
    settings = config.encoder.model_copy(update={"teacher": str(tiny_run.run), "temperature": 2.0})
    found = taught_by(settings, dataset.texts, torch.device("cpu"), None)["unit"]
    done = train_encoder(
        config, config.encoder, dataset, dataset, tiny_run.run / "encoder", lambda message: None
    )
    np.testing.assert_allclose(
        found.logits.float().numpy() * 2.0, done.logits(list(dataset.texts))["unit"], atol=0.1
    )


def test_a_teacher_without_weights_or_with_other_labels_is_refused(tiny_run: TinyRun, tmp_path: Path) -> None:
    config = load_config(tiny_run.config)
    assert config.encoder is not None
    _, dataset = toy_dataset()
    gone = config.encoder.model_copy(update={"teacher": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"encoder\.teacher: expected the weights"):
        taught_by(gone, dataset.texts, torch.device("cpu"), None)
    other = tmp_path / "other"
    (other / "encoder").mkdir(parents=True)
    (other / "model").symlink_to(tiny_run.run / "model")
    best = Path("encoder") / "best.safetensors"
    save_file(load_file(tiny_run.run / best), other / best)
    narrow = {name: Targets(targets.mask[:, :1]) for name, targets in dataset.targets.items()}
    settings = config.encoder.model_copy(update={"teacher": str(other), "epochs": 1})
    with pytest.raises(ConfigError, match="teach with a run of the same label scheme"):
        train_encoder(
            config, settings, type(dataset)(dataset.texts, narrow, dataset.weights, dataset.groups),
            dataset, tmp_path / "c", lambda message: None,
        )  # fmt: skip
