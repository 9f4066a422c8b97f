"""A text made ready for the rules: typos mended, idioms and names blanked out, cut into clauses.

Every step keeps the length of the text, so that a span found in ``Scan.view`` is a span of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from serving.urgency.leading import possible, spans

BLANK = "□"

# Slips of the keyboard and of speech recognition that are certain in these compounds (same length).
TYPOS: Mapping[str, str] = {
    "煤汽": "煤气", "燃汽": "燃气", "天燃气": "天然气", "天燃汽": "天然气", "漏汽": "漏气",
    "泄露": "泄漏", "跳搂": "跳楼", "自沙": "自杀", "自刹": "自杀", "失伙": "失火", "晕到": "晕倒",
    "昏到": "昏倒", "井概": "井盖", "坍踏": "坍塌", "倒踏": "倒塌", "踏方": "塌方", "拉横副": "拉横幅",
    "浓咽": "浓烟", "冒咽": "冒烟", "割婉": "割腕", "泻漏": "泄漏", "泄陋": "泄漏", "要轻身": "要轻生",
    "想轻身": "想轻生",
}  # fmt: skip

_TYPO = "|".join(map(re.escape, TYPOS))

# Ways of speaking in which a trigger word says nothing about danger.
IDIOMS = (
    r"气炸了?|(?:头|脑袋|脑子|脑壳|耳朵|耳膜|手机|电话|群里?|朋友圈|评论区)[^，。]{0,2}(?:都|要|快|被打"
    r"|快要|给|真){0,9}(?:震|吵)?炸了?|肺都?(?:要|快)?(?:给)?(?:气)?炸了?|炸了?锅|炸(?:鸡|串|薯条|油条|酱)"
    r"|信息爆炸|人口爆炸|爆炸头|爆炸(?:性|辣|好|多|咸|贵|级|力|款)|价格爆炸"
    r"|(?:热|冷|累|烦|急|笑|饿|渴|吓|冻|困|疼|痛|吵|贵|气|羞|闷|臭|脏|美|乐|忙|难受|委屈|恶心|无聊)"
    r"(?:得)?(?:我|人|我们|大家|俺)?(?:都|真|快)?(?:要|快)?(?:想)?(?:死|疯|哭|晕)(?:人|我|了|个人|掉){0,9}"
    r"|(?:热|冷|累|烦|困|疼|吵|闷|晒|堵)晕(?:倒)?了?"
    r"|想死(?:你|妈|他|她|家)|死(?:贵|板|活不)|要死要活|死去活来|死皮赖脸|气死|打死(?:我|也)不"
    r"|死都?不(?:承认|认|改|退|给)"
    r"|火冒三丈|火(?:很|太|好|特别)?大(?=[，。！,!]|$)|发起火来?|发火|上火|恼火|火爆|红火|救火队|点火就着"
    r"|后院起火|惹火"
    r"|(?:压|多|挤|催|赶|逼)得?[^，。,]{0,8}喘不过气|忙得?[^，。,]{0,4}喘不过气"
    r"|笑得?[^，。,]{0,4}喘不过气"
    r"|笑晕|看晕|绕晕|晕头转向"
    r"|救命(?:稻草|恩人|钱|之恩|药)|谢谢?救命|要命|人命关天|拼命(?:加|赶|工作|学|干|打电话|往上)"
    r"|杀价|砍价|砍一刀|砍掉?预算|捅娄子|捅马蜂窝|捅破|打价格战|打官司|打架子鼓|打(?:水漂|折扣|太极|游击"
    r"|嘴仗|口水仗)"
    r"|枪手|抢(?:票|购|红包|座|车位|课|不到)|一枪打|放冷枪|走火入魔|水深火热|热火|火锅|火车|火车站|火葬"
    r"|火化|火箭|火炬|火腿|火龙果"
    r"|(?:价格|股价|房价|成绩|收入|业绩|销量|信用)[^，。,]{0,4}(?:跳水|崩塌|坍塌|跳楼"
    r"|掉到[^，。,]{0,4}[沟坑])"
    r"|跳楼(?:价|大甩卖|甩卖|机|清仓|折扣|大减价)|放血价|吐血(?:价|推荐)|大出血(?:甩卖|价|促销)|(?:老板"
    r"|商家)大出血"
    r"|掉(?:进|到)(?:钱眼|坑里|陷阱|沟里去了才怪)|落水管|落水狗|拖下水(?!道)|水漫金山|泡汤|被(?:推荐"
    r"|安利)"
    r"|(?:信仰|三观|心态|精神|人设|情绪)(?:崩塌|坍塌|爆炸|崩了)|心态炸了?|爆炸好吃|爆炸了?的(?:消息|新闻)"
    r"|(?:被)?困(?:扰|惑|境|难|意)|走失(?:了)?的?(?:猫|狗|宠物)|迷失|打死结|堵心|堵得慌|添堵|堵(?:嘴|话)"
    r"|煤气灶|上吊(?:瓶|扇|针|顶)|吊死鬼|坐以待毙|断气(?:阀)?的?话|晕车|晕船|晕针|晕血|中(?:了)?(?:病毒"
    r"|木马)|电脑中毒|手机中毒|中毒太深"
    r"|炮轰|轰炸|短信轰炸|电话轰炸|杀毒|杀虫|杀菌|自杀式(?:降价|促销|竞争)|慢性自杀|一把火锅|玩火"
    r"|放火烧山"
    r"|(?:生意|店|节目|直播|视频|人气|网上|一夜)[^，。,]{0,4}(?:爆火|火了|大火|着火)|最近大火的?|大火的"
)

# What a danger word names when it is glued to one of these: a price, a shop, a paper, a course, a part.
_NAMED = (
    r"火灾|着火|起火|火情|火警|溺水|落水|触电|漏电|燃气泄漏|煤气泄漏|泄漏|爆炸|煤气中毒|食物中毒|中毒|家暴"
    r"|跳楼|自杀|轻生|走失"
    r"|失踪|被困|困人|抢劫|打架|斗殴|拐卖|坍塌|倒塌|塌陷|塌方|地陷|车祸|交通事故|晕倒|昏迷|大出血"
    r"|高空抛物"
    r"|高空坠物|高空坠落"
    r"|停水|停电|停气|停暖|断电|断水|虐待|虐童|绑架|上访|信访|罢工|跟踪|火光|浓烟|冒烟|地震|滑坡|泥石流"
    r"|骨折|急救|窒息"
)
_TAILS = (
    r"(?:意外)?(?:伤害)?(?:险|保险|演练|演习|培训|讲座|课程|课|知识|急救(?!车)(?:知识|培训|课)?|常识|手册"
    r"|宣传"
    r"|科普|教育|主题|题材|预案|预防"
    r"|报警器|报警仪|报警装置|探测器|感应器|保护器|保护开关|开关|断路器|检测仪|检测器|手环|防护|救援队"
    r"|救援证|赔偿标准"
    r"|险种|保[一二三四五六七八九十百\d]{1,12}万?|罪|案例|展|图片展|电影|电视剧|小说|游戏|剧本|剧情|新闻"
    r"|证书|证|许可证|公告|通知|认定书|统计"
    r"|起数|申报|条例|法规"
    r"|干预课|危机干预(?:中心|讲座|培训)|逃生(?:演练|绳|面具|知识|通道)|楼层|烤[鱼肉串鸭翅]|串串|面馆"
    r"|餐厅"
    r"|饭店|酒吧|烧烤店|火锅|奶茶|路|街|巷|村"
    r"|区搬迁|区(?:土地|补偿|的土地|治理|范围)|级别|等级|责任险|事故(?:认定书|等级)|名录|名称目录"
    r"|物品(?:名|许可|名录)|人口)"
)
NAMES = (
    rf"(?:{_NAMED})(?:的|事故|人员)?{_TAILS}"
    r"|《[^《》\n]{1,30}》"
    r"|[“「『\"‘][^”」』\"’\n]{1,16}[”」』\"’](?:的)?(?:店|餐厅|饭店|酒吧|烧烤|火锅|超市|小区|公司|工作室"
    r"|乐队|游戏|主题|电影|密室|剧场|片|歌|这首|项目|商店|网吧|品牌|那家|理发)"
    r"|(?:燃气|煤气|天然气|供电|供水|供热|消防|爆破|危化品|化学品)(?:集团|公司|有限公司|路|街|巷|站"
    r"|营业厅"
    r"|大队|支队|中队|局|所)"
    r"|(?:井盖|水库|大河|河堤|水井|火炉|炮台|刀剪|跳楼|坍塌|着火|爆炸|炸弹|打架|抢劫|被困|救命|自杀|堵路"
    r"|火灾|起火|枪|炸药)"
    r"(?:路|街|巷|大道|村(?!民|里|口|子)|餐厅|饭店|酒楼|酒吧|咖啡|烧烤店|火锅店|鸡排|鸡翅|公司|厂|乐队"
    r"|桌游|密室)"
    r"|(?:密室|剧本杀|鬼屋|游乐园|欢乐谷|乐园)[^。！？!?；;\n]{0,12}(?:被困|跳楼|爆炸|杀人|逃生"
    r"|逃脱)[^，。,]{0,6}"
    r"|炸弹(?:超人|烧|排骨|鸡)|火山石|火炉餐厅|爆炸(?:糖|盐|鸡|汉堡|物品)|民用爆炸|易燃易爆|漏电保护"
    r"|(?:防"
    r"|灭|避)火[^，。,]{0,2}"
    r"|防(?:溺水|触电|踩踏|坍塌|家暴|拐卖?|诈骗|自杀|坠落|坠楼|走失|拥挤)|反(?:家暴|诈骗?|拐卖?|恐"
    r"|扒窃|校园欺凌)"
)

_CONJUNCTION = (
    r"但是|但(?=[我你他她它现这那燃煤家有没楼孩是])|可是|不过|然而|结果|现在|而且|所以|然后|因为|只是"
    r"|就是(?=想|问|要)|另外"
    r"|还有(?=[个人一])|麻烦|请问|只想|就想|目前|而是|其实|于是|后来"
)
# So many numerals in a row are an order number or worse, but no count: blanked, no rule takes them for one.
NO_COUNT = r"[\d一二两三四五六七八九十百千万几数好多上半]{13,}"

_WINDOW = 40  # characters; a text of 100,000 without a comma must stay linear
_SENTENCE_END = "。！？!?；;\n"


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The compiled pattern; compiling waits for the first use, so that start-up stays quick."""
    return re.compile(pattern)


@dataclass(frozen=True)
class Clause:
    """A stretch ``[start, end)`` of the text; ``sentence`` numbers the sentence that it belongs to."""

    start: int
    end: int
    sentence: int


@dataclass(frozen=True)
class Scan:
    """The text, its view for the rules (same length) and its clauses in order, without gaps.

    ``possible`` has the bits (see ``leading.bits_of``) of the patterns that may match in the view. Clauses
    are cut when a pattern has matched: in most texts none does.
    """

    text: str
    view: str
    possible: int

    @cached_property
    def clauses(self) -> tuple[Clause, ...]:
        """The clauses in order, without gaps."""
        return tuple(clauses_of(self.view))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each clause begins."""
        return tuple(clause.start for clause in self.clauses)

    @cached_property
    def sentence_bounds(self) -> tuple[tuple[int, int], ...]:
        """Start and end of each sentence."""
        bounds: list[tuple[int, int]] = []
        for clause in self.clauses:
            if clause.sentence == len(bounds):
                bounds.append((clause.start, clause.end))
            else:
                bounds[-1] = (bounds[-1][0], clause.end)
        return tuple(bounds)

    def clause_at(self, position: int) -> Clause:
        """The clause that covers the position."""
        return self.clauses[max(0, bisect_right(self.starts, position) - 1)]

    def around(self, start: int, end: int) -> Clause:
        """The clause that covers ``start``, clipped to a window: speech has no commas."""
        clause = self.clause_at(start)
        last = max(end, min(clause.end, end + _WINDOW))
        return Clause(max(clause.start, start - _WINDOW), last, clause.sentence)

    def sentence_of(self, clause: Clause) -> tuple[int, int]:
        """Start and end of the clause's sentence."""
        return self.sentence_bounds[clause.sentence]


def scan(text: str) -> Scan:
    """Prepare a text for the rules; linear in its length."""
    view = blanked(mended(text))
    return Scan(text, view, possible(view))


def mended(text: str) -> str:
    """The text with certain typos of danger words corrected."""
    return _replaced(_TYPO, text, TYPOS.__getitem__)


def blanked(text: str) -> str:
    """The text with numerals that are no count, idioms and names overwritten by blanks of the same length."""
    for pattern in (NO_COUNT, IDIOMS, NAMES):
        text = _replaced(pattern, text, lambda found: BLANK * len(found))
    return text


def _replaced(pattern: str, text: str, new: Callable[[str], str]) -> str:
    pieces, done = [], 0
    for start, end in spans(pattern, text):
        pieces += [text[done:start], new(text[start:end])]
        done = end
    return "".join([*pieces, text[done:]]) if pieces else text


def clauses_of(view: str) -> Iterator[Clause]:
    """Cut at punctuation, at spaces and before conjunctions (speech recognition writes no commas)."""
    start, sentence = 0, 0
    for match in compiled(rf"[{_SENTENCE_END}，,：:\s]+|(?={_CONJUNCTION})").finditer(view):
        if match.end() == start or match.end() == 0:
            continue
        yield Clause(start, match.end(), sentence)
        start = match.end()
        sentence += any(mark in _SENTENCE_END for mark in match.group())
    if start < len(view) or not view:
        yield Clause(start, len(view), sentence)
