"""Errors of the serving room, and the one table that maps each to an HTTP status.

    ServingError               anything the service refuses; catch it to catch all of them
    ├── StartError             the program cannot start (settings, port); the command line prints it
    │   └── DispatchTableError  a dispatch table is not valid (serving.dispatch)
    ├── InvalidInput      422  the body was read but a field is wrong; lists every fault
    ├── BodyTooLarge      413  the body is over the limit in bytes
    ├── WrongMediaType    415  the body is not sent as JSON
    ├── NotSignedIn       401  no key and no session, or one that is wrong or has ended
    ├── WrongLogin        401  name and password do not fit
    ├── NotAllowed        403  the caller lacks the scope, or the role, that the route needs
    ├── ForeignRequest    403  a session's request that does not prove to come from our own page
    ├── UnknownAppeal     404  no appeal is stored under this id
    ├── NoOriginal        404  the appeal's original was not kept
    ├── UnknownModel      404  no model version of this name is in the registry
    ├── UnknownPath       404  no such address
    ├── WrongMethod       405  the address exists, the method does not
    ├── NoRegistry        409  no registry of model versions is set up
    ├── VersionRefused    409  a version cannot be added, promoted or put where it was to be
    ├── UploadIdle        408  the upload of a model version stood still for too long
    ├── AppealConflict    409  the id is taken by an appeal with another body
    ├── LeaseGone         409  a review's lease is over, or another reviewer holds the appeal
    ├── ReviewClash       409  a review's token came with other content, or labels changed meanwhile
    ├── ReviewRefused     422  labels do not fit the label scheme, or something else of a review
    ├── BulkIdle          408  a bulk stream stood still for too long
    ├── Overloaded        429  the queue is full; carries Retry-After
    ├── RateLimited       429  too many requests of one key, user or address; carries Retry-After
    ├── LoginWait         429  too many failed logins; carries Retry-After
    ├── ModelNotReady     503  no model is loaded, with the reason
    ├── ModelFailed       503  the model failed on this very text
    ├── StoreNotReady     503  the database does not answer, with the reason
    ├── RegistryAway      503  the registry cannot be read or written
    ├── TooSlow           503  no answer within the deadline
    ├── OriginalSealed    503  an original is kept but cannot be opened
    └── Stopping          503  the service is being stopped

Every answer that is not a success has the same body: ``{"error": {code, message, field, expected,
got, hint, more}}``. Messages are Chinese: the people who operate an intake system read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from starlette.responses import Response

__all__ = ["STATUS", "Fault", "ServingError", "problem_body", "problem_response", "status_of"]


@dataclass(frozen=True)
class Fault:
    """One thing wrong with an input: where, what was expected, what came (never a resident's words)."""

    field: str
    message: str
    expected: str = ""
    got: str = ""


class ServingError(Exception):
    """What the service refuses. `code` is stable for programs, `message` is for people."""

    code = "serving_error"

    def __init__(
        self, message: str, *, field: str = "", expected: str = "", got: str = "", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.fault = Fault(field, message, expected, got)
        self.hint = hint
        self.more: tuple[Fault, ...] = ()
        self.headers: dict[str, str] = {}


class StartError(ServingError):
    """The program cannot start."""

    code = "cannot_start"


class InvalidInput(ServingError):
    """The body was read but at least one field is wrong."""

    code = "invalid_input"

    def __init__(self, faults: list[Fault], *, hint: str = "") -> None:
        first = faults[0]
        super().__init__(first.message, field=first.field, expected=first.expected, got=first.got, hint=hint)
        self.more = tuple(faults[1:])


class BodyTooLarge(ServingError):
    """The body is over the limit."""

    code = "body_too_large"

    def __init__(self, limit: int, got: str) -> None:
        super().__init__(
            "请求体过大", field="body", expected=f"不超过 {limit} 字节", got=got, hint="请拆分后分批提交"
        )


# What a media type holds → what to say where another one came; the last one is for all others.
BODIES: Mapping[str, str] = {
    "ndjson": "请求体必须是 NDJSON（每行一个 JSON）",
    "x-tar": "请求体必须是 tar 归档（不压缩）",
    "": "请求体必须是 JSON",
}


class WrongMediaType(ServingError):
    """The body is not sent as JSON."""

    code = "wrong_media_type"

    def __init__(self, got: str, expected: str = "application/json", field: str = "Content-Type") -> None:
        super().__init__(
            next(told for kind, told in BODIES.items() if kind in expected),
            field=field,
            expected=expected,
            got=got[:80] or f"没有 {field}",
            hint=f"请设置请求头 {field}: {expected}",
        )


class NotSignedIn(ServingError):
    """No key and no session came, or one that is wrong or has ended."""

    code = "not_signed_in"

    def __init__(self) -> None:
        super().__init__(
            "需要身份验证",
            field="Authorization",
            expected="Authorization: Bearer 密钥，或已登录的会话",
            got="没有有效的密钥或会话",
            hint="程序请核对密钥是否过期或已吊销；人员请到 /login 登录（可另开页面，本页内容会保留）",
        )
        self.headers = {"WWW-Authenticate": "Bearer"}


class WrongLogin(ServingError):
    """Name and password do not fit; which of them is not told."""

    code = "wrong_login"

    def __init__(self) -> None:
        super().__init__("用户名或密码不正确", hint="忘记密码请联系运维人员重设")


class NotAllowed(ServingError):
    """The caller lacks the scope, or the role, that the route needs."""

    code = "not_allowed"

    def __init__(self, needed: list[str], held: list[str], field: str = "scope") -> None:
        super().__init__(
            "没有权限",
            field=field,
            expected="其中之一：" + "、".join(needed),
            got="、".join(held) or "无",
            hint="请使用有相应权限的密钥或账号",
        )


class ForeignRequest(ServingError):
    """A request of a session that does not prove to come from our own page."""

    code = "foreign_request"

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(
            "请求不是由本服务的页面发出的", field=field, expected=expected, hint="请刷新页面后重试"
        )


class NoOriginal(ServingError):
    """The appeal's original was not kept."""

    code = "original_not_kept"

    def __init__(self) -> None:
        super().__init__("没有保存这条诉求的原文", field="id", hint="只有开启加密原文后受理的诉求才有原文")


class UnknownAppeal(ServingError):
    """No appeal is stored under this id."""

    code = "appeal_not_found"

    def __init__(self) -> None:
        super().__init__("没有这个编号的诉求", field="id", hint="请核对编号；编号区分大小写")


class UnknownModel(ServingError):
    """No model version of this name is in the registry."""

    code = "version_not_found"


class NoRegistry(ServingError):
    """No registry of model versions is set up."""

    code = "no_registry"


class VersionRefused(ServingError):
    """A version cannot be added, promoted or put where it was to be."""

    code = "version_refused"


class UploadIdle(ServingError):
    """The upload of a model version stood still."""

    code = "upload_idle"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            "等待数据超时", field="body", expected=f"{seconds:g} 秒内有新的数据", hint="请重新上传整个版本"
        )


class UnknownPath(ServingError):
    """No such address."""

    code = "not_found"


class WrongMethod(ServingError):
    """The address exists, the method does not."""

    code = "method_not_allowed"


class AppealConflict(ServingError):
    """The id is taken by an appeal with another body."""

    code = "appeal_conflict"

    def __init__(self) -> None:
        super().__init__(
            "该编号已登记了另一份内容不同的诉求",
            field="id",
            expected="与首次提交完全相同的内容，或一个新的编号",
            got="相同编号、不同内容",
            hint="重发请保持原内容；补充内容请使用新的编号",
        )


class LeaseGone(ServingError):
    """The lease is over or not the caller's, or another reviewer holds the appeal."""

    code = "lease_lost"


class ReviewClash(ServingError):
    """The same token came before with other content, or labels changed since they were shown."""

    code = "review_conflict"


class ReviewRefused(InvalidInput):
    """Labels do not fit the label scheme, spans do not fit the text, or the like."""

    code = "review_refused"


class Overloaded(ServingError):
    """The queue is full. The body names the limit that was hit."""

    code = "overloaded"

    def __init__(self, limit: str, value: int, waiting: int, retry_after: int) -> None:
        super().__init__(
            "服务繁忙，请稍后重试",
            field=limit,
            expected=f"{limit} 不超过 {value}",
            got=f"已有 {waiting}",
            hint=f"请在 {retry_after} 秒后重试；规则判定的紧急诉求不受此限制",
        )
        self.headers = {"Retry-After": str(retry_after)}


class RateLimited(ServingError):
    """Too many requests of one caller. The body names the limit that was hit."""

    code = "rate_limited"

    def __init__(self, limit: str, per_second: float, retry_after: int) -> None:
        super().__init__(
            "请求过于频繁，请稍后重试",
            field=limit,
            expected=f"每秒不超过 {per_second:g} 次",
            got="超出限制",
            hint=f"请在 {retry_after} 秒后重试；规则判定的紧急诉求不受此限制",
        )
        self.headers = {"Retry-After": str(retry_after)}


class LoginWait(ServingError):
    """Too many failed logins of this account or from this address."""

    code = "login_wait"

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "登录失败次数过多，请稍后再试", field="login_failures", hint=f"请在 {retry_after} 秒后重试"
        )
        self.headers = {"Retry-After": str(retry_after)}


class BulkIdle(ServingError):
    """A bulk stream stood still: its client neither sent nor ended it."""

    code = "bulk_idle"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            "等待数据超时",
            field="body",
            expected=f"{seconds:g} 秒内有新的数据",
            got="没有数据",
            hint="请重新提交尚未得到应答的行；已应答的行不会重复登记",
        )


class Unavailable(ServingError):
    """Something the answer needs is away; trying again later may help."""

    code = "unavailable"

    def __init__(self, message: str, reason: str = "", *, retry_after: int = 5) -> None:
        super().__init__(message, got=reason[:500], hint=f"可在 {retry_after} 秒后重试；原因见 /readyz")
        self.headers = {"Retry-After": str(retry_after)}


class ModelNotReady(Unavailable):
    """No model is loaded."""

    code = "model_not_ready"


class ModelFailed(Unavailable):
    """The model failed on this very text."""

    code = "model_failed"


class StoreNotReady(Unavailable):
    """The database does not answer."""

    code = "store_not_ready"


class TooSlow(Unavailable):
    """No answer within the deadline."""

    code = "too_slow"


class RegistryAway(Unavailable):
    """The registry cannot be read, or cannot be written to."""

    code = "registry_away"


class OriginalSealed(Unavailable):
    """An original is kept but cannot be opened."""

    code = "original_sealed"

    def __init__(self, reason: str) -> None:
        super().__init__("原文已加密保存，但无法解密", reason)


class Stopping(Unavailable):
    """The service is being stopped."""

    code = "stopping"


STATUS: Mapping[type[ServingError], int] = {
    InvalidInput: 422,
    BodyTooLarge: 413,
    WrongMediaType: 415,
    NotSignedIn: 401,
    WrongLogin: 401,
    NotAllowed: 403,
    ForeignRequest: 403,
    UnknownAppeal: 404,
    NoOriginal: 404,
    UnknownModel: 404,
    UnknownPath: 404,
    NoRegistry: 409,
    VersionRefused: 409,
    UploadIdle: 408,
    WrongMethod: 405,
    AppealConflict: 409,
    LeaseGone: 409,
    ReviewClash: 409,
    ReviewRefused: 422,
    BulkIdle: 408,
    Overloaded: 429,
    RateLimited: 429,
    LoginWait: 429,
    ModelNotReady: 503,
    ModelFailed: 503,
    StoreNotReady: 503,
    TooSlow: 503,
    RegistryAway: 503,
    OriginalSealed: 503,
    Stopping: 503,
}


def status_of(error: ServingError) -> int:
    """The HTTP status of an error; 500 for one that the table does not name."""
    return STATUS.get(type(error), 500)


def problem_body(error: ServingError) -> dict[str, Any]:
    """The common body of everything that is not a success."""
    fault = error.fault
    return {
        "error": {
            "code": error.code,
            "message": fault.message,
            "field": fault.field,
            "expected": fault.expected,
            "got": fault.got,
            "hint": error.hint,
            "more": [asdict(other) for other in error.more],
        }
    }


def problem_response(error: ServingError, status: int | None = None) -> Response:
    """The answer that tells an error, with its status unless another one is given."""
    body = orjson.dumps(problem_body(error))
    return Response(body, status or status_of(error), headers=error.headers, media_type="application/json")
