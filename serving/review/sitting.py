"""One reviewer's request at the database: who asks, when, and in the codes of which label scheme.

Methods run in a thread. They raise ReviewError and StoreError, and what serving.review.refusals raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from data.database import Database
from data.errors import LeaseLost, ReviewConflict
from data.reviews import BulkPreview, Done, Event, Filters, Flag, InForce, Leased, ReviewAppeal, ReviewStore
from data.reviews.standing import Standing, appeal_under, appeals_by_id, first_waiting, standing
from serving.errors import Fault, ReviewRefused
from serving.review.asking import AdjudicationIn, BulkIn, CorrectionIn, PreviewIn
from serving.review.naming import Names
from serving.review.refusals import check_spans, held_by_another, stale_preview, unknown_appeals
from serving.review.tasks import Seen, codes_shown

__all__ = ["Reviewer", "Sitting"]


@dataclass(frozen=True)
class Reviewer:
    """Who reviews, as corrections name them, and whether they lead."""

    name: str
    lead: bool


@dataclass(frozen=True)
class Sitting:
    """`now` is the moment of the request, `minutes` how long a lease holds."""

    reviewer: Reviewer
    names: Names
    now: datetime
    minutes: float

    # --- looking --------------------------------------------------------------------------------

    def take(self, database: Database, queue: str, filters: Filters, holding: Sequence[int]) -> Seen | None:
        """The next appeal of a queue, leased; None: nothing waits."""
        lease = ReviewStore(database).take(
            queue,
            self.reviewer.name,
            now=self.now,
            minutes=self.minutes,
            filters=filters,
            holding=holding,
        )
        return None if lease is None else self._seen(database, lease.appeal, lease)

    def take_this(self, database: Database, id: str) -> Seen:
        """This very appeal, leased. Raises LeaseGone while others have it."""
        store = ReviewStore(database)
        try:
            lease = store.take_appeal(id, self.reviewer.name, now=self.now, minutes=self.minutes)
        except LeaseLost as error:
            raise held_by_another() from error
        return self._seen(database, lease.appeal, lease)

    def look(self, database: Database, id: str) -> Seen:
        """An appeal without a lease."""
        return self._seen(database, ReviewStore(database).appeal(id), None)

    def history(self, database: Database, id: str) -> tuple[Seen, tuple[Event, ...]]:
        """An appeal, and everything that happened to it."""
        return self.look(database, id), ReviewStore(database).history(id)

    def _seen(self, database: Database, appeal: ReviewAppeal, lease: Leased | None) -> Seen:
        stands = self._stands(database, appeal)
        return Seen(appeal, stands, lease, stands.blind and not self.reviewer.lead)

    def _stands(self, database: Database, appeal: ReviewAppeal) -> Standing:
        return standing(database, appeal.number, self.reviewer.name, self.names.scheme.version)

    # --- saying ---------------------------------------------------------------------------------

    def correct(self, database: Database, lease: int, said: CorrectionIn) -> Done:
        """What the reviewer says of the appeal they have under a lease."""
        appeal = appeal_under(database, lease, self.reviewer.name)
        return ReviewStore(database).correct(
            lease,
            self.reviewer.name,
            said.labels,
            self._shown(database, appeal, said.shown_version),
            scheme=self.names.scheme,
            token=said.token,
            now=self.now,
            model_version=said.shown_version,
            comment=said.comment,
            seconds=said.seconds,
        )

    def adjudicate(self, database: Database, id: str, said: AdjudicationIn) -> Done:
        """What a lead decides."""
        store = ReviewStore(database)
        return store.adjudicate(
            id,
            self.reviewer.name,
            said.labels,
            scheme=self.names.scheme,
            token=said.token,
            now=self.now,
            lease=said.lease,
            shown=self._shown(database, store.appeal(id), said.shown_version),
            comment=said.comment,
            seconds=said.seconds,
        )

    def undo(self, database: Database, lease: int, token: str) -> Seen:
        """Take back what was last said, or skipped, under a lease; the appeal again."""
        store = ReviewStore(database)
        leased = store.undo(lease, self.reviewer.name, token=token, now=self.now, minutes=self.minutes)
        return self._seen(database, leased.appeal, leased)

    def _shown(self, database: Database, appeal: ReviewAppeal, version: str) -> dict[str, str]:
        """What the page showed, head → code: never what the client says it showed."""
        if not version:
            return {}
        shown = codes_shown(appeal, version, self.names, self._stands(database, appeal))
        if shown is None:
            fault = Fault(
                "shown_version", "这个模型版本没有答复过这条诉求", "任务中的 shown_version", version[:80]
            )
            raise ReviewRefused([fault])
        return shown

    # --- many at once ---------------------------------------------------------------------------

    def preview(self, database: Database, wish: PreviewIn) -> tuple[BulkPreview, dict[str, str]]:
        """What would change, and the texts by id. Raises UnknownAppeal that names every id without one."""
        appeals = appeals_by_id(database, wish.ids)
        unknown = [id for id in dict.fromkeys(wish.ids) if id not in appeals]
        if unknown:
            raise unknown_appeals(unknown)
        plan = ReviewStore(database).preview_bulk(
            wish.ids,
            wish.head,
            wish.code,
            reviewer=self.reviewer.name,
            scheme=self.names.scheme,
            final=wish.final,
        )
        return plan, {id: appeal.text for id, appeal in appeals.items()}

    def bulk(self, database: Database, wish: BulkIn) -> Done:
        """Do what the preview showed. Raises ReviewClash when it is stale."""
        try:
            return ReviewStore(database).bulk(
                wish.ids,
                wish.head,
                wish.code,
                reviewer=self.reviewer.name,
                scheme=self.names.scheme,
                token=wish.token,
                fingerprint=wish.fingerprint,
                now=self.now,
                comment=wish.comment,
                final=wish.final,
            )
        except ReviewConflict as error:
            raise stale_preview() from error

    def disputes(self, database: Database, limit: int) -> list[tuple[ReviewAppeal, dict[str, InForce]]]:
        """Appeals whose labels in force are disputed, with those labels, the oldest dispute first."""
        store = ReviewStore(database)
        numbers = first_waiting(database, "disputed", limit)
        labels = store.labels_of(numbers)
        return [
            (appeal, {head: one for head, one in labels[appeal.number].items() if one.state == "disputed"})
            for appeal in store.appeals(numbers)
            if appeal.number in labels
        ]

    # --- flags ----------------------------------------------------------------------------------

    def flag(self, database: Database, id: str, spans: Sequence[tuple[int, int]]) -> tuple[Flag, ...]:
        """Flag characters of the text as personal data; all flags of the appeal."""
        store = ReviewStore(database)
        check_spans(store.appeal(id).text, spans)
        return store.flag(id, self.reviewer.name, spans, now=self.now)
