"""What the commands print: tables of main figures and of differences."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from data.reviews.agreement import HeadAgreement
from evaluation.bootstrap import Figure
from evaluation.comparison import Comparison, HeadComparison
from evaluation.look_alikes import HeadEffect, MemoryEffect
from evaluation.report import HeadReport, Report
from evaluation.writing import percent

__all__ = [
    "changes_told", "comparison_table", "memory_tables", "pairs_table", "report_table", "urgency_table",
]  # fmt: skip


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


def changes_told(one: HeadComparison) -> list[str]:
    """Where two models differ on a head: counts of rows, and the labels with the largest differences."""
    counts = (
        f"{one.head}: both right {one.both_right}, only A {one.only_a}, only B {one.only_b}, "
        f"both wrong {one.both_wrong}; resampled by {'group' if one.by_group else 'row'}"
    )
    lines = [counts]
    for name, changes in (("B loses most on", one.losers), ("B wins most on", one.winners)):
        if changes:
            shown = ", ".join(f"{change.title} {change.net:+d} of {change.support}" for change in changes)
            lines.append(f"  {name}: {shown}")
    return lines


def memory_tables(effect: MemoryEffect) -> list[Table]:
    """What the correction memory changes on each head, and what goes out without a person."""
    title = f"{effect.rows} rows in the order of time, {effect.corrected} of them corrected (percent)"
    answers = Table(title=title, title_justify="left")
    answers.add_column("head", overflow="fold")
    for name in ("n", "moved", "changed", "righted", "wronged", "p", "accuracy without", "with",
                 "macro-F1 without", "with"):  # fmt: skip
        answers.add_column(name, justify="right")
    by_head = {one.head: one for one in effect.comparison.heads}
    for one in effect.heads:
        answers.add_row(*_memory_cells(one, by_head[one.head]))
    sent = Table(title="answers over the model's threshold: share / of them wrong", title_justify="left")
    sent.add_column("head", overflow="fold")
    for name in ("without", "with", "held back", "would be lifted"):
        sent.add_column(name, justify="right")
    for one in effect.heads:
        held, lifted = (f"{some.passed} / {100 * some.error:.1f}" for some in (one.held_back, one.lifted))
        told = (f"{100 * some.share:.1f} / {100 * some.error:.1f}" for some in one.automatic)
        sent.add_row(one.head, *told, held, lifted)
    return [answers, sent, _phases(effect)]


def _memory_cells(one: HeadEffect, compared: HeadComparison) -> tuple[str, ...]:
    both = (compared.macro_f1_a, compared.macro_f1_b)
    f1 = ("–" if value is None else f"{100 * value:.1f}" for value in both)
    accuracy = (f"{100 * value:.1f}" for value in (compared.accuracy_a, compared.accuracy_b))
    counts = (str(each) for each in (compared.n, one.moved, one.changed, compared.only_b, compared.only_a))
    return one.head, *counts, f"{compared.p:.3g}", *accuracy, *f1


def _phases(effect: MemoryEffect) -> Table:
    table = Table(title="accuracy by corrected appeals in memory: without → with", title_justify="left")
    table.add_column("head", overflow="fold")
    for number in range(max(len(one.phases) for one in effect.heads)):
        table.add_column(f"part {number + 1}", justify="right")
    for one in effect.heads:
        cells = (
            f"{part.least}–{part.most}: {100 * part.without:.1f} → {100 * part.together:.1f}"
            for part in one.phases
        )
        table.add_row(one.head, *cells)
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
