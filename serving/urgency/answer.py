"""What the assessment of urgency answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# Ordered; codes of the default scheme. Rules speak in ranks (0 to 3), a scheme may name them otherwise.
LEVELS = ("一般", "较急", "紧急", "特急")

KINDS: Mapping[str, str] = {
    "self_harm": "轻生自残", "threat": "扬言伤害", "mass_action": "堵路聚集", "crime": "正在侵害",
    "fire": "火情", "gas": "燃气泄漏", "electric": "触电漏电", "collapse": "坍塌", "falling": "坠物",
    "manhole": "井盖缺失", "drowning": "落水被淹", "poisoning": "中毒", "trapped": "人员被困",
    "missing": "走失失联", "domestic_violence": "家庭暴力", "child_abuse": "虐待儿童",
    "trafficking": "拐骗", "medical": "急症伤情", "traffic": "交通事故", "chemical": "危化品爆炸",
    "outage": "大面积停供", "group": "群体诉求", "repetition": "重复反映", "deadline": "期限临近",
    "nuisance": "现场扰民", "vulnerable": "特殊人群", "court": "已入诉讼", "arbitration": "已入仲裁",
    "review": "已入行政复议", "petition": "已入信访", "discipline": "检举公职人员", "model": "模型判断",
}  # fmt: skip


@dataclass(frozen=True)
class Trigger:
    """What raised the urgency (or asks for a hand-over): a span of the text, and who saw it.

    ``level`` is the urgency code that it stands for; ``bodies`` are those to whom it hands over.
    """

    kind: str
    start: int
    end: int
    source: Literal["rule", "model"]
    level: str
    text: str = ""
    bodies: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The kind in Chinese."""
        return KINDS.get(self.kind, self.kind)


@dataclass(frozen=True)
class UrgencyAnswer:
    """Level (a code of the scheme), how probable that level or a higher one is, and why.

    ``rule_level`` and ``model_level`` are what each side said alone; ``model_level`` is "" without a model.
    ``transfer`` lists the bodies to hand over to, in order of haste.
    """

    level: str
    probability: float
    triggers: tuple[Trigger, ...] = ()
    transfer: tuple[str, ...] = ()
    rule_level: str = ""
    model_level: str = ""
