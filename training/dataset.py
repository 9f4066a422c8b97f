"""Rows become what both parts train on: prepared texts, admissible-label masks, and sides of the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.appeals import Row
from data.cleaning import prepare
from data.readers import read
from data.scheme import Scheme, default_scheme
from data.splits import fold_of
from training.config import Config, DataFile, SplitConfig
from training.errors import ConfigError

__all__ = ["Dataset", "Targets", "build_dataset", "load_rows", "load_scheme", "sides"]

Mask = npt.NDArray[np.bool_]
_PLACES = 1000  # how finely validation_share cuts a fold


@dataclass(frozen=True)
class Targets:
    """Admissible labels of one head: ``mask`` [rows, labels], all false where a row has no label."""

    mask: Mask

    @property
    def labelled(self) -> Mask:
        """[rows]: has any label."""
        result: Mask = np.asarray(self.mask.any(axis=1))
        return result

    @property
    def sure(self) -> Mask:
        """[rows]: has exactly one admissible label."""
        result: Mask = np.asarray(self.mask.sum(axis=1) == 1)
        return result

    def codes(self) -> npt.NDArray[np.int64]:
        """[rows]: the one admissible label's index, -1 where the row has none or several."""
        return np.where(self.sure, self.mask.argmax(axis=1), -1)


@dataclass(frozen=True)
class Dataset:
    """Prepared texts with targets per head, weights and groups, row by row."""

    texts: Sequence[str]
    targets: Mapping[str, Targets]
    weights: npt.NDArray[np.float32]
    groups: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)


def load_scheme(config: Config) -> Scheme:
    """The scheme a configuration names: ``default``, or a YAML file (relative to the working directory)."""
    return default_scheme() if config.scheme == "default" else Scheme.load(Path(config.scheme))


def load_rows(config: Config, scheme: Scheme) -> list[Row]:
    """Read every file of a configuration. Train-only rows get the fold ``train``."""
    rows: list[Row] = []
    for file in config.data:
        for path in _paths(config, file):
            rows += [_placed(row, file) for row in read(path, file.mapping, scheme)]
    return rows


def sides(config: Config, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by side (train, validation, test); a group's rows share a side."""
    parts: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        parts[_side(row, config.split)].append(row)
    return parts


def build_dataset(rows: Sequence[Row], heads: Mapping[str, Sequence[str]]) -> Dataset:
    """Prepare the texts and lay the labels out as masks over ``heads`` (codes in output order)."""
    texts = [prepare(row.text, row.title).text for row in rows]
    targets = {name: Targets(_mask(rows, name, codes)) for name, codes in heads.items()}
    weights = np.array([row.weight for row in rows], np.float32)
    groups = [row.group or f"{row.source}:{row.line}:{i}" for i, row in enumerate(rows)]
    return Dataset(texts, targets, weights, groups)


def _mask(rows: Sequence[Row], head: str, codes: Sequence[str]) -> Mask:
    index = {code: i for i, code in enumerate(codes)}
    mask = np.zeros((len(rows), len(codes)), bool)
    for r, row in enumerate(rows):
        for code in row.labels.get(head, ()):
            if code in index:
                mask[r, index[code]] = True
    return mask


def _side(row: Row, split: SplitConfig) -> str:
    if row.fold in map(str, split.test_folds):
        return "test"
    if row.fold not in map(str, split.validation_folds):
        return "train"
    # The group's name with a suffix: a hash that has nothing to do with the one that made the folds.
    place = fold_of(f"{row.group or row.text}#validation", _PLACES)
    return "validation" if place < split.validation_share * _PLACES else "train"


def _paths(config: Config, file: DataFile) -> list[Path]:
    path = next((p for p in (Path(config.data_root) / file.path, Path(file.path)) if p.exists()), None)
    if path is None:
        raise ConfigError(
            f"data: expected {file.path} in {config.data_root} or in the working directory, found neither; "
            "set data_root to the folder of the data"
        )
    return sorted(path.glob("*.csv")) if path.is_dir() else [path]


def _placed(row: Row, file: DataFile) -> Row:
    fold = "train" if file.train_only else row.fold or str(fold_of(row.group or row.text))
    return replace(row, fold=fold, weight=row.weight * file.weight)
