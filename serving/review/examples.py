"""The examples that OpenAPI shows of reviewing. A test validates every one of them."""

from __future__ import annotations

from typing import Any

from serving.examples import ANSWER, APPEAL

__all__ = [
    "ADJUDICATION", "BULK", "CORRECTION", "DISPUTES", "DONE", "EXTENDED", "FLAGS", "FLAGS_OUT", "HISTORY",
    "LABELS", "NOTHING", "PREVIEW", "PREVIEW_OUT", "QUEUES", "RULES", "SIMILAR", "SKIP", "TAKE", "TASK",
    "TOKEN", "WITHDRAW",
]  # fmt: skip

TAKEN, UNTIL = "2025-03-05T09:00:00+08:00", "2025-03-05T09:15:00+08:00"

# --- requests -------------------------------------------------------------------------------------

TAKE: dict[str, Any] = {
    "queue": "urgent",
    "filters": {"categories": ["02"], "street": "柳荫街道", "since": "2025-03-01T00:00:00+08:00"},
    "holding": [117],
}
CORRECTION: dict[str, Any] = {
    "labels": {"category": "0202", "appeal_type": "求助", "unit": ""},
    "token": "9f0c2c1e-117",
    "shown_version": "default-1",
    "comment": "是污水井盖",
    "seconds": 8.4,
}
ADJUDICATION: dict[str, Any] = {**CORRECTION, "lease": 117}
SKIP: dict[str, Any] = {"reason": "unclear", "comment": "", "seconds": 5.0}
TOKEN: dict[str, Any] = {"token": "9f0c2c1e-118"}
FLAGS: dict[str, Any] = {"spans": [[9, 14]]}
PREVIEW: dict[str, Any] = {"ids": ["2025-000117"], "head": "category", "code": "0203", "final": False}
BULK: dict[str, Any] = {**PREVIEW, "fingerprint": "5c" * 32, "token": "9f0c2c1e-119", "comment": ""}
WITHDRAW: dict[str, Any] = {"said_under": "9f0c2c1e-119", "token": "9f0c2c1e-120"}
RULES: dict[str, Any] = {"audit_share": 0.02, "double_share": 0.1}

# --- answers --------------------------------------------------------------------------------------

QUEUES: dict[str, Any] = {
    "queues": [
        {
            "queue": "urgent",
            "name": "紧急优先",
            "about": "需要人工先看的诉求",
            "waiting": 12,
            "held": 2,
            "more": False,
        }
    ],
    "me": {"name": "user:ming", "lead": False},
    "rules": RULES,
    "skip_reasons": [{"code": "unclear", "name": "内容看不明白"}],
    "lease_minutes": 15.0,
}
LABELS: dict[str, Any] = {
    "scheme_version": "1",
    "heads": [
        {
            "head": "category",
            "name": "事项分类",
            "tree": True,
            "labels": [
                {
                    "code": "0202",
                    "name": "井盖",
                    "path": ["市政设施", "井盖"],
                    "pinyin": "jing gai",
                    "initials": "jg",
                    "keywords": ["窨井盖"],
                    "definition": "井盖缺失、破损、松动",
                }
            ],
        }
    ],
}
FLAG = {"number": 3, "start": 9, "end": 14, "reviewer": "user:ming"}
FLAGS_OUT: dict[str, Any] = {"flags": [FLAG]}
_FIRST = ANSWER["category"]
TASK: dict[str, Any] = {
    "task": {
        "lease": {"number": 117, "queue": "urgent", "taken_at": TAKEN, "expires_at": UNTIL},
        "appeal": {
            "id": APPEAL["id"],
            "text": APPEAL["text"],
            "received_at": APPEAL["received_at"],
            "channel": APPEAL["channel"],
            "declared_type": APPEAL["declared_type"],
            "place": {**APPEAL["place"], "grid": ""},
            "flags": [],
        },
        "shown_version": "default-1",
        "scheme_version": "1",
        "heads": [
            {
                "head": "category",
                "name": "事项分类",
                "code": _FIRST["code"],
                "label": _FIRST["name"],
                "path": _FIRST["path"],
                "probability": _FIRST["probability"],
                "alternatives": _FIRST["alternatives"],
                "evidence": _FIRST["evidence"],
                "in_force": {"code": "0202", "name": "井盖", "state": "agreed", "by": ["user:hua"]},
                "mine": None,
            }
        ],
        "urgency": {
            "level": "紧急",
            "probability": 1.0,
            "triggers": [
                {
                    "kind": "manhole",
                    "name": "井盖缺失",
                    "start": 17,
                    "end": 22,
                    "source": "rule",
                    "level": "紧急",
                }
            ],
        },
        "decision": ANSWER["decision"],
        "memory": [],
        "others": [
            {
                "model_version": "weekly-7",
                "heads": {"category": {"code": "0203", "name": "路灯", "probability": 0.61}},
            }
        ],
        "wanted": 1,
        "missing": 0,
        "blind": False,
        "explained": True,
    }
}
EXTENDED: dict[str, Any] = {"expires_at": UNTIL}
NOTHING: dict[str, Any] = {}
DONE: dict[str, Any] = {
    "done": {"rows": 3, "confirmed": 2, "changed": 1, "unchanged": 0, "again": False},
}
HISTORY: dict[str, Any] = {
    "events": [
        {
            "at": TAKEN,
            "what": "changed",
            "who": "user:ming",
            "head": "category",
            "before": "0203",
            "after": "0202",
            "before_name": "路灯",
            "after_name": "井盖",
            "why": "是污水井盖",
            "model_version": "default-1",
            "scheme_version": "1",
            "seconds": 8.4,
            "details": {"source": "page"},
        }
    ],
    "blind": False,
}
SIMILAR: dict[str, Any] = {
    "similar": [
        {
            "id": "2025-000093",
            "text": "梧桐里小区北门的井盖松了，车一过就响。",
            "similarity": 0.91,
            "duplicate": False,
            "received_at": "2025-03-02T08:10:00+08:00",
            "labels": {"category": {"code": "0202", "name": "井盖", "by": "person", "state": "agreed"}},
            "same_evidence": ["井盖"],
        }
    ]
}
PREVIEW_OUT: dict[str, Any] = {
    "head": "category",
    "code": "0203",
    "changes": [
        {
            "id": "2025-000117",
            "text": APPEAL["text"],
            "before": "0202",
            "before_name": "井盖",
            "by": "model",
            "after": "0203",
            "after_name": "路灯",
            "stays": "",
        }
    ],
    "changing": 1,
    "fingerprint": "5c" * 32,
}
DISPUTES: dict[str, Any] = {
    "disputes": [
        {
            "id": APPEAL["id"],
            "text": APPEAL["text"],
            "received_at": APPEAL["received_at"],
            "heads": {
                "category": [
                    {"reviewer": who, "code": code, "name": name, "comment": "", "at": TAKEN}
                    for who, code, name in (("user:ming", "0202", "井盖"), ("user:hua", "0203", "路灯"))
                ]
            },
        }
    ]
}
