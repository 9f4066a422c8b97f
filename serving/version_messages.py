"""What travels over HTTP about model versions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from classifier.history import Event
from classifier.registry import Entry, Verdict
from serving.messages import Message

__all__ = ["CanaryIn", "EventOut", "PromoteIn", "VersionDetails", "VersionOut", "VersionsOut", "WhyIn"]

VERSION = "default-20310505-1a2b3c4d"
Why = Annotated[str, Field(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")]
VERDICT: dict[str, Any] = {
    "passed": True,
    "champion": "default-20310401-9f8e7d6c",
    "at": "2031-05-05T02:00:00+00:00",
    "reasons": [],
}
ENTRY: dict[str, Any] = {
    "version": VERSION,
    "places": ["shadow"],
    "canary_share": 0.0,
    "added_at": "2031-05-05T02:01:00+00:00",
    "added_by": "user:lan",
    "verdict": VERDICT,
}
EVENT: dict[str, Any] = {
    "at": "2031-05-05T02:01:00+00:00",
    "action": "shadow",
    "version": VERSION,
    "by": "user:lan",
    "why": "一周新标注重训",
    "share": 0.0,
}


class WhyIn(Message):
    """The reason, for the history and the audit log."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"why": "一周新标注重训，门槛全部通过"}]})

    why: Why


class PromoteIn(WhyIn):
    """`force`: against the gate's verdict."""

    force: bool = False


class CanaryIn(WhyIn):
    """The share of appeals that the version answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"share": 0.05, "why": "影子一周无异常"}]})

    share: float = Field(gt=0, le=0.5)


class VerdictOut(Message):
    """What the gate said, against which champion."""

    passed: bool
    champion: str
    at: str
    reasons: list[str]

    @classmethod
    def of(cls, verdict: Verdict) -> VerdictOut:
        """The same as the registry's."""
        return cls(
            passed=verdict.passed, champion=verdict.champion, at=verdict.at, reasons=list(verdict.reasons)
        )


class VersionOut(Message):
    """A version: where it stands (champion, shadow, canary; empty: candidate), and what the gate said."""

    version: str
    places: list[str]
    canary_share: float
    added_at: str
    added_by: str
    verdict: VerdictOut | None = Field(description="null: the gate was not asked")

    @classmethod
    def of(cls, entry: Entry) -> VersionOut:
        """The same as the registry's."""
        standing = {"champion": entry.champion, "shadow": entry.shadow, "canary": entry.canary > 0}
        return cls(
            version=entry.version,
            places=[place for place, stands in standing.items() if stands],
            canary_share=entry.canary,
            added_at=entry.added_at,
            added_by=entry.added_by,
            verdict=VerdictOut.of(entry.verdict) if entry.verdict else None,
        )


class EventOut(Message):
    """What was done, by whom and why."""

    at: str
    action: str
    version: str
    by: str
    why: str
    share: float

    @classmethod
    def of(cls, event: Event) -> EventOut:
        """The same as the registry's."""
        return cls(
            at=event.at, action=event.action, version=event.version, by=event.by, why=event.why,
            share=event.share,
        )  # fmt: skip


class VersionsOut(Message):
    """All versions, the newest events first; `answers`: what this replica answers with right now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "answers": {"champion": "default-20310401-9f8e7d6c", "shadow": VERSION, "canary": ""},
                    "versions": [ENTRY],
                    "history": [EVENT],
                }
            ]
        }
    )

    answers: dict[str, str] = Field(description="Place → version that this replica has loaded there")
    versions: list[VersionOut]
    history: list[EventOut]


class VersionDetails(VersionOut):
    """One version, with its model card and everything that the gate found."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **ENTRY,
                    "created": "2031-05-05T01:58:00+00:00",
                    "scheme_version": "2031",
                    "heads": {"category": 185},
                    "origin": {},
                    "scores": {},
                    "gate": {},
                    "history": [EVENT],
                }
            ]
        }
    )

    created: str
    scheme_version: str
    heads: dict[str, int] = Field(description="head → number of labels")
    origin: dict[str, Any]
    scores: dict[str, Any]
    gate: dict[str, Any] = Field(description="The whole verdict; empty without one")
    history: list[EventOut]
