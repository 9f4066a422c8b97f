"""A model version that comes over the network: a tar archive, read within bounds, unpacked by hand.

Nothing of the archive but plain files is taken, each under its bare name in one folder, and only files
that the manifest lists with their hash. What is in them is never executed: weights are safetensors and
ONNX, the rest is text.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from classifier.errors import ModelError
from classifier.folder import MANIFEST

__all__ = ["incoming", "unpack"]

MOST_FILES = 64
MANIFEST_BYTES = 4 * 1024 * 1024
PIECE = 1024 * 1024
SAFE_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
PREFIX = ".incoming-"
LEFT_BEHIND = 6 * 3600  # seconds after which what a dying upload left is removed


@contextmanager
def incoming(root: Path) -> Iterator[Path]:
    """An empty folder beside the versions, gone afterwards. Raises OSError where none can be made."""
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f"{PREFIX}*"):
        if left.stat().st_mtime < time.time() - LEFT_BEHIND:
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unpack(archive: Path, folder: Path, limit: int) -> Path:
    """The model folder within an archive, unpacked into `folder`, at most `limit` bytes of it.

    Raises ModelError that says what was expected and what came.
    """
    folder.mkdir()
    left = limit
    try:
        with tarfile.open(archive, mode="r:") as opened:
            for number, member in enumerate(opened):
                if number >= MOST_FILES:
                    raise ModelError(f"archive: expected at most {MOST_FILES} entries, got more")
                if not member.isdir():
                    left -= member.size
                    _write(opened, member, folder, left)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ModelError(f"archive: expected a tar archive without compression, got: {error}") from error
    _check_names(folder)
    return folder


def _write(opened: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, left: int) -> None:
    path = PurePosixPath(member.name)
    parts = [part for part in path.parts if part != "."]
    if not member.isreg() or path.is_absolute() or ".." in parts or not 1 <= len(parts) <= 2:
        raise ModelError("archive: expected plain files in one folder, got a link, a device or a deeper path")
    if not SAFE_NAME.fullmatch(parts[-1]):
        raise ModelError("archive: expected file names of letters, digits, '.', '_' and '-', got another one")
    if left < 0:
        raise ModelError("archive: expected fewer bytes; raise JIESU_UPLOAD_BYTES")
    target, source = folder / parts[-1], opened.extractfile(member)
    if source is None or target.exists():
        raise ModelError(f"archive: expected {parts[-1]} once")
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, PIECE)


def _check_names(folder: Path) -> None:
    """The files are those that the manifest lists, no more and no less; their hashes are checked later."""
    manifest = folder / MANIFEST
    try:
        if manifest.stat().st_size > MANIFEST_BYTES:
            raise ModelError(f"{MANIFEST}: expected at most {MANIFEST_BYTES} bytes")
        listed = set(json.loads(manifest.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"archive: expected {MANIFEST} of a model folder, got {error!r}") from error
    there = {item.name for item in folder.iterdir()} - {MANIFEST}
    if there != listed:
        strange = ", ".join(sorted(map(str, there ^ listed))[:5])
        raise ModelError(f"archive: expected the files that {MANIFEST} lists; these differ: {strange}")
