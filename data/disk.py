"""Files that are still there after the power fails."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["to_disk"]


def to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
