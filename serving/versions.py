"""What may be done with the registry's model versions; commands and API share these functions.

Needs what serving needs and nothing of training: operators promote and roll back on the machine that serves.
"""

from __future__ import annotations

from pathlib import Path

from classifier.predictor import Predictor
from classifier.registry import Registry
from serving.errors import StartError
from serving.settings import Settings

__all__ = ["add", "promote", "registry_of", "set_canary", "set_shadow"]


def registry_of(settings: Settings, given: Path | None = None) -> Registry:
    """The registry that is given, or that the settings name.

    Raises StartError where neither is: what ships with the project is no registry to change.
    """
    folder = given or settings.registry_dir
    if folder is None:
        raise StartError(
            "expected a registry of model versions, got none: set JIESU_REGISTRY_DIR or give --registry"
        )
    return Registry(folder)


def add(registry: Registry, folder: Path, by: str, why: str = "") -> str:
    """Add a model folder that gives its known answer on this machine; its version.

    Raises ModelError for a folder that does not, RegistryError as the registry does.
    """
    Predictor.load(folder).check()
    return registry.add(folder, by, why).name


def promote(registry: Registry, version: str, by: str, why: str = "", force: bool = False) -> None:
    """Make a version the champion once it has given its known answer on this machine.

    Raises ModelError, or RegistryError where the gate refused it and there is no ``force``.
    """
    _answers(registry, version)
    registry.promote(version, by, why, force)


def set_shadow(registry: Registry, version: str, by: str, why: str = "") -> None:
    """Let a version answer unseen; empty: none. Raises as `promote`."""
    if version:
        _answers(registry, version)
    registry.set_shadow(version, by, why)


def set_canary(registry: Registry, version: str, share: float, by: str, why: str = "") -> None:
    """Let a version answer a share of the appeals; empty: none. Raises as `promote`."""
    if version:
        _answers(registry, version)
    registry.set_canary(version, share, by, why)


def _answers(registry: Registry, version: str) -> None:
    Predictor.load(registry.path(version)).check()
