"""Rules about matters that are somebody else's already: court, arbitration, review, petition, discipline.

They set no urgency; they say to whom the appeal is handed over. Where it is unclear nothing is said, and the
first receiver keeps the appeal (首接负责).
"""

from __future__ import annotations

from serving.urgency.context import HYPOTHESIS, OVER, PAST, RECENT
from serving.urgency.finding import GAP, GENERAL, WIDE, Pattern, Rule

_LASTING = frozenset({PAST, RECENT, OVER})

_COURT = (
    Pattern(
        rf"(?:已经?|正在|已向{GAP}{{0,8}})(?:向{GAP}{{0,8}})?(?:法院)?(?:提?起诉(?:了)?|立案(?:起诉)?"
        rf"|诉讼)|(?:在|正)(?:打官司|诉讼)|法院(?:已经?)?(?:受理|立案|开庭|判决|判了|判|裁定|调解书)"
        rf"|(?:一审|二审|终审|再审)(?:已经?)?(?:判决|判|开庭|胜诉|败诉|审理|结果)"
        rf"|判决(?:书)?(?:已经?)?(?:下来|生效|不服)|不服(?:法院)?(?:判决|一审|二审)"
        rf"|申请(?:了)?(?:法院)?强制执行|执行(?:局|法官)|诉讼(?:期间|过程中|阶段)|等(?:着)?开庭",
        GENERAL,
        ("法院",),
        _LASTING,
        r"怎么起诉|如何起诉|法院(?:判|立案)[^，。]{0,4}(?:吗|怎么)|公安[^，。]{0,6}立案",
    ),
)
_ARBITRATION = (
    Pattern(
        rf"(?:已经?|正在|在)(?:向{GAP}{{0,10}})?(?:申请|提起|走|做|进行)?(?:了)?(?:劳动|人事|商事"
        rf"|土地)?仲裁|仲裁(?:委|庭|院|委员会)?(?:已经?)?(?:受理|立案|开庭|裁决|裁了)|仲裁裁决(?:书)?"
        rf"|仲裁(?:期间|过程中|阶段)",
        GENERAL,
        ("仲裁",),
        _LASTING,
    ),
)
_REVIEW = (
    Pattern(
        rf"(?:已经?|正在|在)(?:向{GAP}{{0,12}})?(?:申请|提起|提出|走)?(?:了)?行政复议"
        rf"|行政复议(?:已经?)?(?:受理|立案|决定书?|期间|维持)|不服(?:行政)?复议",
        GENERAL,
        ("行政复议",),
        _LASTING,
    ),
)
_PETITION = (
    Pattern(
        rf"信访(?:局|办|部门|件|事项)?(?:已经?|正在)(?:受理|登记|办理|立案|转办|交办)|信访(?:件)?(?:编号"
        rf"|受理告知书|受理通知|复查|复核|答复意见书|处理意见书)|(?:已经?|正在)(?:向{GAP}{{0,8}})?(?:走"
        rf"|进行|提交|登记)?(?:了)?信访(?!局在哪|条例)|(?:国家|省|市|区)?信访局?{GAP}{{0,4}}(?:受理了"
        rf"|答复了|登记了)",
        GENERAL,
        ("信访",),
        _LASTING,
    ),
)

_OFFICIAL = (
    r"(?:书记|主任|局长|所长|科长|处长|镇长|乡长|村长|村主任|村支书|支书|院长|校长|干部|领导|公务员"
    r"|工作人员|办事员|队长|副局长|会计|民警|警察|城管|执法人员|法官|检察官|站长|区长|县长|市长|村官"
    r"|村委会?|村两委|居委会|党员|经办人)"
)
_WRONG = (
    r"(?:受贿|索贿|行贿|贪污|贪腐|腐败|收(?:受)?(?:红包|贿赂|好处费?|黑钱|礼金|回扣)|吃拿卡要|挪用(?:公款"
    r"|资金|村里)?|侵占(?:集体|公款|国家|扶贫|补偿)|截留|套取|冒领|以权谋私|滥用职权|徇私舞弊|徇私枉法"
    r"|权钱交易|公款(?:吃喝|旅游|私用)|公车私用|优亲厚友|违纪|违法乱纪|保护伞|卖官|买官|生活作风|包养|渎职"
    r"|私分|暗箱操作|中饱私囊|乱收钱|要好处|索要(?:钱|好处|红包|财物))"
)
_DISCIPLINE = (
    Pattern(
        rf"{_OFFICIAL}{GAP}{{0,16}}{_WRONG}|{_WRONG}{GAP}{{0,8}}(?:的)?{_OFFICIAL}|(?:举报|检举|实名举报"
        rf"|控告|揭发){WIDE}{{0,24}}{_WRONG}",
        GENERAL,
        ("12388",),
        _LASTING | {HYPOTHESIS},
        r"公司(?:会计|主任|领导)|业委会|老板|培训|廉洁(?:教育|讲座)",
    ),
)

# 已经起诉、已判决、执行中: in court; planning to sue is not.
court = Rule("court", _COURT)

# 仲裁已受理、正在仲裁.
arbitration = Rule("arbitration", _ARBITRATION)

# 行政复议已申请、已受理.
review = Rule("review", _REVIEW)

# 信访已受理、已登记.
petition = Rule("petition", _PETITION)

# 公职人员涉嫌违纪违法: to 12388; poor service is dispatched (never to the accused).
discipline = Rule("discipline", _DISCIPLINE)
