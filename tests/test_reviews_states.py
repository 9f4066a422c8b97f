"""Every past state of the labels can be rebuilt, and read in another version's codes."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.in_force import Correction, in_force
from data.queues import keys_of
from data.reviews import ReviewStore
from tests.reviewing import ANN, BOB, NOON, Desk, later, queue_rows, reviewing

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "say", "undo", "decide", "withdraw"]),
        st.sampled_from([ANN, BOB]),
        st.sampled_from(["A", "B"]),
        st.sampled_from(["0101", "0102", ""]),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES)
def test_every_past_state_can_be_rebuilt(
    moves: list[tuple[str, str, str, str]], tmp_path_factory: Any, migrated_file: Path
) -> None:
    folder = tmp_path_factory.mktemp("states")
    shutil.copy(migrated_file, folder / "jiesu.db")
    store, reviews = reviewing(f"sqlite:///{folder / 'jiesu.db'}", "A", "B")
    desk = Desk(reviews)
    recorded: list[tuple[datetime, int, Any]] = []
    for move in moves:
        _play(desk, *move)
        recorded.append((later(desk.minute), reviews.last_correction(), _state(reviews)))
    for at, through, state in recorded:
        assert _state(reviews, at=at) == state
        assert _state(reviews, through=through) == state
    assert [row.number for row in reviews.corrections_after(0)] == sorted(
        row.number for row in reviews.corrections_after(0)
    )
    with store.database.connect() as connection:
        derived = keys_of(connection, [1, 2])
    assert sorted(tuple(row.values()) for row in derived) == sorted(tuple(row) for row in queue_rows(store))
    store.close()


def _play(desk: Desk, what: str, who: str, id: str, code: str) -> None:
    mine = [
        row for row in desk.reviews.corrections_after(0) if row.reviewer == who and row.kind != "withdrawn"
    ]
    if what == "say":
        taken = desk.reviews.take_appeal(id, who, now=desk.now())
        desk.say(taken.lease, who, code)
    elif what == "decide":
        desk.decide(id, code)
    elif what == "undo" and mine and mine[-1].lease_number:
        back = desk.reviews.undo(mine[-1].lease_number, who, token=desk.token(), now=desk.now())
        desk.reviews.release(back.lease, who, now=desk.now())
    elif what == "withdraw" and mine:
        desk.reviews.withdraw(mine[0].token, who, token=desk.token(), now=desk.now())


def _state(reviews: ReviewStore, **when: Any) -> Any:
    return {
        labels.appeal_number: {
            head: (label.code, label.state, tuple(row.number for row in label.rows))
            for head, label in labels.heads.items()
        }
        for labels in reviews.labels_in_force(**when)
    }


def row(number: int, code: str, who: str = ANN, kind: str = "changed", version: str = "1") -> Correction:
    """A correction of one appeal's category."""
    return Correction(
        number, 1, "category", code, "", kind, who, "", "", version, "page", f"t{number}", None, 0.0,  # type: ignore[arg-type]
        None, NOON,
    )  # fmt: skip


def test_an_older_version_s_code_may_be_several_of_today() -> None:
    def reading(head: str, code: str, version: str) -> frozenset[str] | None:
        several = {"old": frozenset({"0101", "0102"}), "gone": None}
        return several[code] if version == "0" else frozenset({code} if code else ())

    old = row(1, "old", version="0")
    assert in_force([old], reading)["category"].state == "partial"
    both = in_force([old, row(2, "0102", BOB)], reading)["category"]
    assert (both.state, both.code) == ("sure", "0102")
    assert in_force([old, row(2, "0201", BOB)], reading)["category"].state == "disputed"
    assert in_force([row(1, "gone", version="0")], reading) == {}
    assert in_force([old, row(2, "", BOB)], reading)["category"].state == "disputed"
    assert in_force([row(1, ""), row(2, "", BOB)], reading)["category"].code == ""
