"""The canary: a version that answers a share of the appeals, always the same ones by their ids.

Texts that the urgency rules raise stay with the champion. Where the canary is away, too slow, or fails,
the champion answers: no caller sees more than its version in an answer.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from classifier.errors import RegistryError
from classifier.registry import Canary as Share
from classifier.registry import Registry
from serving.answer import Understood
from serving.batcher import Batcher, Classified, Limits, Recall, Request
from serving.challengers.standby import Standby
from serving.errors import Overloaded, ServingError, Stopping
from serving.health import Health
from serving.loading import Load, registry_dir
from serving.metrics import Metrics
from serving.settings import Settings

__all__ = ["Canary"]

SECONDS = 3.0  # for one text, queue included; a canary that takes longer has failed


class Canary:
    """Has a queue of its own: what waits for the canary holds up nobody else."""

    def __init__(
        self,
        settings: Settings,
        load: Load,
        limits: Limits,
        health: Health,
        metrics: Metrics,
        recall: Recall,
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self._share: Share | None = None
        self._standby = Standby("canary", settings, load, self._wanted, health, metrics)
        own = replace(limits, workers=1, batch_seconds=min(SECONDS, limits.batch_seconds))
        self._batcher = Batcher(self._standby.asked, own, metrics, lane="canary", recall=recall)
        self._begun = False

    @property
    def version(self) -> str:
        """The version that answers; empty where none does."""
        model = self._standby.model
        return model.version if model else ""

    @property
    def idle(self) -> bool:
        """Whether nothing waits for it and it does nothing."""
        return self._batcher.idle

    def look(self) -> None:
        """Load what the registry's pointer names, or let go."""
        self._standby.look()

    async def stop(self, grace: float) -> None:
        """Answer what it has for at most `grace` seconds."""
        if self._begun:
            await self._batcher.stop(grace)

    async def answer(self, understood: Understood, deadline: float) -> Classified | None:
        """The canary's prediction for an appeal that is its; None where the champion is to answer.

        `deadline` is on the monotonic clock; the champion keeps half of the time until then.
        """
        if not self._takes(understood):
            return None
        self._begin()
        left = min(SECONDS, (deadline - time.monotonic()) / 2)
        request = Request(understood.prepared.text)  # another tokenizer than the champion's
        try:
            async with asyncio.timeout(left):
                [found] = await self._batcher.classify([request], deadline)
        except (ServingError, TimeoutError) as error:
            if not isinstance(error, Overloaded | Stopping):
                self._standby.failed(type(error).__name__)
            self._metrics.canary_texts.labels("left_to_champion").inc()
            return None
        self._standby.worked()
        self._metrics.canary_texts.labels("answered").inc()
        return found

    def _takes(self, understood: Understood) -> bool:
        share, id = self._share, understood.asked.id
        if share is None or id is None or understood.urgent or self._standby.model is None:
            return False
        return share.takes(id)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._batcher.start()

    def _wanted(self) -> str:
        folder = registry_dir(self._settings)
        try:
            share = Registry(folder).canary() if folder else None
        except RegistryError:
            self._share = None  # where the pointer cannot be read nobody is the canary's
            raise
        self._share = share  # set once it is read: appeals are answered meanwhile
        return share.version if share else ""
