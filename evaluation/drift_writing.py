"""A drift report as files: drift.html (self-contained), drift.md with plots/, drift.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from evaluation import plots
from evaluation.drift import Drift
from evaluation.errors import ReportError
from evaluation.rendering import rendered
from evaluation.writing import Plot

__all__ = ["write_drift"]

MOST_LABELS = 15  # labels of a head that are listed, those that changed most first


def write_drift(drift: Drift, folder: Path) -> dict[str, Path]:
    """Write all files; returns them by kind. Raises ReportError if the folder cannot be written to."""
    files = {kind: folder / f"drift.{kind}" for kind in ("html", "md", "json")}
    try:
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        drawn = _drawn(drift)
        for plot in drawn:
            (folder / "plots" / f"{plot.name}.png").write_bytes(plot.png)
        for kind in ("html", "md"):
            page = rendered(f"drift.{kind}", {"p": _p}, drift=drift, plots=drawn, most=MOST_LABELS)
            files[kind].write_text(page, encoding="utf-8")
        files["json"].write_text(
            json.dumps(drift.to_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )
    except OSError as error:
        raise ReportError(
            f"--out: expected a folder that can be written to, got {folder}: {error}"
        ) from error
    return files


def _drawn(drift: Drift) -> list[Plot]:
    found = []
    for head in drift.heads:
        shown = head.shares[:MOST_LABELS]
        changes = [plots.Change(one.title, one.before, one.after) for one in shown]
        title = f"{head.head}: label shares, base and recent"
        found.append(Plot(f"shares_{head.head}", title, plots.change_plot(changes, title)))
    if len(drift.weeks) > 1:
        lines: dict[str, Sequence[float | None]] = {
            "mean confidence": [week.confidence for week in drift.weeks],
            "correction rate": [week.corrected for week in drift.weeks],
            "unknown characters and pairs": [week.unknown for week in drift.weeks],
        }
        known = {name: values for name, values in lines.items() if any(one is not None for one in values)}
        png = plots.week_plot([week.name for week in drift.weeks], known, "week by week")
        found.append(Plot("weeks", "confidence, corrections and unknown n-grams by week", png))
    return found


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
