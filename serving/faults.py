"""From pydantic's findings to faults in Chinese that say the field, what was expected and what came.

What came is described (its kind and length), never quoted: it may be a resident's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving.errors import Fault

__all__ = ["described", "faults_of"]

SHOWN = 20  # faults told in one answer; a caller who sent 256 wrong texts needs the first few
Context = Mapping[str, Any]

KINDS: Mapping[type, str] = {
    bool: "布尔值",
    int: "整数",
    float: "小数",
    list: "数组",
    dict: "对象",
    bytes: "字节",
}

# pydantic's error type -> (message, what was expected)
WORDS: Mapping[str, tuple[str, Callable[[Context], str]]] = {
    "missing": ("缺少必填字段", lambda c: "必填"),
    "string_type": ("类型不对", lambda c: "字符串"),
    "string_too_short": ("内容为空或过短", lambda c: f"至少 {c['min_length']} 个字符"),
    "string_too_long": ("内容过长", lambda c: f"最多 {c['max_length']} 个字符"),
    "string_pattern_mismatch": ("含有不允许的字符", lambda c: f"符合 {c['pattern']}"),
    "list_type": ("类型不对", lambda c: "数组"),
    "too_short": ("数组为空或过短", lambda c: f"至少 {c['min_length']} 项"),
    "too_long": ("数组过长", lambda c: f"最多 {c['max_length']} 项"),
    "extra_forbidden": ("多余的字段", lambda c: "不在接口定义中的字段不要提交"),
    "bool_type": ("类型不对", lambda c: "true 或 false"),
    "bool_parsing": ("类型不对", lambda c: "true 或 false"),
    "model_type": ("类型不对", lambda c: "JSON 对象"),
    "model_attributes_type": ("类型不对", lambda c: "JSON 对象"),
    "dict_type": ("类型不对", lambda c: "JSON 对象"),
    "literal_error": ("不是允许的取值", lambda c: f"{c['expected']} 之一".replace("' or '", "'、'")),
    "int_type": ("类型不对", lambda c: "整数"),
    "int_parsing": ("类型不对", lambda c: "整数"),
    "int_from_float": ("类型不对", lambda c: "整数"),
    "float_type": ("类型不对", lambda c: "数字"),
    "float_parsing": ("类型不对", lambda c: "数字"),
    "finite_number": ("数值超出范围", lambda c: "有限的数字"),
    "greater_than_equal": ("数值超出范围", lambda c: f"不小于 {c['ge']}"),
    "less_than_equal": ("数值超出范围", lambda c: f"不大于 {c['le']}"),
    "json_invalid": ("不是有效的 JSON", lambda c: "UTF-8 编码的 JSON"),
}


def described(value: object) -> str:
    """What a value is, without quoting it: kind and size."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"字符串（{len(value)} 个字符）"
    kind = next((name for known, name in KINDS.items() if isinstance(value, known)), "其他")
    return f"{kind}（{len(value)} 项）" if isinstance(value, list | dict) else kind


def faults_of(errors: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """The faults behind pydantic's error list, in order, at most `SHOWN` of them."""
    return [_fault(error) for error in errors[:SHOWN]]


def _fault(error: Mapping[str, Any]) -> Fault:
    kind, context = str(error["type"]), error.get("ctx", {})
    field = _field(error.get("loc", ()))
    if kind == "value_error":
        return Fault(field, str(context["error"]), got=described(error.get("input")))
    message, expected = WORDS.get(kind, ("内容不符合要求", lambda c: str(error.get("msg", ""))))
    got = "没有这个字段" if kind == "missing" else described(error.get("input"))
    return Fault(field, message, expected(context), got)


def _field(location: Sequence[object]) -> str:
    parts = [part for part in location if part not in ("body", "path", "query")]
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{str(part)[:40]}"
    return path.lstrip(".") or "body"
