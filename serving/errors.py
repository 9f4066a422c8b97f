"""Errors of the serving room, and the one table that maps each to an HTTP status.

    ServingError               anything the service refuses; catch it to catch all of them
    ├── StartError             the program cannot start (settings, port); the command line prints it
    │   └── DispatchTableError  a dispatch table is not valid (serving.dispatch)
    ├── InvalidInput      422  the body was read but a field is wrong; lists every fault
    ├── BodyTooLarge      413  the body is over the limit in bytes
    ├── WrongMediaType    415  the body is not sent as JSON
    ├── UnknownAppeal     404  no appeal is stored under this id
    ├── UnknownPath       404  no such address
    ├── WrongMethod       405  the address exists, the method does not
    ├── AppealConflict    409  the id is taken by an appeal with another body
    ├── Overloaded        429  the queue is full; carries Retry-After
    ├── ModelNotReady     503  no model is loaded, with the reason
    ├── ModelFailed       503  the model failed on this very text
    ├── StoreNotReady     503  the database does not answer, with the reason
    ├── TooSlow           503  no answer within the deadline
    └── Stopping          503  the service is being stopped

Every answer that is not a success has the same body: ``{"error": {code, message, field, expected,
got, hint, more}}``. Messages are Chinese: the people who operate an intake system read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["STATUS", "Fault", "ServingError", "problem_body", "status_of"]


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


class WrongMediaType(ServingError):
    """The body is not sent as JSON."""

    code = "wrong_media_type"

    def __init__(self, got: str) -> None:
        super().__init__(
            "请求体必须是 JSON",
            field="Content-Type",
            expected="application/json",
            got=got[:80] or "没有 Content-Type",
            hint="请设置请求头 Content-Type: application/json",
        )


class UnknownAppeal(ServingError):
    """No appeal is stored under this id."""

    code = "appeal_not_found"

    def __init__(self) -> None:
        super().__init__("没有这个编号的诉求", field="id", hint="请核对编号；编号区分大小写")


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


class Stopping(Unavailable):
    """The service is being stopped."""

    code = "stopping"


STATUS: Mapping[type[ServingError], int] = {
    InvalidInput: 422,
    BodyTooLarge: 413,
    WrongMediaType: 415,
    UnknownAppeal: 404,
    UnknownPath: 404,
    WrongMethod: 405,
    AppealConflict: 409,
    Overloaded: 429,
    ModelNotReady: 503,
    ModelFailed: 503,
    StoreNotReady: 503,
    TooSlow: 503,
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
