"""What comes over HTTP about reviewing: requests, with what each field may hold."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from data.cleaning import redact
from data.reviews import Filters
from serving.messages import ID_PATTERN, Message, Moment, Word
from serving.review import examples

__all__ = [
    "HIGHEST", "SKIP_REASONS", "AdjudicationIn", "BulkIn", "CorrectionIn", "FiltersIn", "FlagsIn",
    "PreviewIn", "RulesIn", "SkipIn", "TakeIn", "TokenIn", "WithdrawIn",
]  # fmt: skip

HIGHEST = 2**53 - 1  # what a number in JSON holds exactly; no table has as many rows
BULK_LIMIT = 1000  # appeals; as the store's own
SPANS_LIMIT = 200
COMMENT_LIMIT = 2000  # characters; the store takes 4,000, and masking makes texts longer

SKIP_REASONS = {
    "unclear": "内容看不明白",
    "garbled": "内容残缺或乱码",
    "not_mine": "不熟悉这类业务",
    "ask_lead": "需要组长判断",
    "conflict": "涉及本人或熟人，应当回避",
    "other": "其他原因",
}
Queue = Literal["urgent", "uncertain", "disagreement", "suspected", "audit", "disputed"]
Reason = Literal["unclear", "garbled", "not_mine", "ask_lead", "conflict", "other"]


def _whole(value: object) -> int:
    """JSON's 15 and 15.0 are the same number; true and "15" are none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("类型不对：应为整数")
    return value


Number = Annotated[int, Field(ge=1, le=HIGHEST), BeforeValidator(_whole)]
Offset = Annotated[int, Field(ge=0, le=HIGHEST), BeforeValidator(_whole)]
Id = Annotated[str, Field(pattern=ID_PATTERN, max_length=128)]
Head = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
Code = Annotated[str, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]
Labels = Annotated[dict[str, Code], Field(min_length=1, max_length=32)]
Token = Annotated[
    str, Field(pattern=r"^[\w.:-]{1,96}$", description="Made by the client, new for new content")
]
Version = Annotated[str, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]
Seconds = Annotated[float, Field(strict=True, ge=0, le=86_400, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
# Reviewers quote callers: what they write is masked like any text, before anything is stored.
Comment = Annotated[
    str,
    Field(max_length=COMMENT_LIMIT, pattern=r"^[^\x00]*$"),
    AfterValidator(lambda text: redact(text)[:4000]),
]
Ids = Annotated[list[Id], Field(min_length=1, max_length=BULK_LIMIT)]


class FiltersIn(Message):
    """Which appeals of a queue. Categories may be branches of the tree; what is empty asks for all."""

    categories: list[Code] = Field([], max_length=BULK_LIMIT)
    district: Word = ""
    street: Word = ""
    community: Word = ""
    since: Moment = None
    until: Moment = None

    def filters(self, leaves: tuple[str, ...], since: datetime | None, until: datetime | None) -> Filters:
        """The same as the data room's type."""
        return Filters(leaves, self.district, self.street, self.community, since, until)


class TakeIn(Message):
    """From which queue; `holding`: numbers of the leases that the page has already."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.TAKE]})

    queue: Queue
    filters: FiltersIn = FiltersIn()
    holding: list[Number] = Field([], max_length=100)


class CorrectionIn(Message):
    """What the reviewer says: head → code; the empty code says that the text does not tell."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CORRECTION]})

    labels: Labels
    token: Token
    shown_version: Version = Field("", description="Whose answer was on the page: the task's shown_version")
    comment: Comment = ""
    seconds: Seconds = 0.0


class AdjudicationIn(CorrectionIn):
    """What a lead decides; `lease`: under which they had it, if under one."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.ADJUDICATION]})

    lease: Number | None = None


class SkipIn(Message):
    """Why an appeal is passed on."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SKIP]})

    reason: Reason
    comment: Comment = ""
    seconds: Seconds = 0.0


class TokenIn(Message):
    """A request that may be sent twice."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.TOKEN]})

    token: Token


class FlagsIn(Message):
    """Characters [start, end) of the task's text that are personal data."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.FLAGS]})

    spans: list[tuple[Offset, Offset]] = Field(min_length=1, max_length=SPANS_LIMIT)


class PreviewIn(Message):
    """One label for many appeals; `final`: as a lead's decision."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PREVIEW]})

    ids: Ids
    head: Head
    code: Code
    final: Annotated[bool, Field(strict=True)] = False


class BulkIn(PreviewIn):
    """The same, after the preview with this fingerprint."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.BULK]})

    fingerprint: str = Field(max_length=128)
    token: Token
    comment: Comment = ""


class WithdrawIn(TokenIn):
    """Take back what was said under an earlier token."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.WITHDRAW]})

    said_under: Token


class RulesIn(Message):
    """Shares of the appeals that are stored from now on; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.RULES]})

    audit_share: Share | None = None
    double_share: Share | None = None
