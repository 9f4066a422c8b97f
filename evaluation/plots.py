"""Plots of a report, as PNG bytes.

Label names are drawn in their own script where a font with Chinese glyphs is installed; without one,
labels that need it are drawn as their number in the report's table, never as empty boxes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from evaluation.metrics import Bin, ClassFigures, Curve
from evaluation.slices import Slice

__all__ = [
    "Change",
    "Named",
    "change_plot",
    "cjk_font",
    "class_plot",
    "plot_labels",
    "precision_recall_plot",
    "reliability_plot",
    "risk_coverage_plot",
    "slice_plot",
    "week_plot",
]  # fmt: skip

_CJK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC",
    "Noto Sans CJK JP", "Noto Serif CJK SC", "AR PL UMing CN", "Droid Sans Fallback", "Unifont",
)  # fmt: skip
_LINES = ("#1f6feb", "#d1242f", "#2da44e", "#8250df")
_DPI = 130
_MOST_CLASSES = 25


@dataclass(frozen=True)
class Named:
    """A curve with its name in the legend."""

    name: str
    curve: Curve


@dataclass(frozen=True)
class Change:
    """A share (0 to 1) before and after, with its name."""

    name: str
    before: float
    after: float


@cache
def cjk_font() -> str:
    """Name of an installed font with Chinese glyphs; empty if there is none."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in _CJK_FONTS if name in installed), "")


def plot_labels(names: Sequence[str], font: str) -> list[str]:
    """Names as they can be drawn: shortened, or their number (from 1) where the font lacks the glyphs."""
    short = [name if len(name) <= 16 else f"{name[:15]}…" for name in names]
    if font:
        return short
    return [name if name.isascii() else f"#{i}" for i, name in enumerate(short, start=1)]


def reliability_plot(bins: Sequence[Bin], title: str) -> bytes:
    """Accuracy against confidence by bin, on the diagonal if calibrated; ticks show where bins begin."""
    canvas, axes = _canvas(title, "confidence", "accuracy")
    axes.plot([0, 1], [0, 1], color="#8c959f", linestyle="--", linewidth=1)
    points = [one.confidence for one in bins], [one.accuracy for one in bins]
    axes.plot(*points, color=_LINES[0], marker="o", markersize=4, linewidth=1.2)
    axes.vlines([one.low for one in bins], 0, 0.03, color="#8c959f", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    return _png(canvas)


def risk_coverage_plot(curves: Sequence[Named], title: str, target: float) -> bytes:
    """Share of errors among the surest answers; the dotted line is what automatic dispatch allows."""
    canvas, axes = _canvas(title, "coverage (surest first)", "share of wrong answers")
    for line, (name, curve) in zip(
        _LINES, ((one.name, one.curve.thinned(400)) for one in curves), strict=False
    ):
        axes.plot(curve.x, curve.y, color=line, linewidth=1.5, label=name)
    axes.axhline(1 - target, color="#8c959f", linestyle=":", linewidth=1.2, label=f"{target:.0%} accuracy")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return _png(canvas)


def precision_recall_plot(curves: Sequence[Named], title: str) -> bytes:
    """Precision against recall of 'urgent', with lines at the precisions of the report."""
    canvas, axes = _canvas(title, "recall", "precision")
    for line, (name, curve) in zip(
        _LINES, ((one.name, one.curve.thinned(400)) for one in curves), strict=False
    ):
        axes.plot(curve.x, curve.y, color=line, linewidth=1.5, label=name)
    for level in (0.5, 0.8):
        axes.axhline(level, color="#8c959f", linestyle=":", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=8)
    return _png(canvas)


def class_plot(classes: Sequence[ClassFigures], names: Sequence[str], title: str) -> bytes:
    """F1 of the most frequent labels; ``names`` in the order of ``classes``, most frequent first."""
    shown = classes[:_MOST_CLASSES]
    with rc_context(_font_settings()):
        canvas, axes = _canvas(title, "F1", "", height=1.2 + 0.2 * len(shown))
        labels = plot_labels(names[: len(shown)], cjk_font())
        places = range(len(shown), 0, -1)
        axes.barh(places, [one.f1 for one in shown], color=_LINES[0], alpha=0.8, height=0.7)
        axes.set_yticks(
            places, [f"{label} ({one.support})" for label, one in zip(labels, shown, strict=True)]
        )
        axes.tick_params(axis="y", labelsize=7)
        axes.set_xlim(0, 1)
        axes.set_ylim(0.3, len(shown) + 0.7)
        return _png(canvas)


def slice_plot(parts: Sequence[Slice], title: str) -> bytes:
    """Accuracy of every slice with its interval, one row each."""
    with rc_context(_font_settings()):
        canvas, axes = _canvas(title, "accuracy (95 % interval)", "", height=1.0 + 0.22 * len(parts))
        places = list(range(len(parts), 0, -1))
        points = [one.accuracy for one in parts]
        below = [max(one.accuracy - one.low, 0.0) for one in parts]
        above = [max(one.high - one.accuracy, 0.0) for one in parts]
        axes.errorbar(
            points, places, xerr=[below, above], fmt="o", color=_LINES[0], markersize=4, linewidth=1.2
        )
        labels = plot_labels([one.name for one in parts], cjk_font())
        rows = [f"{one.kind}: {label} ({one.n})" for one, label in zip(parts, labels, strict=True)]
        axes.set_yticks(places, rows)
        axes.tick_params(axis="y", labelsize=7)
        axes.set_xlim(max(0.0, min(one.low for one in parts) - 0.05), 1.0)
        return _png(canvas)


def change_plot(changes: Sequence[Change], title: str) -> bytes:
    """A line from the share before (hollow) to the one after (filled), one row each, in percent."""
    with rc_context(_font_settings()):
        canvas, axes = _canvas(title, "percent of appeals", "", height=1.0 + 0.24 * len(changes))
        places = list(range(len(changes), 0, -1))
        before = [100 * one.before for one in changes]
        after = [100 * one.after for one in changes]
        axes.hlines(places, before, after, color=_LINES[0], linewidth=1.2)
        axes.plot(before, places, "o", markerfacecolor="white", color=_LINES[0], markersize=5, label="base")
        axes.plot(after, places, "o", color=_LINES[0], markersize=5, label="recent")
        axes.set_yticks(places, plot_labels([one.name for one in changes], cjk_font()))
        axes.tick_params(axis="y", labelsize=7)
        axes.set_xlim(left=0)
        axes.legend(frameon=False, fontsize=7)
        return _png(canvas)


def week_plot(weeks: Sequence[str], lines: Mapping[str, Sequence[float | None]], title: str) -> bytes:
    """Shares (0 to 1) week by week; a week without a value leaves a gap."""
    canvas, axes = _canvas(title, "", "percent")
    for line, (name, values) in zip(_LINES, lines.items(), strict=False):
        points = [float("nan") if value is None else 100 * value for value in values]
        axes.plot(range(len(weeks)), points, color=line, marker="o", markersize=3, linewidth=1.2, label=name)
    step = max(1, len(weeks) // 8)
    axes.set_xticks(range(0, len(weeks), step), list(weeks)[::step], rotation=30)
    axes.set_ylim(0, 101)
    axes.legend(frameon=False, fontsize=7)
    return _png(canvas)


def _canvas(title: str, x: str, y: str, height: float = 3.4) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(4.8, height), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color="#d0d7de", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return canvas, axes


def _font_settings() -> dict[Any, Any]:
    return {"font.family": [cjk_font(), "sans-serif"]} if cjk_font() else {}


def _png(canvas: Canvas) -> bytes:
    file = io.BytesIO()
    # No software name or time in the file: the same figures give the same bytes.
    canvas.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()
