"""One text, cleaned and masked: the same function for training and for serving.

`prepare` folds characters (full-width digits, traditional characters, invisible ones), drops what is
no message (HTML remnants, the phrases that every call-centre order opens and closes with) and masks
personal data. Each character of the result knows where it came from, so that evidence found in the
prepared text can be shown in the text as it was written. Time is linear in the text's length; no
text is refused, not even one with lone surrogates.
"""

from __future__ import annotations

import html
import importlib.util
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from data.masking import find_personal_data, placeholder

__all__ = ["MaskedSpan", "Prepared", "is_blank", "prepare", "redact", "visible"]

NOWHERE = (-1, -1)  # offset of a character that the original text does not have (the title)


@dataclass(frozen=True, slots=True)
class MaskedSpan:
    """Personal data that was masked: its kind and [start, end) in the original text."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A text ready for the classifier.

    ``offsets`` holds for every character of ``text`` its [start, end) in the original text, (-1, -1)
    for characters of the title; all characters of a placeholder share the span it stands for.
    ``masked`` lists the personal data of the original text (not of the title), in order.
    """

    text: str
    offsets: tuple[tuple[int, int], ...]
    masked: tuple[MaskedSpan, ...]

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """[start, end) of the prepared text as a span of the original; (-1, -1) if it has no part in it."""
        touched = self.offsets[max(start, 0) : max(end, 0)]
        if not touched or touched[-1] == NOWHERE:  # the title stands in front
            return NOWHERE
        first = touched[0] if touched[0] != NOWHERE else next(span for span in touched if span != NOWHERE)
        return first[0], touched[-1][1]


def prepare(text: str, title: str = "") -> Prepared:
    """Clean and mask one text; with a title that the text does not begin with: title + 。 + text.

    Never raises on any str. The result is empty only if nothing visible was in the text, and nothing
    but full stops in the title; a text that consists of boilerplate alone is kept.
    """
    body, masked = _prepared(text)
    head, _ = _prepared(title) if title else (_Traced("", ()), ())
    opening = head.text.rstrip("。 ")
    if opening and not body.text.startswith(opening):
        prefix = f"{opening}。" if body.text else opening
        body = _Traced(prefix + body.text, (NOWHERE,) * len(prefix) + body.offsets)
    return Prepared(body.text, body.offsets, masked)


def redact(text: str) -> str:
    """The original text, as it was written, with nothing changed but personal data masked."""
    parts, at = [], 0
    for span in prepare(text).masked:
        parts += [text[at : span.start], placeholder(span.kind)]
        at = span.end
    return "".join([*parts, text[at:]])


def visible(text: str) -> str:
    """The text cleaned but not masked and with its boilerplate: what the masking rules look at."""
    return _cleaned(text).text


def is_blank(text: str) -> bool:
    """Whether nothing of the text would be left after `prepare`."""
    return not _CJK.search(text) and not _cleaned(text).text


def _prepared(text: str) -> tuple[_Traced, tuple[MaskedSpan, ...]]:
    cleaned = _cleaned(text)
    found = find_personal_data(cleaned.text)
    if not found:
        return _without_boilerplate(cleaned), ()
    masked = tuple(MaskedSpan(hit.kind, *cleaned.span(hit.start, hit.end)) for hit in found)
    edits = [(hit.start, hit.end, placeholder(hit.kind)) for hit in found]
    return _without_boilerplate(cleaned.replaced(edits)), masked


def _cleaned(text: str) -> _Traced:
    traced = _Traced(text, _own_offsets(len(text)))
    for step in _STEPS:
        traced = step(traced)
    return traced


def _own_offsets(length: int) -> tuple[tuple[int, int], ...]:
    """[start, end) of each character of a text as it came: most texts share their beginning."""
    if length <= _USUAL_LENGTH:
        return _usual_offsets()[:length]
    return tuple(zip(range(length), range(1, length + 1), strict=True))


_USUAL_LENGTH = 2000  # characters


@lru_cache(maxsize=1)
def _usual_offsets() -> tuple[tuple[int, int], ...]:
    return tuple(zip(range(_USUAL_LENGTH), range(1, _USUAL_LENGTH + 1), strict=True))


@dataclass(frozen=True, slots=True)
class _Traced:
    """A text under change whose characters keep their [start, end) in the original."""

    text: str
    offsets: tuple[tuple[int, int], ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        return self.offsets[start][0], self.offsets[end - 1][1]

    def part(self, start: int, end: int) -> _Traced:
        return _Traced(self.text[start:end], self.offsets[start:end])

    def replaced(self, edits: Iterable[tuple[int, int, str]]) -> _Traced:
        """Replace non-overlapping, non-empty [start, end) in order; new characters share the old span."""
        parts: list[str] = []
        offsets: list[tuple[int, int]] = []
        at = 0
        for start, end, new in edits:
            parts += [self.text[at:start], new]
            offsets += self.offsets[at:start]
            offsets += [self.span(start, end)] * len(new)
            at = end
        if not parts:
            return self
        return _Traced("".join([*parts, self.text[at:]]), (*offsets, *self.offsets[at:]))

    def sub(self, pattern: re.Pattern[str], new: Callable[[re.Match[str]], str]) -> _Traced:
        return self.replaced((*hit.span(), new(hit)) for hit in pattern.finditer(self.text))


# -- steps -----------------------------------------------------------------------------------------

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8}\d{0,2});|&nbsp")
_TAG = re.compile(
    r"<!--[^<>]{0,500}-->|<(?:script|style)\b[^<>]{0,300}>[^<]{0,2000}</(?:script|style)>|"
    r"</?(?:p|br|div|span|a|b|i|u|s|em|strong|font|table|thead|tbody|tr|td|th|ul|ol|li|img|h[1-6]|hr|script|style|"
    r"center|pre|blockquote|section|article|body|html|head|meta|link|input|o:p|sub|sup)(?:[\s/][^<>]{0,500})?>|"
    r"_x[0-9A-Fa-f]{4}_",  # how spreadsheets write control characters
    re.IGNORECASE,
)


def _entities(traced: _Traced) -> _Traced:
    if "&" not in traced.text:
        return traced
    return traced.sub(_ENTITY, lambda hit: html.unescape(hit.group())[:2])


def _tags(traced: _Traced) -> _Traced:
    if "<" not in traced.text and "_x" not in traced.text:
        return traced
    return traced.sub(_TAG, lambda _: " ")


_CJK = re.compile(r"[\u4e00-\u9fff]")
# Punctuation that NFKC would turn into ASCII and that reads better as it is.
_KEPT = "，。！？：；（）“”‘’、《》〈〉【】〔〕「」『』—…·￥"
_UNUSUAL = re.compile(rf"[^\x20-\x7e\u4e00-\u9fff{_KEPT}]")
_INVISIBLE = "\ufffd\u115f\u1160\u3164\uffa0"  # the mark of a failed decoding, and Hangul fillers
_LINE_ENDS = frozenset("\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85")


def _folded_characters(traced: _Traced) -> _Traced:
    if not (unusual := set(_UNUSUAL.findall(traced.text))):
        return traced
    changed = {char: new for char in unusual if (new := _folded(char)) != char}
    if not changed:
        return traced
    if all(len(new) == 1 for new in changed.values()):
        table = {ord(char): new for char, new in changed.items()}
        return _Traced(traced.text.translate(table), traced.offsets)
    edits = ((i, i + 1, changed[char]) for i, char in enumerate(traced.text) if char in changed)
    return traced.replaced(edits)


@lru_cache(maxsize=8192)
def _folded(char: str) -> str:
    """One character as it is wanted: itself, its NFKC form, a space, or nothing."""
    category = unicodedata.category(char)
    if char in _LINE_ENDS or category.startswith("Z"):
        return " "
    if category in ("Cc", "Cf", "Cs", "Co") or char in _INVISIBLE or _selects_variant(char):
        return ""
    if category == "No":  # ① would merge with a digit before it
        return char
    folded = unicodedata.normalize("NFKC", char)
    return folded if len(folded) <= 4 and not folded[:1].isspace() else char


def _selects_variant(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _simplified(traced: _Traced) -> _Traced:
    # Simplified texts keep to GB 2312 nearly always: the tables are loaded only when one does not.
    if not _beyond_gb2312().search(traced.text):
        return traced
    characters, words, exceptions = _traditional()
    simplified = list(traced.text.translate(characters))
    for hit in words.finditer(traced.text):
        simplified[hit.start() : hit.end()] = exceptions[hit.group()]
    return _Traced("".join(simplified), traced.offsets)


@lru_cache(maxsize=1)
def _beyond_gb2312() -> re.Pattern[str]:
    """A Chinese character (as `_CJK`) that GB 2312 lacks."""
    codes = (bytes((row, cell)) for row in range(0xB0, 0xF8) for cell in range(0xA1, 0xFF))
    known = {code.decode("gb2312", "ignore") for code in codes}
    return re.compile("[" + "".join(c for c in map(chr, range(0x4E00, 0xA000)) if c not in known) + "]")


@lru_cache(maxsize=1)
def _traditional() -> tuple[dict[int, str], re.Pattern[str], dict[str, str]]:
    """OpenCC's traditional → simplified tables: characters, and the words that are exceptions to them."""
    spec = importlib.util.find_spec("opencc")  # found, not imported: only its tables are needed
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package opencc-python-reimplemented is needed: pip install it")
    folder = Path(spec.origin).parent / "dictionary"
    characters = {ord(old): new for old, new in _table(folder / "TSCharacters.txt") if new <= "\uffff"}
    words = _table(folder / "TSPhrases.txt")
    exceptions = {old: new for old, new in words if old.translate(characters) != new}
    longest_first = "|".join(sorted(exceptions, key=len, reverse=True))
    first = "".join(sorted({word[0] for word in exceptions}))
    return characters, re.compile(f"(?=[{first}])(?:{longest_first})"), exceptions


def _table(path: Path) -> list[tuple[str, str]]:
    """Pairs of equal length, so that offsets stay one to one; of several readings the first."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [(line.split("\t")[0], line.split("\t")[1].split(" ")[0]) for line in lines if "\t" in line]
    return [(old, new) for old, new in pairs if len(old) == len(new)]


_SPACES = re.compile(r" {2,}")
_LOOSE = re.compile(r" (?=[，。！？：；）、”》】])|(?<=[，。！？：；（、“《【]) ")
_REPEATED = re.compile(r"([^\w\s\[\]])\1{3,}")


def _single_spaces(traced: _Traced) -> _Traced:
    if " " not in traced.text:
        return traced
    traced = traced.sub(_SPACES, lambda _: " ").sub(_LOOSE, lambda _: "")
    text = traced.text
    start = len(text) - len(text.lstrip(" "))
    return traced.part(start, len(text.rstrip(" "))) if text.strip(" ") else _Traced("", ())


def _short_rows_of_marks(traced: _Traced) -> _Traced:
    return traced.sub(_REPEATED, lambda hit: hit.group(1) * 3)


_STEPS: tuple[Callable[[_Traced], _Traced], ...] = (
    _entities,
    _tags,
    _folded_characters,
    _simplified,
    _single_spaces,
    _short_rows_of_marks,
)

# -- boilerplate -----------------------------------------------------------------------------------

_CALLER = (
    r"(?:(?:来电人|来访人|来信人|反映人|诉求人|投诉人|求助人|市民|居民|群众|网民|网友|用户|村民|业主|"
    r"\[姓名\](?:先生|女士|小姐)?|[某X×]{1,2}(?:先生|女士|小姐)|先生|女士)(?:[“\"「][^“”\"「」]{1,20}[”\"」])?)"
)
_CHANNEL = (
    r"(?:来电|致电|打来电话|电话|短信|微信|来信|来访|来函|网上|留言|(?:市民云|手机)?(?:APP|app|小程序|公众号)|市民云|"
    r"(?:通过|拨打)?12345(?:热线|平台)?)"
)
_SAYS = r"(?:反映|反应|诉称|称|表示|说)"  # not 反馈: it tells an answer from a new appeal
_OPENINGS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_CALLER}{{1,2}}{_CHANNEL}{{0,2}}{_SAYS}[称说]? ?[：:，,]",
        rf"{_CALLER}{{1,2}}{_CHANNEL}{{1,2}}(?:反映|反应|诉称|称)[称说]?(?!强烈|较多|了|过|的|问题)",
        rf"{_CALLER}{{1,2}}{_CHANNEL}{{1,2}}(?=咨询|投诉|求助|举报|建议|表扬|要求|希望|撤销)",
        r"(?:(?:诉求|反映|主要|工单|来电|受理)?内容|(?:诉求|问题|事件)描述|诉求|反映问题|详情)[：:]",
        r"[【\[](?:市民)?(?:来电|来信|来访|留言|网络|12345)[】\]]",
        r"(?:喂[，, ]?)?(?:尊敬的)?(?:各位|有关|相关)?(?:领导|政府|部门|12345|话务员)?们?[，,：: ]?"
        r"(?:您们?|你们?|大家)好(?:啊|呀)?(?:[！!，,。.：:；; ]+|(?=我|请问|想))",
        r"尊敬的(?:各位|各级|上级|有关)*领导(?:们|同志)?[，,：:]",
    )
)
_WISH = r"(?:希望|恳请|请求|烦请|敬请|麻烦|望|请|盼)"
_WHO = r"(?:相关|有关|贵|主管|职能|责任|上级)(?:职能)?(?:单位|部门|领导|方面|局)"
_HOW = r"(?:能够?|可以|给予|予以|进行|协助|尽快|尽早|及时|早日|立即|抓紧|马上|积极|认真|依法)"
_DO = r"(?:落实|核实|核查|调查|查处|处理|解决|协调|关注|重视|办理|回复|答复|反馈|跟进|为盼)"
_TO = r"(?:来电人|诉求人|反映人|投诉人|市民|群众|用户|居民|本人|我们|我)"
_CLOSING = re.compile(
    r"(?:^|(?<=[，,。.！!？?；;、 …]))(?:"
    rf"{_WISH}(?:{_WHO})?{_HOW}{{0,3}}(?:{_DO}[、并和及]?){{1,4}}(?:一下|此事|此问题|该问题|结果|情况)?{_TO}?"
    r"|(?:故|特|现)(?:此)?(?:来电|来信|致电)?(?:反映|反应)|谢谢(?:领导|你们?|您们?|了|配合)?|盼复|[盼望]回复|此致|敬礼|急盼回复|妥否请示"
    r")[。.！!，,；;~、 …]*$"
)
_LONGEST_CLOSING = 80  # characters; only the end is searched, so that time stays linear
_MOST_PHRASES = 6
_MESSAGE = re.compile(r"\w[^\w]*\w")  # what must remain: two letters, digits or characters


def _without_boilerplate(traced: _Traced) -> _Traced:
    for _ in range(_MOST_PHRASES):
        shorter = _without_opening(traced)
        if shorter is traced:
            break
        traced = shorter
    for _ in range(_MOST_PHRASES):
        shorter = _without_closing(traced)
        if shorter is traced:
            break
        traced = shorter
    return traced


def _without_opening(traced: _Traced) -> _Traced:
    for pattern in _OPENINGS:
        if hit := pattern.match(traced.text):
            start = hit.end() + (traced.text[hit.end() : hit.end() + 1] == " ")
            if _MESSAGE.search(traced.text, start):
                return traced.part(start, len(traced.text))
    return traced


def _without_closing(traced: _Traced) -> _Traced:
    begin = max(0, len(traced.text) - _LONGEST_CLOSING)
    hit = _CLOSING.search(traced.text[begin:])
    if not hit or not _MESSAGE.search(traced.text[: begin + hit.start()]):
        return traced
    end = len(traced.text[: begin + hit.start()].rstrip("，,、； "))
    return traced.part(0, end)
