"""Stored appeals, for tests of the store and of what stands beside it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from data.appeals import Place
from data.store import NewAppeal

NOON = datetime(2025, 3, 4, 12, 0, tzinfo=timezone(timedelta(hours=8)))


def appeal(id: str = "A-1", sha: str = "0" * 64, **changes: object) -> NewAppeal:
    made = NewAppeal(
        id=id,
        body_sha256=sha,
        text="楼下烧烤摊每晚冒烟，电话[手机号]",
        place=Place(city="江城", street="柳荫街道"),
        channel="电话",
        declared_type="",
        received_at=NOON,
        answered_at=NOON,
        answer=f'{{"id":"{id}"}}',
        action="review",
        urgency="一般",
        model_version="m1",
        scheme_version="s1",
    )
    return replace(made, **changes)  # type: ignore[arg-type]
