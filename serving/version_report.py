"""The report on a challenger at the terminal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import typer

from classifier.registry import Registry
from data.database import Database
from serving.challengers.report import HeadDifference, ShadowReport, shadow_report
from serving.errors import StartError
from serving.settings import load_settings
from serving.terminal import table

__all__ = ["read_report", "show_report"]


def read_report(registry: Callable[[], Registry], version: str, days: float, limit: int) -> ShadowReport:
    """The report from the settings' database. Raises StartError without a version, StoreError."""
    wanted = version or _in_the_shadow(registry())
    database = Database.open(load_settings().database_url)
    try:
        database.check()
        return shadow_report(database, wanted, datetime.now(UTC), days, limit)
    finally:
        database.close()


def _in_the_shadow(registry: Registry) -> str:
    found = registry.shadow()
    if found is None:
        raise StartError("expected a version in the shadow, found none; name the version to report on")
    return found.name


def show_report(found: ShadowReport) -> None:
    """Print it: what matters first."""
    against = ", ".join(f"{version} ({appeals})" for version, appeals in found.against.items()) or "nobody"
    more = "" if found.complete else " (the newest ones: there are more)"
    since = f"{found.appeals} appeals{more} since {found.since:%Y-%m-%d}"
    typer.echo(f"{found.version} against {against}: {since}")
    if not found.appeals:
        typer.echo("nothing to compare: is it in the shadow, and were appeals answered since?")
        return
    typer.echo(f"urgency: lowered on {found.urgency_lowered}, raised on {found.urgency_raised}")
    moved = ", ".join(f"{one.before} → {one.after} {one.appeals}" for one in found.decisions) or "none"
    typer.echo(f"decisions that change: {moved}")
    typer.echo(_times(found) + "\n")
    sides = ("sure", "challenger", "labelled", "right", "challenger", "difference")
    table(("head", "appeals", "different", "95 %", *sides), [_row(one) for one in found.heads])
    if found.worst:
        typer.echo("\nlook at these first:")
        table(("id", "matter", "what"), [(one.id, one.matter, "; ".join(one.what)) for one in found.worst])


def _times(found: ShadowReport) -> str:
    lag = f"answered {found.lag_seconds:.1f} s after the champion"
    if found.champion_ms is None or found.challenger_ms is None:
        return lag
    both = f"{found.challenger_ms:.1f} ms a text, the champion {found.champion_ms:.1f} ms"
    return f"{lag}; {both} (on {found.timed_texts} texts)"


def _row(one: HeadDifference) -> tuple[str, ...]:
    shares = (f"{one.share:.1%}", f"{one.low:.1%}–{one.high:.1%}")
    sure = (f"{one.champion_confidence:.2f}", f"{one.challenger_confidence:.2f}")
    if one.judged is None:
        return (one.head, str(one.appeals), *shares, *sure, "0", "", "", "no labels yet")
    judged = one.judged
    right = [f"{hits / judged.appeals:.1%}" for hits in (judged.champion_right, judged.challenger_right)]
    gain = f"{judged.difference:+.1%} ({judged.low:+.1%} to {judged.high:+.1%}, p {judged.p:.3f})"
    return (one.head, str(one.appeals), *shares, *sure, str(judged.appeals), *right, gain)
