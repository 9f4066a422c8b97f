"""All that leads look at of a period, read at one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from data.database import Database
from data.in_force import Reading
from data.queues import Rules, latest_rules
from data.reviews import figures
from data.reviews.figures import AuditSlice, Corrected, Opinion, QueueProgress, Seconds, Throughput
from data.reviews.suspects import Suspected, suspected
from data.scheme import Scheme
from data.scheme_history import reading_under

__all__ = ["Overview", "appeals_by_head", "overview"]


@dataclass(frozen=True)
class Overview:
    """What was said and done in [since, until); queues as they are now. Codes read under one scheme."""

    rules: Rules
    queues: tuple[QueueProgress, ...]
    days: tuple[Throughput, ...]
    seconds: tuple[Seconds, ...]
    corrected: tuple[Corrected, ...]
    opinions: tuple[Opinion, ...]
    audit: AuditSlice
    suspected: tuple[Suspected, ...]
    reading: Reading


def overview(
    database: Database, since: datetime, until: datetime, zone: ZoneInfo, scheme: Scheme
) -> Overview:
    """Read a period; labels under other versions of the scheme are read under this one."""
    with database.connect() as connection:
        reading = reading_under(connection, scheme.version)
        return Overview(
            rules=latest_rules(connection),
            queues=figures.progress(connection, since, until),
            days=figures.throughput(connection, since, until, zone),
            seconds=figures.seconds_per_appeal(connection, since, until),
            corrected=figures.corrected(connection, since, until, zone),
            opinions=tuple(figures.opinions(connection, since, until)),
            audit=figures.audit_slice(connection, since, until, reading),
            suspected=suspected(connection, since, until, reading),
            reading=reading,
        )


def appeals_by_head(
    opinions: Sequence[Opinion], scheme: Scheme, reading: Reading
) -> Mapping[str, Mapping[int, Mapping[str, str]]]:
    """Head → appeal → reviewer → code as `head_agreement` takes it, in the scheme's order of heads.

    What leads decided is left out, and so is what is no single code of the scheme any more.
    """
    found: dict[str, dict[int, dict[str, str]]] = {head: {} for head in scheme.heads}
    for one in opinions:
        if one.adjudicated or one.head not in found:
            continue
        codes = reading(one.head, one.code, one.scheme_version) if one.code else frozenset({""})
        code = next(iter(codes)) if codes is not None and len(codes) == 1 else None
        if code is not None and (not code or code in scheme.labels[one.head]):
            found[one.head].setdefault(one.appeal_number, {})[one.reviewer] = code
    return found
