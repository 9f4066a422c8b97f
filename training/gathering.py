"""Base data and dataset versions put together so that nothing that is tested on is ever trained on.

The base data keep their folds. A reviewed appeal gets the side of the base rows that it nearly repeats;
else its own stable fold. Where a reviewer labelled the very text of a training row, the reviewer's label
counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from classifier.folder import ModelFolder
from data.appeals import Row
from data.dataset_version import CARD, LABELS, newest_version, open_version
from data.progress import Progress
from data.readers import read
from data.scheme import Scheme
from data.splits import fold_of, near_duplicate_groups, text_key
from training.config import Config, load_config
from training.dataset import load_rows, sides
from training.errors import ConfigError, RetrainError
from training.fit import data_hashes

__all__ = ["Gathered", "gather", "labels_file", "read_dataset"]


@dataclass(frozen=True)
class Gathered:
    """Rows on their sides. ``reviewed``: the reviewed rows that are trained on; ``frozen`` and ``newest``:
    the base and the reviewed rows that are tested on; ``seen``: how many test rows the champion was trained
    on, which were left out; ``datasets``: sha256 of every dataset version by name.
    """

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    reviewed: tuple[Row, ...]
    frozen: tuple[Row, ...]
    newest: tuple[Row, ...]
    seen: int
    datasets: Mapping[str, str]

    @property
    def split(self) -> dict[str, tuple[Row, ...]]:
        """As `fit_split` takes it."""
        return {"train": self.train, "validation": self.validation, "test": self.frozen + self.newest}


def gather(
    config: Config,
    scheme: Scheme,
    datasets: Sequence[Path],
    champion: ModelFolder,
    progress: Progress | None = None,
) -> Gathered:
    """Read everything. Of several dataset versions the later one counts where they hold the same appeal.

    Raises RetrainError when no reviewed row is left to train on, DataError as the readers do.
    """
    reviewed = _reviewed(config, scheme, datasets)
    base, unfit = _base(config, scheme, champion)
    old, fresh = sides(config, base), sides(config, _placed(config, base, reviewed, progress))
    old["train"] = _corrected(old["train"], fresh["train"])
    trained = tuple(replace(row, weight=row.weight * config.retrain.new_weight) for row in fresh["train"])
    if not trained:
        raise RetrainError(
            f"{', '.join(map(str, datasets))}: expected reviewed appeals to train on, found none among "
            f"{len(reviewed)} rows with a label; export a newer dataset version"
        )
    frozen = tuple(row for row in old["test"] if row.source not in unfit)
    return Gathered(
        train=(*old["train"], *trained),
        validation=(*old["validation"], *fresh["validation"]),
        reviewed=trained,
        frozen=frozen,
        newest=tuple(fresh["test"]),
        seen=len(old["test"]) - len(frozen),
        datasets=dict(map(_named, map(labels_file, datasets))),
    )


def labels_file(dataset: Path) -> Path:
    """The table of a dataset version (its folder, or the folder of versions: then the newest), or a file.

    Raises DatasetError for a version that was changed since, ConfigError if there is nothing.
    """
    if dataset.is_file():
        return dataset
    if not dataset.is_dir():
        raise ConfigError(
            f"--data: expected a dataset version's folder or a labelled file, found no {dataset}"
        )
    version = open_version(dataset) if (dataset / CARD).exists() else newest_version(dataset)
    return version.labels


def read_dataset(dataset: Path, scheme: Scheme) -> list[Row]:
    """The rows of a dataset version, or of a file in our own columns, that carry a label."""
    return [row for row in read(labels_file(dataset), None, scheme) if row.labels]


def _reviewed(config: Config, scheme: Scheme, datasets: Sequence[Path]) -> list[Row]:
    newest: dict[str, Row] = {}
    for dataset in datasets:
        for row in read_dataset(dataset, scheme):
            newest[row.id] = replace(row, source="reviewed", fold="")
    # Oldest first: a group of near-duplicates is named by its first row, and must keep its fold.
    return sorted(newest.values(), key=lambda row: (row.date, row.id))


def _base(config: Config, scheme: Scheme, champion: ModelFolder) -> tuple[list[Row], frozenset[str]]:
    """The configuration's rows, and the sources of which the champion has seen the test folds."""
    known = champion.manifest.origin.get("data_sha256", {})
    hashes = data_hashes(config)
    held_out = _held_out(champion)
    rows: list[Row] = []
    unfit: set[str] = set()
    for file in config.data:
        own = load_rows(config.model_copy(update={"data": (file,)}), scheme)
        rows += own
        trained = hashes.get(file.path) in known.values() and not set(config.split.test_folds) <= held_out
        unfit |= {row.source for row in own} if trained else set()
    return rows, frozenset(unfit)


def _held_out(champion: ModelFolder) -> set[int]:
    """Folds that the champion was not trained on."""
    if champion.manifest.origin.get("trained_on") == "all folds":
        return set()
    return set(load_config(champion.path / "config.toml").split.test_folds)


def _placed(
    config: Config, base: Sequence[Row], reviewed: Sequence[Row], progress: Progress | None
) -> list[Row]:
    """Give the reviewed rows the group and fold of the base rows that they nearly repeat.

    Where these are on several sides, the test's row decides, then the validation's: what is tested on stays
    untrained.
    """
    texts = [f"{row.title}{row.text}" for row in (*base, *reviewed)]
    groups = near_duplicate_groups(texts, progress=progress)
    rank = {str(fold): 1 for fold in config.split.validation_folds}
    rank |= {str(fold): 2 for fold in config.split.test_folds}
    twins: dict[str, Row] = {}
    for row, group in zip(base, groups, strict=False):
        if group not in twins or rank.get(row.fold, 0) > rank.get(twins[group].fold, 0):
            twins[group] = row
    own = zip(reviewed, groups[len(base) :], strict=True)
    return [_beside(row, group, twins.get(group)) for row, group in own]


def _beside(row: Row, group: str, twin: Row | None) -> Row:
    if twin is None:
        return replace(row, group=group, fold=str(fold_of(group)))
    return replace(row, group=twin.group or twin.text, fold=twin.fold)


def _corrected(rows: Sequence[Row], reviewed: Sequence[Row]) -> list[Row]:
    """A reviewer's labels in the place of older ones of the same text."""
    said: dict[str, dict[str, frozenset[str]]] = {}
    for row in reviewed:
        said.setdefault(text_key(row.title + row.text), {}).update(row.labels)
    keys = [text_key(row.title + row.text) for row in rows]
    return [
        replace(row, labels={**row.labels, **said[key]}) if key in said else row
        for row, key in zip(rows, keys, strict=True)
    ]


def _named(file: Path) -> tuple[str, str]:
    """A dataset version's name, or the file's, with the sha256 of its labels."""
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return (file.parent.name if file.name == LABELS else file.name), sha256
