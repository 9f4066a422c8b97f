"""The store of reviewing: queues, leases, corrections, and what follows from them.

Thread-safe; on SQLite and PostgreSQL. Moments are given by the caller and carry their zone. Reviewers
are named by the caller (`user:NAME`); who may do what is serving's to decide. Whatever a person said is
a new row; nothing is changed but a lease's end. A request carries a token of the client: sent twice, it
writes once. Labels under older versions of the label scheme are read in the codes of the newest recorded
one, unless a `reading` says otherwise (data.scheme_history). Raises ReviewError (AppealUnknown,
LeaseLost, LabelsRefused, ReviewConflict) and StoreError.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select

from data import embeddings
from data.database import Database, alone
from data.errors import LeaseLost, ReviewConflict
from data.in_force import AppealLabels, Correction, InForce, Reading, in_force, live
from data.progress import Progress
from data.queues import Rules, change_rules, latest_rules
from data.review_tables import corrections
from data.reviews import bulk, figures, inputs, views
from data.reviews.corrections import (
    Saying,
    check_labels,
    kind_of,
    said,
    said_at,
    said_before,
    withdraw,
    write,
)
from data.reviews.figures import AuditSlice, Opinion, QueueProgress, Seconds, Throughput
from data.reviews.inputs import NewAnswer
from data.reviews.leases import Lease, end_lease, extend, hold, lease_of, release_all, take_next
from data.reviews.records import (
    BulkPreview,
    Done,
    Event,
    Filters,
    Flag,
    Leased,
    ReviewAppeal,
    Suspicion,
)
from data.scheme import Scheme
from data.scheme_history import reading_under
from data.store_tables import appeals

__all__ = ["ReviewStore"]

MINUTES = 15.0
NO_FILTERS = Filters()


class ReviewStore:
    """Reviews in a database that `Database.migrate` has brought to the newest version."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- rules ----------------------------------------------------------------------------------

    def rules(self) -> Rules:
        """What holds for appeals that are stored now: audit share, double-review share, urgency levels."""
        with self.database.connect() as connection:
            return latest_rules(connection)

    def set_rules(
        self,
        by: str,
        *,
        now: datetime,
        audit_share: float | None = None,
        double_share: float | None = None,
        urgency_levels: Sequence[str] | None = None,
    ) -> Rules:
        """Set what is given, for appeals stored from now on. Shares lie in [0, 1]; levels go upwards.

        The service calls it at its start with the scheme's urgency levels; what is so already writes nothing.
        """
        with self._alone() as connection:
            return change_rules(connection, by, now, audit_share, double_share, urgency_levels)

    # --- leases ---------------------------------------------------------------------------------

    def take(
        self,
        queue: str,
        reviewer: str,
        *,
        now: datetime,
        minutes: float = MINUTES,
        filters: Filters = NO_FILTERS,
        holding: Collection[int] = (),
    ) -> Leased | None:
        """The next appeal of a queue, leased to this reviewer alone; None: nothing waits for them.

        `holding`: numbers of leases that the page has before it (or fetched ahead) already; another open
        lease of the reviewer and queue is handed out again before a new one, so that a lost answer or a
        page that was loaded anew loses nothing. Release what is held before other filters are used.
        """
        with self._alone() as connection:
            lease = take_next(connection, queue, reviewer, filters, holding, minutes, now)
            return None if lease is None else _leased(connection, lease)

    def take_appeal(
        self, id: str, reviewer: str, *, now: datetime, minutes: float = MINUTES, queue: str = ""
    ) -> Leased:
        """This very appeal, waiting or not (history, search, look-alikes). LeaseLost while another has it."""
        with self._alone() as connection:
            number = views.appeal_by_id(connection, id).number
            return _leased(connection, hold(connection, number, queue, reviewer, minutes, now))

    def extend(self, lease: int, reviewer: str, *, now: datetime, minutes: float = MINUTES) -> datetime:
        """Keep an open lease from now on for `minutes`; until when it holds. LeaseLost once it has ended."""
        with self._alone() as connection:
            row = _still_open(lease_of(connection, lease, reviewer), now)
            until: datetime = extend(connection, row, minutes, now).expires_at
            return until

    def release(self, lease: int, reviewer: str, *, now: datetime) -> None:
        """Give an appeal back unanswered; it goes to whoever comes next. An ended lease is fine."""
        with self._alone() as connection:
            row = lease_of(connection, lease, reviewer)
            if row.ended_at is None:
                end_lease(connection, row, "released", now)

    def release_all(self, reviewer: str, *, now: datetime) -> int:
        """Give back all that a reviewer holds (at logout); how many."""
        with self._alone() as connection:
            return release_all(connection, reviewer, now)

    def skip(self, lease: int, reviewer: str, reason: str, *, now: datetime, seconds: float = 0.0) -> None:
        """Pass on an appeal, saying why: it goes to others and does not come back to this reviewer."""
        with self._alone() as connection:
            row = lease_of(connection, lease, reviewer)
            if row.outcome == "done":
                raise ReviewConflict(
                    "expected an appeal that is not answered yet, got one that is; undo it first"
                )
            end_lease(connection, row, "skipped", now, reason=reason, seconds=seconds)

    # --- corrections ----------------------------------------------------------------------------

    def correct(
        self,
        lease: int,
        reviewer: str,
        labels: Mapping[str, str],
        shown: Mapping[str, str],
        *,
        scheme: Scheme,
        token: str,
        now: datetime,
        model_version: str = "",
        comment: str = "",
        seconds: float = 0.0,
    ) -> Done:
        """What the reviewer says, head → code ("": the text does not tell), against what they were shown.

        Also taken after the lease expired: work is never thrown away. All rows or none.
        """
        saying = Saying(reviewer, token, now, scheme.version, "page", model_version, comment, seconds, lease)
        check_labels(scheme, labels)
        with self._alone() as connection:
            row = lease_of(connection, lease, reviewer)
            rows = {head: kind_of(code, shown.get(head, "")) for head, code in labels.items()}
            wanted = {(row.appeal_number, head): code for head, code in labels.items()}
            if earlier := said_before(connection, saying, wanted):
                return Done(earlier, again=True)
            end_lease(connection, row, "done", now, seconds=seconds)
            new = [
                saying.row(row.appeal_number, head, labels[head], shown.get(head, ""), kind)
                for head, kind in rows.items()
            ]
            return Done(write(connection, saying, new))

    def adjudicate(
        self,
        id: str,
        lead: str,
        labels: Mapping[str, str],
        *,
        scheme: Scheme,
        token: str,
        now: datetime,
        lease: int | None = None,
        shown: Mapping[str, str] | None = None,
        comment: str = "",
        seconds: float = 0.0,
    ) -> Done:
        """A lead decides: these labels are in force until a later adjudication, whatever reviewers say."""
        saying = Saying(lead, token, now, scheme.version, "page", "", comment, seconds, lease)
        check_labels(scheme, labels)
        with self._alone() as connection:
            number = views.appeal_by_id(connection, id).number
            if earlier := said_before(
                connection, saying, {(number, head): code for head, code in labels.items()}
            ):
                return Done(earlier, again=True)
            if lease is not None:
                end_lease(connection, lease_of(connection, lease, lead), "done", now, seconds=seconds)
            rows = [
                saying.row(number, head, code, (shown or {}).get(head, ""), "adjudicated")
                for head, code in labels.items()
            ]
            return Done(write(connection, saying, rows))

    def undo(
        self, lease: int, reviewer: str, *, token: str, now: datetime, minutes: float = MINUTES
    ) -> Leased:
        """Take back what was last said (or skipped) under a lease, and have the appeal again."""
        with self._alone() as connection:
            row = lease_of(connection, lease, reviewer)
            if not said_at(connection, reviewer, token):
                words = said(connection, [row.appeal_number]).get(row.appeal_number, [])
                mine = [
                    word for word in live(words) if word.lease_number == lease and word.reviewer == reviewer
                ]
                last = [word for word in mine if word.token == mine[-1].token]
                withdraw(connection, Saying(reviewer, token, now, "", lease=lease), last)
            return _leased(connection, hold(connection, row.appeal_number, row.queue, reviewer, minutes, now))

    def withdraw(self, said_under: str, reviewer: str, *, token: str, now: datetime) -> Done:
        """Take back all that this reviewer said under an earlier token, such as a bulk label."""
        with self._alone() as connection:
            if earlier := said_at(connection, reviewer, token):
                return Done(tuple(earlier), again=True)
            rows = said_at(connection, reviewer, said_under)
            if not rows:
                raise ReviewConflict(
                    f"expected a token under which {reviewer} said something, got '{said_under}'"
                )
            return Done(withdraw(connection, Saying(reviewer, token, now, ""), rows))

    def preview_bulk(
        self, ids: Sequence[str], head: str, code: str, *, reviewer: str, scheme: Scheme, final: bool = False
    ) -> BulkPreview:
        """What would change if this reviewer gave all these appeals (at most 1,000) one label.

        `final`: a lead decides, as by `adjudicate`.
        """
        with self.database.connect() as connection:
            return bulk.preview(connection, ids, bulk.Wish(head, code, reviewer, final), scheme)

    def bulk(
        self,
        ids: Sequence[str],
        head: str,
        code: str,
        *,
        reviewer: str,
        scheme: Scheme,
        token: str,
        fingerprint: str,
        now: datetime,
        comment: str = "",
        final: bool = False,
    ) -> Done:
        """Do what the preview with this fingerprint showed. ReviewConflict when labels changed since."""
        saying = Saying(reviewer, token, now, scheme.version, "bulk", comment=comment)
        wish = bulk.Wish(head, code, reviewer, final)
        with self._alone() as connection:
            return bulk.label_all(connection, ids, wish, scheme, saying, fingerprint)

    # --- flags ----------------------------------------------------------------------------------

    def flag(
        self, id: str, reviewer: str, spans: Sequence[tuple[int, int]], *, now: datetime
    ) -> tuple[Flag, ...]:
        """Flag characters [start, end) of the stored text as personal data; all flags of the appeal.

        From then on the text is handed out, and exported, with these characters covered.
        """
        with self._alone() as connection:
            return views.add_flags(connection, id, reviewer, spans, now)

    def unflag(self, flag: int, reviewer: str, *, now: datetime) -> None:
        """Take a flag back (a new row); twice is fine."""
        with self._alone() as connection:
            views.remove_flag(connection, flag, reviewer, now)

    def erase_flagged(self, before: datetime) -> int:
        """Cover in the stored texts themselves what was flagged before a moment, for good; how many texts."""
        with self._alone() as connection:
            return views.erase_flagged(connection, before)

    # --- looking --------------------------------------------------------------------------------

    def appeal(self, id: str) -> ReviewAppeal:
        """An appeal with its answers and flags."""
        with self.database.connect() as connection:
            return views.appeal_by_id(connection, id)

    def appeals(self, numbers: Sequence[int]) -> list[ReviewAppeal]:
        """Appeals in the order of their numbers as given; unknown ones are left out."""
        with self.database.connect() as connection:
            return views.appeals_by_number(connection, numbers)

    def history(self, id: str) -> tuple[Event, ...]:
        """Everything that happened to an appeal, in order: who, when, from, to, why, which model, seconds."""
        with self.database.connect() as connection:
            return views.history(connection, id)

    def labels_of(
        self, numbers: Sequence[int], reading: Reading | None = None
    ) -> dict[int, dict[str, InForce]]:
        """The labels in force of some appeals: number → head → label; appeals without any are left out."""
        with self.database.connect() as connection:
            words, read_by = said(connection, numbers), reading or reading_under(connection)
        return {number: labels for number, some in words.items() if (labels := in_force(some, read_by))}

    def labels_in_force(
        self, *, at: datetime | None = None, through: int | None = None, reading: Reading | None = None
    ) -> Iterator[AppealLabels]:
        """The labels of all appeals, by appeal number, as they stand now, stood at a moment (inclusive), or
        stood when the correction numbered `through` had been written. Streams; memory does not grow.
        """
        query = select(corrections).order_by(corrections.c.appeal_number, corrections.c.number)
        if at is not None:
            query = query.where(corrections.c.created_at <= at)
        if through is not None:
            query = query.where(corrections.c.number <= through)
        with self.database.connect() as connection:
            rows = connection.execute(query, execution_options={"yield_per": 1000}).mappings()
            words, read_by = (Correction(**row) for row in rows), reading or reading_under(connection)
            for number, some in groupby(words, key=lambda word: word.appeal_number):
                if labels := in_force(some, read_by):
                    yield AppealLabels(number, labels)

    def corrections_after(self, number: int, limit: int = 1000) -> list[Correction]:
        """Rows with a higher number, in order: for whoever follows along (start with 0)."""
        query = (
            select(corrections)
            .where(corrections.c.number > number)
            .order_by(corrections.c.number)
            .limit(limit)
        )
        with self.database.connect() as connection:
            return [Correction(**row) for row in connection.execute(query).mappings()]

    def last_correction(self) -> int:
        """The highest number of a correction; 0 without any."""
        with self.database.connect() as connection:
            return int(connection.execute(select(func.max(corrections.c.number))).scalar() or 0)

    # --- what programs add ----------------------------------------------------------------------

    def suspect(self, queue: str, found: Sequence[Suspicion], source: str, *, now: datetime) -> None:
        """Put appeals into `suspected` (probably wrong labels) or `disagreement` (look-alikes say otherwise).

        A later suspicion of an appeal replaces its earlier one in the queue.
        """
        with self._alone() as connection:
            inputs.suspect(connection, queue, found, source, now)

    def add_answers(self, new: Sequence[NewAnswer]) -> int:
        """Store what other model versions answered; how many are new.

        What a version answered to an appeal before stays. Contradictions enter the disagreement queue.
        """
        with self._alone() as connection:
            return inputs.add_answers(connection, new)

    def add_embeddings(self, model_version: str, vectors: Mapping[int, bytes]) -> None:
        """Store vectors (float16 bytes) of a model version by appeal number; those that are there stay."""
        with self.database.begin() as connection:
            embeddings.add_embeddings(connection, model_version, vectors)

    def embeddings(
        self, model_version: str, *, after: int = 0, limit: int = 1000, labelled: bool = False
    ) -> list[tuple[int, bytes]]:
        """(appeal number, float16 bytes) above `after`, in order; `labelled`: only corrected ones."""
        with self.database.connect() as connection:
            return embeddings.page(connection, model_version, after, limit, labelled)

    def vectors_of(self, model_version: str, numbers: Sequence[int]) -> dict[int, bytes]:
        """float16 bytes by appeal number, for at most some hundreds; those without a vector are left out."""
        with self.database.connect() as connection:
            return embeddings.vectors_of(connection, model_version, numbers)

    def rebuild_queues(self, told: Progress = lambda what, done, total: None) -> int:
        """Make all queues anew from the other tables; how many appeals were looked at.

        Needed once for appeals stored by a version without queues. Reviewing goes on meanwhile.
        """
        with self.database.connect() as connection:
            last = connection.execute(select(func.max(appeals.c.number))).scalar() or 0
        seen = 0
        for first in range(1, last + 1, inputs.AT_ONCE):
            until = min(first + inputs.AT_ONCE - 1, last)
            with self._alone() as connection:
                seen += inputs.refresh_range(connection, first, until)
            told("queues", until, last)
        return seen

    # --- figures for leads ----------------------------------------------------------------------

    def progress(self, since: datetime, until: datetime) -> tuple[QueueProgress, ...]:
        """Every queue: what waits and what is held now, what was done and skipped in [since, until)."""
        with self.database.connect() as connection:
            return figures.progress(connection, since, until)

    def throughput(self, since: datetime, until: datetime, zone: ZoneInfo) -> tuple[Throughput, ...]:
        """Appeals and labels per reviewer and day of the zone, in [since, until)."""
        with self.database.connect() as connection:
            return figures.throughput(connection, since, until, zone)

    def opinions(self, since: datetime, until: datetime) -> list[Opinion]:
        """(appeal, head, reviewer, code) of appeals labelled in [since, until): to compare reviewers."""
        with self.database.connect() as connection:
            return list(figures.opinions(connection, since, until))

    def audit_slice(self, since: datetime, until: datetime, reading: Reading | None = None) -> AuditSlice:
        """The random slice of appeals received in [since, until): answer against label, with weights."""
        with self.database.connect() as connection:
            return figures.audit_slice(connection, since, until, reading or reading_under(connection))

    def seconds_per_appeal(self, since: datetime, until: datetime) -> tuple[Seconds, ...]:
        """How long each appeal took that was done under a lease in [since, until)."""
        with self.database.connect() as connection:
            return figures.seconds_per_appeal(connection, since, until)

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        with self.database.begin() as connection:
            alone(connection, "reviews")
            yield connection


def _leased(connection: Connection, lease: Lease) -> Leased:
    [appeal] = views.appeals_by_number(connection, [lease.appeal_number])
    return Leased(lease.number, lease.reviewer, lease.queue, lease.taken_at, lease.expires_at, appeal)


def _still_open(lease: Lease, now: datetime) -> Lease:
    if lease.ended_at is not None or lease.expires_at <= now:
        raise LeaseLost(
            f"expected an open lease, got number {lease.number}, which ended; take the appeal again"
        )
    return lease
