"""What the data room refuses of a review, in the words of the API: which of our errors it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from data.errors import AppealUnknown, LabelsRefused, LeaseLost, Problem, ReviewConflict, ReviewError
from data.scheme import Scheme
from serving.errors import Fault, LeaseGone, ReviewClash, ReviewRefused, ServingError, UnknownAppeal
from serving.review.naming import Names

__all__ = [
    "check_categories", "check_labels", "check_spans", "held_by_another", "refusal", "stale_preview",
    "unknown_appeals",
]  # fmt: skip

SHOWN = 20  # faults told in one answer


def refusal(error: ReviewError) -> ServingError:
    """The error that a caller is told instead of the data room's."""
    if isinstance(error, AppealUnknown):
        return UnknownAppeal()
    if isinstance(error, LeaseLost):
        return LeaseGone(
            "这条诉求已不在您名下",
            field="lease",
            expected="本人尚未结束的领取",
            got="已结束、已过期，或属于他人",
            hint="请重新领取；填写的内容可在重新领取后再次提交",
        )
    if isinstance(error, ReviewConflict):
        return ReviewClash(
            "与先前提交的内容冲突",
            field="token",
            expected="新内容用新的 token；已答复的先撤销",
            got="同一 token 的另一份内容、无可撤销的内容，或已答复的诉求",
            hint="请刷新这条诉求后重试",
        )
    return ReviewRefused(_faults(error))


def held_by_another() -> LeaseGone:
    """An appeal was asked for by its id while others have it before them."""
    return LeaseGone(
        "这条诉求正由他人处理", field="id", expected="无人正在处理的诉求", hint="请稍后再试，或先处理下一条"
    )


def stale_preview() -> ReviewClash:
    """Labels changed between the preview and the deed."""
    return ReviewClash(
        "预览之后标签有了变动",
        field="fingerprint",
        expected="与当前标签一致的预览",
        got="过期的预览，或同一 token 的另一份内容",
        hint="请重新预览，确认后再提交",
    )


def unknown_appeals(ids: Iterable[str]) -> UnknownAppeal:
    """Some of many appeals are not there."""
    error = UnknownAppeal()
    faults = [Fault("ids", "没有这个编号的诉求", "已入库的诉求编号", id) for id in ids]
    error.more = tuple(faults[:SHOWN])
    return error


def check_labels(scheme: Scheme, labels: Mapping[str, str], field: str = "labels") -> None:
    """Raise ReviewRefused unless every head is the scheme's and every code may be given; lists all faults."""
    names = Names(scheme)
    faults = [
        Fault(f"{field}.{head[:40]}", *_wrong(names, head, code))
        for head, code in labels.items()
        if head not in scheme.heads or (code and not names.active(head, code))
    ]
    if faults:
        raise ReviewRefused(faults[:SHOWN], hint="可用的标签见 GET /v1/review/labels")


def check_categories(scheme: Scheme, codes: Iterable[str]) -> tuple[str, ...]:
    """The leaves of some categories, which may be branches. Raises ReviewRefused for unknown ones."""
    known = scheme.labels.get("category", {})
    faults = [
        Fault(f"filters.categories[{at}]", "标签体系中没有这个编码", "事项分类的编码", code[:40])
        for at, code in enumerate(codes)
        if code not in known
    ]
    if faults:
        raise ReviewRefused(faults[:SHOWN])
    leaves = (leaf for code in codes for leaf in sorted(scheme.leaves("category", code)))
    return tuple(dict.fromkeys(leaves))


def _wrong(names: Names, head: str, code: str) -> tuple[str, str, str]:
    """(message, expected, got) of a label that cannot be given."""
    if head not in names.scheme.heads:
        return "标签体系中没有这个分类头", "、".join(names.heads), head[:40]
    label = names.scheme.labels[head].get(code)
    if label is None:
        return "标签体系中没有这个编码", f"{names.head(head)}的编码", code[:40]
    if label.active:
        return "不是最末级的标签", f"“{label.name}”之下的标签", code
    return "标签已停用", f"改用 {label.replaced_by}" if label.replaced_by else "在用的标签", code


def check_spans(text: str, spans: Iterable[tuple[int, int]]) -> None:
    """Raise ReviewRefused unless all spans lie within the text."""
    faults = [
        Fault(f"spans[{at}]", "超出诉求内容的范围", f"0 ≤ 起点 < 终点 ≤ {len(text)}", f"[{start}, {end})")
        for at, (start, end) in enumerate(spans)
        if not 0 <= start < end <= len(text)
    ]
    if faults:
        raise ReviewRefused(faults[:SHOWN])


def _faults(error: ReviewError) -> list[Fault]:
    message = "标签或范围不符合要求" if isinstance(error, LabelsRefused) else "请求不符合要求"
    problems = error.problems or (Problem(error.message, ""),)
    return [Fault(one.path, message, one.expected, one.came) for one in problems[:SHOWN]]
