"""The examples that OpenAPI shows. A test sends and validates every one of them."""

from __future__ import annotations

from typing import Any

__all__ = ["ANSWER", "APPEAL", "LOGIN", "MODEL", "ORIGINAL", "READY", "SCHEME", "SESSION", "TEXTS"]

TEXT = "柳荫街道梧桐里小区3号楼门口的污水井盖不见了，晚上没有路灯，今天已经有老人差点踩空，请尽快派人处理。"

APPEAL: dict[str, Any] = {
    "id": "2025-000117",
    "text": TEXT,
    "received_at": "2025-03-04T19:20:00+08:00",
    "channel": "电话",
    "place": {"city": "江城市", "district": "临江区", "street": "柳荫街道", "community": "梧桐里社区"},
    "declared_type": "求助",
}

TEXTS: dict[str, Any] = {
    "texts": [
        "小区楼下的烧烤店每天营业到凌晨，油烟直往家里灌，开不了窗。",
        "请问灵活就业人员的医保怎么缴费？",
    ]
}


def _choice(code: str, probability: float, *path: str) -> dict[str, Any]:
    return {"code": code, "name": path[-1], "path": list(path), "probability": probability}


def _head(best: dict[str, Any], *others: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**best, "alternatives": list(others), "evidence": [], **more}


ANSWER: dict[str, Any] = {
    "id": "2025-000117",
    "received_at": "2025-03-04T19:20:00+08:00",
    "category": {
        **_head(_choice("0202", 0.97, "市政设施", "井盖"), _choice("0203", 0.02, "市政设施", "路灯")),
        "evidence": [{"start": 15, "end": 19, "weight": 0.61}],
    },
    "appeal_type": _head(_choice("求助", 0.88, "求助"), _choice("投诉", 0.09, "投诉")),
    "urgency": {
        "level": "紧急",
        "probability": 1.0,
        "triggers": [
            {
                "kind": "manhole",
                "name": "井盖缺失",
                "start": 17,
                "end": 22,
                "text": "井盖不见了",
                "source": "rule",
                "level": "紧急",
                "in_title": False,
            }
        ],
        "model": _head(_choice("较急", 0.55, "较急"), _choice("紧急", 0.31, "紧急")),
    },
    "tier": _head(_choice("街道", 0.81, "街道"), _choice("区", 0.15, "区"), leader="街道办"),
    "unit": {
        "lead": {"code": "shizheng", "name": "市政设施管理中心"},
        "co_units": [{"code": "jiedao", "name": "街道办事处(乡镇政府)"}],
        "alternatives": [{"code": "chengguan", "name": "城市管理执法局", "probability": 0.06}],
        "probability": 0.9,
        "source": "both",
        "evidence": [],
    },
    "decision": {
        "action": "auto_dispatch",
        "reasons": [{"code": "confident", "text": "各项判定均达到自动派单的把握"}],
        "respond_by": "2025-03-04T21:20:00+08:00",
        "resolve_by": "2025-03-05T19:20:00+08:00",
        "transfer_to": [],
        "at_once": True,
    },
    "extra": {"petition": _head(_choice("城乡建设", 0.99, "城乡建设"))},
    "masked": [],
    "model_version": "default-1",
    "scheme_version": "1",
}

SCHEME: dict[str, Any] = {
    "name": "default",
    "version": "1",
    "sha256": "0f" * 32,
    "heads": [
        {
            "name": "appeal_type",
            "title": "",
            "kind": "flat",
            "labels": [{"code": "咨询", "name": "咨询", "path": ["咨询"]}],
        }
    ],
}

MODEL: dict[str, Any] = {
    "version": "default-1",
    "scheme": "default",
    "scheme_version": "1",
    "heads": {"category": 110, "appeal_type": 6, "urgency": 4, "tier": 6, "unit": 52, "petition": 7},
    "thresholds": {"category": 0.8, "unit": 0.86},
    "target_accuracy": 0.95,
    "card": {},
}

READY: dict[str, Any] = {"ready": True, "model": True, "store": True, "problems": {}}

LOGIN: dict[str, Any] = {"name": "ming", "password": "蓝伞-石桥-邮筒-八点半的火车"}

ORIGINAL: dict[str, Any] = {"id": APPEAL["id"], "title": "", "text": TEXT}

SESSION: dict[str, Any] = {
    "environment": "production",
    "kind": "user",
    "name": "ming",
    "role": "reviewer",
    "scopes": ["review"],
    "csrf": "5c" * 32,
    "expires_at": "2025-03-04T20:00:00Z",
}
