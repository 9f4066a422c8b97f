"""Personal data in a cleaned text: where it is and of which kind.

Works on text that `data.cleaning` has already folded (half-width digits, no zero-width characters),
so that a phone number in full-width digits needs no rule of its own. Every rule is a function that
yields what it found; `RULES` lists them, the earlier rule wins where two overlap. Rules are careful
in both directions: an amount, a date, an order number, a place or a unit is not personal data, and
masking it would cost the classifier what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["KINDS", "Found", "find_personal_data", "placeholder"]

KINDS = ("手机号", "电话", "身份证", "车牌", "银行卡", "邮箱", "姓名", "门牌")


@dataclass(frozen=True, slots=True)
class Found:
    """One piece of personal data: its kind (one of `KINDS`) and [start, end) in the text searched."""

    kind: str
    start: int
    end: int


Rule = Callable[[str], Iterator[Found]]


def placeholder(kind: str) -> str:
    """What stands in a masked text instead of the data: ``[手机号]``."""
    return f"[{kind}]"


def find_personal_data(text: str) -> tuple[Found, ...]:
    """All personal data in a cleaned text, in order, without overlaps. Linear in the text's length."""
    taken = bytearray(len(text))
    found: list[Found] = []
    for rule in RULES if _LONG_NUMBER.search(text) else _RULES_WITHOUT_NUMBERS:
        for hit in rule(text):
            if not any(taken[hit.start : hit.end]):
                taken[hit.start : hit.end] = b"\x01" * (hit.end - hit.start)
                found.append(hit)
    return tuple(sorted(found, key=lambda hit: hit.start))


# -- what stands around a number decides what it is ------------------------------------------------

_ORDER_CUE = re.compile(
    r"(?:单号|编号|订单|流水号?|案号|文号|合同号|发票号?|运单|快递|工单|受理号|查询码|信用代码|户号|表号|水表号|电表号)"
    r"(?:号码?)?[为是]?[\s:：#\[(（]*$"
)
_ID_CUE = re.compile(r"身份证(?:号码?|件号)?[为是]?[\s:：]*$")
_AMOUNT_AFTER = re.compile(r"\s?(?:元|块|万|亿|%|平方|平米|米|吨|公里|千瓦|度|立方|斤|个|号文)")
_LOOK_BACK = 14  # characters in front of a number that may say what it is


def _is_order_number(text: str, start: int) -> bool:
    return bool(_ORDER_CUE.search(text[max(0, start - _LOOK_BACK) : start]))


def _is_amount(text: str, end: int) -> bool:
    return bool(_AMOUNT_AFTER.match(text, end))


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


# -- numbers ---------------------------------------------------------------------------------------

# What every number of `NUMBERS` holds: seven digits close together. Most texts have none.
_LONG_NUMBER = re.compile(r"\d(?:[)） -]{0,2}\d){6}")

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,10}"
)


def emails(text: str) -> Iterator[Found]:
    """E-mail addresses."""
    if "@" in text:
        yield from (Found("邮箱", *hit.span()) for hit in _EMAIL.finditer(text))


_ID18 = re.compile(
    r"(?<![0-9A-Za-z])[1-9]\d{5}[ -]?(?:18|19|20)\d{2}[ -]?(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"[ -]?\d{3}[\dXx](?![0-9A-Za-z])"
)
_ID15 = re.compile(r"(?<![0-9A-Za-z])[1-8]\d{7}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}(?![0-9A-Za-z])")
# First two digits of GB/T 2260: the provinces that have been in use.
_PROVINCE = re.compile(r"1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[123]")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643-1999
_ID_CHECKS = "10X98765432"


def _id_checksum_holds(number: str) -> bool:
    total = sum(int(digit) * weight for digit, weight in zip(number[:17], _ID_WEIGHTS, strict=True))
    return _ID_CHECKS[total % 11] == number[17].upper()


def identity_cards(text: str) -> Iterator[Found]:
    """Resident identity cards: 18 digits whose checksum holds (or that are called one), old 15 digits."""
    for hit in _ID18.finditer(text):
        number = re.sub("[ -]", "", hit.group())
        if _id_checksum_holds(number) or _ID_CUE.search(text[max(0, hit.start() - _LOOK_BACK) : hit.start()]):
            yield Found("身份证", *hit.span())
    for hit in _ID15.finditer(text):
        if _PROVINCE.match(hit.group()) and not _is_order_number(text, hit.start()):
            yield Found("身份证", *hit.span())


_MOBILE = re.compile(
    r"(?<![\d.])(?:\+?86[ -]?)?(?:1[3-9]\d[ -]?\d{4}[ -]?\d{4}|1[3-9]\d{2}[ -]\d{3}[ -]\d{4}"
    r"|1[3-9]\d[ -]\d{3}[ -]\d{5}|1[3-9]\d{3}[ -]\d{6}|1 [3-9](?: \d){9}|1-[3-9](?:-\d){9})(?![\d%]|[.-]\d)"
)
_SPOKEN = re.compile(  # what must not stand before it is asked last: a search for [幺一] is quick
    r"[幺一](?<![零〇幺一二两三四五六七八九十百千万][幺一])[ ,，]?[三四五六七八九]"
    r"(?:[ ,，]?[零〇幺一二两三四五六七八九]){9}"
    r"(?![零〇幺一二两三四五六七八九十百千万])"
)


def mobile_phones(text: str) -> Iterator[Found]:
    """Mobile numbers, also with a country code, in groups, or digit by digit."""
    for hit in _MOBILE.finditer(text):
        if not _is_order_number(text, hit.start()) and not _is_amount(text, hit.end()):
            yield Found("手机号", *hit.span())


def spoken_phones(text: str) -> Iterator[Found]:
    """Mobile numbers as they are spoken (幺三八…)."""
    yield from (Found("手机号", *hit.span()) for hit in _SPOKEN.finditer(text))


_BANK = re.compile(r"(?<![0-9A-Za-z.])[3-69]\d{3}(?:[ -]?\d){12,15}(?![0-9A-Za-z]|[ -]\d)")


def _luhn_holds(number: str) -> bool:
    doubled = (int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(number)))
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def bank_cards(text: str) -> Iterator[Found]:
    """Bank cards: 16 to 19 digits whose Luhn sum (ISO/IEC 7812-1) holds, in groups or not."""
    for hit in _BANK.finditer(text):
        if _luhn_holds(_digits(hit.group())) and not _is_order_number(text, hit.start()):
            yield Found("银行卡", *hit.span())


_LANDLINE = re.compile(
    r"(?<![\d.-])[(（]?"
    r"(?:0(?:10|2\d)[)） -]{0,2}[2-8]\d{3}[ -]?\d{4}|0[3-9]\d{2}[)） -]{0,2}[2-8]\d{2,3}[ -]?\d{4})"
    r"(?:(?:-|转)\d{1,5})?(?!\d|[.-]\d)"
)
_SERVICE = re.compile(
    r"(?<![\d.-])(?:400[ -]?(?:\d{3}[ -]?\d{4}|\d{4}[ -]?\d{3})|800[ -]\d{3}[ -]?\d{4})(?!\d|[.-]\d)"
)
_LOCAL = re.compile(
    r"(?:电话|座机|固话|号码)[号为是打]{0,2}[\s:：]{0,2}([2-8]\d{2,3}[ -]?\d{4})(?!\d|[.-]\d)"
)


def landlines(text: str) -> Iterator[Found]:
    """Landlines with an area code, 400/800 numbers, and local numbers that are called a telephone."""
    for pattern, group in ((_LANDLINE, 0), (_SERVICE, 0), (_LOCAL, 1)):
        for hit in pattern.finditer(text):
            start, end = hit.span(group)
            if not _is_order_number(text, start) and not _is_amount(text, end):
                yield Found("电话", start, end)


_PLATE = re.compile(
    r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼] ?[A-HJ-NP-Z][· ._-]?"
    r"(?:[A-HJ-NP-Z0-9]{6}|[A-HJ-NP-Z0-9]{4}[A-HJ-NP-Z0-9挂学警港澳])(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_PLATE_NAMED = re.compile(
    r"(?:车牌|牌照)(?:号码?)?[为是]?[\s:：]{0,2}([A-HJ-NP-Z][· -]?[A-HJ-NP-Z0-9]{5,6})(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def plates(text: str) -> Iterator[Found]:
    """Number plates (GA 36), new-energy ones with six places included; without the province if named so."""
    for pattern, group in ((_PLATE, 0), (_PLATE_NAMED, 1)):
        for hit in pattern.finditer(text):
            if sum(map(str.isdigit, hit.group(group))) >= 2:  # letters only is a word, not a plate
                yield Found("车牌", *hit.span(group))


# -- flats -----------------------------------------------------------------------------------------

_CN = "零〇一二三四五六七八九十"
_STAIR = rf"(?:\d{{1,2}}|[{_CN}两]{{1,3}}|[A-Za-z甲乙丙丁]) ?单元"
_ROOM = r"\d{1,2}(?:0[1-9]|[1-9]\d)"
_NOT_ROOM = (
    r"(?!\d|[.:：/]\d| ?(?:元|块|米|平|㎡|m|人|个|户|多|度|年|月|日|天|名|位|次|吨|号文|路|公交|万|点|家|余|"
    r"左右|班|辆|株|棵|%|分))"
)
_AFTER_STAIR = re.compile(
    rf"{_STAIR}[ ,，-]?(?:(?:\d{{1,2}}|[{_CN}]{{1,3}})(?:楼|层)[ ,，-]?)?"
    rf"(?:\d{{3,4}} ?(?:号房|室|户|房|号)(?![间屋产价])|{_ROOM}{_NOT_ROOM}|[{_CN}幺]{{3,4}} ?(?:室|户|号房))"
)
_AFTER_BUILDING = re.compile(
    rf"(?:栋|幢|座|号楼|#楼?|公寓|大厦)[ -]?((?:\d{{1,2}}(?:楼|层) ?)?"
    rf"(?:\d{{3,4}} ?(?:号房|室|房|号)(?![间屋产价])|{_ROOM}{_NOT_ROOM}|[{_CN}幺]{{3,4}} ?(?:室|号房)))"
)
_HYPHENS = re.compile(
    rf"(?<![\d.-])\d{{1,3}}[栋幢#]?-((?:\d{{1,2}}-){_ROOM} ?[室户号]?|\d{{3,4}} ?室)(?![\d.-])"
)
_BARE_ROOM = re.compile(r"(?<![\d.-])(\d{1,2}(?:0[1-9]|[1-4]\d) ?室|\d{3,4} ?号房)(?![间屋产])")
_YEAR = re.compile(r"-(?:0?[1-9]|1[0-2]|\d{1,2})-(?:19[5-9]|20[0-4])\d$")
_THREE_FIGURES = re.compile(rf"\d{{3}}|[{_CN}幺]{{3}}")  # every flat number has them, most texts don't
_RULES_FOR_FLATS = ((_AFTER_STAIR, 0), (_AFTER_BUILDING, 1), (_HYPHENS, 1), (_BARE_ROOM, 1))


def flats(text: str) -> Iterator[Found]:
    """Flat numbers behind a stair or a building; the compound and the building stay readable."""
    if not _THREE_FIGURES.search(text):
        return
    for pattern, group in _RULES_FOR_FLATS:
        for hit in pattern.finditer(text):
            if not _YEAR.search(hit.group()):  # 5-6-2018 is a date
                yield Found("门牌", *hit.span(group))


# -- names -----------------------------------------------------------------------------------------

_DOUBLE = "欧阳|上官|司马|诸葛|司徒|皇甫|尉迟|公孙|令狐|慕容|端木|宇文|夏侯|南宫|轩辕|独孤"
_SINGLE = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗郑梁谢宋唐许邓冯韩曹曾彭萧肖蔡潘田董袁余叶蒋杜苏魏程吕丁沈任姚卢傅"
    "钟姜崔谭廖范汪陆金石戴贾韦夏邱侯邹熊孟秦江阎闫薛尹段雷龙史陶贺顾毛郝龚邵万钱严赖覃洪武莫孔汤康易乔倪"
    "聂向常文牛樊葛邢安齐庞颜庄柯翁翟鲁岳詹饶耿焦巩卞凌霍梅盛童柳祝骆纪舒屈项蓝闵季成欧尚温芦苗尤关滕柏裴"
    "冉宁白高于方符苻冼麦甘吉占黎阮游卓阳申单丘车左华"
)
_SURNAME = rf"(?:{_DOUBLE}|[{_SINGLE}])"
# As a first character these begin more words than names: not enough where no cue says "name".
_AMBIGUOUS = frozenset("高于方向常文安成关车万白江温宁齐项华左单尚盛占游易阳申")
_SURE = rf"(?:{_DOUBLE}|[{''.join(char for char in _SINGLE if char not in _AMBIGUOUS)}])"
_HAN = r"[\u4e00-\u9fff]"
_END = r"(?=$|[\s，。！？：；、（）,.!?:;()\[\]]|家住|住在|住|今年|电话|手机|身份证|男|女|来自|现|是)"
_NOT_GIVEN = (
    "人员生工者户主民方师商长区市县镇乡街路州府司店厂校院局部所村组号楼的了在是有们家园苑城庄后头友客管业"
)
_TITLED = re.compile(r"(?:先生|女士|小姐)")
_FULL_NAME = re.compile(
    rf"(?:^|[\s，。！？：；、,.!?:;(（]|联系人?|业主|市民|居民|我是|叫|找)({_SURNAME}{_HAN}{{0,2}})$"
)
_SURNAME_AT_END = re.compile(rf"({_SURNAME})$")
# 由于 对方 责任 …: the character before the title belongs to a word
_WORD_BEFORE = re.compile(
    r"(?:由于|关于|对于|位于|至于|等于|属于|大于|小于|处于|出于|终于|对方|双方|我方|甲方|乙方|单方|各方|一方|"
    r"责任|主任|现任|本金|现金|资金|租金|黄金|过程|工程|全程|完成|造成|明白)$"
)


def titled_names(text: str) -> Iterator[Found]:
    """X先生, X女士, X小姐: the name is masked, the title stays."""
    for title in _TITLED.finditer(text):
        before = text[max(0, title.start() - 7) : title.start()]
        name = _FULL_NAME.search(before) or _SURNAME_AT_END.search(before)
        if name and not _WORD_BEFORE.search(before):
            yield Found("姓名", title.start() - len(name.group(1)), title.start())


_CALLED = re.compile(
    rf"(?:我的?(?:名字)?叫做?|我名叫|本人叫|名叫|我姓名)[\s:：]?({_SURNAME}{_HAN}{{1,2}}?){_END}"
)
_CALLED_OPEN = re.compile(rf"(?:我叫|我的名字叫|我名叫|本人叫)({_SURE}{_HAN}{{2}})")
_CALLED_DOTTED = re.compile(rf"(?:我叫|我是|姓名[:：]?|名叫)\s?({_HAN}{{1,6}}(?:[·•]{_HAN}{{1,6}}){{1,3}})")
_FIELD = re.compile(
    rf"(?:姓名|联系人|来电人|反映人|投诉人|诉求人|举报人|求助人|户主|申请人|当事人)(?:[\s:：]|为|是|叫){{1,2}}"
    rf"({_SURNAME}{_HAN}{{1,2}}?){_END}"
)
_CONTACT = re.compile(rf"联系人({_SURNAME}{_HAN}{{1,2}}?){_END}")
_I_AM = re.compile(
    rf"(?:我是|本人是?)(?:业主|市民|居民|村民|住户|租户|群众)?"
    rf"({_SURE}{_HAN}{{0,1}}(?:(?![{_NOT_GIVEN}]){_HAN})){_END}"
)
_FAMILY = re.compile(rf"我姓({_SURNAME})(?!{_HAN}?小区)")
# Each of the patterns above holds one of these.
_STATING = (
    "叫", "我是", "我姓", "本人", "姓名", "联系人", "来电人", "反映人", "投诉人", "诉求人", "举报人",
    "求助人", "户主", "申请人", "当事人",
)  # fmt: skip
# Words after 我是 that begin like a name and are none.
_NO_NAME = re.compile(
    "金融|金属|石油|石材|林业|林场|马路|江边|夏天|毛坯|武装|武警|康复|文员|马上|何时|何地|任何|余额|程序|程控|程度|"
    "许多|曾经|胡同|田地|段落|龙头|雷达|钱款|邵阳|邵东|梅州|柳州|徐州|郑州|苏州|陆军|史上|毛利|莫名|莫非|洪水|洪灾|"
    "童工|童装|苗族|庄稼|舒服|纪检|纪委|祝贺|季度|叶子|牛奶|梁平|沈阳|洪湖|金华|石家|武汉|龙岩|陶瓷|严重|顾客|丁克|"
    "单亲|安保|安徽|高三|高中|白领|关系|成都|万科|万达|车间|车位|温州|方便|常住"
)


def _is_name(name: str) -> bool:
    return not _NO_NAME.match(name) and not name.endswith(("小区", "花园", "社区"))


def stated_names(text: str) -> Iterator[Found]:
    """Names that people state themselves: 我叫X, 我是X, 姓名：X, 联系人X, 我姓X."""
    if not any(map(text.__contains__, _STATING)):
        return
    for pattern in (_CALLED_DOTTED, _CALLED, _FIELD, _CONTACT, _I_AM, _CALLED_OPEN, _FAMILY):
        for hit in pattern.finditer(text):
            if _is_name(hit.group(1)):
                yield Found("姓名", *hit.span(1))


NUMBERS: tuple[Rule, ...] = (identity_cards, mobile_phones, landlines, bank_cards)
RULES: tuple[Rule, ...] = (
    emails,
    *NUMBERS,
    spoken_phones,
    plates,
    flats,
    stated_names,
    titled_names,
)
_RULES_WITHOUT_NUMBERS = tuple(rule for rule in RULES if rule not in NUMBERS)
