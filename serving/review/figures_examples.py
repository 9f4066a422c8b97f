"""The example that OpenAPI shows of a lead's figures. A test validates it."""

from __future__ import annotations

from typing import Any

__all__ = ["FIGURES"]

_WHOLE = {"value": 0.917, "low": 0.782, "high": 0.971, "appeals": 36, "open": 1, "stands_for": 720.0}
_UNIT = {"head": "unit", "name": "承办单位", **_WHOLE}
_WELL, _LAMP = {"code": "0202", "name": "井盖"}, {"code": "0203", "name": "路灯"}

FIGURES: dict[str, Any] = {
    "since": "2025-02-04T00:00:00+08:00",
    "until": "2025-03-06T00:00:00+08:00",
    "days": 30,
    "queues": [
        {
            "queue": "urgent",
            "name": "紧急优先",
            "waiting": 12,
            "held": 2,
            "done": 341,
            "skipped": 7,
            "oldest": "2025-03-05T08:12:00+08:00",
        }
    ],
    "totals": {"appeals": 341, "labels": 1964, "reviewers": 1, "skipped": 7},
    "reviewers": [
        {
            "reviewer": "user:ming",
            "appeals": 341,
            "labels": 1964,
            "median_seconds": 8.4,
            "days": [
                {
                    "day": "2025-03-05",
                    "appeals": 341,
                    "labels": 1964,
                    "confirmed": 1720,
                    "changed": 244,
                    "adjudicated": 0,
                    "bulk": 0,
                    "skipped": 7,
                    "median_seconds": 8.4,
                }
            ],
        }
    ],
    "seconds": {
        "appeals": 341,
        "low": 5.1,
        "median": 8.4,
        "high": 15.2,
        "weeks": [{"week": "2025-03-03", "appeals": 341, "low": 5.1, "median": 8.4, "high": 15.2}],
    },
    "agreement": [
        {
            "head": "category",
            "name": "事项分类",
            "ordered": False,
            "alpha": 0.81,
            "low": 0.72,
            "high": 0.89,
            "why": "",
            "verdict": "可靠",
            "appeals": 64,
            "reviewers": 2,
            "labels": 128,
            "untold": 0,
            "same": 0.83,
            "pairs": [
                {
                    "reviewers": ["user:hua", "user:ming"],
                    "appeals": 64,
                    "same": 0.83,
                    "alpha": 0.81,
                    "why": "",
                }
            ],
            "confused": [{"first": _WELL, "second": _LAMP, "appeals": 4}],
            "matrix": {"labels": [_WELL, _LAMP], "counts": [[11, 4], [4, 9]], "left_out": 0},
        }
    ],
    "audit": {
        "share": 0.05,
        "target": 0.95,
        "members": 60,
        "answered": 52,
        "used": 50,
        "automatic": 37,
        "whole": _WHOLE,
        "heads": [_UNIT],
        "weeks": [{"week": "2025-03-03", "whole": _WHOLE, "heads": [_UNIT]}],
        "words": ["自动派单的诉求里，约 91.7% 整件全对（95% 区间 78.2%–97.1%）。"],
    },
    "corrections": [
        {
            "head": "category",
            "name": "事项分类",
            "labels": 341,
            "changed": 41,
            "rate": 0.1202,
            "weeks": [
                {
                    "week": "2025-03-03",
                    "labels": 341,
                    "changed": 41,
                    "rate": 0.1202,
                    "low": 0.0898,
                    "high": 0.1591,
                }
            ],
        }
    ],
    "label_errors": {
        "suspected": 9,
        "looked_at": 6,
        "wrong": 4,
        "right": 2,
        "as_proposed": 3,
        "heads": [
            {
                "head": "category",
                "name": "事项分类",
                "suspected": 9,
                "looked_at": 6,
                "wrong": 4,
                "right": 2,
                "as_proposed": 3,
            }
        ],
        "words": "看过 6 个，4 个确实标错了。",
    },
}
