"""Keys, users, sessions, failed logins, originals and retention in the store itself, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import inspect, select

from data.access import Access, NewKey
from data.access_tables import logins
from data.appeals import Place
from data.audit import AuditLog
from data.database import Database
from data.errors import AccessError
from data.logins import count_login
from data.originals import Originals, Sealed
from data.purge import purge
from data.store import NewAppeal, Store
from data.store_tables import METADATA
from serving.security.throttling import subjects, wait

NOW = datetime(2031, 5, 4, 12, tzinfo=UTC)
IDLE = timedelta(hours=1)


def stored(
    id: str, *, days: int = 0, received: int | None = None, original: Sealed | None = None
) -> NewAppeal:
    """An appeal stored `days` ago, received then or at another time."""
    at = NOW - timedelta(days=days)
    came = at if received is None else NOW - timedelta(days=received)
    return NewAppeal(
        id=id, body_sha256="0" * 64, text="路灯坏了", place=Place(), channel="", declared_type="",
        received_at=came, answered_at=at, answer="{}", action="review", urgency="一般",
        model_version="m", scheme_version="s", taken_by="intake", original=original,
    )  # fmt: skip


def signed_in(access: Access, name: str, token: str, now: datetime = NOW) -> None:
    user = access.find_user(name)
    assert user is not None
    access.open_session(user, token, now, now + timedelta(hours=12), subjects(name, "10.0.0.1"))


def test_keys_are_kept_with_what_they_may(each_database: Database) -> None:
    access = Access(each_database)
    access.add_key(NewKey("abc", "1" * 64, "intake", frozenset({"review", "intake"})), "cli:x", NOW)
    access.add_key(NewKey("old", "2" * 64, "intake", frozenset({"intake"}), NOW), "cli:x", NOW)
    assert [key.prefix for key in access.all_keys()] == ["abc", "old"]
    (live,) = access.live_keys(NOW)
    assert live.scopes == {"review", "intake"}
    assert (live.created_at, live.last_used_at) == (NOW, None)
    access.keys_used({"abc": NOW})
    assert access.all_keys()[0].last_used_at == NOW
    access.revoke_key("abc", "cli:x", NOW)
    assert access.live_keys(NOW) == []
    for prefix in ("abc", "nobody"):
        with pytest.raises(AccessError, match="prefix"):
            access.revoke_key(prefix, "cli:x", NOW)


def test_a_refused_change_leaves_no_entry(each_database: Database) -> None:
    access = Access(each_database)
    access.add_user("ming", "hash", "reviewer", "cli:x", NOW)
    with pytest.raises(AccessError, match="taken"):
        access.add_user("ming", "hash", "lead", "cli:x", NOW)
    with pytest.raises(AccessError, match="users list"):
        access.disable_user("hong", "cli:x", NOW)
    assert [entry.action for entry in AuditLog(each_database).entries()] == ["user.created"]


def test_sessions_end_by_time_and_by_hand(each_database: Database) -> None:
    access = Access(each_database)
    access.add_user("ming", "hash", "reviewer", "cli:x", NOW)
    signed_in(access, "ming", "a" * 64)
    minute = timedelta(minutes=1)
    assert access.find_session("a" * 64, NOW + 59 * minute, IDLE) is not None
    assert access.find_session("a" * 64, NOW + 118 * minute, IDLE) is not None  # it was used meanwhile
    assert access.find_session("a" * 64, NOW + 178 * minute, IDLE) is None
    assert access.find_session("a" * 64, NOW + timedelta(hours=12), timedelta(days=9)) is None
    assert access.find_session("b" * 64, NOW, IDLE) is None
    signed_in(access, "ming", "b" * 64)
    access.end_session("b" * 64)
    access.end_session("b" * 64)
    assert access.find_session("b" * 64, NOW, IDLE) is None
    signed_in(access, "ming", "c" * 64, NOW + timedelta(days=1))  # sweeps out the expired one
    access.disable_user("ming", "cli:x", NOW)
    assert access.find_session("c" * 64, NOW + timedelta(days=1), IDLE) is None
    ended = [entry.details for entry in AuditLog(each_database).entries() if entry.action == "user.disabled"]
    assert ended == ['{"sessions_ended":1}']


def test_logins_are_counted_before_they_are_tried(each_database: Database) -> None:
    one = subjects("ming", "10.0.0.1")
    with ThreadPoolExecutor(10) as pool:
        waits = list(pool.map(lambda _: count_login(each_database, one, NOW, wait), range(10)))
    assert sorted(waits) == [0] * 5 + [2] * 5
    assert count_login(each_database, one, NOW + timedelta(seconds=2), wait) == 0
    assert count_login(each_database, one, NOW + timedelta(seconds=2), wait) == 4
    assert (
        count_login(each_database, one, NOW + timedelta(days=2), wait) == 0
    )  # a day of quiet: all forgotten


def test_a_login_forgets_its_own_failures_and_is_known(each_database: Database) -> None:
    access, one = Access(each_database), subjects("ming", "10.0.0.1")
    access.add_user("ming", "hash", "reviewer", "cli:x", NOW)
    for _ in range(4):
        count_login(each_database, one, NOW, wait)
    count_login(each_database, subjects("hong", "10.0.0.1"), NOW, wait)
    signed_in(access, "ming", "a" * 64)
    with each_database.connect() as connection:
        rows = {row.subject_sha256: row for row in connection.execute(select(logins))}
    pair, account, address = (rows[subject] for subject in one)
    assert (pair.failures, account.failures, address.failures) == (0, 0, 4)  # 5 from there, one taken back
    assert pair.known_until == NOW + timedelta(days=30) and account.known_until is None


def test_originals_are_read_and_sealed_anew(each_database: Database) -> None:
    store, originals = Store(each_database), Originals(each_database)
    store.add_many([stored(f"A-{n}", original=Sealed("old", f"{n}".encode())) for n in range(450)])
    store.add(stored("B-1"))
    assert originals.read("A-7", "user:ming") == Sealed("old", b"7")
    assert originals.read("B-1", "user:ming") is None
    assert dict(originals.count()) == {"old": 450}
    renew = lambda id, sealed: Sealed("new", sealed.body + id.encode())  # noqa: E731
    done = []
    while batch := originals.reseal("new", renew, "cli:x"):
        done.append(batch)
    assert sum(done) == 450 and len(done) > 1
    assert dict(originals.count()) == {"new": 450} and not originals.count(but="new")
    assert originals.read("A-7", "user:ming") == Sealed("new", b"7A-7")
    assert [entry.action for entry in AuditLog(each_database).entries()].count("original.read") == 2


def test_an_original_is_stored_with_its_appeal_or_not_at_all(each_database: Database) -> None:
    store = Store(each_database)
    first = stored("A-1", original=Sealed("key", b"first"))
    store.add(first)
    again, created = store.add(stored("A-1", original=Sealed("key", b"second")))
    assert not created and again.taken_by == "intake"
    assert Originals(each_database).read("A-1", "user:ming") == Sealed("key", b"first")


def test_purge_counts_what_it_deletes_and_keeps_the_rest(
    each_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.purge.BATCH", 7)
    store, sealed = Store(each_database), Sealed("key", b"x")
    store.add_many([stored(f"A-{n}", days=n, original=sealed if n % 2 else None) for n in range(40)])
    store.add(stored("late", days=0, received=100))  # received long ago, brought in today
    store.add(stored("wrong-clock", days=100, received=-9000))
    before, seen = NOW - timedelta(days=19, hours=12), list[int]()
    counted = purge(each_database, before, "cli:x", dry_run=True)
    assert store.find("A-39") is not None
    deleted = purge(each_database, before, "cli:x", on_batch=seen.append)
    assert deleted == counted
    assert (deleted["appeals"], deleted["answers"], deleted["appeal_originals"]) == (22, 22, 10)
    assert seen == [7, 14, 21, 22]
    left = store.find_many([*(f"A-{n}" for n in range(40)), "late", "wrong-clock"])
    assert sorted(left) == sorted(f"A-{n}" for n in range(20))
    entries = [(entry.action, entry.details) for entry in AuditLog(each_database).entries()]
    assert [action for action, _ in entries] == ["purge.started", "purge.done"]
    assert '"appeals":22' in entries[1][1]


def test_purge_knows_every_table_that_hangs_on_appeals(each_database: Database) -> None:
    inspector = inspect(each_database.engine)
    pointing = {
        table
        for table in inspector.get_table_names()
        for key in inspector.get_foreign_keys(table)
        if key["referred_table"] == "appeals"
    }
    assert pointing and pointing <= set(purge(each_database, NOW, "cli:x", dry_run=True))


def test_the_tables_are_those_that_migrations_make(each_database: Database) -> None:
    inspector = inspect(each_database.engine)
    for table in METADATA.sorted_tables:
        made = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
        assert made == {column.name: column.nullable for column in table.columns}, table.name
