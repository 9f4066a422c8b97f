"""What is answered over HTTP about reviewing."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from serving.messages import Message
from serving.review import examples
from serving.review.asking import Queue

__all__ = ["DoneOut", "HistoryOut", "LabelsOut", "QueuesOut", "SimilarOut", "Task", "TaskOut"]


# --- queues and labels ----------------------------------------------------------------------------


class QueueOut(Message):
    """A queue: what waits in it and what is before somebody now; `more`: at least `waiting` wait."""

    queue: Queue
    name: str
    about: str
    waiting: int
    held: int
    more: bool = False


class MeOut(Message):
    """Who the reviewer is, as corrections name them."""

    name: str
    lead: bool


class RulesOut(Message):
    """Shares of all appeals that are audited, and that two reviewers get."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.RULES]})

    audit_share: float
    double_share: float


class NamedOut(Message):
    """A code with its name."""

    code: str
    name: str


class QueuesOut(Message):
    """What the page needs to begin."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.QUEUES]})

    queues: list[QueueOut]
    me: MeOut
    rules: RulesOut
    skip_reasons: list[NamedOut]
    lease_minutes: float


class PickOut(NamedOut):
    """A label to be picked: found by its characters, its pinyin or their initials."""

    path: list[str]
    pinyin: str = Field(description="Syllables without tones, separated by blanks")
    initials: str
    keywords: list[str]
    definition: str


class PickHead(Message):
    """A head with its labels; `tree`: their paths have several levels."""

    head: str
    name: str
    tree: bool
    labels: list[PickOut]


class LabelsOut(Message):
    """All labels that may be given, for the pickers."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.LABELS]})

    scheme_version: str
    heads: list[PickHead]


# --- tasks ----------------------------------------------------------------------------------------


class LeaseOut(Message):
    """Until when the appeal is this reviewer's alone; `queue` is empty where it was asked for by id."""

    number: int
    queue: str
    taken_at: datetime
    expires_at: datetime


class FlagOut(Message):
    """Characters [start, end) that were flagged; they are covered in the text."""

    number: int
    start: int
    end: int
    reviewer: str


class FlagsOut(Message):
    """All flags of an appeal."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.FLAGS_OUT]})

    flags: list[FlagOut]


class PlaceOut(Message):
    """Where the appeal points to."""

    city: str
    district: str
    street: str
    community: str
    grid: str


class AppealOut(Message):
    """The appeal itself; `text` is prepared: personal data is masked, flagged characters are covered."""

    id: str
    text: str
    received_at: datetime
    channel: str
    declared_type: str
    place: PlaceOut
    flags: list[FlagOut]


class Alternative(NamedOut):
    """A further label."""

    path: list[str]
    probability: float


class EvidenceOut(Message):
    """Characters [start, end) of the task's text, and how much they spoke for the label."""

    start: int
    end: int
    weight: float


class StandsOut(Message):
    """A label that people gave; `code` is null where it is disputed or one of several."""

    code: str | None
    name: str
    state: Literal["agreed", "partial", "untellable", "disputed", "adjudicated"]
    by: list[str]


class HeadOut(Message):
    """One head: what the model suggests, what people said, and what this reviewer said.

    `code` is empty where nothing is suggested, or a label that the scheme has no more (`label` names it).
    """

    head: str
    name: str
    code: str
    label: str
    path: list[str]
    probability: float
    alternatives: list[Alternative]
    evidence: list[EvidenceOut]
    in_force: StandsOut | None
    mine: str | None


class TriggerOut(Message):
    """What in the task's text raised the urgency."""

    kind: str
    name: str
    start: int
    end: int
    source: Literal["rule", "model"]
    level: str


class UrgencyOut(Message):
    """The stored urgency, and its triggers in the task's text."""

    level: str
    probability: float
    triggers: list[TriggerOut]


class OtherHead(NamedOut):
    """What another model version says."""

    probability: float


class OtherAnswer(Message):
    """The answer of another model version."""

    model_version: str
    heads: dict[str, OtherHead]


class Task(Message):
    """An appeal with all a reviewer needs to decide; all spans are code points of `appeal.text`.

    `explained`: whether the model could be asked what in the text spoke for its answer; `blind`: others'
    labels are not shown, because a second, independent opinion is wanted.
    """

    lease: LeaseOut | None
    appeal: AppealOut
    shown_version: str
    scheme_version: str
    heads: list[HeadOut]
    urgency: UrgencyOut
    decision: dict[str, Any] = Field(description="As it was answered when the appeal was taken up")
    memory: list[dict[str, Any]] = Field(
        description="Corrected look-alikes that moved the answer, as it was answered"
    )
    others: list[OtherAnswer]
    wanted: int = Field(description="Different reviewers asked for in all")
    missing: int = Field(description="Of them, those still to come")
    blind: bool
    explained: bool


class TaskOut(Message):
    """A task; null when nothing waits."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.TASK]})

    task: Task | None


class ExtendedOut(Message):
    """Until when the lease holds now."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.EXTENDED]})

    expires_at: datetime


class Nothing(Message):
    """It was done."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.NOTHING]})


class DoneWords(Message):
    """What was written, in labels; `again`: the request came before, and nothing was written this time."""

    rows: int
    confirmed: int
    changed: int
    unchanged: int
    again: bool


class DoneOut(Message):
    """What was written."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DONE]})

    done: DoneWords


# --- around an appeal -----------------------------------------------------------------------------


class EventOut(Message):
    """One thing that happened to an appeal."""

    at: datetime
    what: str
    who: str
    head: str
    before: str
    after: str
    before_name: str
    after_name: str
    why: str
    model_version: str
    scheme_version: str
    seconds: float
    details: dict[str, Any]


class HistoryOut(Message):
    """Everything that happened to an appeal, the oldest first; blind: others' labels are left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.HISTORY]})

    events: list[EventOut]
    blind: bool


class SimilarLabel(NamedOut):
    """The label of a look-alike, and who says so."""

    by: Literal["person", "model"]
    state: str


class SimilarAppeal(Message):
    """A look-alike; `similarity` is the cosine of both vectors; `same_evidence`: words that spoke in both."""

    id: str
    text: str
    similarity: float
    duplicate: bool
    received_at: datetime
    labels: dict[str, SimilarLabel]
    same_evidence: list[str]


class SimilarOut(Message):
    """The most alike of the stored appeals, the most alike first."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SIMILAR]})

    similar: list[SimilarAppeal]


class ChangeOut(Message):
    """What bulk labelling would do to one appeal; `stays` says why nothing would be written."""

    id: str
    text: str
    before: str | None
    before_name: str
    by: Literal["person", "model", "nobody"]
    after: str | None
    after_name: str
    stays: Literal["", "same", "adjudicated"]


class PreviewOut(Message):
    """What would change; send `fingerprint` to do it."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PREVIEW_OUT]})

    head: str
    code: str
    changes: list[ChangeOut]
    changing: int
    fingerprint: str


class VoiceOut(Message):
    """What one reviewer says."""

    reviewer: str
    code: str
    name: str
    comment: str
    at: datetime


class DisputeOut(Message):
    """An appeal whose reviewers disagree: head → what each of them says."""

    id: str
    text: str
    received_at: datetime
    heads: dict[str, list[VoiceOut]]


class DisputesOut(Message):
    """Disputes that no lead has decided, the oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DISPUTES]})

    disputes: list[DisputeOut]
