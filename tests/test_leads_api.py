"""Figures for leads, against values worked out by hand; who may see them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.reviews import ReviewStore, Suspicion
from data.reviews.agreement import Level, alpha
from data.reviews.figures import AuditRow
from data.reviews.overview import overview
from data.reviews.quality import WHOLE, Judgement, estimate, judgements, still_needed, wilson
from data.store import Store
from serving.review.figures import figures, period
from serving.review.figures_words import FiguresOut
from tests.guarded import closed
from tests.reviewing import ANN, BOB, CEN, NOON, SCHEME, Desk, appeal, later
from tests.running import problem, running

SHANGHAI = ZoneInfo("Asia/Shanghai")


def told(reviews: ReviewStore, days: int = 30, now: datetime | None = None) -> FiguresOut:
    """The figures as the route makes them."""
    asked = period(days, now or later(days=1), SHANGHAI)
    found = overview(reviews.database, asked.since, asked.until, asked.zone, SCHEME)
    return figures(found, asked, SCHEME, 0.95)


# --- estimates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "n", "low", "high"),
    [(0.9, 10, 0.5958, 0.9821), (1.0, 5, 0.5655, 1.0), (0.0, 1, 0.0, 0.7935), (0.5, 2.5, 0.1108, 0.8892)],
)
def test_wilson_by_hand(value: float, n: float, low: float, high: float) -> None:
    assert list(wilson(value, n)) == pytest.approx([low, high], abs=2e-4)


def judged(*rights: tuple[bool | None, float]) -> list[Judgement]:
    return [Judgement(n, NOON, weight, "unit", right) for n, (right, weight) in enumerate(rights)]


def test_a_weighted_share_counts_as_few_as_its_weights_are_worth() -> None:
    found = estimate(judged((True, 2.0), (False, 1.0), (True, 1.0), (None, 9.0)))
    assert found is not None
    assert (found.value, found.appeals, found.stands_for, found.open) == (0.75, 3, 4.0, 1)
    assert found.effective == pytest.approx(16 / 6)
    assert (found.low, found.high) == wilson(0.75, 16 / 6)
    assert estimate(judged((None, 1.0))) is None and estimate([]) is None


def test_how_many_more_are_needed() -> None:
    found = estimate(judged(*[(n % 10 != 0, 1.0) for n in range(50)]))
    assert found is not None
    more = still_needed(found, 0.03)
    likely = (found.low + found.high) / 2
    low, high = wilson(likely, 50 + more)
    assert (high - low) / 2 <= 0.03 < found.half_width and 300 < more < 600
    assert still_needed(found, found.half_width) == 0


@given(st.floats(0, 1), st.floats(0.5, 1e6))
def test_an_interval_holds_its_value_and_stays_a_share(value: float, n: float) -> None:
    low, high = wilson(value, n)
    assert 0 <= low <= value <= high <= 1


def row(
    number: int, head: str, label: str | None, action: str = "auto_dispatch", model: str = "m1"
) -> AuditRow:
    return AuditRow(number, f"A-{number}", NOON, 4.0, action, model, head, "x", 0.9, label)


def test_the_whole_is_right_when_every_head_is() -> None:
    rows = [
        *(row(1, head, "x") for head in ("unit", "category")),
        *(row(2, head, label) for head, label in (("unit", "x"), ("category", "y"))),
        *(row(3, head, label) for head, label in (("unit", "x"), ("category", ""))),  # untellable: not wrong
        *(row(4, head, label) for head, label in (("unit", "x"), ("category", None))),  # disputed
        *(row(5, head, label) for head, label in (("unit", "y"), ("category", None))),  # wrong in any case
        row(6, "unit", "x"),  # nobody looked at the category
        *(row(7, head, "y", "review") for head in ("unit", "category")),
        row(8, "unit", "x", model="m2"),  # a model without categories
    ]
    found = {(one.appeal_number, one.head): one.right for one in judgements(rows)}
    whole = {number: right for (number, head), right in found.items() if head == WHOLE}
    assert whole == {1: True, 2: False, 3: True, 4: None, 5: False, 8: True}
    assert found[3, "category"] is None and found[6, "unit"] is True and 7 not in {n for n, _ in found}


# --- alpha ----------------------------------------------------------------------------------------

UNITS = st.lists(st.lists(st.sampled_from(range(4)), min_size=2, max_size=4), min_size=1, max_size=15)


@given(UNITS, st.sampled_from(["nominal", "ordinal"]))
def test_alpha_is_that_of_the_package(units: list[list[int]], level: Level) -> None:
    counts = np.array([[unit.count(label) for label in range(4)] for unit in units], np.int64)
    ours = alpha(counts, level)
    if len({label for unit in units for label in unit}) < 2:
        assert ours is None
        return
    used = counts[:, counts.any(axis=0)]
    assert ours == pytest.approx(float(krippendorff.alpha(value_counts=used, level_of_measurement=level)))


def compared(reviews: ReviewStore, store: Store) -> None:
    """Twelve appeals by two people: five times both say 0101, four times 0102, three times they differ."""
    store.add_many([appeal(f"A-{n}") for n in range(13)])
    desk = Desk(reviews)
    for n in range(12):
        first = "0101" if n < 5 else "0102"
        desk.label(f"A-{n}", ANN, first, shown=first)
        desk.label(f"A-{n}", BOB, "0101" if n >= 9 else first, shown=first)
    desk.label("A-12", BOB, "")
    desk.label("A-12", CEN, "0101")
    desk.decide("A-9", "0102")


def test_agreement_by_hand(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    compared(reviews, store)
    found = {one.head: one for one in told(reviews).agreement}
    category = found["category"]
    assert category.alpha == pytest.approx(1 - 23 * 6 / (2 * 13 * 11))  # 24 labels: 13 of 0101, 11 of 0102
    assert category.alpha is not None and category.low is not None and category.high is not None
    assert category.low < category.alpha < category.high
    assert (category.appeals, category.reviewers, category.labels, category.untold) == (12, 2, 24, 1)
    assert (category.same, category.verdict[:2], category.why) == (0.75, "偏低", "")
    [pair] = category.pairs
    assert (pair.reviewers, pair.appeals, pair.same, pair.alpha) == ((ANN, BOB), 12, 0.75, category.alpha)
    [confused] = category.confused
    assert (confused.first.name, confused.second.name, confused.appeals) == ("垃圾", "占道", 3)
    assert [one.code for one in category.matrix.labels] == ["0101", "0102"]
    assert category.matrix.counts == [[5, 3], [3, 4]] and category.matrix.left_out == 0
    unit = found["unit"]
    assert (unit.alpha, unit.appeals, unit.why) == (None, 0, "还没有两人都标注过的诉求")


def test_too_few_to_compare_is_said(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    store.add_many([appeal(f"A-{n}") for n in range(10)])
    desk = Desk(reviews)
    for n in range(9):
        for who in (ANN, BOB):
            desk.label(f"A-{n}", who, "0102")
    first = told(reviews).agreement[0]
    assert first.alpha is None and "只有 9 件，至少要 10 件" in first.why
    for who in (ANN, BOB):
        desk.label("A-9", who, "0102")
    first = told(reviews).agreement[0]
    assert (first.alpha, first.same) == (None, 1.0) and "同一个标签" in first.why
    assert first.pairs[0].alpha is None and first.pairs[0].why == first.why


# --- progress and corrections ---------------------------------------------------------------------


def test_work_and_correction_rate_by_week(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    store.add_many([appeal(f"A-{n}") for n in range(9)])
    desk = Desk(reviews)
    for seconds, code in ((10, "0101"), (30, "0102"), (20, "0102")):  # the model said 0101
        desk.say(desk.take(ANN).lease, code=code, seconds=seconds)
    taken_back = desk.take(ANN)
    desk.say(taken_back.lease, code="0201", seconds=500)
    reviews.undo(taken_back.lease, ANN, token="u", now=desk.now())
    reviews.skip(desk.take(BOB).lease, BOB, "unclear", now=desk.now())
    desk.minute = 7 * 24 * 60
    desk.say(desk.take(BOB).lease, BOB, code="0101", seconds=40)
    desk.say(desk.take(BOB).lease, BOB, code="0102", shown="", seconds=44)  # nothing was suggested
    found = told(reviews, now=later(days=8))
    [head] = found.corrections
    assert (head.head, head.name, head.labels, head.changed) == ("category", "事项分类", 4, 2)
    weeks = [(one.week, one.labels, one.changed, one.rate) for one in head.weeks]
    assert weeks == [(date(2025, 3, 3), 3, 2, 2 / 3), (date(2025, 3, 10), 1, 0, 0.0)]
    assert (head.weeks[0].low, head.weeks[0].high) == wilson(2 / 3, 3)
    ann, bob = found.reviewers
    assert (ann.reviewer, ann.appeals, ann.labels, ann.median_seconds) == (ANN, 4, 4, 25)
    assert (bob.appeals, bob.days[0].skipped, bob.median_seconds) == (2, 1, 42)
    assert found.totals.reviewers == 2 and found.totals.skipped == 1
    assert (found.seconds.weeks[-1].median, found.seconds.weeks[-1].appeals) == (42, 2)
    queue = {one.queue: one for one in found.queues}["uncertain"]
    assert (queue.name, queue.waiting, queue.skipped) == ("把握最小", 4, 1)
    assert queue.oldest == NOON


def test_a_period_is_whole_days_of_the_zone() -> None:
    asked = period(30, datetime(2025, 3, 4, 17, 30, tzinfo=UTC), SHANGHAI)  # the fifth in Shanghai
    assert asked.since == datetime(2025, 2, 4, tzinfo=SHANGHAI)
    assert asked.since < asked.until <= datetime(2025, 3, 4, 17, 31, tzinfo=UTC)
    assert period(1, NOON, SHANGHAI).since == datetime(2025, 3, 4, tzinfo=SHANGHAI)


# --- audit and label errors -----------------------------------------------------------------------


def test_the_quality_of_automatic_dispatch_by_hand(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    reviews.set_rules("operator", now=later(-1), audit_share=1.0)
    for n in range(6):  # the model says 0101 to all; the fifth and sixth go to a person first
        action = "auto_dispatch" if n < 4 else "review"
        store.add(appeal(f"A-{n}", action=action, received_at=later(days=7 * (n % 2))))
    desk = Desk(reviews)
    for n in range(6):
        desk.label(f"A-{n}", ANN, "0102" if n in (3, 4) else "0101")
    audit = told(reviews, now=later(days=8)).audit
    assert (audit.share, audit.members, audit.answered, audit.used, audit.automatic) == (1.0, 6, 6, 6, 4)
    low, high = wilson(0.75, 4)
    whole = audit.whole
    assert (whole.value, whole.low, whole.high, whole.appeals, whole.stands_for) == (0.75, low, high, 4, 4.0)
    assert [(one.head, one.value) for one in audit.heads] == [("category", 0.75)]
    assert [(one.week, one.whole.value, one.whole.appeals) for one in audit.weeks] == [
        (date(2025, 3, 3), 1.0, 2),
        (date(2025, 3, 10), 0.5, 2),
    ]
    assert "约 75% 整件全对（95% 区间 30.1%–95.4%）" in audit.words[0]
    assert "先不要据此下结论" in audit.words[1]


def test_why_there_is_no_estimate_is_said(sqlite_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = sqlite_stores
    reviews.set_rules("operator", now=later(-2), audit_share=0.0)
    assert "没有开启" in told(reviews).audit.words[0]
    reviews.set_rules("operator", now=later(-1), audit_share=1.0)
    assert "还没有抽中的" in told(reviews).audit.words[0]
    store.add(appeal("A"))
    assert "抽中 1 件，还没有可用的结论" in told(reviews).audit.words[0]
    Desk(reviews).label("A")
    audit = told(reviews).audit
    assert "都没有自动派单" in audit.words[0] and audit.whole.value is None


def test_what_became_of_suspected_labels(any_stores: tuple[Store, ReviewStore]) -> None:
    store, reviews = any_stores
    store.add_many([appeal(id) for id in "ABCDE"])
    numbers = {id: reviews.appeal(id).number for id in "ABCDE"}
    desk = Desk(reviews)
    for id in "ABC":
        desk.label(id, code="0102")
    found = [Suspicion(numbers[id], 0.5, "category", "0201") for id in "ABCDE"]
    reviews.suspect("suspected", found, "file:x.csv", now=desk.now())
    desk.label("A", code="0201")  # wrong, as proposed
    desk.label("B", code="0102")  # right after all
    desk.label("C", BOB, "0201")  # disputed now
    desk.label("D", code="0202")  # only the model had labelled it: wrong, but not as proposed
    errors = told(reviews).label_errors
    [head] = errors.heads
    assert (head.suspected, head.looked_at, head.wrong, head.right, head.as_proposed) == (5, 4, 2, 1, 1)
    assert "放入 5 处，已看 4 处，其中 2 处确是错标（66.7%）" in errors.words


# --- over HTTP ------------------------------------------------------------------------------------


def test_figures_are_for_leads(tmp_path: Path) -> None:
    with closed(tmp_path) as it:
        assert it.signed_in("lead").get("/v1/review/figures").status_code == 200
        assert it.signed_in("lead").get("/leads").status_code == 200
        reviewer = it.signed_in("reviewer")
        for path, client, headers in (
            ("/v1/review/figures", reviewer, {}),
            ("/v1/review/figures", it.client, it.key("review")),
            ("/leads", it.client, it.key("review")),
        ):
            error = problem(client.get(path, headers=headers), 403, "not_allowed")
            assert error["field"] == "role" and "lead" in error["expected"]
        page = reviewer.get("/leads")  # people are told on a page
        assert page.status_code == 403 and "无权查看此页" in page.text
        problem(it.client.get("/v1/review/figures"), 401, "not_signed_in")
        assert it.client.get("/leads", follow_redirects=False).headers["Location"] == "/login"


def test_an_empty_database_has_figures_too(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        for days in (1, 366):
            found = FiguresOut.model_validate(client.get(f"/v1/review/figures?days={days}").json())
            assert found.days == days and found.totals.appeals == 0 and found.reviewers == []
            assert found.until - found.since <= timedelta(days=days, hours=1)
            assert {one.alpha for one in found.agreement} == {None} and all(
                one.why for one in found.agreement
            )
            assert found.audit.whole.value is None and found.seconds.median is None
            assert "label-errors" in found.label_errors.words
            assert [one.waiting for one in found.queues] == [0] * 6


@pytest.mark.parametrize("days", ["0", "367", "x", "-1"])
def test_a_period_out_of_range_is_refused(tmp_path: Path, days: Any) -> None:
    with running(tmp_path) as client:
        assert problem(client.get(f"/v1/review/figures?days={days}"), 422, "invalid_input")["field"] == "days"
