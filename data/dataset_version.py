"""Dataset versions: labels at one moment, as an immutable folder that explains itself.

`NAME-DATE-HASH/` holds `labels.parquet` (a row per labelled appeal, readable like any file), `scheme.yaml`
(the label scheme its codes are of), `card.json` and `README.md`. The hash covers labels and scheme, so that
equal content has an equal hash; the files are read-only, and `open_version` refuses a folder whose
content is not what the card says.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from data.database import Database
from data.dataset_card import CARD_FORMAT, Tally, readme
from data.disk import to_disk
from data.errors import DatasetError
from data.in_force import InForce
from data.labels.records import LabelRecord, Selection, records
from data.progress import Progress
from data.reviews.store import ReviewStore
from data.scheme import Scheme
from data.scheme_history import reading_for

__all__ = ["DatasetVersion", "newest_version", "open_version", "versions", "write_version"]

LABELS, SCHEME, CARD, README = "labels.parquet", "scheme.yaml", "card.json", "README.md"
BATCH = 5000  # rows in one row group
PLACE = ("city", "district", "street", "community", "grid")
PROVENANCE = ("state", "reviewers", "kinds", "decided_at", "shown", "model_version", "scheme_version", "rows")
ZONE = ZoneInfo("Asia/Shanghai")


@dataclass(frozen=True)
class DatasetVersion:
    """A dataset version that was checked."""

    path: Path
    card: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its folder's name: NAME-DATE-HASH."""
        return self.path.name

    @property
    def labels(self) -> Path:
        """The Parquet file: what `data.readers.read` takes."""
        return self.path / LABELS

    @property
    def scheme(self) -> Scheme:
        """The label scheme that the codes are of."""
        return Scheme.load(self.path / SCHEME)

    @property
    def created_at(self) -> datetime:
        """When it was written."""
        return datetime.fromisoformat(self.card["created_at"])


def write_version(
    database: Database,
    root: Path,
    name: str,
    scheme: Scheme,
    *,
    now: datetime,
    selection: Selection | None = None,
    zone: ZoneInfo = ZONE,
    told: Progress = lambda what, done, total: None,
) -> DatasetVersion:
    """Write the labels in force now as a new version under `root`; the one that is there if nothing changed.

    Dates are of `zone`. Raises DatasetError where there is nothing to write or it cannot be written,
    SchemeChangeError where labels are of a scheme version from which no recorded change leads here.
    """
    _check_name(name)
    chosen = selection or Selection()
    through = ReviewStore(database).last_correction()
    reading = reading_for(database, scheme)
    part = root / f".{name}.{os.getpid()}.part"
    try:
        part.mkdir(parents=True)
        tally = Tally(scheme)
        rows = records(database, reading, chosen, through=through, told=told)
        _write_labels(part / LABELS, _tallied(rows, tally), scheme, zone)
        (part / SCHEME).write_text(scheme.to_yaml(), encoding="utf-8")
        card = _card(part, name, scheme, tally, {**chosen.told(), "through_correction": through}, now)
        return _settle(part, root / f"{name}-{now.astimezone(zone):%Y-%m-%d}-{card['hash']}", card)
    except OSError as error:
        raise DatasetError(f"the dataset version cannot be written to {root}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def open_version(path: Path) -> DatasetVersion:
    """A dataset version by its folder. Raises DatasetError if a file is missing or not as it was written."""
    try:
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
        hashes = card["files"] if isinstance(card, dict) and card.get("format") == CARD_FORMAT else None
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{path}: expected a dataset version with a {CARD}, got: {error}") from error
    if hashes is None:
        raise DatasetError(f"{path / CARD}: expected format {CARD_FORMAT}, got another one")
    for file, expected in hashes.items():
        found = _sha256(path / file) if (path / file).is_file() else "no file"
        if found != expected:
            raise DatasetError(f"{path / file}: expected the content with sha256 {expected}, got {found}")
    return DatasetVersion(path, card)


def versions(root: Path, name: str = "") -> list[DatasetVersion]:
    """All versions under a folder, of one name if given, the oldest first. Raises as `open_version`."""
    folders = [path for path in root.glob("[!.]*") if (path / CARD).is_file()] if root.is_dir() else []
    found = [open_version(path) for path in folders]
    chosen = [one for one in found if name in ("", one.card["name"])]
    return sorted(chosen, key=lambda one: (one.created_at, one.name))


def newest_version(root: Path, name: str = "") -> DatasetVersion:
    """The newest version. Raises DatasetError where there is none."""
    found = versions(root, name)
    if not found:
        which = f" called '{name}'" if name else ""
        message = f"expected a dataset version{which} in {root}, found none"
        raise DatasetError(f"{message}; make one with: python -m data export")
    return found[-1]


def _check_name(name: str) -> None:
    if (
        not name
        or name.startswith(".")
        or not name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    ):
        raise DatasetError(f"expected a name of letters, digits, '-', '_' and '.', got '{name}'")


# --- labels ---------------------------------------------------------------------------------------


def _tallied(rows: Iterator[LabelRecord], tally: Tally) -> Iterator[LabelRecord]:
    for row in rows:
        if row.labels:  # not where all was withdrawn, or is unmapped today
            tally.add(row)
            yield row


def _write_labels(path: Path, rows: Iterator[LabelRecord], scheme: Scheme, zone: ZoneInfo) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _columns(scheme)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(rows, BATCH)):
            cells = [_cells(row, scheme, zone) for row in batch]
            writer.write_table(pa.Table.from_pylist(cells, schema))


def _columns(scheme: Scheme) -> Any:
    import pyarrow as pa

    told = ["id", "text", "date"]
    about = ["channel", "declared_type", *PLACE]
    heads = [name for head in scheme.heads for name in (head, *(f"{head}_{part}" for part in PROVENANCE))]
    moment = pa.field("received_at", pa.timestamp("us", "UTC"))
    return pa.schema(
        [*((name, pa.string()) for name in told), moment, *((name, pa.string()) for name in [*about, *heads])]
    )


def _cells(row: LabelRecord, scheme: Scheme, zone: ZoneInfo) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "id": row.id,
        "text": row.text,
        "date": f"{row.received_at.astimezone(zone):%Y-%m-%d %H:%M:%S}",
        "received_at": row.received_at,
        "channel": row.channel,
        "declared_type": row.declared_type,
        **{part: getattr(row.place, part) for part in PLACE},
    }
    for head in scheme.heads:
        label = row.labels.get(head)
        cells[head] = "|".join(sorted(label.codes)) if label else ""
        provenance = _provenance(label) if label else dict.fromkeys(PROVENANCE, "")
        cells |= {f"{head}_{part}": value for part, value in provenance.items()}
    return cells


def _provenance(label: InForce) -> dict[str, str]:
    """Whose rows made the label what it is, in the order of the rows, joined by `|`."""
    rows = label.rows
    return {
        "state": "adjudicated" if label.adjudicated else label.state,
        "reviewers": "|".join(row.reviewer for row in rows),
        "kinds": "|".join(row.kind for row in rows),
        "decided_at": label.decided_at.isoformat(),
        "shown": "|".join(row.shown for row in rows),
        "model_version": "|".join(row.model_version for row in rows),
        "scheme_version": "|".join(row.scheme_version for row in rows),
        "rows": "|".join(str(row.number) for row in rows),
    }


# --- the folder -----------------------------------------------------------------------------------


def _card(
    part: Path, name: str, scheme: Scheme, tally: Tally, query: Mapping[str, object], now: datetime
) -> dict[str, Any]:
    if not tally.rows:
        raise DatasetError("expected appeals that people labelled, found none for this selection")
    files = {file: _sha256(part / file) for file in (LABELS, SCHEME)}
    return {
        "format": CARD_FORMAT,
        "name": name,
        "created_at": now.isoformat(),
        "hash": hashlib.sha256("".join(files.values()).encode()).hexdigest()[:12],
        "files": files,
        "scheme": {"name": scheme.name, "version": scheme.version, "sha256": scheme.sha256},
        "query": dict(query),
        **tally.told(),
    }


def _settle(part: Path, target: Path, card: Mapping[str, Any]) -> DatasetVersion:
    """Give the finished folder its name; one that is there already has the same labels and stays."""
    if target.exists():
        return open_version(target)
    (part / CARD).write_text(json.dumps(card, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (part / README).write_text(readme(card), encoding="utf-8")
    for file in part.iterdir():
        to_disk(file)
        file.chmod(0o444)
    part.rename(target)
    to_disk(target.parent)
    return open_version(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
