"""A report as files: report.html (self-contained), report.md with plots/, scores.json."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluation import plots
from evaluation.bootstrap import Figure
from evaluation.errors import ReportError
from evaluation.metrics import ClassFigures
from evaluation.rendering import rendered
from evaluation.report import HeadReport, Report
from evaluation.scoring import AUTOMATIC, Stage, silent

__all__ = [
    "FIGURE_NAMES",
    "MAIN_FIGURES",
    "draw",
    "percent",
    "render_html",
    "render_markdown",
    "write_report",
]

# Order is that of the tables. Figures that are not shares of 1 are in _PLAIN.
FIGURE_NAMES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "top3": "top-3 accuracy",
    "hierarchical_f1": "hierarchical F1",
    "hierarchical_precision": "hierarchical precision",
    "hierarchical_recall": "hierarchical recall",
    "first_level_accuracy": "first-level accuracy",
    "first_level_macro_f1": "first-level macro-F1",
    "rank_error": "mean error in ranks",
    "auto_coverage": "share answerable at 95 % accuracy (threshold chosen here)",
    "stored_coverage": "share above the model's own threshold",
    "stored_accuracy": "accuracy above the model's own threshold",
    "ece": "ECE (15 bins of equal mass)",
    "ece_width": "ECE (15 bins of equal width)",
    "mean_confidence": "mean confidence",
    "nll": "negative log-likelihood (nats)",
    "brier": "Brier score",
    "aurc": "area under risk–coverage",
    "share_urgent": "share of urgent rows",
    "recall": "recall of urgent (at 0.5)",
    "precision": "precision of urgent (at 0.5)",
    "pr_auc": "PR-AUC of urgent",
    "recall_at_precision_50": "recall at 50 % precision",
    "recall_at_precision_80": "recall at 80 % precision",
    "stored_cut_macro_f1": "macro-F1 at the model's own cut",
    "stored_cut_recall": "recall at the model's own cut",
    "stored_cut_precision": "precision at the model's own cut",
}
MAIN_FIGURES = ("accuracy", "macro_f1", "top3", "hierarchical_f1", "ece", "auto_coverage")
_PLAIN = frozenset({"rank_error", "nll", "brier", "aurc", "ece", "ece_width"})


@dataclass(frozen=True)
class Plot:
    """One picture: what it shows, and PNG bytes."""

    name: str
    alt: str
    png: bytes

    @property
    def base64(self) -> str:
        """The picture for a data: address."""
        return base64.b64encode(self.png).decode("ascii")


def write_report(report: Report, folder: Path, stage: Stage = silent) -> dict[str, Path]:
    """Write all files; returns them by kind. Raises ReportError if the folder cannot be written to."""
    files = {
        "html": folder / "report.html",
        "markdown": folder / "report.md",
        "scores": folder / "scores.json",
    }
    try:
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        drawn = draw(report, stage)
        for plot in (one for those in drawn.values() for one in those):
            (folder / "plots" / f"{plot.name}.png").write_bytes(plot.png)
        files["html"].write_text(render_html(report, drawn), encoding="utf-8")
        files["markdown"].write_text(render_markdown(report, drawn), encoding="utf-8")
        files["scores"].write_text(report.to_json(), encoding="utf-8")
    except OSError as error:
        raise ReportError(
            f"--out: expected a folder that can be written to, got {folder}: {error}"
        ) from error
    return files


def draw(report: Report, stage: Stage = silent) -> dict[str, list[Plot]]:
    """Plots by head: details of the first part, curves of all."""
    progress = stage("drawing", len(report.main))
    drawn = {}
    for one in report.main:
        drawn[one.head] = _plots(one, report)
        progress(1)
    return drawn


def render_html(report: Report, drawn: Mapping[str, list[Plot]]) -> str:
    """The whole report as one HTML file without links."""
    return _rendered("report.html", report, drawn)


def render_markdown(report: Report, drawn: Mapping[str, list[Plot]]) -> str:
    """The report in Markdown; pictures are in plots/ beside it."""
    return _rendered("report.md", report, drawn)


def percent(one: Figure | None, name: str = "") -> str:
    """A figure as shown: percent with one digit, or plainly with three; its interval in brackets."""
    if one is None:
        return "–"
    value = _number(one.value, name)
    if one.low is None or one.high is None:
        return value
    return f"{value} [{_number(one.low, name)}–{_number(one.high, name)}]"


def _number(value: float, name: str) -> str:
    if name.removeprefix("stored_cut_") in _PLAIN:
        return f"{value:.3f}"
    return f"{100 * value:.1f}"


def _rendered(template: str, report: Report, drawn: Mapping[str, list[Plot]]) -> str:
    told = {"names": FIGURE_NAMES, "main": MAIN_FIGURES, "automatic": AUTOMATIC}
    return rendered(template, {"percent": percent}, report=report, plots=drawn, **told)


def _plots(one: HeadReport, report: Report) -> list[Plot]:
    every = report.of(one.head)
    risk = [plots.Named(other.part, other.curve) for other in every]
    drawn = {
        "reliability": plots.reliability_plot(one.bins, f"{one.head}: reliability"),
        "risk_coverage": plots.risk_coverage_plot(risk, f"{one.head}: risk and coverage", AUTOMATIC),
    }
    if one.classes[0].f1 is not None:
        drawn["classes"] = _class_plot(one)
    if one.slices:
        drawn["slices"] = plots.slice_plot(one.slices, f"{one.head}: slices")
    urgent = [
        plots.Named(other.part, other.urgent_curve) for other in every if other.urgent_curve is not None
    ]
    if urgent:
        drawn["urgent"] = plots.precision_recall_plot(urgent, "urgent against the rest")
    return [
        Plot(f"{one.head}_{name}", f"{one.head}: {name.replace('_', ' ')}", png)
        for name, png in drawn.items()
    ]


def _class_plot(one: HeadReport) -> bytes:
    lines = [
        ClassFigures(i, line.precision or 0.0, line.recall, line.f1 or 0.0, line.support)
        for i, line in enumerate(one.classes)
    ]
    titles = [line.title or line.name for line in one.classes]
    return plots.class_plot(lines, titles, f"{one.head}: F1 of the most frequent labels")
