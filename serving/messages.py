"""What travels over HTTP: requests, answers and problems, with the examples OpenAPI shows."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from data.appeals import Place
from data.cleaning import is_blank
from serving.examples import ANSWER, APPEAL, MODEL, ORIGINAL, READY, SCHEME, TEXTS

__all__ = ["ID_PATTERN", "Answer", "AppealIn", "ClassifyIn", "ClassifyOut", "Problem", "Told", "in_json"]

TEXT_LIMIT = 100_000  # characters; one order of magnitude over the longest real appeal
TEXTS_LIMIT = 256
TITLE_LIMIT = 500
EARLIEST, LATEST = 2000, 2100  # years; a clock outside of them is a mistake, and deadlines must be countable

Told = dict[str, Any]  # a message to callers as plain values, where validating it would cost too much


def in_json(told: Told) -> bytes:
    """A message as it travels: UTF-8, moments in ISO 8601."""
    return orjson.dumps(told, option=orjson.OPT_UTC_Z)


def _not_blank(text: str) -> str:
    if is_blank(text):
        raise ValueError("内容为空：应至少有一个非空白字符")
    return text


def _moment(value: object) -> object:
    """Only ISO 8601 strings: numbers would be read as seconds or milliseconds by guess."""
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, str):
        with suppress(ValueError):  # told below, like every other wrong value
            return datetime.fromisoformat(value.strip())
    raise ValueError("时间格式不对：应为 ISO 8601，例如 2025-03-04T19:20:00+08:00")


def _countable(value: datetime | None) -> datetime | None:
    if value is not None and not EARLIEST <= value.year < LATEST:
        raise ValueError(f"时间超出范围：应在 {EARLIEST} 年至 {LATEST} 年之间")
    return value


ID_PATTERN = r"^\w[\w.:@()（）〔〕\[\]+~-]{0,127}$"  # nothing that needs care in an address

Text = Annotated[str, Field(min_length=1, max_length=TEXT_LIMIT), AfterValidator(_not_blank)]
Word = Annotated[str, Field(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
Moment = Annotated[datetime | None, BeforeValidator(_moment), AfterValidator(_countable)]
Share = Annotated[float, Field(ge=0, le=1)]


class Message(BaseModel):
    """Base of all messages: no unknown fields, no change after it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PlaceIn(Message):
    """Where the appeal points to; leave out what is not known."""

    city: Word = ""
    district: Word = ""
    street: Word = ""
    community: Word = ""
    grid: Word = ""

    def place(self) -> Place:
        """The same as the data room's type."""
        return Place(self.city, self.district, self.street, self.community, self.grid)


class AppealIn(Message):
    """One appeal as the intake system sends it."""

    model_config = ConfigDict(json_schema_extra={"examples": [APPEAL]})

    id: str = Field(
        max_length=128,
        pattern=ID_PATTERN,
        description="Identifier of the intake system; the same id with the same body gets the same answer",
    )
    text: Text = Field(description=f"The resident's words, at most {TEXT_LIMIT} characters")
    title: str = Field("", max_length=TITLE_LIMIT)
    received_at: Moment = Field(None, description="ISO 8601; without a zone: the service's; default: now")
    channel: Word = ""
    place: PlaceIn = PlaceIn()
    declared_type: Word = Field(
        "", description="Appeal type that the agent chose; told when the text disagrees"
    )

    def sha256(self) -> str:
        """Hash of the body's meaning: order of keys and left-out defaults don't matter."""
        return hashlib.sha256(orjson.dumps(self.model_dump(), option=orjson.OPT_SORT_KEYS)).hexdigest()


class ClassifyIn(Message):
    """Texts to be classified and decided on; nothing is stored."""

    model_config = ConfigDict(json_schema_extra={"examples": [TEXTS]})

    texts: list[Text] = Field(min_length=1, max_length=TEXTS_LIMIT)
    received_at: Moment = None
    place: PlaceIn = PlaceIn()


class Span(Message):
    """Characters [start, end) of `text` as it was sent, counted in Unicode code points."""

    start: int
    end: int
    weight: float = Field(description="How much it spoke for the answer; larger is more")


class Choice(Message):
    """A further label and its probability."""

    code: str
    name: str
    path: list[str] = Field(description="Names from the first level down")
    probability: Share


class HeadAnswer(Choice):
    """The answer of one head: its label, the next likely ones, and what in the text spoke for it."""

    alternatives: list[Choice]
    evidence: list[Span]


class TierAnswer(HeadAnswer):
    """Who should act first, and who leads there."""

    leader: str


class TriggerOut(Message):
    """What raised the urgency. Offsets are null when it stands in the title."""

    kind: str
    name: str = Field(description="The kind in Chinese")
    start: int | None
    end: int | None
    text: str = Field(description="The words, personal data masked")
    source: Literal["rule", "model"]
    level: str
    in_title: bool = False


class UrgencyOut(Message):
    """How urgent, by rules and model together; `model` is what is said without the rules."""

    level: str
    probability: Share
    triggers: list[TriggerOut]
    model: HeadAnswer | None


class UnitOut(Message):
    """A unit by code and name."""

    code: str
    name: str


class UnitChoice(UnitOut):
    """A further unit and its probability."""

    probability: Share


class UnitAnswerOut(Message):
    """Who gets the order."""

    lead: UnitOut
    co_units: list[UnitOut]
    alternatives: list[UnitChoice]
    probability: Share
    source: Literal["table", "model", "both", "upward", "emergency"] = Field(
        description="What chose the lead unit; upward: one level above a unit that the appeal accuses; "
        "emergency: life is in danger, rescue leads"
    )
    evidence: list[Span]


class ReasonOut(Message):
    """Why the decision is as it is."""

    code: str
    text: str


class DecisionOut(Message):
    """What happens next."""

    action: Literal["auto_dispatch", "review", "transfer"]
    reasons: list[ReasonOut]
    respond_by: datetime | None
    resolve_by: datetime | None
    transfer_to: list[str] = Field(description="Bodies to hand over to, the most urgent first")
    at_once: bool = Field(description="A person must look now, whatever the action")


class MaskedOut(Message):
    """Personal data that was masked before anything else happened."""

    kind: str
    start: int
    end: int


class MemoryOut(Message):
    """A corrected look-alike that moved the answer of a head."""

    appeal_id: str | None = Field(description="Null where the caller may not see that appeal")
    similarity: Share = Field(description="Cosine of both texts' embeddings")
    head: str
    code: str
    name: str
    weight: Share = Field(description="How much of the head's probability it brought to this label")


class Answer(Message):
    """The answer to one appeal. A head that the city's scheme lacks is null."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER]})

    id: str | None
    received_at: datetime
    category: HeadAnswer | None
    appeal_type: HeadAnswer | None
    urgency: UrgencyOut | None
    tier: TierAnswer | None
    unit: UnitAnswerOut | None
    decision: DecisionOut
    extra: dict[str, HeadAnswer] = Field(description="Further heads of the scheme, such as petition")
    masked: list[MaskedOut]
    memory: list[MemoryOut] = Field([], description="Corrected look-alikes that moved this answer")
    without_memory: dict[str, Choice] = Field(
        {}, description="What the model alone answers, for the heads that look-alikes moved"
    )
    model_version: str
    scheme_version: str


class ClassifyOut(Message):
    """Answers in the order of the texts."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"results": [{**ANSWER, "id": None}]}]})

    results: list[Answer]


class Original(Message):
    """An appeal as it was sent, personal data included."""

    model_config = ConfigDict(json_schema_extra={"examples": [ORIGINAL]})

    id: str
    title: str
    text: str


class LabelOut(Message):
    """One label that a head may answer."""

    code: str
    name: str
    path: list[str] = Field(description="Names from the first level down")


class HeadOut(Message):
    """One head: its kind (flat, tree, ordinal) and its labels in order."""

    name: str
    title: str = Field(description="Name for people; empty for the standard heads")
    kind: str
    labels: list[LabelOut]


class SchemeOut(Message):
    """The label scheme in force."""

    model_config = ConfigDict(json_schema_extra={"examples": [SCHEME]})

    name: str
    version: str
    sha256: str
    heads: list[HeadOut]


class ModelOut(Message):
    """The model in force, what it was measured at, and the thresholds of automatic dispatch."""

    model_config = ConfigDict(json_schema_extra={"examples": [MODEL]})

    version: str
    scheme: str
    scheme_version: str
    heads: dict[str, int] = Field(description="head → number of labels")
    thresholds: dict[str, float]
    target_accuracy: float | None
    card: dict[str, Any]


class FaultOut(Message):
    """A further wrong field."""

    field: str
    message: str
    expected: str
    got: str


class ProblemOut(FaultOut):
    """What went wrong: `code` for programs, the rest for people."""

    code: str
    hint: str
    more: list[FaultOut]


class Problem(Message):
    """The body of every answer that is not a success."""

    error: ProblemOut


class Ready(Message):
    """Which parts work; `problems` says why one doesn't."""

    model_config = ConfigDict(json_schema_extra={"examples": [READY]})

    ready: bool
    model: bool
    store: bool
    problems: dict[str, str]
