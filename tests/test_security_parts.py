"""The parts of security alone: keys, passwords, waiting, buckets, seals, checks at the start."""

from __future__ import annotations

import base64
import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from data.access import ApiKey
from data.logins import Failures
from data.originals import Sealed
from serving.errors import OriginalSealed, StartError
from serving.security import starting
from serving.security.keys import KeyRing, MadeKey, make_key
from serving.security.limits import MOST, Buckets
from serving.security.passwords import NOBODY, SHORTEST, Passwords, accept
from serving.security.sealing import Sealer, make_key_file, read_secret
from serving.security.starting import REFUSED, TOLD, Circumstances, refuse_insecure, warnings
from serving.security.throttling import ACCOUNT, ADDRESS, PAIR, client_network, subjects, wait
from serving.settings import Settings
from tests.guarded import PASSWORD

NOW = datetime(2031, 5, 4, 12, tzinfo=UTC)


def stored(made: MadeKey, **more: Any) -> ApiKey:
    return ApiKey(**{**vars(made.stored), **more})


# --- keys ---------------------------------------------------------------------------------------


def test_a_key_is_random_and_stored_as_a_hash_only() -> None:
    made = [make_key("intake", {"intake"}) for _ in range(50)]
    assert len({one.shown for one in made}) == len({one.stored.prefix for one in made}) == 50
    for one in made:
        secret = one.shown.split("_", 2)[2]
        assert len(base64.urlsafe_b64decode(secret + "=")) == 32
        assert secret not in repr(one.stored) and one.stored.prefix in one.shown


def test_a_ring_finds_a_key_and_nothing_that_resembles_it() -> None:
    made = make_key("intake", {"intake"})
    ring = KeyRing()
    assert not ring.read and ring.find(made.shown) is None
    ring.renew([stored(made)])
    assert ring.read and ring.find(made.shown) == stored(made)
    other = make_key("intake", {"intake"}).shown.split("_", 2)[2]
    wrong = ["", "jiesu", made.shown[:-1], made.shown + "x", made.shown.upper(), made.shown.replace("_", "-")]
    for shown in (*wrong, f"jiesu_{made.stored.prefix}_{other}", f"x{made.shown}", "jiesu__", "\udcff" * 9):
        assert ring.find(shown) is None
    assert list(ring.take_used()) == [made.stored.prefix] and ring.take_used() == {}


def test_a_ring_does_not_find_what_has_ended() -> None:
    made, ring, soon = make_key("a", {"train"}), KeyRing(), datetime.now(UTC) + timedelta(hours=1)
    for ended in ({"revoked_at": NOW}, {"expires_at": datetime.now(UTC) - timedelta(seconds=1)}):
        ring.renew([stored(made, **ended)])
        assert ring.find(made.shown) is None
    ring.renew([stored(made, expires_at=soon)])
    assert ring.find(made.shown) is not None
    ring.renew([])
    assert ring.find(made.shown) is None


# --- passwords ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    ["passwordpassword", "1234567890123456", "qwertyuiopasdfgh", "aaaaaaaaaaaaaaaa", "admin123admin123",
     "jiesu12345jiesu", "reviewerreviewer", "reviewer12345678"],
)  # fmt: skip
def test_common_passwords_are_refused_whatever_their_length(password: str) -> None:
    with pytest.raises(StartError, match="easily guessed"):
        accept(password, "reviewer")


def test_length_counts_and_composition_does_not() -> None:
    for good in (PASSWORD, "blue umbrella stone bridge", "x" * 3 + "梧桐叶落秋风起夜读书窗外雨声"):
        assert accept(good, "ming")
    for bad in ("Tr0ub4dor&3", "K7#p" * 3, "梧" * (SHORTEST - 1), "长" * 257):
        with pytest.raises(StartError, match="characters"):
            accept(bad, "ming")


def test_a_password_typed_another_way_is_the_same() -> None:
    passwords = Passwords()
    hashed = passwords.hash(accept("ＢＬＵＥ umbrella é bridge", "ming"))
    assert passwords.matches(hashed, "BLUE umbrella e\u0301 bridge")
    assert not passwords.matches(hashed, "blue umbrella e\u0301 bridge")
    assert hashed.startswith("$argon2id$")


def test_an_unknown_name_costs_as_much_as_a_wrong_password() -> None:
    assert not PasswordHasher().check_needs_rehash(NOBODY)  # the same costs as a real hash
    asked: list[str] = []

    class Watched(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            asked.append(str(hash))
            return super().verify(hash, password)

    passwords = Passwords(Watched())
    assert not passwords.matches(None, PASSWORD)
    assert asked == [NOBODY]


# --- waiting after failed logins ----------------------------------------------------------------


def seconds(pair: int = 0, account: int = 0, address: int = 0, known: bool = False, ago: float = 0) -> float:
    at = NOW - timedelta(seconds=ago)
    return wait([Failures(pair, at, known), Failures(account, at), Failures(address, at)], NOW)


def test_waiting_grows_and_never_passes_its_limit() -> None:
    assert [seconds(pair=count) for count in (0, 4, 5, 6, 7)] == [0, 0, 2, 4, 8]
    assert seconds(pair=10_000) == PAIR.longest
    assert seconds(account=10_000) == ACCOUNT.longest and seconds(address=10_000) == ADDRESS.longest
    assert seconds(pair=6, ago=3) == 1 and seconds(pair=6, ago=4) == 0


def test_a_known_person_does_not_wait_for_others_failures() -> None:
    assert seconds(account=10_000, address=10_000, known=True) == 0
    assert seconds(pair=5, known=True) == 2


def test_a_clock_set_back_does_not_lock_anybody_out() -> None:
    assert seconds(pair=5, ago=-1e6) == 2


def test_subjects_are_hashed_and_apart() -> None:
    found = {*subjects("ming", "10.0.0.1"), *subjects("hong", "10.0.0.1"), *subjects("ming", "10.0.0.2")}
    assert len(found) == 7 and all(len(one) == 64 for one in found)


@given(st.ip_addresses())
def test_an_address_counts_as_its_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    network = client_network(str(address))
    if isinstance(address, ipaddress.IPv4Address):
        assert network == str(address)
        assert client_network(f"::ffff:{address}") == network
    elif not address.ipv4_mapped:
        assert address in ipaddress.ip_network(network)
    assert client_network("testclient") == "testclient"


# --- buckets ------------------------------------------------------------------------------------


def test_a_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    now = [0.0]
    buckets = Buckets(rate=2, burst=3, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b") == 0
    now[0] = 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    now[0] = 100
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert not any(Buckets(0, 1).take("a") for _ in range(1000))


def test_buckets_remember_no_more_callers_than_they_should() -> None:
    buckets = Buckets(rate=1, burst=1, clock=lambda: 0.0)
    for number in range(MOST + 10):
        buckets.take(str(number))
    assert len(buckets._buckets) == MOST
    assert buckets.take("0") == 0 and buckets.take(str(MOST + 9)) > 0


# --- sealed originals ---------------------------------------------------------------------------


def test_a_sealed_original_opens_for_its_own_id_alone() -> None:
    sealer = Sealer([bytes(range(32))])
    sealed = sealer.seal("A-1", "标题", "井盖不见了，电话13912345678")
    assert sealer.open("A-1", sealed) == ("标题", "井盖不见了，电话13912345678")
    assert b"13912345678" not in sealed.body
    assert sealer.seal("A-1", "", "同样的话").body != sealer.seal("A-1", "", "同样的话").body
    turned = Sealed(sealed.key_id, sealed.body[:-1] + bytes([sealed.body[-1] ^ 1]))
    for id, other in (("A-2", sealed), ("A-1", turned), ("A-1", Sealed(sealed.key_id, b""))):
        with pytest.raises(OriginalSealed):
            sealer.open(id, other)


def test_keys_are_rotated_by_their_order_in_the_file(tmp_path: Path) -> None:
    first, second, both = tmp_path / "first", tmp_path / "second", tmp_path / "both"
    make_key_file(first)
    make_key_file(second)
    assert first.stat().st_mode & 0o077 == 0
    both.write_bytes(second.read_bytes() + b"\n" + first.read_bytes())
    old = Sealer.read(first).seal("A-1", "", "从前")
    rotated = Sealer.read(both)
    assert rotated.open("A-1", old) == ("", "从前")
    renewed = rotated.renew("A-1", old)
    assert Sealer.read(second).open("A-1", renewed) == ("", "从前")
    with pytest.raises(OriginalSealed):
        Sealer.read(first).open("A-1", renewed)
    with pytest.raises(StartError, match="new file"):
        make_key_file(first)


def test_wrong_key_files_are_told_without_what_is_in_them(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(StartError, match="readable file"):
        Sealer.read(file)
    for content in ("", "geheim", base64.b64encode(bytes(16)).decode(), "ä"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(StartError) as told:
            Sealer.read(file)
        assert "geheim" not in str(told.value) and str(file) in str(told.value)
    file.write_text("geheim")
    with pytest.raises(StartError, match="32 characters"):
        read_secret(file, "JIESU_AUDIT_KEY")


# --- checks at the start ------------------------------------------------------------------------

CLOSED = {"environment": "production", "trusted_proxies": "10.0.0.5"}


def circumstances(live_keys: int | None = 1, **given: Any) -> Circumstances:
    return Circumstances(Settings(**given), live_keys)


@pytest.mark.parametrize(
    ("check", "wrong", "live_keys"),
    [
        (starting.development_on_a_network, {"host": "0.0.0.0"}, 0),
        (starting.development_on_a_network, {"host": "::"}, 0),
        (starting.development_on_a_network, {"host": "10.1.2.3"}, 0),
        (starting.development_on_a_network, {"host": ""}, 0),
        (starting.no_keys, CLOSED, 0),
        (starting.no_tls, {**CLOSED, "trusted_proxies": ""}, 1),
        (starting.every_proxy_trusted, {**CLOSED, "trusted_proxies": "10.0.0.5, *"}, 1),
        (starting.insecure_cookie, {**CLOSED, "cookie_secure": False}, 1),
    ],
)
def test_each_insecure_setting_refuses_to_start(check: Any, wrong: dict[str, Any], live_keys: int) -> None:
    found = circumstances(live_keys, **wrong)
    assert check in REFUSED
    assert [one for one in REFUSED if one(found)] == [check]
    with pytest.raises(StartError) as told:
        refuse_insecure(found)
    assert check(found) in str(told.value)


def test_everything_to_set_is_listed_at_once() -> None:
    with pytest.raises(StartError) as told:
        refuse_insecure(circumstances(0, environment="production", cookie_secure=False))
    lines = str(told.value).splitlines()[1:]
    assert len(lines) == 3
    assert all(any(word in line for line in lines) for word in ("keys create", "PROXIES", "COOKIE_SECURE"))


def test_secure_settings_start_and_so_does_development() -> None:
    refuse_insecure(circumstances(1, **CLOSED, host="0.0.0.0"))
    refuse_insecure(circumstances(None, **CLOSED))  # the database is away: nobody gets in
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.9"):
        refuse_insecure(circumstances(0, host=host))


def test_what_does_not_refuse_is_told(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0o644)
    (tmp_path / "db").write_text("")
    (tmp_path / "db").chmod(0o644)
    told = {
        starting.default_database: circumstances(1, **CLOSED),
        starting.readable_secrets: circumstances(1, **CLOSED, audit_key=tmp_path / "key"),
        starting.readable_database: circumstances(1, **CLOSED, database_url=f"sqlite:///{tmp_path / 'db'}"),
        starting.password_in_the_clear: circumstances(1, **CLOSED, database_url="postgresql://u:p@db.city/x"),
        starting.unkeyed_audit: circumstances(1, **CLOSED),
        starting.no_rate_limit: circumstances(1, **CLOSED, key_requests_per_second=0),
        starting.everything_is_open: circumstances(1),
    }
    assert set(told) | {starting.runs_as_root} == set(TOLD)
    for check, found in told.items():
        assert check(found) in warnings(found) and check(found)
    (tmp_path / "key").chmod(0o600)
    assert not starting.readable_secrets(told[starting.readable_secrets])
    secure = circumstances(1, **CLOSED, database_url="postgresql://u:p@db.city/x?sslmode=verify-full")
    assert not starting.password_in_the_clear(secure)
    assert not [
        check for check in TOLD if check is not starting.everything_is_open and check(circumstances(0))
    ]
