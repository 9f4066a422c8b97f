"""What the API does with model versions: ask the registry, note who did what, let this replica follow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request

from classifier.errors import ModelError, PromotionRefused, RegistryError, UnknownVersion
from classifier.folder import open_folder
from classifier.registry import Registry
from serving.challengers.report import ShadowReport, shadow_report
from serving.errors import (
    BodyTooLarge,
    NoRegistry,
    RegistryAway,
    ServingError,
    StoreNotReady,
    UnknownModel,
    UploadIdle,
    VersionRefused,
    WrongMediaType,
)
from serving.loading import registry_dir
from serving.logs import log
from serving.security.gate import Gate
from serving.service import Service
from serving.version_messages import EventOut, VersionDetails, VersionOut, VersionsOut
from serving.version_upload import incoming, unpack

__all__ = ["Deed", "VersionDesk"]

T = TypeVar("T")
EVENTS = 100  # of the history, the newest ones
IN_PIECES = 1024 * 1024  # bytes gathered before they are written
Add = Callable[[Registry, Path, str, str], str]


@dataclass(frozen=True)
class Deed:
    """What is to be done: `work` changes the registry and tells the version that it was about."""

    action: str
    work: Callable[[Registry], str]
    why: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class VersionDesk:
    """For one request; `actor` is its caller as history and audit log name them."""

    service: Service
    gate: Gate
    actor: str

    async def all(self) -> VersionsOut:
        """Every version, its place, and what was done last. Raises NoRegistry or RegistryAway."""
        return await self._ask(self._told)

    async def one(self, version: str) -> VersionDetails:
        """One version. Raises UnknownModel as well."""
        return await self._ask(lambda registry: _details(registry, version))

    async def compare(self, version: str, days: float, limit: int) -> ShadowReport:
        """The report on a challenger; without a `version` on the one in the shadow."""
        wanted = version or await self._ask(_in_the_shadow)
        now = datetime.now(UTC)
        async with self.service.shadow.comparing:  # one at a time: it takes a core for itself
            return await self.service.in_database(
                lambda database: shadow_report(database, wanted, now, days, limit)
            )

    async def do(self, deed: Deed) -> VersionsOut:
        """Do it, note it in the audit log, let this replica follow. A caller that leaves ends none of it."""
        return await _to_its_end(self._do(deed))

    async def _do(self, deed: Deed) -> VersionsOut:
        version = await self._ask(deed.work)
        await self._note(deed.action, version, deed.why, deed.details)
        await self.service.look_at_versions()
        return await self.all()

    async def receive(self, request: Request, why: str, add: Add) -> VersionDetails:
        """Take in an archive and add the version in it. Raises BodyTooLarge, UploadIdle or VersionRefused."""
        registry, limit = self._registry(), self.service.settings.upload_bytes
        _check_head(request, limit)
        try:
            with incoming(registry.root) as folder:
                await self._save(request, folder / "archive.tar", limit)
                return await _to_its_end(self._add(folder, limit, why, add))
        except OSError as error:
            raise RegistryAway("模型库无法写入", type(error).__name__) from error

    async def _add(self, folder: Path, limit: int, why: str, add: Add) -> VersionDetails:
        def work(registry: Registry) -> str:
            return add(registry, unpack(folder / "archive.tar", folder / "model", limit), self.actor, why)

        version = await self._ask(work)
        await self._note("added", version, why, {})
        return await self.one(version)

    async def _save(self, request: Request, target: Path, limit: int) -> None:
        size, idle, pieces = 0, self.service.settings.bulk_idle_seconds, bytearray()
        stream = aiter(request.stream())
        while True:
            try:
                piece = await asyncio.wait_for(anext(stream), idle)
            except StopAsyncIteration:
                break
            except TimeoutError as error:
                raise UploadIdle(idle) from error
            size += len(piece)
            if size > limit:
                raise BodyTooLarge(limit, f"超过 {limit} 字节")
            pieces += piece
            if len(pieces) >= IN_PIECES:
                await self.service.run(_append, target, bytes(pieces))
                pieces.clear()
        await self.service.run(_append, target, bytes(pieces))

    async def _note(self, action: str, version: str, why: str, details: Mapping[str, Any]) -> None:
        """One entry in the audit log; the registry's history has it even while the database is away."""
        told = {**details, "why": why}
        try:
            await self.gate.in_access(
                lambda access: access.note(self.actor, f"model.{action}", version or "none", told)
            )
        except StoreNotReady:
            log("not_audited", logging.WARNING, action=f"model.{action}", version=version)

    async def _ask(self, work: Callable[[Registry], T]) -> T:
        registry = self._registry()
        try:
            return await self.service.run(work, registry)
        except UnknownVersion as error:
            hint = "全部版本见 GET /v1/versions"
            raise UnknownModel("模型库中没有这个版本", field="version", hint=hint) from error
        except (RegistryError, ModelError) as error:
            raise _refusal(error, registry.root) from error
        except OSError as error:
            raise RegistryAway("模型库无法读写", type(error).__name__) from error

    def _registry(self) -> Registry:
        folder = registry_dir(self.service.settings)
        if folder is None:
            raise NoRegistry(
                "没有设置模型库",
                field="JIESU_REGISTRY_DIR",
                expected="模型库所在的目录，且未设置 JIESU_MODEL_DIR",
                hint="请运维人员设置后重启；见 docs/operations.md",
            )
        return Registry(folder)

    def _told(self, registry: Registry) -> VersionsOut:
        try:
            champion = self.service.model().version
        except ServingError:
            champion = ""
        answers = {
            "champion": champion,
            "shadow": self.service.shadow.version,
            "canary": self.service.canary.version,
        }
        events = registry.history()[-EVENTS:]
        return VersionsOut(
            answers=answers,
            versions=[VersionOut.of(entry) for entry in registry.entries()],
            history=[EventOut.of(event) for event in reversed(events)],
        )


def _details(registry: Registry, version: str) -> VersionDetails:
    folder = open_folder(registry.path(version), verify=False)
    [entry] = [entry for entry in registry.entries() if entry.version == version]
    events = [event for event in registry.history() if event.version == version]
    return VersionDetails(
        **vars(VersionOut.of(entry)),
        created=folder.manifest.created,
        scheme_version=folder.scheme.version,
        heads={name: len(head.codes) for name, head in folder.heads.items()},
        origin=dict(folder.manifest.origin),
        scores=dict(folder.scores),
        gate=dict(entry.verdict.content) if entry.verdict else {},
        history=[EventOut.of(event) for event in reversed(events[-EVENTS:])],
    )


def _in_the_shadow(registry: Registry) -> str:
    found = registry.shadow()
    if found is None:
        hint = "请先设置影子版本，或用 version 指定一个版本"
        raise VersionRefused("没有影子版本", field="version", hint=hint)
    return found.name


def _refusal(error: RegistryError | ModelError, root: Path) -> ServingError:
    """The registry's words without the machine's folders, which are nobody's business who calls."""
    told = str(error).replace(str(root), "registry")
    if isinstance(error, PromotionRefused):
        hint = "请重新训练；确需启用时由运维人员以 force 与理由提交"
        reasons = "; ".join(error.reasons)[:1000]
        return VersionRefused("评测门槛未通过", field="version", got=reasons, hint=hint)
    if "can be written to" in told:
        return RegistryAway("模型库无法写入", told)
    return VersionRefused("无法对模型库执行该操作", field="version", got=told[:1000])


def _check_head(request: Request, limit: int) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-tar":
        raise WrongMediaType(kind, "application/x-tar")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise BodyTooLarge(limit, f"{length[:20]} 字节")


def _append(target: Path, piece: bytes) -> None:
    with target.open("ab") as file:
        file.write(piece)


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await something that goes on when the one who waits is cancelled: what was done must be noted."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
