"""Cleaning: readable, traceable, linear, and never in the way."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.cleaning import is_blank, prepare, redact

CLEANED = [
    ("ＡＢＣ１２３％路口", "ABC123%路口"),
    ("路灯坏了，谁来修？（急）", "路灯坏了，谁来修？（急）"),  # Chinese punctuation stays
    ("小区３栋停水", "小区3栋停水"),
    ("請問臺灣街的垃圾為什麼沒有清運", "请问台湾街的垃圾为什么没有清运"),
    ("乾隆年間的牌樓歪了", "乾隆年间的牌楼歪了"),  # a word that is an exception to its characters
    ("乾县的路坏了", "乾县的路坏了"),  # simplified text is not touched
    ("停\u200b水\ufeff了\x00\x07", "停水了"),
    ("停水\r\n\r\n\t  已经三天", "停水 已经三天"),
    ("停水。 \u3000已经三天", "停水。已经三天"),
    ("<p>路灯&nbsp;坏了</p><br/>没人修", "路灯 坏了 没人修"),
    ("&lt;b&gt;积水&lt;/b&gt;严重", "积水 严重"),
    ("水压<0.1，温度>30", "水压<0.1，温度>30"),  # not a tag
    ("停水了_x000D_三天", "停水了 三天"),
    ("太吵了！！！！！！！！", "太吵了！！！"),
    ("坏了\ud800很久", "坏了很久"),
    ("①路灯②井盖", "①路灯②井盖"),
    ("面积20㎡", "面积20m2"),
    ("ⅳ号线", "iv号线"),
]

BOILERPLATE = [
    ("来电人反映：小区停水", "小区停水"),
    ("市民来电反映:小区停水", "小区停水"),
    ("刘先生来电反映：小区停水", "小区停水"),
    ("网友“小雨点”微信反映：小区停水", "小区停水"),
    ("市民来电咨询公积金怎么提取", "咨询公积金怎么提取"),
    ("您好，我想问公积金怎么提取", "我想问公积金怎么提取"),
    ("尊敬的领导：您好！小区停水", "小区停水"),
    ("【市民来电】反映内容：小区停水", "小区停水"),
    ("小区断水四天，希望有关单位核实办理，请尽快答复市民。", "小区断水四天"),
    ("小区断水四天。望有关部门尽快解决，谢谢！", "小区断水四天。"),
    ("小区断水四天，故来电反映。", "小区断水四天"),
    ("小区断水四天，盼复。此致 敬礼！", "小区断水四天"),
]

KEPT = [
    "你好超市卖过期食品",
    "市民反映强烈的停车难问题",
    "群众路口红绿灯坏了",
    "来电咨询",
    "请问如何处理旧家具？",
    "希望增加公交班次",
    "用户再次来电反映：还是没水",  # again: urgency lives here
    "谢谢交警帮我找回了手机",
    "谢谢",
    "希望有关职能部门协调",
    "您好",
    "交警来电反馈：已处理",
]


@pytest.mark.parametrize(("text", "wanted"), CLEANED)
def test_cleaned(text: str, wanted: str) -> None:
    assert prepare(text).text == wanted


@pytest.mark.parametrize(("text", "wanted"), BOILERPLATE)
def test_boilerplate_goes(text: str, wanted: str) -> None:
    assert prepare(text).text == wanted


@pytest.mark.parametrize("text", KEPT)
def test_messages_are_not_eaten(text: str) -> None:
    assert prepare(text).text == text


def test_boilerplate_alone_is_kept() -> None:
    for text in ("市民来电反映：", "希望有关单位核实办理，请尽快答复市民。", "您好，谢谢！"):
        assert prepare(text).text


def test_offsets_lead_back_to_the_original() -> None:
    text = "市民来电反映：  １３８００１３８０００的車主把路堵了，望尽快处理，谢谢"
    prepared = prepare(text)
    assert prepared.text == "[手机号]的车主把路堵了"
    start = prepared.text.index("车主")
    assert text[slice(*prepared.original_span(start, start + 2))] == "車主"
    assert text[slice(*prepared.original_span(1, 3))] == "１３８００１３８０００"
    assert text[slice(*prepared.original_span(0, 7))] == "１３８００１３８０００的車"


def test_title_goes_in_front_unless_it_is_there() -> None:
    assert prepare("小区断水四天", "关于停水").text == "关于停水。小区断水四天"
    assert prepare("关于停水的事，三天了", "关于停水").text == "关于停水的事，三天了"
    assert prepare("", "关于停水").text == "关于停水"
    assert prepare("小区断水四天", " \n").text == "小区断水四天"


def test_offsets_of_a_title_are_nowhere() -> None:
    prepared = prepare("停水三天", "王先生的来信13800138000")
    assert prepared.text == "[姓名]先生的来信[手机号]。停水三天"
    assert prepared.offsets[0] == (-1, -1)
    assert prepared.masked == ()
    assert prepared.original_span(0, 5) == (-1, -1)
    at = prepared.text.index("停水")
    assert prepared.original_span(at - 3, at + 2) == (0, 2)
    assert prepared.original_span(3, 3) == (-1, -1)


@pytest.mark.parametrize("text", ["", " \u3000\n", "\u200b\x00", "<br/>&nbsp;", "\ud800\udfff"])
def test_blank(text: str) -> None:
    assert is_blank(text)
    assert prepare(text).text == ""


@pytest.mark.parametrize("text", ["水", "a", "😀", "？", "[手机号]"])
def test_not_blank(text: str) -> None:
    assert not is_blank(text)
    assert prepare(text).text == text


AWKWARD = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from(
            "王先生我叫是，。 -138005栋单元室京A<>&;#x市民来电反映希望请处理谢\u200b\u3000\ud800"
        ),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None, database=None)
@given(AWKWARD, AWKWARD)
def test_any_text_is_prepared_and_traceable(text: str, title: str) -> None:
    prepared = prepare(text, title)
    assert len(prepared.text) == len(prepared.offsets)
    prepared.text.encode()  # no lone surrogate is left
    own = [span for span in prepared.offsets if span != (-1, -1)]
    assert own == sorted(own)
    assert all(0 <= start < end <= len(text) for start, end in own)
    assert all(0 <= span.start < span.end <= len(text) for span in prepared.masked)


@settings(max_examples=150, deadline=None, database=None)
@given(AWKWARD)
def test_what_was_redacted_holds_nothing_more_to_redact(text: str) -> None:
    once = redact(text)
    assert once.count("[手机号]") >= sum(span.kind == "手机号" for span in prepare(text).masked)
    assert not [span for span in prepare(once).masked if span.kind in ("手机号", "身份证", "邮箱")]


LONG = {
    "message": "路灯坏了没人修，" * 12_500,
    "digits": "1" * 100_000,
    "spaced digits": "1 3 " * 25_000,
    "hyphens": "1-" * 50_000,
    "spaces": " " * 100_000,
    "angles": "<" * 100_000,
    "tags": "<p " * 33_000,
    "entities": "&a" * 50_000,
    "mail": "a" * 50_000 + "@" * 50_000,
    "traditional": "請問臺灣乾隆" * 16_000,
    "nul": "\x00" * 100_000,
    "names": "王先生" * 33_000,
    "stairs": "3单元" * 33_000,
    "openings": "您好，" * 33_000,
    "callers": "市民来电" * 25_000,
    "closings": "请处理" * 33_000,
    "marks": "！" * 100_000,
    "emoji": "😀" * 100_000,
    "numerals": "一三" * 50_000,
}


@pytest.mark.parametrize("name", LONG)
def test_time_is_linear(name: str) -> None:
    """A tenth of the text takes about a tenth of the time; 25 times leaves room for a busy machine."""
    text = LONG[name]
    short = min(_seconds(text[: len(text) // 10]) for _ in range(3))
    long = min(_seconds(text) for _ in range(2))
    assert long < max(25 * short, 0.1)
    assert long < 1.5  # about 0.1 on an idle core


def _seconds(text: str) -> float:
    began = time.process_time()
    prepare(text)
    return time.process_time() - began


def test_import_is_light() -> None:
    """Serving imports this: no model libraries, and no dictionary before a text needs one."""
    code = (
        "import sys, data.cleaning as c; c.prepare('路灯坏了');"
        "heavy = {'numpy', 'pandas', 'torch', 'datasets', 'sklearn', 'opencc'} & set(sys.modules);"
        "assert not heavy, heavy; assert c._traditional.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
