"""The registry of model versions: one folder per version, pointers, verdicts, and a history.

    VERSION/                 a model folder; nothing in it ever changes
    VERSION.verdicts/1.json  what the gate said of it, once per time it was asked; 2.json, … follow
    champion.json            the version that answers
    shadow.json              the version that answers beside it, unseen
    canary.json              the version that answers a share of the appeals
    history.jsonl            who did what, when and why; only ever added to

A version is copied in under a temporary name and renamed, so that a half-copied folder is never seen;
pointers are small files replaced atomically.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from classifier.errors import PromotionRefused, RegistryError, UnknownVersion
from classifier.folder import MANIFEST, open_folder
from classifier.history import Event, append, locked, read

__all__ = ["SHIPPED", "Canary", "Entry", "Registry", "Verdict", "shipped_model"]

SHIPPED = Path(__file__).parent / "shipped"
POINTER, SHADOW, CANARY = "champion.json", "shadow.json", "canary.json"
SAFE_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,126}", re.ASCII)  # it becomes the name of a folder


class Canary(NamedTuple):
    """A version that answers a share (0 to 1) of the appeals, and which ones."""

    version: str
    share: float

    def takes(self, appeal_id: str) -> bool:
        """Whether it answers this appeal: always the same for one id, and still so when the share grows."""
        digest = hashlib.sha256(f"{self.version}\0{appeal_id}".encode("utf-8", "replace")).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64


@dataclass(frozen=True)
class Verdict:
    """What the gate said of a version: passed or not, against which champion, and every reason."""

    version: str
    passed: bool
    champion: str
    reasons: tuple[str, ...]
    at: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """One version in the registry, with what its newest verdict and the history say of it."""

    version: str
    path: Path
    champion: bool
    shadow: bool = False
    canary: float = 0.0
    added_at: str = ""
    added_by: str = ""
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Registry:
    """A folder of model versions; by default the one that ships with the project."""

    root: Path = SHIPPED

    # -- reading -----------------------------------------------------------------------------------

    def champion(self) -> Path:
        """Folder of the version that answers now. Raises RegistryError when none was promoted."""
        try:
            version = json.loads((self.root / POINTER).read_text(encoding="utf-8"))["version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RegistryError(
                f"{self.root}: expected {POINTER} that names a promoted version; "
                "add a model folder and promote it first"
            ) from error
        return self.path(version)

    def shadow(self) -> Path | None:
        """Folder of the version that answers unseen beside the champion; None where there is none.

        Raises RegistryError when the pointer is damaged or names a version that is not there.
        """
        content = self._optional(SHADOW)
        return self.path(str(content["version"])) if content else None

    def canary(self) -> Canary | None:
        """The version that answers a share of the appeals; None where there is none.

        Raises RegistryError as `shadow` does.
        """
        content = self._optional(CANARY)
        return Canary(self.path(str(content["version"])).name, float(content["share"])) if content else None

    def path(self, version: str) -> Path:
        """Folder of a version. Raises RegistryError when it is not in the registry."""
        if version not in self._versions():
            have = ", ".join(self._versions()) or "none"
            raise UnknownVersion(f"model version: expected one of {have} in {self.root}, got {version!r}")
        return self.root / version

    def lineage(self) -> list[str]:
        """Versions that may answer where the promoted one cannot: the newest champion of the history first.

        Then the one that a rollback would return to, the one before that, and so on; only those that are
        still there. Empty for a registry without a history.
        """
        crowned = [event for event in self.history() if event.crowns]
        version, found = crowned[-1].version if crowned else "", list[str]()
        while version and version not in found:
            found.append(version)
            version = self._earlier(version)
        there = set(self._versions())
        return [version for version in found if version in there]

    def entries(self) -> list[Entry]:
        """All versions, by name. Raises RegistryError for a damaged pointer or verdict."""
        champion, shadow, canary = self._champion_name(), self.shadow(), self.canary()
        added = {event.version: event for event in self.history() if event.action == "add"}
        return [
            Entry(
                name,
                self.root / name,
                champion=name == champion,
                shadow=shadow is not None and name == shadow.name,
                canary=canary.share if canary and name == canary.version else 0.0,
                added_at=added[name].at if name in added else "",
                added_by=added[name].by if name in added else "",
                verdict=self.verdict(name),
            )
            for name in self._versions()
        ]

    def history(self) -> list[Event]:
        """Everything that was done, oldest first."""
        return read(self.root)

    def verdict(self, version: str) -> Verdict | None:
        """The newest verdict on a version; None where the gate was never asked.

        Raises RegistryError when the verdict was changed since, or is not about this folder.
        """
        files = self._verdict_files(version)
        if not files:
            return None
        stored = files[-1].read_bytes()
        sha256 = hashlib.sha256(stored).hexdigest()
        if not any(one.action == "verdict" and one.sha256 == sha256 for one in self.history()):
            raise RegistryError(
                f"{files[-1]}: expected the verdict that the history noted, got sha256 {sha256[:12]}…; "
                "it was changed by hand: run the gate again"
            )
        content = json.loads(stored)
        if content["manifest_sha256"] != _manifest_hash(self.path(version)):
            raise RegistryError(f"{files[-1]}: is about another content of {version}; run the gate again")
        return Verdict(
            version,
            bool(content["passed"]),
            str(content["champion"]),
            tuple(content["reasons"]),
            str(content["at"]),
            content,
        )

    # -- writing -----------------------------------------------------------------------------------

    def add(self, folder: Path, by: str = "", why: str = "") -> Path:
        """Copy a model folder in under its version's name, after checking it.

        Raises RegistryError when the version is there already, ModelError when the folder is damaged.
        """
        version = open_folder(folder).manifest.version
        if not SAFE_NAME.fullmatch(version) or version.endswith(".verdicts"):
            raise RegistryError(
                f"model version: expected a name of letters, digits, '.', '_', '+' and '-', got {version!r}"
            )
        target = self.root / version
        with locked(self.root):
            if target.exists():
                raise RegistryError(f"model version {version}: already in {self.root}; versions never change")
            staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=self.root))
            try:
                shutil.copytree(folder, staging / version)
                _settle(staging / version)
                event = Event.now("add", version, by=by, why=why, sha256=_manifest_hash(staging / version))
                append(self.root, event)
                os.rename(staging / version, target)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        return target

    def judge(
        self, version: str, passed: bool, champion: str, reasons: tuple[str, ...], details: Mapping[str, Any],
        by: str = "",
    ) -> Path:  # fmt: skip
        """Keep a verdict of the gate beside the version, whichever way it went; earlier ones stay.

        ``details`` are plain JSON values. Raises RegistryError for a version that is not there.
        """
        folder = self.path(version)
        content = {
            **details,
            "version": version,
            "passed": passed,
            "champion": champion,
            "reasons": list(reasons),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "manifest_sha256": _manifest_hash(folder),
        }
        with locked(self.root):
            target = self._verdict_folder(version) / f"{len(self._verdict_files(version)) + 1}.json"
            target.parent.mkdir(exist_ok=True)
            sha256 = hashlib.sha256(_dumped(content)).hexdigest()
            why = "; ".join(reasons) if not passed else "passed"
            append(self.root, Event.now("verdict", version, by=by, why=why, sha256=sha256))
            _replace(target, content)
        return target

    def promote(self, version: str, by: str = "", why: str = "", force: bool = False) -> None:
        """Make a version the champion.

        Raises RegistryError when it is not in the registry, or unless ``force`` (which needs a ``why``)
        when its verdict refused it, was changed, or compared it with a version that is champion no more.
        """
        self.path(version)
        if force and not why:
            raise RegistryError(f"promote {version}: expected a reason for going against the gate, got none")
        with locked(self.root):
            champion = self._champion_name()
            if not force:
                self._must_pass(version, champion)
            earlier = champion if champion != version else self._earlier(version)
            self._crown(Event.now("promote", version, by=by, why=why, earlier=earlier))

    def rollback(self, by: str = "", why: str = "") -> Path:
        """Make the version before the champion the champion again; a second time goes one further back.

        The shadow and the canary stay as they are. Raises RegistryError when there is none before it, and
        ModelError when that one's folder is damaged.
        """
        with locked(self.root):
            current = self.champion().name
            version = self._earlier(current)
            if not version:
                raise RegistryError(
                    f"{self.root}: expected a champion before {current} to go back to, found none"
                )
            folder = self.path(version)
            open_folder(folder)  # the hashes of all files: a rollback must not end at a damaged folder
            self._crown(Event.now("rollback", version, by=by, why=why, earlier=self._earlier(version)))
        return folder

    def set_shadow(self, version: str, by: str = "", why: str = "") -> None:
        """Let a version answer live traffic unseen; an empty ``version`` ends it.

        Raises RegistryError when it is not in the registry or is the champion.
        """
        self._place(SHADOW, Event.now("shadow", version, by=by, why=why))

    def set_canary(self, version: str, share: float, by: str = "", why: str = "") -> None:
        """Let a version answer ``share`` (over 0, at most 0.5) of the appeals; an empty ``version`` ends it.

        Raises RegistryError as `promote` does for a version that the gate refused, and for a wrong share.
        """
        if version and not 0 < share <= 0.5:
            raise RegistryError(
                f"canary: expected a share over 0 and up to 0.5, got {share}; for more, promote it"
            )
        if version:
            self.path(version)
            self._must_pass(version, self._champion_name())
        self._place(CANARY, Event.now("canary", version, by=by, why=why, share=share if version else 0.0))

    # -- inside ------------------------------------------------------------------------------------

    def _place(self, pointer: str, event: Event) -> None:
        with locked(self.root):
            if event.version and self.path(event.version).name == self._champion_name():
                raise RegistryError(f"{event.action}: expected a challenger, got the champion itself")
            append(self.root, event)
            if event.version:
                content = {"version": event.version, "since": event.at, "share": event.share}
                _replace(self.root / pointer, content)
            else:
                (self.root / pointer).unlink(missing_ok=True)

    def _crown(self, event: Event) -> None:
        """Move the champion's pointer; a shadow or canary that becomes champion is one no more."""
        append(self.root, event)
        _replace(self.root / POINTER, {"version": event.version, "promoted_at": event.at})
        for pointer in (SHADOW, CANARY):
            if (self._optional(pointer) or {}).get("version") == event.version:
                (self.root / pointer).unlink(missing_ok=True)

    def _must_pass(self, version: str, champion: str) -> None:
        verdict = self.verdict(version)
        if verdict is None:
            return
        if not verdict.passed:
            raise PromotionRefused(
                f"{version}: the gate refused it: {'; '.join(verdict.reasons)}. "
                "Retrain, or promote it with --force and a reason",
                verdict.reasons,
            )
        if champion and champion not in (verdict.champion, version):
            raise PromotionRefused(
                f"{version}: the gate compared it with {verdict.champion}, but {champion} is champion now; "
                "run the gate again, or promote it with --force and a reason",
                (f"it was compared with {verdict.champion}, but {champion} is champion now",),
            )

    def _earlier(self, version: str) -> str:
        """The version that was champion before this one became it; empty where the history has none."""
        crowned = [event for event in self.history() if event.crowns and event.version == version]
        return crowned[-1].earlier if crowned else ""

    def _optional(self, pointer: str) -> dict[str, Any] | None:
        try:
            content = json.loads((self.root / pointer).read_text(encoding="utf-8"))
            return {"version": str(content["version"]), "share": float(content.get("share", 0.0))}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RegistryError(
                f"{self.root / pointer}: expected a pointer that names a version, got {error}; "
                "set it again or delete the file"
            ) from error

    def _verdict_folder(self, version: str) -> Path:
        return self.root / f"{version}.verdicts"

    def _verdict_files(self, version: str) -> list[Path]:
        return sorted(self._verdict_folder(version).glob("*.json"), key=lambda file: int(file.stem))

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


def _manifest_hash(folder: Path) -> str:
    """The manifest holds the hashes of all other files, so this one stands for the whole folder."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def _settle(folder: Path) -> None:
    """Readable for the service's account, which is not the trainer's, and on the disk before it is seen."""
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _dumped(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def _replace(target: Path, content: Mapping[str, Any]) -> None:
    handle, name = tempfile.mkstemp(prefix=".writing-", dir=target.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(_dumped(content))
        file.flush()
        os.fsync(file.fileno())
    os.chmod(name, 0o644)
    os.replace(name, target)
