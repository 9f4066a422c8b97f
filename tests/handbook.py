"""What the operators' handbook tells of the metrics."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """name → type and labels of every metric in the table of the operators' handbook."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    kinds = "counter|gauge|histogram"  # an event's name may begin as a metric's does
    rows = re.findall(rf"^\| `((?:jiesu|process)_\w+)` \| ({kinds}) \| ([^|]*) \|", text, re.MULTILINE)
    return {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
