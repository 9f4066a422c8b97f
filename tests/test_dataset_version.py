"""Dataset versions: what was in force at one moment, unchangeable, readable like any file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import krippendorff
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from data.__main__ import app
from data.dataset_card import nominal_alpha
from data.dataset_version import DatasetVersion, newest_version, open_version, versions, write_version
from data.errors import DatasetError, SchemeChangeError
from data.labels.records import Selection
from data.readers import read
from data.reviews import ReviewStore
from data.scheme import Scheme
from data.scheme_change import SchemeChange
from data.scheme_history import record_change
from data.store import Store
from tests.reviewing import NOON, SCHEME, appeal, later, opened

ANN, BOB, LEAD = "user:ann", "user:bob", "user:lead"


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, ReviewStore]]:
    store, reviews = opened(f"sqlite:///{tmp_path / 'jiesu.db'}")
    store.add_many([appeal(f"A-{n}", received_at=later(days=n)) for n in range(6)])
    yield store, reviews
    store.close()


def say(reviews: ReviewStore, id: str, who: str = ANN, scheme: Scheme = SCHEME, **labels: str) -> None:
    taken = reviews.take_appeal(id, who, now=later(1))
    asked: dict[str, Any] = {
        "scheme": scheme,
        "token": f"{id}{who}{labels}",
        "now": later(2),
        "model_version": "m1",
    }
    reviews.correct(taken.lease, who, labels, {"category": "0101"}, **asked)


@pytest.fixture
def labelled(stores: tuple[Store, ReviewStore]) -> tuple[Store, ReviewStore]:
    _, reviews = stores
    say(reviews, "A-0", category="0101", unit="cg")
    say(reviews, "A-1", category="0102")
    say(reviews, "A-1", BOB, category="0102")
    say(reviews, "A-2", category="0102")
    say(reviews, "A-2", BOB, category="0201")
    say(reviews, "A-3", category="")
    say(reviews, "A-4", category="0101")
    asked: dict[str, Any] = {"scheme": SCHEME, "token": "d", "now": later(3)}
    reviews.adjudicate("A-4", LEAD, {"category": "0202"}, **asked)
    return stores


def write(store: Store, tmp_path: Path, minutes: float = 60, **more: Any) -> DatasetVersion:
    return write_version(store.database, tmp_path / "sets", "reviewed", SCHEME, now=later(minutes), **more)


def cells(version: DatasetVersion) -> dict[str, dict[str, Any]]:
    import pyarrow.parquet as pq

    return {row["id"]: row for row in pq.read_table(version.labels).to_pylist()}


def test_labels_in_force_are_written_with_their_provenance(
    labelled: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    version = write(labelled[0], tmp_path)
    rows = cells(version)
    assert {id: (row["category"], row["category_state"]) for id, row in rows.items()} == {
        "A-0": ("0101", "sure"),
        "A-1": ("0102", "sure"),
        "A-2": ("", "disputed"),
        "A-3": ("", "untellable"),
        "A-4": ("0202", "adjudicated"),
    }
    one = rows["A-1"]
    assert one["category_reviewers"] == f"{ANN}|{BOB}"
    assert (one["category_kinds"], one["category_shown"]) == ("changed|changed", "0101|0101")
    assert (one["category_model_version"], one["category_scheme_version"]) == ("m1|m1", "1|1")
    assert one["category_decided_at"] == later(2).isoformat()
    assert (one["street"], one["received_at"], one["date"]) == (
        "柳荫街道",
        later(days=1),
        "2025-03-05 20:00:00",
    )
    assert (rows["A-0"]["unit"], rows["A-1"]["unit"], rows["A-1"]["unit_state"]) == ("cg", "", "")


def test_it_is_read_like_any_file(labelled: tuple[Store, ReviewStore], tmp_path: Path) -> None:
    rows = {row.id: row for row in read(write(labelled[0], tmp_path).labels, scheme=SCHEME)}
    assert rows["A-0"].labels == {"category": {"0101"}, "unit": {"cg"}}
    assert rows["A-2"].labels == {}
    assert rows["A-4"].date == "2025-03-08T20:00:00"


def test_the_card_says_what_is_in_it(labelled: tuple[Store, ReviewStore], tmp_path: Path) -> None:
    version = write(labelled[0], tmp_path)
    card = version.card
    category = card["heads"]["category"]
    assert category["states"] == {"adjudicated": 1, "disputed": 1, "sure": 2, "untellable": 1}
    assert category["labels"] == {"0101": 1, "0102": 1, "0202": 1}
    assert category["agreement"] == {"appeals": 2, "agreed": 0.5, "alpha": 0.0}
    assert card["reviewers"] == {ANN: 5, BOB: 2, LEAD: 1}
    assert card["query"] == {"include": "labelled", "through_correction": 9}
    assert (card["rows"], card["scheme"]["sha256"]) == (5, SCHEME.sha256)
    assert version.name == f"reviewed-2025-03-04-{card['hash']}"
    assert version.scheme == SCHEME
    page = (version.path / "README.md").read_text(encoding="utf-8")
    assert "| category | 2 | 1 | 0 | 1 | 1 | 3 | 0.000 (2) |" in page


def test_equal_labels_are_one_version_and_others_another(
    labelled: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    store, reviews = labelled
    first = write(store, tmp_path)
    again = write(store, tmp_path, minutes=90)
    assert again.path == first.path and again.card == first.card
    say(reviews, "A-5", category="0201")
    second = write(store, tmp_path, minutes=120)
    assert second.card["hash"] != first.card["hash"]
    assert versions(tmp_path / "sets") == [first, second]
    assert newest_version(tmp_path / "sets", "reviewed") == second
    assert sorted(os.listdir(tmp_path / "sets")) == sorted([first.name, second.name])
    with pytest.raises(DatasetError, match="called 'other'"):
        newest_version(tmp_path / "sets", "other")
    with pytest.raises(DatasetError, match="python -m data export"):
        newest_version(tmp_path / "none")


def test_a_changed_file_is_refused(labelled: tuple[Store, ReviewStore], tmp_path: Path) -> None:
    version = write(labelled[0], tmp_path)
    for file in version.path.iterdir():
        assert file.stat().st_mode & 0o222 == 0
    version.labels.chmod(0o644)
    version.labels.write_bytes(version.labels.read_bytes() + b"\0")
    with pytest.raises(DatasetError, match="sha256"):
        open_version(version.path)
    version.labels.unlink()
    with pytest.raises(DatasetError, match="got no file"):
        versions(tmp_path / "sets")
    card = version.path / "card.json"
    card.chmod(0o644)
    card.write_text(json.dumps({**version.card, "format": 99}))
    with pytest.raises(DatasetError, match="expected format 1"):
        open_version(version.path)
    card.write_text("{")
    with pytest.raises(DatasetError, match=r"with a card\.json"):
        open_version(version.path)


def test_a_selection_narrows_it(labelled: tuple[Store, ReviewStore], tmp_path: Path) -> None:
    store, _ = labelled
    chosen = Selection(since=later(days=1), until=later(days=3), district="东区")
    version = write(store, tmp_path, selection=chosen)
    assert set(cells(version)) == {"A-1", "A-2"}
    assert version.card["query"]["since"] == later(days=1).isoformat()
    with pytest.raises(DatasetError, match="found none for this selection"):
        write(store, tmp_path, selection=Selection(district="西区"))
    assert len(os.listdir(tmp_path / "sets")) == 1
    with pytest.raises(DatasetError, match="expected a name"):
        write_version(store.database, tmp_path, "../up", SCHEME, now=NOON)


def test_flagged_characters_never_leave(labelled: tuple[Store, ReviewStore], tmp_path: Path) -> None:
    store, reviews = labelled
    reviews.flag("A-0", ANN, [(0, 4)], now=NOON)
    text = cells(write(store, tmp_path))["A-0"]["text"]
    assert text.startswith("████") and "楼下夜市" not in text


def test_more_than_one_row_group_is_written_in_order(
    stores: tuple[Store, ReviewStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, reviews = stores
    for n in range(5):
        say(reviews, f"A-{n}", category="0101")
    monkeypatch.setattr("data.dataset_version.BATCH", 2)
    monkeypatch.setattr("data.labels.records.AT_ONCE", 3)
    told: list[tuple[str, int, int]] = []
    version = write(store, tmp_path, told=lambda *step: told.append(step))
    assert list(cells(version)) == [f"A-{n}" for n in range(5)]
    assert told == [("reading", 3, 5), ("reading", 5, 5)]


def test_labels_of_an_older_scheme_come_in_today_s_codes(
    labelled: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    store, _ = labelled
    text = SCHEME.to_yaml().replace("version: '1'", "version: '2'").replace("'0102'", "'0104'", 1)
    text = text.replace("replaced_by: '0102'", "replaced_by: '0104'")
    new = Scheme.parse(text)
    with pytest.raises(SchemeChangeError, match="schemes migrate"):
        write_version(store.database, tmp_path / "sets", "reviewed", new, now=NOON)
    change = 'from: "1"\nto: "2"\nheads: {category: [{step: rename, code: "0102", into: "0104"}]}'
    record_change(store.database, SchemeChange.parse(change), ANN, NOON)
    version = write_version(store.database, tmp_path / "sets", "reviewed", new, now=NOON)
    assert cells(version)["A-1"]["category"] == "0104"
    assert version.card["scheme"]["version"] == "2"


UNITS = st.lists(st.lists(st.sampled_from("abc"), min_size=2, max_size=3), min_size=1, max_size=12)


@given(UNITS)
def test_alpha_is_krippendorff_s(units: list[list[str]]) -> None:
    ours = nominal_alpha(units)
    if len({label for unit in units for label in unit}) < 2:
        assert ours is None
        return
    counts = [[unit.count(label) for label in "abc"] for unit in units]
    theirs = krippendorff.alpha(value_counts=counts, level_of_measurement="nominal")
    assert ours == pytest.approx(theirs)


# --- command --------------------------------------------------------------------------------------


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})


def test_a_dataset_is_exported_by_command(labelled: tuple[Store, ReviewStore], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jiesu.db'}"
    scheme = tmp_path / "scheme.yaml"
    SCHEME.dump(scheme)
    words = ("export", "--database", url, "--scheme", scheme, "--out", tmp_path / "sets", "--name", "mine")
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert newest_version(tmp_path / "sets", "mine").name in done.output
    assert "category: 1 adjudicated, 1 disputed, 2 sure, 1 untellable" in done.output
    assert "nothing changed" in call(*words).output
    for wrong, told in {
        ("--format", "brat"): "one of the formats",
        ("--format", "doccan"): "did you mean doccano?",
        ("--include", "some"): "labelled, waiting, all",
        ("--include", "all"): "expected labelled appeals",
        ("--since", "soon"): "a day such as",
        ("--database", f"sqlite:///{tmp_path / 'none.db'}"): "found none",
    }.items():
        result = call(*words, *wrong)
        assert (result.exit_code, told in result.output) == (2, True), result.output
    assert not (tmp_path / "none.db").exists()


def test_an_operator_sets_shares_and_rebuilds_queues(
    stores: tuple[Store, ReviewStore], tmp_path: Path
) -> None:
    _, reviews = stores
    url = f"sqlite:///{tmp_path / 'jiesu.db'}"
    assert "audit 2.0%, double review 0.0%" in call("queues", "rules", "--database", url).output
    done = call("queues", "rules", "--database", url, "--double-share", "0.25", "--by", "user:op")
    assert "double review 25.0%; set by user:op" in done.output
    assert reviews.rules().double_share == 0.25
    assert call("queues", "rules", "--database", url, "--audit-share", "7").exit_code == 2
    assert "6 appeals" in call("queues", "rebuild", "--database", url).output


def test_created_at_has_its_zone(labelled: tuple[Store, ReviewStore], tmp_path: Path) -> None:
    assert write(labelled[0], tmp_path).created_at - NOON == timedelta(hours=1)
