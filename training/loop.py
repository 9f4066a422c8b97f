"""Fine-tuning the encoder: length-bucketed batches, partial labels, early stopping, checkpoints."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import nn

from classifier.network import Network
from training.config import EncoderConfig
from training.losses import HeadLoss

__all__ = ["Encoded", "Trainer", "encode_logits"]

BUCKET = 40  # batches whose texts are sorted by length together; keeps batches random enough
PAD_STEP = 8  # lengths are rounded up to this: fewer shapes for the matrix library to prepare for


@dataclass(frozen=True)
class Encoded:
    """Token ids of a side's texts."""

    ids: Sequence[Sequence[int]]
    pad_id: int

    def batch(self, rows: Sequence[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask [rows, tokens], right-padded."""
        longest = max(len(self.ids[row]) for row in rows)
        length = -(-longest // PAD_STEP) * PAD_STEP
        ids = torch.full((len(rows), length), self.pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), length), dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, : len(self.ids[row])] = torch.tensor(self.ids[row])
            mask[at, : len(self.ids[row])] = 1
        return ids.to(device), mask.to(device)


@dataclass
class Progressed:
    """Where a run stands; saved with each checkpoint."""

    epoch: int = 0
    step: int = 0
    best: float = math.inf
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Trainer:
    """Trains a network on one side and stops on another's mean loss.

    ``losses`` holds one HeadLoss per head with its targets for the training rows, ``validation`` the same for
    the validation rows. ``folder`` receives ``last`` and ``best`` checkpoints after every epoch.
    """

    network: Network
    config: EncoderConfig
    seed: int
    folder: Path
    device: torch.device
    precision: torch.dtype | None

    def run(
        self,
        train: Encoded,
        losses: Mapping[str, HeadLoss],
        validation: Encoded,
        checks: Mapping[str, HeadLoss],
        tell: Callable[[str], None],
    ) -> list[dict[str, float]]:
        """Train until the epochs are done or patience is out; leaves the best weights in the network."""
        steps = len(_plan(train.ids, self.config.batch, self.seed, 0))
        optimiser = _optimiser(self.network, self.config)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: _rate(step, steps * self.config.epochs, self.config.warmup)
        )
        state = self._resume(optimiser, schedule)
        while state.epoch < self.config.epochs and state.since_best < self.config.patience:
            loss = self._epoch(train, losses, optimiser, schedule, state, steps)
            self._check(state, loss, validation, checks, tell)
            self._save("last", optimiser, schedule, state)
        self._load_weights("best")
        return state.history

    def _epoch(
        self,
        train: Encoded,
        losses: Mapping[str, HeadLoss],
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LambdaLR,
        state: Progressed,
        steps: int,
    ) -> float:
        self.network.train()
        total = 0.0
        plan = _plan(train.ids, self.config.batch, self.seed, state.epoch)
        with Progress(transient=True) as bar:
            task = bar.add_task(f"epoch {state.epoch + 1}/{self.config.epochs}", total=steps)
            for rows in plan:
                loss = self._step(train, rows, losses)
                nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                optimiser.zero_grad()
                total += loss
                state.step += 1
                bar.update(task, advance=1, description=f"epoch {state.epoch + 1} loss {loss:.3f}")
        return total / max(1, len(plan))

    def _step(self, train: Encoded, rows: Sequence[int], losses: Mapping[str, HeadLoss]) -> float:
        ids, mask = train.batch(rows, self.device)
        with self._autocast():
            logits = self.network(ids, mask)
        loss = torch.stack([losses[name](values.float(), rows) for name, values in logits.items()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.item())

    def _check(
        self,
        state: Progressed,
        loss: float,
        validation: Encoded,
        checks: Mapping[str, HeadLoss],
        tell: Callable[[str], None],
    ) -> None:
        logits = encode_logits(self.network, validation, self.device, self.precision)
        figures = {name: checks[name].score(torch.from_numpy(values)) for name, values in logits.items()}
        mean = float(np.mean([item["loss"] * checks[name].weight for name, item in figures.items()]))
        state.epoch += 1
        state.history.append({"epoch": state.epoch, "train_loss": loss, "validation_loss": mean})
        shown = "  ".join(f"{name} {item['accuracy']:.3f}" for name, item in figures.items())
        tell(f"epoch {state.epoch}: train loss {loss:.3f}, validation loss {mean:.4f}; accuracy {shown}")
        state.since_best = 0 if mean < state.best else state.since_best + 1
        if mean < state.best:
            state.best = mean
            self._save_weights("best")

    def _autocast(self) -> Any:
        enabled = self.precision is not None
        return torch.autocast(self.device.type, self.precision or torch.bfloat16, enabled=enabled)

    def _save_weights(self, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = {key: value.contiguous() for key, value in self.network.state_dict().items()}
        save_file(weights, self.folder / f"{name}.safetensors")

    def _load_weights(self, name: str) -> None:
        self.network.load_state_dict(load_file(self.folder / f"{name}.safetensors"))

    def _save(
        self,
        name: str,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LambdaLR,
        state: Progressed,
    ) -> None:
        self._save_weights(name)
        moments = {
            f"{index}.{key}": value
            for index, values in optimiser.state_dict()["state"].items()
            for key, value in values.items()
        }
        save_file(moments, self.folder / f"{name}.optimiser.safetensors")
        content = {
            **vars(state),
            "config": self.config.model_dump(),
            "seed": self.seed,
            "rate_step": schedule.last_epoch,
        }
        (self.folder / f"{name}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    def _resume(
        self, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LambdaLR
    ) -> Progressed:
        """Go on from ``last`` when it was made by the same configuration, else start anew."""
        path = self.folder / "last.json"
        if not path.exists():
            return Progressed()
        content = json.loads(path.read_text(encoding="utf-8"))
        if (
            content["config"] != json.loads(json.dumps(self.config.model_dump()))
            or content["seed"] != self.seed
        ):
            return Progressed()
        self._load_weights("last")
        self._load_moments(optimiser)
        schedule.last_epoch = content["rate_step"]
        for group, rate in zip(optimiser.param_groups, schedule.lr_lambdas, strict=False):
            group["lr"] = group["initial_lr"] * rate(content["rate_step"])
        return Progressed(
            content["epoch"], content["step"], content["best"], content["since_best"], content["history"]
        )

    def _load_moments(self, optimiser: torch.optim.Optimizer) -> None:
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in load_file(self.folder / "last.optimiser.safetensors").items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})


def encode_logits(
    network: Network, side: Encoded, device: torch.device, precision: torch.dtype | None, batch: int = 64
) -> dict[str, np.ndarray]:
    """Logits [rows, labels] per head, in row order."""
    order = sorted(range(len(side.ids)), key=lambda row: len(side.ids[row]))
    parts: dict[str, list[np.ndarray]] = {}
    network.eval()
    enabled = precision is not None
    with torch.no_grad(), torch.autocast(device.type, precision or torch.bfloat16, enabled=enabled):
        for start in range(0, len(order), batch):
            for name, values in network(*side.batch(order[start : start + batch], device)).items():
                parts.setdefault(name, []).append(values.float().cpu().numpy())
    back = np.argsort(np.array(order))
    return {name: np.concatenate(values)[back] for name, values in parts.items()}


def _plan(ids: Sequence[Sequence[int]], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of rows of like length in random order; the same for the same seed and epoch."""
    rng = random.Random(f"{seed}-{epoch}")
    order = list(range(len(ids)))
    rng.shuffle(order)
    plan = [
        some
        for window in _windows(order, batch * BUCKET)
        for some in _windows(_by_length(window, ids), batch)
    ]
    rng.shuffle(plan)
    return plan


def _windows(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _by_length(rows: list[int], ids: Sequence[Sequence[int]]) -> list[int]:
    return sorted(rows, key=lambda row: len(ids[row]))


def _optimiser(network: Network, config: EncoderConfig) -> torch.optim.Optimizer:
    """AdamW; the fresh heads learn ``head_factor`` times faster than the pre-trained encoder."""
    groups = [
        {"params": list(network.encoder.parameters()), "lr": config.learning_rate},
        {"params": list(network.heads.parameters()), "lr": config.learning_rate * config.head_factor},
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


def _rate(step: int, total: int, warmup: float) -> float:
    """Linear warm-up, then linear decay to a fiftieth."""
    if step < warmup * total:
        return (step + 1) / max(1.0, warmup * total)
    return max(0.02, 1.0 - (step - warmup * total) / max(1.0, (1 - warmup) * total))
