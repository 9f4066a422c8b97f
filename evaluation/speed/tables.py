"""The result as tables: on the screen by rich, in Markdown, and everything in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from evaluation.errors import ReportError
from evaluation.speed.accuracy import Cost
from evaluation.speed.contenders import OURS, PLAIN
from evaluation.speed.figures import FEW, AtRate, Ratios, Row, ratios, verdicts
from evaluation.speed.limits import Limits
from evaluation.speed.run import Result

__all__ = ["Grid", "grids", "rich_table", "words", "write"]

POINTS = 0.3  # of accuracy that speed may cost


@dataclass(frozen=True)
class Grid:
    """A table: the first column is text, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def grids(result: Result) -> list[Grid]:
    """All tables of a result."""
    found = [_throughput(result)]
    found += [
        _latency(result, rate, [row.at[place] for row in result.rows])
        for place, rate in enumerate(result.rates)
    ]
    if result.limits is not None:
        found.append(_limits(result.limits, result.rows))
    if result.costs:
        found.append(_costs(result.costs, result.data))
    return found


def rich_table(grid: Grid) -> Table:
    """For the screen."""
    table = Table(title=grid.title, title_justify="left")
    for place, name in enumerate(grid.columns):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for line in grid.lines:
        table.add_row(*line)
    return table


def markdown(result: Result) -> str:
    """The whole result in Markdown."""
    parts = [f"# Speed of {result.model}", *(f"- {line}" for line in result.circumstances)]
    for grid in grids(result):
        head = f"| {' | '.join(grid.columns)} |"
        rule = "|" + "|".join(["---", *["---:"] * (len(grid.columns) - 1)]) + "|"
        lines = [f"| {' | '.join(line)} |" for line in grid.lines]
        parts += ["", f"## {grid.title}", "", head, rule, *lines, "", *grid.notes]
    parts += ["", "## In words", "", *(f"- {line}" for line in words(result)), ""]
    return "\n".join(parts)


def words(result: Result) -> list[str]:
    """The floors in sentences."""
    return verdicts(result.rows) + _cost_in_words(result.costs)


def _cost_in_words(costs: Sequence[Cost]) -> list[str]:
    if not costs:
        return []
    worst = max(costs, key=lambda cost: cost.lost)
    rounded = max(costs, key=lambda cost: cost.lost_by_rounding)
    met = "meets" if worst.lost <= POINTS else "misses"
    return [
        f"accuracy: at most {worst.lost:+.2f} points lost against the 32-bit encoder ({worst.head}): {met} "
        f"the floor of {POINTS:g}; 8 bits alone cost at most {rounded.lost_by_rounding:+.2f} "
        f"({rounded.head}); one row of {worst.rows} is {100 / worst.rows:.2f} points"
    ]


def write(result: Result, folder: Path) -> dict[str, Path]:
    """speed.md and speed.json. Raises ReportError if the folder cannot be written to."""
    files = {"markdown": folder / "speed.md", "json": folder / "speed.json"}
    content = json.dumps(_without_nan(asdict(result)), ensure_ascii=False, indent=1, default=str)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files["markdown"].write_text(markdown(result), encoding="utf-8")
        files["json"].write_text(content + "\n", encoding="utf-8")
    except OSError as error:
        raise ReportError(
            f"--out: expected a folder that can be written to, got {folder}: {error}"
        ) from error
    return files


def _throughput(result: Result) -> Grid:
    bound = f"{1000 * result.effort.bound:g} ms"
    columns = (
        "server", "set-up", "texts/s", "× plain", "× batching", "texts/s by wrk", "× plain by wrk",
        f"texts/s, p99 ≤ {bound}", "× plain", "× batching",
        "CPU s/1,000", "CPUs busy", "generator CPU s/1,000", "RSS MiB", "PSS MiB", "errors",
    )  # fmt: skip
    lines = tuple(_throughput_line(row, ratios(row, result.rows)) for row in result.rows)
    notes = tuple(f"{row.name}: {row.meaning}" for row in result.rows)
    return Grid("Throughput at saturation, and the highest rate held", columns, lines, notes)


def _throughput_line(row: Row, by: Ratios) -> tuple[str, ...]:
    return (
        row.name,
        row.layout,
        f"{row.saturation:.1f}",
        _times(by.saturation_by_plain),
        _times(by.saturation_by_batching),
        "–" if math.isnan(row.checked) else f"{row.checked:.1f}",
        _times(by.checked_by_plain),
        f"{row.sustained:.1f}" if row.sustained else "none",
        _times(by.sustained_by_plain),
        _times(by.sustained_by_batching),
        f"{row.cpu_per_1000:.2f}",
        f"{row.cpu_share:.2f}",
        f"{row.generator_per_1000:.2f}",
        f"{row.resident / 2**20:.0f}",
        f"{row.proportional / 2**20:.0f}",
        f"{row.errors} of {row.requests}",
    )


def _latency(result: Result, rate: float, at: Sequence[AtRate | None]) -> Grid:
    lines = tuple(
        (row.name, "can't keep up", "–", "–", "–") if one is None else (row.name, *_times_at(one))
        for row, one in zip(result.rows, at, strict=True)
    )
    few = any(one is not None and one.requests < FEW for one in at)
    notes = (f"* fewer than {FEW} requests: p99 is the longest of all",) if few else ()
    return Grid(
        f"Milliseconds at {rate:g} texts/s ({result.effort.arrivals} arrivals, from when a request was due)",
        ("server", "requests", "p50", "p95", "p99"),
        lines,
        notes,
    )


def _times_at(at: AtRate) -> tuple[str, ...]:
    mark = "*" if at.requests < FEW else ""
    return (
        str(at.requests),
        *(f"{1000 * value:.1f}" for value in (at.p50, at.p95)),
        f"{1000 * at.p99:.1f}{mark}",
    )


def _limits(limits: Limits, rows: Sequence[Row]) -> Grid:
    work = limits.work
    lines = [
        (
            f"[{rate.rows}, {rate.inner}] × [{rate.inner}, {rate.outer}]",
            f"{rate.eight_bit:.0f}",
            f"{rate.float32:.0f}",
        )
        for rate in limits.rates
    ]
    ours = max((row.saturation for row in rows if row.kind == OURS), default=math.nan)
    plain = max((row.saturation for row in rows if row.kind == PLAIN), default=math.nan)
    notes = [
        f"threads: {limits.threads}; one text of the mix: {work.tokens:.1f} tokens, {work.constant:.2f} G "
        f"operations with weights and {work.attention:.3f} G in attention",
        f"limit as served (weights in {'8' if work.eight_bits else '32'} bits at the best rate): "
        f"{limits.as_served:.0f} texts/s; with each product at its own shape's rate: "
        f"{limits.own_shapes:.0f}; all in 32-bit floats: {limits.floats:.0f}",
        f"reached: ours {ours / limits.as_served:.0%} of the first and {ours / limits.own_shapes:.0%} of the "
        f"second; the plain way {plain / limits.floats:.0%} of the third".replace("nan%", "–"),
    ]
    return Grid(
        "This machine's matrix products, G operations a second",
        ("shape", "8-bit integers", "32-bit floats"),
        tuple(lines),
        tuple(notes),
    )


def _costs(costs: Sequence[Cost], data: str) -> Grid:
    parts = list(costs[0].accuracy)
    lines = tuple(
        (
            cost.head,
            str(cost.rows),
            *(f"{100 * cost.accuracy[part]:.2f}" for part in parts),
            *(f"{value:+.2f}" for value in (cost.lost, cost.lost_by_encoder, cost.lost_by_rounding)),
        )
        for cost in costs
    )
    columns = (
        "head", "rows", *parts, "points lost: as served", "8-bit encoder alone", "8 bits in what is served",
    )  # fmt: skip
    notes = ("points lost against the 32-bit encoder that the other servers run (last column: against what "
             "is served, with that encoder in it); below 0 is gained",)  # fmt: skip
    return Grid(f"Accuracy in percent on {data}", columns, lines, notes)


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(one) for one in value]
    return value
