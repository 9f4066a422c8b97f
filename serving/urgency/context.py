"""When a trigger word is no trigger: denial, enquiry, the past, hearsay and drills, hypothesis, near misses.

Each check looks at the clause of the hit and at most a few dozen characters of its sentence, so that a denied
clause never silences a danger in the next one and the whole stays linear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serving.urgency.scan import Clause, Scan, compiled

NEGATION, ENQUIRY, KNOWLEDGE, PAST, RECENT, OVER, REPORT, HYPOTHESIS, NEAR_MISS = (
    "negation",
    "enquiry",
    "knowledge",
    "past",
    "recent",
    "over",
    "report",
    "hypothesis",
    "near_miss",
)

# Contain 不/没/无/未/非 but deny nothing.
_NEUTRAL = (
    r"有没有|是不是|会不会|能不能|要不要|该不该|可不可以|不小心|不慎|不得不|不能不|不知道?|不晓得|不清楚"
    r"|不明|不停(?![水电气暖])|不断|不行"
    r"|不了|不久|不然|不仅|不但|不光|不止|不只|不管|不论|无论|不法|差不多|不少|不一会儿?|没一会儿?|没多久"
    r"|没想到|不料|不顾"
    r"|没人管|没有人管|无人管|没人理|没有人理|没(?:有)?办法|没法|没辙|无奈|无缘无故|无证|无牌|非常|非法"
    r"|非得|非要|未成年|无人机"
    r"|没(?:有)?(?:解决|处理|答复|回复)|对不起|不好|迫不得已|忍不住|控制不住|拉不住|拦不住|管不住"
    r"|不敢相信"
    r"|没有(?:安全)?措施"
)
_NO = (
    r"没有|没|无|未曾|并未|从未|尚未|未|不是|并非|绝非|不存在|不会|不可能|不能|不打算|不想|不准备|不再"
    r"|不属于|不涉及|谈不上|算不上"
    r"|不|否认|排除|哪有|哪里有|绝不|决不|从不|从来没"
)
_FILL = (
    r"人员?|什么|任何|一个|发生|出现|发现|检测到|闻到|看到|看见|见到|听到|有|在|过|再|被|给|真的?|真要|要"
    r"|想要?|打算|准备|的|地|这种|那种|此类"
    r"|所谓|家里|里|煤气|燃气|天然气|一点|半点|怎么|因为?|由于|造成|引起|导致|和|或者?|、|也|及|与"
    r"|存在|去"
    r"|来|说|是|小孩|孩子|老人|儿童|谁"
    r"|居民|业主|工人|群众|家人|念头|集体|漏水|漏电|漏气|着火|起火|爆炸|受伤|伤亡|中毒|泄漏|停水|停电"
    r"|被困"
    r"|打架|火灾|火情|坍塌|大面积|拿"
    r"|电线|掉|直接|遭遇?|遭到|受到|明显|有毒|严重|人身|人为|故意|持续|大|把|用|我|你|他|她|我们|他们"
    r"|你们"
    r"|组织|参与|参加|那么|打|威胁|报复|可能"
)
_DENIED = rf"(?:(?:{_NO})(?:{_FILL}){{0,5}})+$"
_DENIED_AFTER = (
    r"^(?:事故|事件|现象|情况|问题|迹象|的|味道?|一事|这种|事|了|说法)*(?:、[^，。、]{1,6})*(?:都|也|均|是"
    r"|并)?"
    r"(?:没有|没发生|没出现|不存在|不属实|假的|误报|误会|谣言|虚惊|未发生|未出现|不可能|没闻到|无异常"
    r"|早就没)(?!人管|人理|人处理|解决|处理)"
)
# A denial inside a phrase of several words (孩子没走失, 井盖没有丢).
_DENIED_INSIDE = (
    rf"(?:没有|没|并未|未|不是|不会|没打算|不打算|也不|既不|绝不|不准备|不想)(?:{_FILL}){{0,5}}"
    r"(?=走失|走丢|丢|失联|失踪|虐待|塌|倒(?!车)|掉|断|堵|闹|停[水电气暖热]|漏|泄漏|破|着火|起火|冒|烧"
    r"|打(?!电|通|招|12|1[12])|砸|爆|裂|脱落|缺|撞|伤"
    r"|困|淹|溺|中毒|电[到击]|被[打骗拐卖抱撞砸咬]|毒打|掐|聚|围|拦|封|罢|上访|拉横幅|静坐|拐|抢|杀|砍|捅"
    r"|炸|摔|晕|昏|流血|出血)"
)
_TAKEN_BACK = (
    r"误报|虚惊一场|是误会|误会一场|(?<!不是)(?<!不)(?<!没)开玩笑|说着玩|闹着玩|[登记写填]错了|记录有误"
    r"|是谣言|不属实|其实(?:没有|没|不是)|造谣|以讹传讹|认错人|看错了|听错了|玩笑话|气话|搞错了|弄错了"
)

_ASK = (
    r"咨询|请问|想问|问一?下|问问|想了解|了解一下|了解下|请教|想知道|打听|想查|如何|什么(?:区别|条件|标准"
    r"|材料|手续|流程|政策|部门)"
    r"|哪里(?:买|有卖|报名|办|能|可以|查)|多少钱|收费标准|怎么(?:判|赔|办理|申请|报名|买|预防|处罚|定性"
    r"|认定|收费|理赔|评分|领|考|界定)"
    r"|判几年|算不算|属于(?:哪|什么)|归谁管|由谁|是否|赔不赔|赔多少|有没有(?:规定|政策|补贴|手册)|能报销"
    r"|法律(?:是)?怎么|应该怎么|该如何"
    r"|怎样才|多久能|吗[？?。]?$|算什么|是什么意思|建议(?!的)|能赔|投保|财产险|意外险|写论文|查资料"
    r"|做作业|想学|想报名|应聘"
)
# Questions about the law, the rule or the office in charge: asked about the kind, not about a case.
_KNOWLEDGE = (
    r"算不算|怎么(?:判|界定|定性|认定|处罚|量刑|预防|定义|赔偿|理赔)|如何(?:预防|界定|认定|判|处罚|定性)"
    r"|判几年|判多少年|法律(?:是)?(?:怎么|如何)|(?:由|归|该|属于)(?:谁|哪个部门|哪个单位|什么部门)(?:负责"
    r"|管|受理)"
    r"|什么罪|是不是犯罪|犯不犯法|能报销|报销多少|赔多少|有什么规定|相关规定|政策(?:是)?(?:怎么|如何)"
    r"|写论文|做调研|应急预案在哪"
)
_HERE = (
    r"我家|我们家|俺家|咱家|我们[这小村楼厂学单]|我这|我们整|这里|这边|这儿|家里|楼[上下道]|隔壁|邻居|对门"
    r"|对面|我[爸妈老儿女弟哥姐妹爷奶孩朋友同室丈媳]"
    r"|我们?(?:被|现在|就|真|很|快|在|也)|有个?人(?:在|要|拿|正|掉|跳|站)|他(?:要|说|在)|她(?:要|说|在)"
    r"|同事|工友|路口|门口"
)
_NOW = (
    r"现在|正在|刚刚|刚才|刚(?=[着起发被掉撞打倒摔出才有])|此刻|这会儿?|眼下|快来|快派|赶紧|赶快|马上|救命"
    r"|还在|正(?=[着起冒打往在烧漏])"
    r"|目前|至今|到今天|依然|仍|一直|又|再次|持续|今天|今晚|今早|今日|越来越|不停|还没|现场"
)
_STILL = (
    r"现在|目前|至今|到今[天日]|还在|还没|还有|仍|依然|一直|正在|又|再次|持续|刚|今[天晚早日]|此刻|这会"
    r"|越来越|这几天|连续|昨[天晚].{0,3}到"
)

_FAR = (
    r"去年|前年|那年|当年|早年|往年|(?:[一二两三四五六七八九十几多半\d]+个?(?:年|月|周|星期"
    r"|礼拜)(?:多)?(?:以前|之前|前))|年前"
    r"|上个?月|上上个?[月周]|上个?(?:星期|礼拜|学期|季度)|上周|(?<!之)以前|之前|曾经|曾|历史上|(?:19"
    r"|20)\d\d年|前几年|前些[年天]"
    r"|前段时间|前阵子|小时候|早些时候|当时|那时候?|那次|上一?次|上回|过去(?=[，,]|发生|出|有|这|几|的)"
    r"|年初|年轻时|[三四五六七八九十]天前"
)
_NEAR = (
    r"昨[天晚夜日]|前[天晚]|大前天|前几天|前两天|那天|[一二两]天前|上周|周末那天"
    r"|(?<!今天)(?<!今日)\d{1,2}月\d{1,2}[日号](?!到)"
)
_HAPPENED = r"(?:发生|出|有|出现|遭遇|碰到|经历|闹|着|遇到)过(?:[一二两三几多\d]+[次起回场])?(?:的)?$"
_OVER = (
    r"(?<!没)(?<!没有)(?<!未)(?<!不)(?<!能)(?:已经?(?:被|全部|都|完全|及时|安全|顺利|成功)*(?:扑灭|灭|修好"
    r"|修复|处理|解决|恢复|救|控制|补|装|抓|找到|找回"
    r"|送医|送到医院|送往|脱险|脱离|出院|排除|抢修|获救|撤|化解|和好|和解|认错|私了|换|平息|散|回家|到家"
    r"|回来)|扑灭了?|火灭了|灭掉了|找到了|找回来了?|救上来|救出来?|获救|得救|脱险"
    r"|脱离危险|恢复(?:了|供|正常|通)|修好了|处理好了|处理完|补上了|盖上了|没事了|无大碍|没有大碍|出院了"
    r"|抓住了|抓到了|抓走了|劝下来|救回|缓过来|人出来了|住院|平安到家"
    r"|(?<!买)(?<!备)(?<!写)(?<!说)(?<!约)(?<!买)(?:[弄治医通]"
    r"|处理)好了(?:，|。|,|$)|解除了)"
)
_REPORT = (
    r"(?<!不是)(?<!又不是)(?:新闻|报道|报纸|电视(?:上|里|剧|节目)|电影|小说|短剧|连续剧|动画|游戏|剧本"
    r"|作文|故事|课本|案例|网传|网上(?:流)?传|群里(?:都)?传|旧闻|画(?:了|的|着)|演练|演习|彩排|预演"
    r"|模拟|讲座|宣传|外地|外省|外市|国外|外国|某地|别的(?:城市|地方|小区|省)|其他(?:城市|地方|省)"
    r"|隔壁(?:市|县|省)|邻市|邻县|辟谣|谣言|谣传|标语|海报"
    r"|情节|剧情|[影反诈大短]片|历史剧|台词|歌词|歌名|店名|菜名|(?:店|餐厅|馆|公司|品牌|群|歌|书|片|酒吧"
    r"|饭馆)(?:的)?(?:名|名字)?(?:叫|取名|起名)|招牌(?:写|是|上)|菜单(?:上)?写|网名|绰号|外号|名字叫|叫做"
    r"|题目|主题|培训|普及|老话|俗话)"
)
_REPORT_AFTER = (
    r"^[^，。！？,!?]{0,6}(?:演练|演习|培训|讲座|宣传|科普|新闻|电影|小说|节目|游戏|谣言|传言|案例|话题"
    r"|主题|题材|情节|镜头|片段|展览|桥段|戏|场景|海报|标语|这首歌|的店|是假新闻|是谣言)"
)
_REAL = (
    r"(?:不是|又不是|并非)(?:在)?(?:演练|演习|拍戏|拍电影|游戏|开玩笑)|真的?(?:着|起|有人|掉|塌|漏|出事)"
    r"|我家也|我们这[边里]?也"
)
_IF = (
    r"如果|假如|假设|假使|倘若|要是|若是|(?<![假倘])若(?=[是有发遇不])|万一|一旦|以免|免得|避免|防止|预防"
    r"|防范|杜绝|谨防|严防|以防|为防|担心|(?<![可不恐])怕(?!是)"
    r"|生怕|唯恐|恐(?=造|发|引|有)|可能(?=会|造|引|发|导|出|有|存|就)|会不会|容易|极易|易(?=引|发|造|导)"
    r"|会(?=造成|引发|引起|导致|发生|出现)|(?:造成|引发|引起|导致)(?=.{0,6}(?:隐患|风险|怎么办))"
    r"|将来|以后(?=[会要可再万如怎的有出发])|今后|往后|迟早|早晚(?:会|要|得)|哪天|遇到|碰到|遇上"
    r"|发生.{0,8}(?:时|应该|该|怎么办)|假设|倘|幸好没|还好没|庆幸|即使|哪怕|难道要?等到?|非要等|等到"
)
_IF_AFTER = (
    r"^[^，。！？,!?]{0,4}(?:隐患|风险|的可能|可能性|怎么办(?:才)?[？?呢啊]?$|就晚了|就麻烦了|就糟了"
    r"|谁负责|谁来?担|的话|时应"
    r"|时该|时怎么|了?谁来?负责|该怎么逃|怎么逃生)"
)
_IMMINENT = r"随时|眼看|快要|就要|即将|马上(?:就)?要|摇摇欲坠|已经(?=[着起漏冒塌倒开出裂])"
_NEARLY = r"差点儿?|差一点儿?|险些|差些|几乎(?=要|掉|撞|摔|被|出)|幸亏没|幸好没|好在没"


@dataclass(frozen=True)
class Hit:
    """A stretch of the view where a rule's pattern matched, and its clause."""

    start: int
    end: int
    clause: Clause


def negated(scan: Scan, hit: Hit) -> bool:
    """Denied in its own clause: an odd number of negations right before it, or a denial right after."""
    left = compiled(_NEUTRAL).sub("□□", scan.view[max(hit.clause.start, hit.start - 20) : hit.start])
    chain = compiled(_DENIED).search(left)
    if chain and len(compiled(_NO).findall(chain.group())) % 2 == 1:
        return True
    if compiled(_DENIED_INSIDE).search(compiled(_NEUTRAL).sub("□□", scan.view[hit.start : hit.end])):
        return not chain
    right = scan.view[hit.end : min(hit.clause.end, hit.end + 24)]
    return bool(compiled(_DENIED_AFTER).search(right)) or _taken_back(scan, hit)


def _taken_back(scan: Scan, hit: Hit) -> bool:
    end = min(scan.sentence_of(hit.clause)[1], hit.end + 30)
    return bool(compiled(_TAKEN_BACK).search(scan.view, hit.end, end))


def asserted(scan: Scan, hit: Hit) -> bool:
    """Said to be so here and now: 了 right after it, a word for now, or the speaker's own place."""
    if compiled(r"[^，。,]{0,1}(?:了(?!险)|啦|咯|咧|着呢|得厉害|呢(?!$))").match(scan.view, hit.end):
        return True
    if "了" in scan.view[hit.start : hit.end]:
        return True
    start, end = max(hit.clause.start, hit.start - 16), min(hit.clause.end, hit.end + 8)
    around = scan.view[start : hit.start] + "□" + scan.view[hit.end : end]
    return bool(compiled(_NOW).search(scan.view, start, end) or compiled(_HERE).search(around))


def enquired(scan: Scan, hit: Hit) -> bool:
    """A question about the word in the same sentence, with nothing that says it is happening."""
    first, last = scan.sentence_of(hit.clause)
    start, end = max(first, hit.start - 30), min(last, hit.end + 30)
    return bool(compiled(_ASK).search(scan.view[start:end])) and not asserted(scan, hit)


def general(scan: Scan, hit: Hit) -> bool:
    """A question about the law or the office in charge, with nothing that says it is happening."""
    first, last = scan.sentence_of(hit.clause)
    start, end = max(first, hit.start - 30), min(last, hit.end + 30)
    return bool(compiled(_KNOWLEDGE).search(scan.view[start:end])) and not asserted(scan, hit)


def _dated(scan: Scan, hit: Hit, cue: str) -> bool:
    first = max(scan.sentence_of(hit.clause)[0], hit.start - 30)
    before = list(compiled(cue).finditer(scan.view, first, hit.start))
    if before:  # the last one counts: 去年……，现在……
        return not compiled(_STILL).search(scan.view, before[-1].end(), hit.clause.end)
    after = compiled(cue).search(scan.view, hit.end, min(hit.clause.end, hit.end + 8))
    return after is not None and not compiled(_STILL).search(scan.view, hit.clause.start, hit.clause.end)


def _since(scan: Scan, hit: Hit) -> bool:
    """去年着火之后…… tells what came after, whatever goes on since."""
    after = compiled(r"(?:事故|事件|了)?(?:之后|以后|过后)").match(scan.view, hit.end)
    return bool(after and compiled(_FAR).search(scan.view, max(hit.clause.start, hit.start - 20), hit.start))


def past(scan: Scan, hit: Hit) -> bool:
    """Long ago, or "it has happened before", with no word that says it goes on."""
    if _dated(scan, hit, _FAR) or _since(scan, hit):
        return True
    left = scan.view[max(hit.clause.start, hit.start - 8) : hit.start]
    right = scan.view[hit.end : hit.end + 3]
    happened = compiled(_HAPPENED).search(left) or compiled(
        r"^过(?!来|去|程|道|路|往|于|分|量|敏|热|期|我|他|她)"
    ).search(right)
    return bool(happened) and not compiled(r"又|再次|现在|正在|刚").search(
        scan.view, hit.clause.start, hit.clause.end
    )


def recent(scan: Scan, hit: Hit) -> bool:
    """Yesterday or a few days ago, and not said to go on."""
    return _dated(scan, hit, _NEAR)


def over(scan: Scan, hit: Hit) -> bool:
    """Said to be over: put out, found, mended, restored."""
    end = min(scan.sentence_of(hit.clause)[1], hit.end + 26)
    done = compiled(_OVER).search(scan.view, hit.end, end)
    if done is None:
        return False
    after = scan.view[done.end() : done.end() + 12]
    return not compiled(r"又|但|可是|现在|还在|还有|复燃|没呼吸|不见了").search(after)


def reported(scan: Scan, hit: Hit) -> bool:
    """News from elsewhere, fiction, drills, lessons."""
    first = max(scan.sentence_of(hit.clause)[0], hit.start - 24)
    right = scan.view[hit.end : min(hit.clause.end, hit.end + 12)]
    told = compiled(_REPORT).search(scan.view, first, hit.start) or compiled(_REPORT_AFTER).search(right)
    return bool(told) and not compiled(_REAL).search(scan.view, first, hit.clause.end)


def hypothetical(scan: Scan, hit: Hit) -> bool:
    """Only supposed, feared or to be prevented, and not said to be imminent."""
    first = max(scan.sentence_of(hit.clause)[0], hit.start - 18)
    right = scan.view[hit.end : min(hit.clause.end, hit.end + 12)]
    supposed = compiled(_IF).search(scan.view, first, hit.start) or compiled(_IF_AFTER).search(right)
    around = scan.view[max(hit.clause.start, hit.start - 10) : hit.end]
    return bool(supposed) and not compiled(_IMMINENT).search(around)


def nearly(scan: Scan, hit: Hit) -> bool:
    """It almost happened."""
    return bool(compiled(_NEARLY).search(scan.view, max(hit.clause.start, hit.start - 8), hit.start))


CHECKS: tuple[tuple[str, Callable[[Scan, Hit], bool]], ...] = (
    (NEGATION, negated),
    (NEAR_MISS, nearly),
    (HYPOTHESIS, hypothetical),
    (REPORT, reported),
    (PAST, past),
    (RECENT, recent),
    (OVER, over),
    (ENQUIRY, enquired),
    (KNOWLEDGE, general),
)


def dismissal(scan: Scan, hit: Hit, tolerates: frozenset[str]) -> str | None:
    """The first check that says "no trigger", leaving out those that the rule tolerates; None = a trigger."""
    for name, check in CHECKS:
        if name not in tolerates and check(scan, hit):
            return name
    return None
