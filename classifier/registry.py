"""The registry of model versions: one folder per version, and a pointer to the champion.

A version is copied in under a temporary name and renamed, so that a half-copied folder is never seen; the
pointer is a small file replaced atomically. Nothing in a version's folder ever changes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from classifier.errors import RegistryError
from classifier.folder import open_folder

__all__ = ["SHIPPED", "Entry", "Registry", "shipped_model"]

SHIPPED = Path(__file__).parent / "shipped"
POINTER = "champion.json"


@dataclass(frozen=True)
class Entry:
    """One version in the registry."""

    version: str
    path: Path
    champion: bool


@dataclass(frozen=True)
class Registry:
    """A folder of model versions; by default the one that ships with the project."""

    root: Path = SHIPPED

    def champion(self) -> Path:
        """Folder of the version that answers now. Raises RegistryError when none was promoted."""
        try:
            version = json.loads((self.root / POINTER).read_text(encoding="utf-8"))["version"]
        except (OSError, ValueError, KeyError) as error:
            raise RegistryError(
                f"{self.root}: expected {POINTER} that names a promoted version; "
                "add a model folder and promote it first"
            ) from error
        return self.path(version)

    def path(self, version: str) -> Path:
        """Folder of a version. Raises RegistryError when it is not in the registry."""
        if version not in self._versions():
            have = ", ".join(self._versions()) or "none"
            raise RegistryError(f"model version: expected one of {have} in {self.root}, got {version!r}")
        return self.root / version

    def entries(self) -> list[Entry]:
        """All versions, by name."""
        champion = self._champion_name()
        return [Entry(name, self.root / name, name == champion) for name in self._versions()]

    def add(self, folder: Path) -> Path:
        """Copy a model folder in under its version's name, after checking it.

        Raises RegistryError when the version is there already, ModelError when the folder is damaged.
        """
        version = open_folder(folder).manifest.version
        target = self.root / version
        if target.exists():
            raise RegistryError(f"model version {version}: already in {self.root}; versions never change")
        self.root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=self.root))
        try:
            shutil.copytree(folder, staging / version)
            os.rename(staging / version, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return target

    def promote(self, version: str) -> None:
        """Make a version the champion. Raises RegistryError when it is not in the registry."""
        self.path(version)
        content = {"version": version, "promoted_at": datetime.now(UTC).isoformat(timespec="seconds")}
        handle, name = tempfile.mkstemp(prefix=".pointer-", dir=self.root)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, self.root / POINTER)

    def _versions(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(item.parent.name for item in self.root.glob("[!.]*/manifest.json"))

    def _champion_name(self) -> str:
        try:
            return self.champion().name
        except RegistryError:
            return ""


def shipped_model() -> Path:
    """Folder of the model that ships with the project."""
    return Registry().champion()
