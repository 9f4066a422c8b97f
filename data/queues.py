"""In which queues an appeal waits, and when its turn comes.

urgent        what a person must look at (not dispatched automatically, or above the lowest urgency), the
              most urgent first, then the oldest
uncertain     every appeal, the least certain first (`Suggested.uncertainty`)
disagreement  answers of several model versions, or answer and corrected look-alikes, contradict each other
suspected     labels that a program holds for wrong, the worst first; also after a person labelled them
audit         a random slice of all appeals, whatever was decided: by a keyed hash of the id. The oldest
              day first, within a day the lowest hash first, so that what is done of a day is itself random
disputed      reviewers disagree and no lead has decided, the oldest dispute first

`queue_keys` holds a row per queue and waiting appeal; a row goes when enough people have said something.
All of it follows from other tables: `keys_of` derives it, `refresh` renews it for some appeals.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from data.appeals import Place
from data.errors import ReviewError
from data.in_force import Correction, Reading, in_force, live
from data.review_tables import audit_members, corrections, queue_keys, review_rules, suspicions
from data.scheme_history import reading_under
from data.store_tables import answers, appeals
from data.suggestions import Suggested, disagreement, read_answer

__all__ = [
    "QUEUES", "Entering", "Rules", "audit_slot", "change_rules", "enter", "keys_of", "latest_rules",
    "refresh", "refresh_members", "reviewers_wanted", "rules_at", "rules_history",
]  # fmt: skip

QUEUES = ("urgent", "uncertain", "disagreement", "suspected", "audit", "disputed")
AGE = 1e10  # more than any moment in seconds: urgency comes before age
DAY = 86_400


@dataclass(frozen=True)
class Rules:
    """What the operator set: shares in [0, 1], and the urgency levels, the lowest first.

    They hold for appeals stored from `created_at` on.
    """

    audit_share: float
    double_share: float
    urgency_levels: tuple[str, ...]
    salt: str
    set_by: str
    created_at: datetime


@dataclass(frozen=True)
class Entering:
    """A stored appeal with the answers it got, as far as queues need them; the first answer counts."""

    number: int
    id: str
    place: Place
    received_at: datetime
    stored_at: datetime
    action: str
    urgency: str
    answers: tuple[Suggested, ...]


# --- rules ----------------------------------------------------------------------------------------


def latest_rules(connection: Connection) -> Rules:
    """The rules for appeals that are stored now."""
    newest = select(review_rules).order_by(review_rules.c.number.desc()).limit(1)
    return _rules(connection.execute(newest).one())


def rules_history(connection: Connection) -> list[Rules]:
    """All rules that ever held, the oldest first."""
    return [_rules(row) for row in connection.execute(select(review_rules).order_by(review_rules.c.number))]


def change_rules(
    connection: Connection,
    by: str,
    now: datetime,
    audit_share: float | None,
    double_share: float | None,
    urgency_levels: Sequence[str] | None,
) -> Rules:
    """Set what is given; what is so already writes nothing. Raises ReviewError for a share out of [0, 1]."""
    for name, share in (("audit_share", audit_share), ("double_share", double_share)):
        if share is not None and not 0 <= share <= 1:
            raise ReviewError(f"expected {name} from 0 to 1, got {share}")
    old = latest_rules(connection)
    given: dict[str, Any] = {"audit_share": audit_share, "double_share": double_share}
    if urgency_levels is not None:
        given |= {"urgency_levels": tuple(urgency_levels)}
    new = replace(old, **{name: value for name, value in given.items() if value is not None})
    if new == old:
        return old
    changed = replace(new, set_by=by, created_at=now)
    _add_rules(connection, changed)
    return changed


def _add_rules(connection: Connection, rules: Rules) -> None:
    row = {
        "audit_share": rules.audit_share,
        "double_share": rules.double_share,
        "salt": rules.salt,
        "urgency_levels": json.dumps(rules.urgency_levels, ensure_ascii=False),
        "set_by": rules.set_by,
        "created_at": rules.created_at,
    }
    connection.execute(insert(review_rules).values(row))


def _rules(row: Row[Any]) -> Rules:
    levels = tuple(json.loads(row.urgency_levels))
    return Rules(row.audit_share, row.double_share, levels, row.salt, row.set_by, row.created_at)


def rules_at(history: Sequence[Rules], moment: datetime) -> Rules:
    """Those that held at a moment; the first ones for what is older."""
    return next((rules for rules in reversed(history) if rules.created_at <= moment), history[0])


def audit_slot(rules: Rules, id: str) -> float:
    """Where an id falls in [0, 1): below the audit share it is audited. Nobody without the salt can tell."""
    return _slot(rules.salt, "audit", id)


def reviewers_wanted(rules: Rules, id: str) -> int:
    """Two different ones for the double-review share, else one."""
    return 2 if _slot(rules.salt, "double", id) < rules.double_share else 1


def _slot(salt: str, what: str, id: str) -> float:
    digest = hmac.digest(salt.encode(), f"{what} {id}".encode(), hashlib.sha256)
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # 53 bits: what a float holds exactly


# --- keys -----------------------------------------------------------------------------------------


def enter(connection: Connection, new: Iterable[Entering]) -> None:
    """Put appeals that were stored just now into their queues; one read, one write for all of them."""
    rules = latest_rules(connection)
    entering = list(new)
    rows = [row for appeal in entering for row in _first_keys(appeal, rules)]
    if rows:
        connection.execute(insert(queue_keys), rows)
    members = [row for appeal in entering for row in _memberships(appeal, rules)]
    if members:
        connection.execute(insert(audit_members), members)


def refresh_members(connection: Connection, numbers: Sequence[int]) -> None:
    """Renew who is in the audit slice, by the rules that held when each of these appeals was stored."""
    history = rules_history(connection)
    stored = _stored(connection, numbers)
    members = [row for one in stored for row in _memberships(one, rules_at(history, one.stored_at))]
    connection.execute(delete(audit_members).where(audit_members.c.appeal_number.in_(numbers)))
    if members:
        connection.execute(insert(audit_members), members)


def refresh(connection: Connection, numbers: Sequence[int]) -> None:
    """Renew the rows of some appeals after anything was said or found about them."""
    rows = keys_of(connection, numbers)
    connection.execute(delete(queue_keys).where(queue_keys.c.appeal_number.in_(numbers)))
    if rows:
        connection.execute(insert(queue_keys), rows)


def keys_of(connection: Connection, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """The rows that these appeals (a few hundred at most) should have, derived from all other tables."""
    history, reading = rules_history(connection), reading_under(connection)
    said = _by_appeal(connection, corrections, numbers)
    found = _by_appeal(connection, suspicions, numbers)
    rows: list[dict[str, Any]] = []
    for appeal in _stored(connection, numbers):
        words = [Correction(**row) for row in said.get(appeal.number, [])]
        rules = rules_at(history, appeal.stored_at)
        rows += _open(_first_keys(appeal, rules) + _contradicted(appeal, rules, found), words)
        rows += _open(_suspected(appeal, found), words)
        rows += _disputed(appeal, words, reading)
    return rows


def _first_keys(appeal: Entering, rules: Rules) -> list[dict[str, Any]]:
    first = appeal.answers[0] if appeal.answers else Suggested({})
    wanted = reviewers_wanted(rules, appeal.id)
    turns = {"uncertain": -first.uncertainty}
    rank = _rank(appeal, first, rules)
    if rank > 0 or appeal.action != "auto_dispatch":
        turns["urgent"] = appeal.received_at.timestamp() - rank * AGE
    slot = audit_slot(rules, appeal.id)
    if slot < rules.audit_share:
        turns["audit"] = _day(appeal.received_at) + slot
    return [_key(appeal, queue, turn, wanted, appeal.stored_at) for queue, turn in turns.items()]


def _memberships(appeal: Entering, rules: Rules) -> list[dict[str, Any]]:
    slot = audit_slot(rules, appeal.id)
    if slot >= rules.audit_share:
        return []
    row = {"appeal_number": appeal.number, "received_at": appeal.received_at}
    return [{**row, "slot": slot, "share": rules.audit_share}]


def _rank(appeal: Entering, first: Suggested, rules: Rules) -> int:
    """0 for the lowest level; a level nobody knows may be anything, so it goes with the highest."""
    levels = rules.urgency_levels
    if first.at_once:
        return len(levels)
    if appeal.urgency in ("", *levels[:1]):
        return 0
    return levels.index(appeal.urgency) if appeal.urgency in levels else len(levels) - 1


def _contradicted(
    appeal: Entering, rules: Rules, found: Mapping[int, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    noted = [one["score"] for one in found.get(appeal.number, []) if one["queue"] == "disagreement"]
    score = max([disagreement(appeal.answers), *noted[-1:]])
    if score <= 0:
        return []
    wanted = reviewers_wanted(rules, appeal.id)
    return [_key(appeal, "disagreement", -score, wanted, appeal.stored_at)]


def _suspected(appeal: Entering, found: Mapping[int, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    latest = [one for one in found.get(appeal.number, []) if one["queue"] == "suspected"][-1:]
    return [_key(appeal, "suspected", -one["score"], 1, one["created_at"]) for one in latest]


def _disputed(appeal: Entering, words: Sequence[Correction], reading: Reading) -> list[dict[str, Any]]:
    disputes = [label for label in in_force(words, reading).values() if label.state == "disputed"]
    if not disputes:
        return []
    began = min(label.decided_at for label in disputes)
    return [_key(appeal, "disputed", began.timestamp(), 1, began)]


def _open(keys: list[dict[str, Any]], words: Sequence[Correction]) -> list[dict[str, Any]]:
    """Those for which fewer people than wanted have said something since they were opened."""
    standing = live(words)
    kept = []
    for key in keys:
        # An appeal's own keys are closed by any word; a suspicion only by one that is newer.
        since = key["opened_at"] if key["queue"] == "suspected" else datetime.min.replace(tzinfo=UTC)
        heard = [word for word in standing if word.created_at > since]
        decided = any(word.kind == "adjudicated" for word in heard)
        missing = key["wanted"] - len({word.reviewer for word in heard})
        if missing > 0 and not decided:
            kept.append({**key, "missing": missing})
    return kept


def _key(appeal: Entering, queue: str, turn: float, wanted: int, opened_at: datetime) -> dict[str, Any]:
    return {
        "queue": queue,
        "appeal_number": appeal.number,
        "turn": turn,
        "wanted": wanted,
        "missing": wanted,
        "category": appeal.answers[0].code("category") if appeal.answers else "",
        "district": appeal.place.district,
        "street": appeal.place.street,
        "community": appeal.place.community,
        "day": _day(appeal.received_at),
        "received_at": appeal.received_at,
        "opened_at": opened_at,
    }


def _day(moment: datetime) -> int:
    return int(moment.timestamp() // DAY)


# --- reading --------------------------------------------------------------------------------------


def _stored(connection: Connection, numbers: Sequence[int]) -> list[Entering]:
    told = _by_appeal(connection, answers, numbers)
    query = select(appeals).where(appeals.c.number.in_(numbers)).order_by(appeals.c.number)
    return [_entering(row, told.get(row.number, [])) for row in connection.execute(query)]


def _entering(row: Row[Any], told: list[dict[str, Any]]) -> Entering:
    return Entering(
        number=row.number,
        id=row.id,
        place=Place(row.city, row.district, row.street, row.community, row.grid),
        received_at=row.received_at,
        stored_at=row.stored_at,
        action=told[0]["action"] if told else "",
        urgency=told[0]["urgency"] if told else "",
        answers=tuple(read_answer(one["body"]) for one in told),
    )


def _by_appeal(connection: Connection, table: Any, numbers: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    query = select(table).where(table.c.appeal_number.in_(numbers)).order_by(table.c.number)
    found: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(query).mappings():
        found.setdefault(row["appeal_number"], []).append(dict(row))
    return found
