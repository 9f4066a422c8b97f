"""What may be done with the registry's model versions; commands and API share these functions.

Needs what serving needs and nothing of training: operators promote and roll back on the machine that serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from classifier.registry import Registry
from data.errors import StoreError
from serving.errors import StartError
from serving.settings import Settings, load_settings

__all__ = ["add", "note_in_audit_log", "promote", "registry_of", "set_canary", "set_shadow"]


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
    from classifier.predictor import Predictor  # a rollback asks no model: it need not wait for the libraries

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


def note_in_audit_log(actor: str, action: str, version: str, details: Mapping[str, object]) -> str:
    """One entry in the audit log of the settings' database; why there is none, empty where there is.

    A machine that trains has no database, and a registry must be changed while the database is away: the
    registry's own history has what was done in any case.
    """
    from data.audit import AuditLog
    from data.database import Database
    from serving.security.sealing import read_secret

    settings = load_settings()
    try:
        database = Database.open(settings.database_url)
        if database.file is not None and not database.file.exists():
            return f"there is no database at {database.file}"
        database.check()
        key = read_secret(settings.audit_key, "JIESU_AUDIT_KEY") if settings.audit_key else None
        AuditLog(database, key).add(actor, action, version or "none", details)
        database.close()
    except (StoreError, StartError) as error:
        return str(error)
    return ""


def _answers(registry: Registry, version: str) -> None:
    from classifier.predictor import Predictor

    Predictor.load(registry.path(version)).check()
