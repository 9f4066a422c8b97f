"""What routes tell: queues, what was written, previews, disputes; and what metrics and the log hear of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from data.in_force import InForce
from data.queues import Rules
from data.reviews import BulkPreview, Done, ReviewAppeal
from data.reviews.standing import QueueCount
from serving.logs import log
from serving.metrics import Metrics
from serving.review.asking import SKIP_REASONS
from serving.review.naming import QUEUE_NAMES, Names
from serving.review.sitting import Reviewer
from serving.review.words import (
    ChangeOut,
    DisputeOut,
    DoneWords,
    MeOut,
    NamedOut,
    PreviewOut,
    QueueOut,
    QueuesOut,
    RulesOut,
    VoiceOut,
)

__all__ = ["dispute_out", "done_words", "note_done", "preview_out", "queues_out", "rules_out"]

ABOUT: Mapping[str, str] = {
    "urgent": "需要人工先看的诉求，最紧急的在前，其次先来的在前",
    "uncertain": "模型最拿不准的诉求在前",
    "disagreement": "几个模型版本，或模型与已纠正的相似诉求，判断相左",
    "suspected": "已有标签很可能有误，最可疑的在前",
    "audit": "从全部诉求中随机抽取，用来无偏地估计质量",
    "disputed": "审核人员意见不一，待组长裁定，先有分歧的在前",
}
LEADS_ALONE = frozenset({"disputed"})
SHOWN_TEXT = 300  # characters of a text in a list


def queues_out(
    counts: Sequence[QueueCount], rules: Rules, reviewer: Reviewer, lease_minutes: float
) -> QueuesOut:
    """What the page needs to begin; queues for leads are told to leads."""
    told = [
        QueueOut.model_validate(
            {
                "queue": one.queue,
                "name": QUEUE_NAMES[one.queue],
                "about": ABOUT[one.queue],
                "waiting": one.waiting,
                "held": one.held,
                "more": one.more,
            }
        )
        for one in counts
        if reviewer.lead or one.queue not in LEADS_ALONE
    ]
    return QueuesOut(
        queues=told,
        me=MeOut(name=reviewer.name, lead=reviewer.lead),
        rules=rules_out(rules),
        skip_reasons=[NamedOut(code=code, name=name) for code, name in SKIP_REASONS.items()],
        lease_minutes=lease_minutes,
    )


def rules_out(rules: Rules) -> RulesOut:
    """The shares in force."""
    return RulesOut(audit_share=rules.audit_share, double_share=rules.double_share)


def done_words(done: Done) -> DoneWords:
    """What a request wrote, or had written before."""
    kinds = Counter(row.kind for row in done.rows)
    return DoneWords(
        rows=len(done.rows),
        confirmed=kinds["confirmed"],
        changed=kinds["changed"],
        unchanged=done.unchanged,
        again=done.again,
    )


def note_done(metrics: Metrics, done: Done, seconds: float | None = None) -> None:
    """Count what was written, once however often it was sent; the log hears numbers and codes alone."""
    if done.again:
        return
    kinds = Counter(row.kind for row in done.rows)
    for kind, count in kinds.items():
        metrics.review_labels.labels(kind).inc(count)
    if seconds is not None:
        metrics.review_seconds.observe(seconds)
    facts: dict[str, Any] = dict(kinds) | ({} if seconds is None else {"seconds": seconds})
    log("labelled", labels=len(done.rows), **facts)


def preview_out(plan: BulkPreview, texts: Mapping[str, str], names: Names) -> PreviewOut:
    """What would change, with names and the beginnings of the texts."""
    changes = [
        ChangeOut(
            id=one.id,
            text=_short(texts.get(one.id, "")),
            before=one.before,
            before_name=names.label(plan.head, one.before),
            by=one.by,
            after=one.after,
            after_name=names.label(plan.head, one.after),
            stays=one.stays,
        )
        for one in plan.changes
    ]
    return PreviewOut(
        head=plan.head,
        code=plan.code,
        changes=changes,
        changing=plan.changing,
        fingerprint=plan.fingerprint,
    )


def dispute_out(
    appeal: ReviewAppeal, labels: Mapping[str, InForce], names: Names, zone: ZoneInfo
) -> DisputeOut:
    """A dispute: who says what, by head."""
    return DisputeOut(
        id=appeal.id,
        text=appeal.text,
        received_at=appeal.received_at.astimezone(zone),
        heads={head: _voices(label, names, zone) for head, label in labels.items()},
    )


def _voices(label: InForce, names: Names, zone: ZoneInfo) -> list[VoiceOut]:
    return [
        VoiceOut(
            reviewer=row.reviewer,
            code=row.code,
            name=names.label(row.head, row.code),
            comment=row.comment,
            at=row.created_at.astimezone(zone),
        )
        for row in label.rows
    ]


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_TEXT else text[: SHOWN_TEXT - 1] + "…"
