"""Urgency: acceptance sentences (by rules alone), every rule both ways, contexts, model, linear time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving.urgency import KINDS, LEVELS, RULES, Trigger, assess, harm, leading, openings
from serving.urgency import circumstances as c
from serving.urgency import danger as d
from serving.urgency import handover as h
from serving.urgency import people as p
from serving.urgency.finding import Pattern, Rule
from serving.urgency.scan import IDIOMS, NAMES, TYPOS, scan
from tests.acceptance_lines import lines


def rank(text: str) -> int:
    return LEVELS.index(assess(text).level)


@pytest.mark.parametrize("name", ["denied", "knowledge", "selfharm", "mass", "plain"])
def test_there_are_sixty_sentences_and_more_of_each_kind(name: str) -> None:
    sentences = [line[0] for line in lines(name)]
    assert len(set(sentences)) == len(sentences) > 60


@pytest.mark.parametrize("text", [line[0] for name in ("denied", "knowledge") for line in lines(name)])
def test_denials_and_enquiries_are_not_urgent(text: str) -> None:
    answer = assess(text)
    assert (answer.level, answer.transfer) == ("一般", ())


@pytest.mark.parametrize("text", [line[0] for line in lines("selfharm")])
def test_self_harm_is_extreme_and_handed_over(text: str) -> None:
    answer = assess(text)
    assert answer.level == "特急" and {"110", "120"} & set(answer.transfer)


@pytest.mark.parametrize("text", [line[0] for line in lines("mass")])
def test_mass_threats_are_at_least_urgent(text: str) -> None:
    assert rank(text) >= LEVELS.index("紧急")


@pytest.mark.parametrize(("text", "body"), lines("plain"))
def test_danger_in_plain_words_is_extreme_and_handed_over(text: str, body: str) -> None:
    answer = assess(text)
    assert answer.level == "特急" and body in answer.transfer


@pytest.mark.parametrize(("kind", "text"), [*lines("fresh"), *lines("second"), *lines("third")])
def test_adversarial_sentences(kind: str, text: str) -> None:
    answer = assess(text)
    if kind == "calm":
        assert (answer.level, answer.transfer) == ("一般", ())
    else:
        assert rank(text) >= {"urgent": 2, "danger": 3}[kind]
        assert kind == "urgent" or answer.transfer


# Every rule: what fires it, what must not.
BOTH_WAYS: list[tuple[Rule, str, str]] = [
    (p.self_harm, "他把遗书放在桌上，说要轻生", "社区办了一场自杀预防讲座"),
    (p.threat, "他放话要杀我全家", "菜场老板终于肯杀价了"),
    (p.crime, "有人持刀在超市里", "剧本里有一段持刀的戏"),
    (p.domestic_violence, "老公又在家暴", "没有家暴，只是吵了两句"),
    (p.child_abuse, "保姆用衣架抽孩子", "怎么预防虐待儿童"),
    (p.trafficking, "小孩被人抱走了", "社区宣传防拐卖"),
    (p.missing, "我奶奶昨天走失了", "健身房老板失联了"),
    (d.fire, "楼下车棚着火了", "火锅店要办什么证"),
    (d.gas, "厨房燃气管一直在漏气", "燃气没有泄漏"),
    (d.electric, "有人触电了", "防触电培训哪里报名"),
    (d.collapse, "工地围墙塌了", "业绩崩塌，老板要裁员"),
    (d.falling, "外墙瓷砖往下掉", "以免外墙瓷砖以后往下掉"),
    (d.manhole, "路中间的井盖不见了", "井盖有点响"),
    (d.chemical, "罐车里的硫酸漏了", "爆炸头发型哪家剪得好"),
    (harm.drowning, "有个人掉到河里了", "手机掉到河里了"),
    (harm.poisoning, "全家食物中毒", "我的电脑中毒了"),
    (harm.trapped, "有人被困在电梯里", "我的包裹被锁在快递柜里"),
    (harm.medical, "我爸昏迷了", "热晕了，建议装空调"),
    (harm.traffic, "一辆车把行人撞倒了", "撞衫了好尴尬"),
    (c.mass_action, "业主们约好明天去堵路", "有车辆停在路边堵路"),
    (c.outage, "整个小区停水了", "停水通知在哪里看"),
    (c.group, "我们八十户业主联名反映", "就我一户反映"),
    (c.repetition, "这是我第三次投诉了", "第一次打这个电话"),
    (c.deadline, "明天就要强拆我家了", "去年拆了旧阳台"),
    (c.nuisance, "凌晨两点还在施工", "白天施工挺规矩"),
]
HANDED_OVER: list[tuple[Rule, str, str]] = [
    (h.court, "这件事法院已经立案", "怎么向法院起诉"),
    (h.arbitration, "劳动仲裁委已经受理", "咨询怎么申请劳动仲裁"),
    (h.review, "我已经申请行政复议", "请问行政复议怎么申请"),
    (h.petition, "信访局已经受理，有受理告知书", "请问信访局在哪里"),
    (h.discipline, "举报镇长受贿", "村干部很负责，没有受贿"),
]


@pytest.mark.parametrize(("rule", "fires", "silent"), [*BOTH_WAYS, *HANDED_OVER])
def test_every_rule_both_ways(rule: Rule, fires: str, silent: str) -> None:
    found = rule(scan(fires))
    assert found and all(fires[t.start : t.end] == t.text and t.name in KINDS.values() for t in found)
    assert rule(scan(silent)) == []


def test_every_listed_rule_is_tested_both_ways() -> None:
    assert {rule for rule, _, _ in BOTH_WAYS} == set(RULES)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("不是没有漏气，是煤气漏得厉害", "特急"),  # double negation
        ("没有人受伤，但是燃气还在漏", "特急"),  # a denial ends with its clause
        ("没有人管，楼道里着火了", "特急"),  # 没有人管 denies nothing
        ("去年着火之后楼道一直没粉刷", "一般"),
        ("昨天开始煤气泄漏，现在还在漏", "特急"),
        ("今天演练，假装着火了", "一般"),
        ("《着火了》这本书哪里能借", "一般"),
        ("孩子差点掉进河里", "一般"),
        ("坚持到底的精神值得表扬", "一般"),  # no typo is mended inside another word
    ],
)
def test_contexts(text: str, level: str) -> None:
    assert assess(text).level == level


def test_vulnerable_people_raise_only_beside_a_need() -> None:
    assert assess("小区里有很多老人和孩子").level == "一般"
    assert assess("家里停水三天了").level == "较急"
    assert assess("家里停水三天了，有八十岁的老人").level == "紧急"
    assert assess("整个小区停水三天了，有八十岁的老人").level == "紧急"  # a circumstance rises to 紧急 only


def test_the_model_raises_and_never_lowers() -> None:
    sure = {"一般": 0.05, "较急": 0.05, "紧急": 0.85, "特急": 0.05}
    raised = assess("路边的事", sure, evidence=[(0, 2), (3, 99), (4, 4)])
    assert (raised.level, raised.rule_level, raised.model_level) == ("紧急", "一般", "紧急")
    assert [(t.text, t.source) for t in raised.triggers] == [("路边", "model"), ("事", "model")]
    assert raised.probability == pytest.approx(0.9)
    calm = {"一般": 1.0, "较急": 0.0, "紧急": 0.0, "特急": 0.0}
    kept = assess("孩子掉进河里了", calm)
    assert (kept.level, kept.probability) == ("特急", 0.9)
    assert assess("路边的事", calm).probability == 1.0


def test_thresholds_cut_the_tail_probabilities() -> None:
    probs = {"一般": 0.4, "较急": 0.1, "紧急": 0.2, "特急": 0.3}
    assert assess("路边的事", probs).level == "紧急"  # P(紧急 or higher) is 0.5
    assert assess("路边的事", probs, thresholds={"特急": 0.3}).level == "特急"
    strict = {"特急": 0.9, "紧急": 0.9, "较急": 0.9}
    assert assess("路边的事", probs, thresholds=strict).level == "一般"


def test_another_schemes_levels_are_used() -> None:
    answer = assess("孩子掉进河里了", {"普通": 1.0, "加急": 0.0}, levels=("普通", "加急"))
    assert answer.level == "加急" and {t.level for t in answer.triggers} <= {"普通", "加急"}
    with pytest.raises(ValueError, match="levels"):
        assess("路灯不亮", levels=())


def test_rules_need_not_be_asked_twice() -> None:
    text, probs = "煤气漏了，孩子在家", {"一般": 0.2, "特急": 0.8}
    assert assess(text, probs, rules=assess(text)) == assess(text, probs)


def test_typos_keep_the_length_and_spans_hit_the_original() -> None:
    assert all(len(wrong) == len(right) for wrong, right in TYPOS.items())
    text = "我家煤汽泄露了"
    (trigger,) = (t for t in assess(text).triggers if t.kind == "gas")
    assert isinstance(trigger, Trigger) and trigger.text == text[trigger.start : trigger.end] == "煤汽泄露了"


@pytest.mark.parametrize(
    "text", ["", " ", "😀😀😀", "hello there", "\x00\x01\ufffd", "？！。", "□" * 50, "()[]\\|"]
)
def test_any_text_gets_an_answer(text: str) -> None:
    assert assess(text).level == "一般"


def test_quick_search_finds_what_finditer_finds() -> None:
    text = "".join(line[-1] + "。" for name in ("plain", "mass", "denied") for line in lines(name))
    for pattern in (IDIOMS, NAMES, r"(?<!没)着(?:了|起)?火|[浓黑]烟|\d+户", r"a?", r".火"):
        expected = [m.span() for m in re.finditer(pattern, text)]
        assert list(leading.spans(pattern, text)) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("ab|c", "ac"),
        ("(?:x|[yz])w", "xyz"),
        ("a?b", "ab"),
        ("(?!q)m{2}", "m"),
        ("a*", None),
        (".a", None),
        ("[^a]", None),
    ],
)
def test_first_characters(pattern: str, expected: str | None) -> None:
    assert leading.first_characters(pattern) == (None if expected is None else frozenset(expected))


PATTERNS = [
    pattern
    for module in (c, d, h, harm, p)
    for value in vars(module).values()
    for pattern in (value if isinstance(value, tuple) else (value,))
    if isinstance(pattern, Pattern)
]


@pytest.mark.parametrize("words", [IDIOMS, NAMES, *(pattern.words for pattern in PATTERNS)])
def test_no_rule_repeats_without_bound(words: str) -> None:
    """Every place of a text costs a bounded number of steps then: linear, whatever the text."""
    bare = re.sub(r"\[(?:\\.|[^\]])*\]", "x", re.sub(r"\\[^\[\]]", "x", words))
    assert re.findall(r"[*+]|\{\d+,\}", bare) == []


def test_there_are_rules_to_look_at() -> None:
    assert len(PATTERNS) > 60


ADVERSARIAL = (
    "9", "一", "好多", "几百", "一二三四五六七八九十百千户", "12个", "第二", "停水", "落", "水要",
    "今天就就就", "就", "车堵住在", "孩子", "热死我人", "我们", "，", "“",
)  # fmt: skip
READ_ALL = """
import sys
from serving.urgency import assess
for unit in sys.argv[1:]:
    assert assess((unit * 100_000)[:100_000]).level
"""


def test_no_run_of_words_hangs_the_rules() -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", READ_ALL, *ADVERSARIAL]
    done = subprocess.run(command, cwd=root, timeout=300, capture_output=True, text=True)  # else it hangs
    assert done.returncode == 0, done.stderr


def test_so_many_numerals_are_no_count() -> None:
    assert assess("一共十二户业主联名反映").level == "较急"
    assert assess("订单2031050412345678户业主遭遇停水").level == assess("订单户业主遭遇停水").level


def test_a_text_is_looked_at_before_it_is_searched() -> None:
    """Patterns that cannot match in a text are passed over: what is left finds what a search would find."""
    assert all(pattern.bits for pattern in PATTERNS)  # all are known before the first look
    sentences = [line[-1] for name in ("plain", "mass", "denied", "knowledge") for line in lines(name)]
    passed = 0
    for text in sentences:
        scanned = scan(text)
        for pattern in PATTERNS:
            found = re.search(pattern.words, scanned.view)
            passed += not pattern.bits & scanned.possible
            assert found is None or pattern.bits & scanned.possible
    assert passed > len(sentences) * len(PATTERNS) * 0.9


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("ab|c", {"ab", "c"}),
        ("(?:x|[yz])w", {"xw", "yw", "zw"}),
        ("a?bc", {"ab", "bc"}),
        ("m{2}", {"m", "mm"}),
        ("(?<!q)停(?:了)?水", {"停了", "停水"}),
        ("a.", {"a" + openings.ANY}),
        ("[^a]b", None),
        ("a?", None),
    ],
)
def test_openings(pattern: str, expected: set[str] | None) -> None:
    assert openings.openings(pattern) == (None if expected is None else frozenset(expected))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("人.{0,3}被压|着火", [({"被压"}, {"压"}), ({"着火"}, {"火"})]),
        ("(?:我|他)[^，]{0,4}(?:摔|跌)倒", [({"摔倒", "跌倒"}, {"倒"})]),
        ("人了?", [({"人", "人了"}, {"人", "人了"})]),
        ("着火|.?", None),
    ],
)
def test_landmarks(pattern: str, expected: list[tuple[set[str], set[str]]] | None) -> None:
    found = openings.landmarks(pattern)
    assert (None if found is None else [(set(first), set(second)) for first, second in found]) == expected


def test_a_match_needs_both_landmarks() -> None:
    bits = Pattern("白鹤[^，]{0,9}黑鹤|灰鹤", 1).bits
    assert bits & scan("一只白鹤和一只黑鹤").possible and bits & scan("灰鹤").possible
    assert not bits & scan("只有一只白鹤").possible and not bits & scan("只有一只黑鹤").possible


def test_a_pattern_that_comes_up_later_is_searched() -> None:
    scanned = scan("这里有一只白鹤")
    assert Pattern("白鹤", 1).bits & scanned.possible
    assert not Pattern("黑鹤", 1).bits & scan("这里有一只白鹤").possible
