"""Commands about model versions: list, show, add, promote, roll back, shadow, canary, and its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.errors import StartError
from serving.terminal import at_terminal, table, told

if TYPE_CHECKING:
    from classifier.history import Event
    from classifier.registry import Entry, Registry

__all__ = ["models_cli"]

models_cli = typer.Typer(
    no_args_is_help=True, help="Model versions: list, show, add, promote, rollback, shadow, canary."
)

RegistryOption = Annotated[
    Path | None, typer.Option("--registry", help="Folder of the registry \\[default: JIESU_REGISTRY_DIR]")
]
WhyOption = Annotated[str, typer.Option("--why", help="A reason, for the history")]
VersionArgument = Annotated[str, typer.Argument(help="As models list shows it")]
OptionalVersion = Annotated[str, typer.Argument(help="As models list shows it; none with --off")]


@models_cli.command("list", epilog="Example: python -m serving models list --registry var/models")
def list_models(
    registry: RegistryOption = None,
    history: Annotated[bool, typer.Option("--history", help="Also what was done, by whom, why")] = False,
) -> None:
    """Show all versions: who answers, since when, and what the gate said."""
    with told():
        chosen = _registry(registry)
        head = ("version", "place", "added", "by", "gate", "compared with", "reasons")
        table(head, [_row(entry) for entry in chosen.entries()])
        if history:
            typer.echo()
            table(("at", "what", "version", "by", "why"), [_line(event) for event in chosen.history()])


@models_cli.command("show", epilog="Example: python -m serving models show default-20310505-1a2b3c4d")
def show_model(version: VersionArgument, registry: RegistryOption = None) -> None:
    """Everything that the gate found about a version."""
    with told():
        verdict = _registry(registry).verdict(_registry(registry).path(version).name)
        if verdict is None:
            typer.echo(f"{version}: the gate was not asked yet (python -m training gate)")
            return
        typer.echo(f"{verdict.at}  {verdict.content.get('sentence', '')}")
        marks = {True: "passed", False: "refused", None: "not checked"}
        findings = verdict.content.get("findings", [])
        found = [(marks[one["passed"]], one["check"], one["reason"]) for one in findings]
        table(("", "check", "found"), found)


@models_cli.command("add", epilog="Example: python -m serving models add runs/default/model")
def add_model(
    folder: Annotated[Path, typer.Argument(help="A model folder")],
    registry: RegistryOption = None,
    why: WhyOption = "",
) -> None:
    """Copy a model folder into the registry, once it gave its known answer here. It answers nobody yet."""
    with told():
        from serving.versions import add

        version = add(_registry(registry), folder, at_terminal(), why)
        typer.echo(f"added {version}")
        _note("added", version, why)


@models_cli.command("promote", epilog="Example: python -m serving models promote default-20310505-1a2b3c4d")
def promote_model(
    version: VersionArgument,
    registry: RegistryOption = None,
    why: WhyOption = "",
    force: Annotated[bool, typer.Option("--force", help="Against the gate; needs --why")] = False,
) -> None:
    """Make a version the champion. A running service swaps within seconds, between two batches."""
    with told():
        from serving.versions import promote

        promote(_registry(registry), version, at_terminal(), why, force)
        typer.echo(f"champion: {version}")
        _note("promoted", version, why, force=force)


@models_cli.command("rollback", epilog="Example: python -m serving models rollback --why 'wrong units'")
def roll_back(registry: RegistryOption = None, why: WhyOption = "") -> None:
    """Make the version before the champion the champion again; once more goes one further back."""
    with told():
        back = _registry(registry).rollback(at_terminal(), why)
        typer.echo(f"champion: {back.name}")
        _note("rolled_back", back.name, why)


@models_cli.command("shadow", epilog="Example: python -m serving models shadow default-20310505-1a2b3c4d")
def shadow_model(
    version: OptionalVersion = "",
    registry: RegistryOption = None,
    why: WhyOption = "",
    off: Annotated[bool, typer.Option("--off", help="End it")] = False,
) -> None:
    """Let a version answer live appeals beside the champion; nobody sees its answers."""
    with told():
        from serving.versions import set_shadow

        set_shadow(_registry(registry), _one_of(version, off), at_terminal(), why)
        typer.echo("shadow: none" if off else f"shadow: {version}")
        _note("shadow_ended" if off else "shadow_set", version, why)


@models_cli.command(
    "canary", epilog="Example: python -m serving models canary default-20310505-1a2b3c4d --share 0.05"
)
def canary_model(
    version: OptionalVersion = "",
    registry: RegistryOption = None,
    share: Annotated[float, typer.Option("--share", help="Over 0, at most 0.5, of the appeals")] = 0.05,
    why: WhyOption = "",
    off: Annotated[bool, typer.Option("--off", help="End it: the champion answers all")] = False,
) -> None:
    """Let a version answer a share of the appeals; always the same ones, by their ids."""
    with told():
        from serving.versions import set_canary

        set_canary(_registry(registry), _one_of(version, off), share, at_terminal(), why)
        typer.echo("canary: none" if off else f"canary: {version} answers {share:.1%}")
        _note("canary_ended" if off else "canary_set", version, why, **({} if off else {"share": share}))


@models_cli.command("shadow-report", epilog="Example: python -m serving models shadow-report --days 7")
def report_shadow(
    version: Annotated[str, typer.Argument(help="A challenger; default: the one in the shadow")] = "",
    registry: RegistryOption = None,
    days: Annotated[float, typer.Option(min=0.01, max=366, help="Appeals received in so many days")] = 7.0,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many of them")] = 20_000,
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """How a challenger's stored answers differ from those that callers got, and who was right."""
    with told():
        from serving.version_report import read_report, show_report

        found = read_report(lambda: _registry(registry), version, days, limit)
        if as_json:
            typer.echo(found.model_dump_json(indent=1))
        else:
            show_report(found)


def _registry(given: Path | None) -> Registry:
    from serving.settings import load_settings
    from serving.versions import registry_of

    return registry_of(load_settings(), given)


def _note(action: str, version: str, why: str, **details: object) -> None:
    from serving.versions import note_in_audit_log

    problem = note_in_audit_log(at_terminal(), f"model.{action}", version, {**details, "why": why})
    if problem:
        typer.echo(f"in the registry's history, but not in the audit log: {problem}", err=True)


def _one_of(version: str, off: bool) -> str:
    if bool(version) == off:
        raise StartError("expected a version, or --off, got " + ("both" if off else "neither"))
    return version


def _row(entry: Entry) -> tuple[str, ...]:
    places = ["champion"] * entry.champion + ["shadow"] * entry.shadow
    places += [f"canary {entry.canary:.1%}"] * bool(entry.canary)
    verdict = entry.verdict
    return (
        entry.version,
        ", ".join(places) or "candidate",
        entry.added_at[:16],
        entry.added_by,
        "not asked" if verdict is None else "passed" if verdict.passed else "refused",
        verdict.champion if verdict else "",
        "; ".join(verdict.reasons) if verdict else "",
    )


def _line(event: Event) -> tuple[str, ...]:
    share = f" {event.share:.1%}" if event.share else ""
    return event.at, f"{event.action}{share}", event.version or "none", event.by, event.why
