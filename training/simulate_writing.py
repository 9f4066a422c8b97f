"""A simulation as files: simulation.md, simulation.json, a plot per head (SVG and PNG). No text of a row."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from evaluation.bootstrap import Figure
from training.errors import SimulationError
from training.simulate import Simulated
from training.simulate_choice import STRATEGIES
from training.simulate_figures import MEASURES, Curve, Needed, Shown

__all__ = ["markdown", "write_simulation"]

_COLOURS = ("#1f6feb", "#d1242f", "#2da44e", "#8250df", "#bf8700", "#1b7c83", "#6e7781", "#cf222e")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def write_simulation(made: Simulated, shown: Shown, folder: Path) -> dict[str, Path]:
    """Write all files; returns them by kind. Raises SimulationError if the folder cannot be written to."""
    files = {"markdown": folder / "simulation.md", "json": folder / "simulation.json"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for head in made.heads:
            canvas = _drawn(made, shown, head)
            for kind in ("svg", "png"):
                files[f"{head}.{kind}"] = folder / f"simulation_{head}.{kind}"
                _save(canvas, files[f"{head}.{kind}"], kind)
        files["markdown"].write_text(markdown(made, shown), encoding="utf-8")
        content = json.dumps(_content(made, shown), ensure_ascii=False, indent=1)
        files["json"].write_text(content + "\n", encoding="utf-8")
    except OSError as error:
        raise SimulationError(
            f"--out: expected a folder that can be written to, got {folder}: {error}"
        ) from error
    return files


# -- words -----------------------------------------------------------------------------------------


def markdown(made: Simulated, shown: Shown) -> str:
    """The report's tables."""
    plan, cut = made.plan, made.timeline
    lines = [
        "# The labelling loop, simulated", "",
        f"Start: {made.start}, {len(cut.start)} rows before {plan.since}. {len(cut.pool)} appeals arrive "
        f"until {plan.test_from}, in {plan.rounds} equal parts; {plan.labels} labels a round. Tested on "
        f"{len(cut.test)} later rows ({cut.repeated} more nearly repeat an earlier one and were left out). "
        f"{plan.seeds} seeds; audit share {plan.audit_share:.0%}. Intervals: 95 %, over test groups and "
        "seeds.", "",
        *(f"- **{name}**: {STRATEGIES[name].told}" for name in plan.strategies), "",
    ]  # fmt: skip
    for head in made.heads:
        lines += [f"## {head}", "", f"![{head}](simulation_{head}.svg)", ""]
        for measure, name in MEASURES.items():
            lines += [f"### {name}", "", *_curve_table(made, shown, head, measure), ""]
        lines += ["### labels needed", "", *_needed_table(made, shown, head), ""]
    lines += ["## the models' own thresholds, after the last round", "", *_stored_table(shown), ""]
    lines += ["## labels that corrected an answer", "", *_noticed_table(made, shown), ""]
    if shown.full:
        lines += ["## full retraining with the same labels", "", *_full_table(shown), ""]
    return "\n".join(lines)


def _curve_table(made: Simulated, shown: Shown, head: str, measure: str) -> list[str]:
    curves = [shown.curve(head, measure, name) for name in made.plan.strategies]
    ahead = [one for one in curves if any(point.ahead for point in one.points)]
    names = [one.strategy for one in curves] + [f"{one.strategy} − random" for one in ahead]
    rows = []
    for place, point in enumerate(curves[0].points):
        cells = [_interval(one.points[place].value) for one in curves]
        cells += [_interval(one.points[place].ahead, sign=True) for one in ahead]
        rows.append([str(point.labels), *cells])
    return _table(["labels", *names], rows)


def _needed_table(made: Simulated, shown: Shown, head: str) -> list[str]:
    rows = []
    asked = [one for one in shown.needed if one.head == head]
    for measure, level in dict.fromkeys((one.measure, one.level) for one in asked):
        by_name = {one.strategy: one for one in asked if (one.measure, one.level) == (measure, level)}
        cells = [_needed(by_name[name]) for name in made.plan.strategies]
        rows.append([f"{MEASURES[measure]} {level:.4f}", *cells])
    return _table(["to reach", *made.plan.strategies], rows) if rows else ["No level to ask for."]


def _needed(one: Needed) -> str:
    if one.labels is None:
        return f"not reached (reached in {one.share:.0%} of resamples)"
    told = f"{one.labels.value:.0f}"
    if one.labels.low is not None and one.labels.high is not None:
        told += f" [{one.labels.low:.0f}–{one.labels.high:.0f}]"
    return told if one.share > 0.995 else f"{told}, in {one.share:.0%} of resamples"


def _stored_table(shown: Shown) -> list[str]:
    rows = [[one.head, one.strategy, f"{100 * one.coverage:.1f}", f"{100 * one.accuracy:.1f}"]
            for one in shown.stored]  # fmt: skip
    return _table(["head", "strategy", "passed (%)", "of these right (%)"], rows)


def _noticed_table(made: Simulated, shown: Shown) -> list[str]:
    rows = [[name, *(f"{100 * shown.noticed[name, head]:.1f}" for head in made.heads)]
            for name in made.plan.strategies]  # fmt: skip
    return _table(["strategy", *(f"{head} (%)" for head in made.heads)], rows)


def _full_table(shown: Shown) -> list[str]:
    rows: dict[tuple[str, str], dict[str, Figure]] = {}
    for strategy, head, measure, value in shown.full:
        rows.setdefault((head, strategy), {})[measure] = value
    cells = [[*names, *(_interval(found[one]) for one in MEASURES)] for names, found in sorted(rows.items())]
    return _table(["head", "labels of", *MEASURES.values()], cells)


def _interval(one: Figure | None, sign: bool = False) -> str:
    if one is None:
        return "–"
    form = "{:+.1f}" if sign else "{:.1f}"
    told = form.format(100 * one.value)
    if one.low is None or one.high is None:
        return told
    return f"{told} [{form.format(100 * one.low)}, {form.format(100 * one.high)}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


# -- JSON ------------------------------------------------------------------------------------------


def _content(made: Simulated, shown: Shown) -> dict[str, Any]:
    plan = asdict(made.plan)
    return {
        "plan": plan,
        "start": made.start,
        "rows": {
            "start": len(made.timeline.start),
            "pool": len(made.timeline.pool),
            "test": len(made.timeline.test),
            "repeated": made.timeline.repeated,
        },
        "rounds": [
            {
                "strategy": one.strategy,
                "seed": one.seed,
                "labels": one.labels,
                "trained_on": one.trained_on,
                "accuracy": {head: float(scored.correct.mean()) for head, scored in one.scored.items()},
                "thresholds": dict(one.thresholds),
                "noticed": dict(one.noticed),
            }
            for one in made.rounds
        ],
        "curves": [asdict(one) for one in shown.curves],
        "needed": [asdict(one) for one in shown.needed],
        "stored": [_finite(asdict(one)) for one in shown.stored],
        "noticed": [
            {"strategy": strategy, "head": head, "share": share}
            for (strategy, head), share in shown.noticed.items()
        ],
        "full": [
            {"strategy": strategy, "head": head, "measure": measure, **asdict(value)}
            for strategy, head, measure, value in shown.full
        ],
    }


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no nan: a threshold that nothing passes has no accuracy."""
    return {key: None if isinstance(one, float) and math.isnan(one) else one for key, one in values.items()}


# -- plots -----------------------------------------------------------------------------------------


def _drawn(made: Simulated, shown: Shown, head: str) -> Canvas:
    canvas = Canvas(figsize=(10.2, 3.4), layout="constrained")
    FigureCanvasAgg(canvas)
    for place, (measure, name) in enumerate(MEASURES.items(), start=1):
        axes = canvas.add_subplot(1, 3, place)
        _frame(axes, f"{head}: {name}")
        for number, strategy in enumerate(made.plan.strategies):
            _line(axes, shown.curve(head, measure, strategy), number)
        if place == 1:
            axes.legend(frameon=False, fontsize=8, loc="upper left")
    return canvas


def _line(axes: Axes, curve: Curve, number: int) -> None:
    colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
    labels = [point.labels for point in curve.points]
    found = [point.value for point in curve.points]
    low = [100 * (one.value if one.low is None else one.low) for one in found]
    high = [100 * (one.value if one.high is None else one.high) for one in found]
    values = [100 * one.value for one in found]
    axes.fill_between(labels, low, high, color=colour, alpha=0.10, linewidth=0)
    axes.plot(labels, values, color=colour, marker=mark, markersize=4, linewidth=1.5, label=curve.strategy)


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("labels spent (shaded: 95 % interval)", fontsize=8)
    axes.set_ylabel("percent", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color="#d0d7de", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _save(canvas: Canvas, path: Path, kind: str) -> None:
    """Without the time or the software's name: the same figures give the same bytes."""
    nothing = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "simulation", "svg.fonttype": "none"}):
        canvas.savefig(path, format=kind, dpi=110, metadata=nothing)
