"""Figures for leads, from what is stored: counted and estimated here, drawn by the page."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from data.reviews.agreement import (
    FAIR,
    GOOD,
    HeadAgreement,
    Level,
    head_agreement,
    label_pairs,
    shared_labels,
)
from data.reviews.figures import Corrected, Seconds, Throughput, week_of
from data.reviews.overview import Overview, appeals_by_head
from data.reviews.quality import WHOLE, Estimate, Judgement, estimate, judgements, still_needed, wilson
from data.reviews.suspects import Suspected
from data.scheme import Scheme
from serving.review.figures_words import (
    AgreementOut,
    AuditOut,
    ConfusedOut,
    CorrectionWeek,
    DayOut,
    EstimateOut,
    FiguresOut,
    HeadCorrections,
    HeadQuality,
    LabelErrorsOut,
    MatrixOut,
    PairOut,
    QualityWeek,
    QueueFigures,
    ReviewerOut,
    SecondsOut,
    Spread,
    SpreadWeek,
    SuspectedHead,
    TotalsOut,
)
from serving.review.naming import QUEUE_NAMES, Names
from serving.review.words import NamedOut

__all__ = ["Period", "figures", "period"]

FEWEST_SHARED = 10  # appeals that two people labelled; alpha of fewer says next to nothing
NARROW = 0.03  # half of an interval that is narrow enough to act on
WIDE = 0.10  # half of an interval that says little
MATRIX_LABELS = 12


@dataclass(frozen=True)
class Period:
    """Whole days of a zone, today the last of them: [since, until)."""

    since: datetime
    until: datetime
    days: int
    zone: ZoneInfo


def period(days: int, now: datetime, zone: ZoneInfo) -> Period:
    """The last `days` days of the zone, today among them."""
    first = now.astimezone(zone).date() - timedelta(days=days - 1)
    since = datetime(first.year, first.month, first.day, tzinfo=zone)
    return Period(since, now + timedelta(microseconds=1), days, zone)


def figures(
    found: Overview,
    asked: Period,
    scheme: Scheme,
    target: float,
) -> FiguresOut:
    """All figures; `target`: the accuracy that automatic dispatch is set to."""
    names = Names(scheme)
    return FiguresOut(
        since=asked.since,
        until=asked.until,
        days=asked.days,
        queues=[QueueFigures(name=QUEUE_NAMES[one.queue], **vars(one)) for one in found.queues],
        totals=_totals(found.days),
        reviewers=_reviewers(found.days, found.seconds),
        seconds=_seconds(found.seconds, asked.zone),
        agreement=_agreement(found, names),
        audit=_audit(found, names, target, asked.zone),
        corrections=_corrections(found.corrected, names),
        label_errors=_label_errors(found.suspected, names),
    )


# --- progress -------------------------------------------------------------------------------------


def _labels(day: Throughput) -> int:
    return day.confirmed + day.changed + day.adjudicated + day.bulk


def _totals(days: Sequence[Throughput]) -> TotalsOut:
    return TotalsOut(
        appeals=sum(day.appeals for day in days),
        labels=sum(map(_labels, days)),
        reviewers=len({day.reviewer for day in days}),
        skipped=sum(day.skipped for day in days),
    )


def _reviewers(days: Sequence[Throughput], seconds: Sequence[Seconds]) -> list[ReviewerOut]:
    """Those who did the most first."""
    spent: dict[str, list[float]] = {}
    for one in seconds:
        if one.seconds > 0:
            spent.setdefault(one.reviewer, []).append(one.seconds)
    by_name: dict[str, list[Throughput]] = {}
    for day in days:
        by_name.setdefault(day.reviewer, []).append(day)
    made = [_reviewer(name, some, spent.get(name, [])) for name, some in by_name.items()]
    return sorted(made, key=lambda one: (-one.appeals, one.reviewer))


def _reviewer(name: str, days: Sequence[Throughput], seconds: Sequence[float]) -> ReviewerOut:
    told = [{key: value for key, value in vars(day).items() if key != "reviewer"} for day in days]
    return ReviewerOut(
        reviewer=name,
        appeals=sum(day.appeals for day in days),
        labels=sum(map(_labels, days)),
        median_seconds=statistics.median(seconds) if seconds else None,
        days=[DayOut(labels=_labels(day), **one) for day, one in zip(days, told, strict=True)],
    )


def _seconds(seconds: Sequence[Seconds], zone: ZoneInfo) -> SecondsOut:
    known = [one for one in seconds if one.seconds > 0]
    weeks: dict[date, list[float]] = {}
    for one in known:
        weeks.setdefault(week_of(one.ended_at, zone), []).append(one.seconds)
    by_week = [SpreadWeek(week=week, **vars(_spread(some))) for week, some in sorted(weeks.items())]
    return SecondsOut(weeks=by_week, **vars(_spread([one.seconds for one in known])))


def _spread(seconds: Sequence[float]) -> Spread:
    if len(seconds) < 2:
        only = seconds[0] if seconds else None
        return Spread(appeals=len(seconds), low=only, median=only, high=only)
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Spread(appeals=len(seconds), low=low, median=median, high=high)


# --- agreement ------------------------------------------------------------------------------------


def _agreement(found: Overview, names: Names) -> list[AgreementOut]:
    by_head = appeals_by_head(found.opinions, names.scheme, found.reading)
    return [_head_agreement(head, by_head[head], names) for head in names.heads]


def _named(names: Names, head: str, code: str) -> NamedOut:
    return NamedOut(code=code, name=names.label(head, code))


def _head_agreement(head: str, appeals: Mapping[int, Mapping[str, str]], names: Names) -> AgreementOut:
    level: Level = "ordinal" if names.scheme.heads[head].kind == "ordinal" else "nominal"
    order = list(names.scheme.labels[head])
    one = head_agreement(head, level, order, appeals)
    why = _why_no_alpha(one.appeals, one.alpha)
    alpha = None if why else one.alpha
    return AgreementOut(
        head=head,
        name=names.head(head),
        ordered=level == "ordinal",
        alpha=alpha.value if alpha else None,
        low=alpha.low if alpha else None,
        high=alpha.high if alpha else None,
        why=why,
        verdict=_verdict(alpha.value) if alpha else "",
        appeals=one.appeals,
        reviewers=one.reviewers,
        labels=one.labels,
        untold=one.untold,
        same=one.same if one.appeals else None,
        pairs=_pairs(one),
        confused=[
            ConfusedOut(
                first=_named(names, head, pair.first),
                second=_named(names, head, pair.second),
                appeals=pair.appeals,
            )
            for pair in one.confused
        ],
        matrix=_matrix(head, order, shared_labels(appeals), names),
    )


def _why_no_alpha(appeals: int, alpha: object) -> str:
    if appeals == 0:
        return "还没有两人都标注过的诉求"
    if appeals < FEWEST_SHARED:
        return f"两人都标注过的诉求只有 {appeals} 件，至少要 {FEWEST_SHARED} 件"
    return "" if alpha is not None else "所有标注都是同一个标签，看不出一致是否出于偶然"


def _verdict(alpha: float) -> str:
    if alpha >= GOOD:
        return "可靠"
    return "可用，但分歧值得一起讨论" if alpha >= FAIR else "偏低，先把标签定义说清楚"


def _pairs(one: HeadAgreement) -> list[PairOut]:
    made = []
    for pair in one.pairs:
        why = _why_no_alpha(pair.appeals, pair.alpha)
        alpha = None if why else pair.alpha
        made.append(
            PairOut(reviewers=pair.reviewers, appeals=pair.appeals, same=pair.same, alpha=alpha, why=why)
        )
    return made


def _matrix(head: str, order: Sequence[str], shared: Sequence[Mapping[str, str]], names: Names) -> MatrixOut:
    """Of the labels with the most confusions; those that nobody confused are left out."""
    pairs = label_pairs(shared)
    apart: Counter[str] = Counter()
    for (first, second), count in pairs.items():
        if first != second:
            apart.update({first: count, second: count})
    place = {code: at for at, code in enumerate(order)}
    most = sorted(apart, key=lambda code: (-apart[code], place[code]))[:MATRIX_LABELS]
    codes = sorted(most, key=place.__getitem__)
    return MatrixOut(
        labels=[_named(names, head, code) for code in codes],
        counts=[[pairs[min(row, column), max(row, column)] for column in codes] for row in codes],
        left_out=len(apart) - len(codes),
    )


# --- audit ----------------------------------------------------------------------------------------


def _audit(found: Overview, names: Names, target: float, zone: ZoneInfo) -> AuditOut:
    judged = judgements(found.audit.rows)
    weeks: dict[date, list[Judgement]] = {}
    for one in judged:
        weeks.setdefault(week_of(one.received_at, zone), []).append(one)
    whole = estimate(_of_head(judged, WHOLE))
    automatic = len({one.appeal_number for one in judged})
    return AuditOut(
        share=found.rules.audit_share,
        target=target,
        members=found.audit.members,
        answered=found.audit.answered,
        used=found.audit.used,
        automatic=automatic,
        whole=EstimateOut(**_told(whole, _of_head(judged, WHOLE))),
        heads=_by_head(judged, names),
        weeks=[
            QualityWeek(
                week=week,
                whole=EstimateOut(**_told(estimate(_of_head(some, WHOLE)), _of_head(some, WHOLE))),
                heads=_by_head(some, names),
            )
            for week, some in sorted(weeks.items())
        ],
        words=_audit_words(found, automatic, whole) + _unit_words(estimate(_of_head(judged, "unit")), target),
    )


def _of_head(judged: Iterable[Judgement], head: str) -> list[Judgement]:
    return [one for one in judged if one.head == head]


def _by_head(judged: Sequence[Judgement], names: Names) -> list[HeadQuality]:
    told = {one.head for one in judged} - {WHOLE}
    known = [head for head in names.heads if head in told]
    made = []
    for head in [*known, *sorted(told - set(known))]:
        some = _of_head(judged, head)
        made.append(HeadQuality(head=head, name=names.head(head), **_told(estimate(some), some)))
    return made


def _told(found: Estimate | None, judged: Sequence[Judgement]) -> dict[str, float | int | None]:
    if found is None:
        return {
            "value": None,
            "low": None,
            "high": None,
            "appeals": 0,
            "open": len(judged),
            "stands_for": 0.0,
        }
    told = ("value", "low", "high", "appeals", "open", "stands_for")
    return {name: getattr(found, name) for name in told}


def _audit_words(found: Overview, automatic: int, whole: Estimate | None) -> list[str]:
    """What the estimate means, or why there is none and what to do."""
    audit = found.audit
    if not audit.members and not found.rules.audit_share:
        return ["随机抽查没有开启，因此估计不出自动派单的质量。请先设定抽查比例（例如 2%）。"]
    if not audit.members:
        return [f"这段时间收到的诉求里还没有抽中的（抽查比例 {_share(found.rules.audit_share)}）。"]
    if not audit.used:
        return [
            f"抽中 {audit.members} 件，还没有可用的结论。请复核“随机抽查”队列："
            "每天的抽查按固定的随机次序使用，"
            "前面有一件没看，后面的就暂不计入。"
        ]
    if whole is None:
        missing = "都没有自动派单" if not automatic else "还没有每个分类头都标注好的自动派单诉求"
        return [f"已看的 {audit.used} 件抽查诉求里{missing}，暂时估计不出整件全对的比例。"]
    return _estimate_words(whole)


def _estimate_words(whole: Estimate) -> list[str]:
    said = [
        f"自动派单的诉求里，约 {_share(whole.value)} 整件全对"
        f"（95% 区间 {_share(whole.low)}–{_share(whole.high)}）："
        f"抽查了 {whole.appeals} 件，代表约 {round(whole.stands_for):,} 件。"
    ]
    more = still_needed(whole, NARROW)
    if whole.half_width > WIDE:
        said.append(f"件数太少，区间很宽，先不要据此下结论。再看约 {more} 件，区间才会窄到 ±3 个百分点。")
    elif more:
        said.append(f"再看约 {more} 件抽查诉求，区间会窄到 ±3 个百分点。")
    if whole.open:
        said.append(f"另有 {whole.open} 件因意见不一或无法判断没有计入；请先裁定有分歧的。")
    return said


def _unit_words(unit: Estimate | None, target: float) -> list[str]:
    """The unit is what automatic dispatch hangs on: its threshold was set for this target."""
    if unit is None:
        return []
    interval = f"{_share(unit.low)}–{_share(unit.high)}"
    told = f"承办单位派对约 {_share(unit.value)}（{interval}），目标 {_share(target)}："
    if unit.low >= target:
        return [told + "达到了。"]
    if unit.high >= target:
        return [told + "是否达到还说不准，要看更多抽查。"]
    return [told + "没有达到，请让机器学习人员重新校准或重新训练。"]


def _share(value: float) -> str:
    return f"{100 * value:.1f}%".replace(".0%", "%")


# --- corrections and label errors -----------------------------------------------------------------


def _corrections(found: Sequence[Corrected], names: Names) -> list[HeadCorrections]:
    told = {one.head for one in found}
    known = [head for head in names.heads if head in told]
    return [
        _head_corrections(head, [one for one in found if one.head == head], names)
        for head in [*known, *sorted(told - set(known))]
    ]


def _head_corrections(head: str, weeks: Sequence[Corrected], names: Names) -> HeadCorrections:
    labels = sum(one.confirmed + one.changed for one in weeks)
    changed = sum(one.changed for one in weeks)
    return HeadCorrections(
        head=head,
        name=names.head(head),
        labels=labels,
        changed=changed,
        rate=changed / labels if labels else None,
        weeks=[_correction_week(one) for one in weeks],
    )


def _correction_week(one: Corrected) -> CorrectionWeek:
    labels = one.confirmed + one.changed
    rate = one.changed / labels
    low, high = wilson(rate, labels)
    return CorrectionWeek(week=one.week, labels=labels, changed=one.changed, rate=rate, low=low, high=high)


def _label_errors(found: Sequence[Suspected], names: Names) -> LabelErrorsOut:
    by_head: dict[str, list[Suspected]] = {}
    for one in found:
        by_head.setdefault(one.head, []).append(one)
    heads = [
        SuspectedHead(head=head, name=names.head(head) if head else "未指明", **_fates(some))
        for head, some in sorted(by_head.items())
    ]
    fates = _fates(found)
    return LabelErrorsOut(heads=heads, words=_error_words(fates), **fates)


def _fates(found: Sequence[Suspected]) -> dict[str, int]:
    wrong = [one for one in found if one.wrong]
    return {
        "suspected": len(found),
        "looked_at": sum(one.looked_at for one in found),
        "wrong": len(wrong),
        "right": sum(one.wrong is False for one in found),
        "as_proposed": sum(one.after == one.proposed for one in wrong),
    }


def _error_words(fates: Mapping[str, int]) -> str:
    if not fates["suspected"]:
        return (
            "这段时间没有放入疑似错标。用 python -m evaluation label-errors 找出疑似错标，"
            "再用 python -m data queues suspect 放进队列。"
        )
    if not fates["wrong"] + fates["right"]:
        return f"放入 {fates['suspected']} 处疑似错标，还没有看出结论。"
    share = fates["wrong"] / (fates["wrong"] + fates["right"])
    return (
        f"放入 {fates['suspected']} 处，已看 {fates['looked_at']} 处，其中 {fates['wrong']} 处确是错标"
        f"（{_share(share)}），{fates['as_proposed']} 处改成了程序建议的标签。"
    )
