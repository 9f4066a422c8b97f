"""What the commands print: tables of main figures and of differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from evaluation.bootstrap import Figure
from evaluation.comparison import Comparison, HeadComparison
from evaluation.report import HeadReport, Report
from evaluation.writing import percent

if TYPE_CHECKING:
    from evaluation.agreement import HeadAgreement  # its package is slow to load and seldom needed

__all__ = ["comparison_table", "pairs_table", "report_table", "urgency_table"]


def report_table(report: Report) -> Table:
    """Main figures of every head and part, in percent."""
    title = f"{report.model} on {report.file}: {report.rows} rows (percent, 95 % intervals)"
    table = Table(title=title, title_justify="left")
    for name in ("head", "part"):
        table.add_column(name, overflow="fold")
    for name in ("n", "accuracy", "macro-F1", "top-3", "ECE", "auto @95 %", "own threshold: share / right"):
        table.add_column(name, justify="right")
    for one in report.heads:
        table.add_row(*_cells(one.head, one, one.n, one.figures))
        if one.frequent:
            name = f"{one.head} (≥ {report.min_support} rows)"
            table.add_row(*_cells(name, one, one.frequent_n, one.frequent))
    return table


def urgency_table(report: Report) -> Table | None:
    """Urgent against the rest, None if no head has it."""
    found = [one for one in report.heads if one.urgent]
    if not found:
        return None
    table = Table(title="urgent against the rest (percent)", title_justify="left")
    shown = {
        "macro_f1": "macro-F1",
        "precision": "precision",
        "recall": "recall",
        "pr_auc": "PR-AUC",
        "recall_at_precision_50": "recall @50 % prec.",
        "recall_at_precision_80": "recall @80 % prec.",
    }
    table.add_column("part")
    for name in ("n", *shown.values()):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(one.part, str(one.urgent_n), *(percent(one.urgent.get(key), key) for key in shown))
    return table


def pairs_table(one: HeadAgreement) -> Table:
    """Every pair of reviewers on one head, those with the most appeals first."""
    table = Table(title=f"{one.head}: agreement of pairs ({one.level})", title_justify="left")
    table.add_column("reviewers", overflow="fold")
    for name in ("appeals", "same label", "alpha"):
        table.add_column(name, justify="right")
    for pair in one.pairs:
        alpha = "–" if pair.alpha is None else f"{pair.alpha:.2f}"
        table.add_row(" · ".join(pair.reviewers), str(pair.appeals), f"{100 * pair.same:.1f} %", alpha)
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Both models' figures and the differences B − A."""
    table = Table(
        title=f"A = {comparison.a}, B = {comparison.b} (percent; B − A in points)", title_justify="left"
    )
    table.add_column("head", overflow="fold")
    for name in (
        "n",
        "accuracy A",
        "B",
        "B − A",
        "macro-F1 A",
        "B",
        "B − A",
        "only A",
        "only B",
        "p",
        "B ahead",
    ):
        table.add_column(name, justify="right")
    for one in comparison.heads:
        table.add_row(*_differences(one))
    return table


def _cells(name: str, one: HeadReport, n: int, known: Mapping[str, Figure]) -> tuple[str, ...]:
    shown = [percent(known.get(key), key) for key in ("accuracy", "macro_f1", "top3", "ece", "auto_coverage")]
    own = "–"
    if "stored_coverage" in known:
        right = known.get("stored_accuracy")
        own = f"{100 * known['stored_coverage'].value:.1f} / " + (
            f"{100 * right.value:.1f}" if right else "–"
        )
    return name, one.part, str(n), *shown, own


def _differences(one: HeadComparison) -> tuple[str, ...]:
    return (
        one.head,
        str(one.n),
        f"{100 * one.accuracy_a:.1f}",
        f"{100 * one.accuracy_b:.1f}",
        _signed(one.accuracy),
        "–" if one.macro_f1_a is None else f"{100 * one.macro_f1_a:.1f}",
        "–" if one.macro_f1_b is None else f"{100 * one.macro_f1_b:.1f}",
        _signed(one.macro_f1),
        str(one.only_a),
        str(one.only_b),
        f"{one.p:.3g}",
        f"{one.b_ahead:.1%}",
    )


def _signed(difference: Figure | None) -> str:
    if difference is None:
        return "–"
    value = f"{100 * difference.value:+.1f}"
    if difference.low is None or difference.high is None:
        return value
    return f"{value} [{100 * difference.low:+.1f} … {100 * difference.high:+.1f}]"
