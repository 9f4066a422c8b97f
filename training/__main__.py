"""`python -m training …`: the only entry point of the training room."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from training.errors import TrainingError

if TYPE_CHECKING:
    from evaluation.gate import Judgement

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train a model version from labelled rows."
)
RUNS = Path("runs")

RegistryOption = Annotated[Path, typer.Option("--registry", help="Registry of model versions.")]
LimitsOption = Annotated[
    Path | None, typer.Option("--limits", help="TOML file with the gate's limits; default: its own.")
]
ChampionOption = Annotated[
    Path | None,
    typer.Option("--champion", help="Where the champion saw the test rows: the model it was measured by."),
]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder of runs, for the champion's own weights.")]


@app.callback()
def main() -> None:
    """Train a model version from labelled rows.

    Example: python -m training fit training/configs/default.toml
    """


@app.command("fit")
def fit_command(
    config: Annotated[Path, typer.Argument(help="TOML file, e.g. training/configs/default.toml")],
    run: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/NAME")] = None,
    data_root: Annotated[
        str, typer.Option(help="Folder of the data files; default: the configuration's")
    ] = "",
    ship: Annotated[
        Path | None,
        typer.Option(
            help="Train on all folds, from this measured model folder; its calibration and scores stay"
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Epochs, instead of the configuration's")] = 0,
) -> None:
    """Train, calibrate, export and score one model version; goes on where an earlier run was stopped.

    Example: python -m training fit training/configs/default.toml
    """
    with errors_shown() as console:
        _fit(config, run, data_root, ship, epochs, console)


@app.command("linear")
def linear_command(
    config: Annotated[Path, typer.Argument(help="TOML file, e.g. training/configs/default.toml")],
    run: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/NAME-linear")] = None,
) -> None:
    """Train the linear baseline alone on the same split: the lexical part, served by the same predictor.

    Example: python -m training linear training/configs/default.toml
    """
    with errors_shown() as console:
        _fit(config, run, "", None, 0, console, encoder_off=True)


@app.command("retrain")
def retrain_command(
    config: Annotated[Path, typer.Argument(help="TOML file of the base data, e.g. configs/default.toml")],
    data: Annotated[
        list[Path], typer.Option("--data", help="Dataset version (folder) or labelled file; oldest first.")
    ],
    registry: RegistryOption,
    limits: LimitsOption = None,
    champion: ChampionOption = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; default: by its content.")] = None,
    runs: RunsOption = RUNS,
    data_root: Annotated[str, typer.Option(help="Folder of the base data; default: the config's.")] = "",
    promote: Annotated[bool, typer.Option("--promote", help="Make it champion if it passes.")] = False,
) -> None:
    """Train a challenger from the champion with new labels, judge it, and add it to the registry.

    The verdict is stored with it, whichever way it went. Exit status: 0 passed, 1 refused, 2 not possible.

    Example: python -m training retrain training/configs/default.toml
    --data var/datasets/week-20310505-1a2b3c4d --registry var/models --promote
    """
    with errors_shown() as console:
        from training.cpu import fast_cpu

        fast_cpu()  # before torch is first imported
        from classifier.registry import Registry
        from data.progress import progress_bars
        from evaluation.limits import load_limits
        from training.config import changed, load_config
        from training.retrain import Places, retrain

        settings = changed(load_config(config), data_root=data_root)
        toml = config.read_text(encoding="utf-8")
        places, allowed = Places(Registry(registry), runs, run, champion), load_limits(limits)
        with progress_bars() as shown:
            made = retrain(
                settings, toml, data, places, allowed, _teller(console), _account(), promote, shown
            )
        _print_judgement(made.judgement, console)
        _teller(console)(made.full_run)
        place = "champion" if made.promoted else "candidate"
        _teller(console)(f"{place}: {made.fitted.version} in {registry}")
    raise typer.Exit(0 if made.judgement.passed else 1)


@app.command("gate")
def gate_command(
    config: Annotated[Path, typer.Argument(help="TOML file of the base data, e.g. configs/default.toml")],
    challenger: Annotated[Path, typer.Argument(help="Model folder, e.g. runs/default/model")],
    data: Annotated[
        list[Path], typer.Option("--data", help="Dataset version (folder) or labelled file; oldest first.")
    ],
    registry: RegistryOption,
    limits: LimitsOption = None,
    champion: ChampionOption = None,
    runs: RunsOption = RUNS,
    data_root: Annotated[str, typer.Option(help="Folder of the base data; default: the config's.")] = "",
) -> None:
    """Judge a model folder against the champion; the verdict is stored if the registry has the folder.

    Exit status: 0 passed, 1 refused, 2 not possible.

    Example: python -m training gate training/configs/default.toml runs/default/model
    --data var/datasets/week-20310505-1a2b3c4d --registry var/models
    """
    with errors_shown() as console:
        from classifier.registry import Registry
        from data.progress import progress_bars
        from evaluation.limits import load_limits
        from training.config import changed, load_config
        from training.retrain import Places, gate_folder

        settings = changed(load_config(config), data_root=data_root)
        places, allowed = Places(Registry(registry), runs, None, champion), load_limits(limits)
        with progress_bars() as shown:
            judgement = gate_folder(
                settings, challenger, data, places, allowed, _teller(console), _account(), shown
            )
        _print_judgement(judgement, console)
    raise typer.Exit(0 if judgement.passed else 1)


@app.command("simulate")
def simulate_command(
    config: Annotated[Path, typer.Argument(help="TOML file of the labelled rows, e.g. configs/haikou.toml")],
    since: Annotated[
        str, typer.Option(help="The loop begins: a date, or a share of the rows in their order.")
    ] = "0.4",
    test_from: Annotated[str, typer.Option(help="Tested on what comes from here on: likewise.")] = "0.75",
    until: Annotated[str, typer.Option(help="Nothing from here on is looked at: likewise.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 8,
    labels: Annotated[int, typer.Option(min=1, help="Labels in each round.")] = 250,
    seeds: Annotated[int, typer.Option(min=1, help="How often each strategy is played.")] = 3,
    strategy: Annotated[
        list[str] | None, typer.Option(help="Strategy; repeatable. Default: product and random.")
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option(help="Head that is labelled; repeatable. Default: all that can be.")
    ] = None,
    audit_share: Annotated[float, typer.Option(min=0, max=1, help="Share of the audit slice.")] = 0.02,
    full: Annotated[bool, typer.Option("--full", help="Also retrain fully with each one's labels.")] = False,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/NAME-simulated")] = None,
    out: Annotated[Path, typer.Option(help="Folder for tables, JSON and plots.")] = Path(
        "reports/simulation"
    ),
    data_root: Annotated[str, typer.Option(help="Folder of the data; default: the config's.")] = "",
    epochs: Annotated[int, typer.Option(help="Epochs of the start, instead of the configuration's")] = 0,
) -> None:
    """Play the labelling loop through on labelled rows in time order: what do labels buy, chosen how?

    Example: python -m training simulate training/configs/samples.toml --rounds 4 --labels 20
    """
    with errors_shown() as console:
        from training.cpu import fast_cpu

        fast_cpu()  # before torch is first imported
        from data.progress import progress_bars
        from training.config import changed, load_config
        from training.simulate import Plan, simulate
        from training.simulate_figures import figures_of
        from training.simulate_writing import write_simulation

        settings = changed(load_config(config), data_root=data_root, epochs=epochs)
        plan = Plan(since, test_from, until, rounds, labels, seeds, tuple(strategy or ("product", "random")),
                    tuple(head or ()), audit_share, full)  # fmt: skip
        folder, toml = run or RUNS / f"{settings.name}-simulated", config.read_text(encoding="utf-8")
        with progress_bars() as shown:
            made = simulate(settings, toml, folder, plan, _teller(console), shown)
        files = write_simulation(made, figures_of(made), out)
        _teller(console)(f"written: {', '.join(map(str, files.values()))}")


def _print_judgement(judgement: Judgement, console: Console) -> None:
    marks = {True: "passed     ", False: "refused    ", None: "not checked"}
    for one in judgement.findings:
        line = f"{marks[one.passed]} {one.check}: {one.reason}"
        style = "red" if one.passed is False else ""
        console.print(line, markup=False, highlight=False, soft_wrap=True, style=style)
    console.print(judgement.sentence, markup=False, highlight=False, soft_wrap=True, style="bold")


def _teller(console: Console) -> Callable[[str], None]:
    return lambda message: console.print(message, markup=False, highlight=False, soft_wrap=True)


def _account() -> str:
    """Who runs the command, for the registry's history."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's account without a name
        return "cli:unknown"


@app.command("publish")
def publish_command(
    model: Annotated[Path, typer.Argument(help="Model folder, e.g. runs/default/model")],
    registry: Annotated[Path | None, typer.Option(help="Registry; default: the one that ships")] = None,
) -> None:
    """Add a model version to a registry and make it the champion.

    Example: python -m training publish runs/default/model
    """
    from classifier.predictor import Predictor
    from classifier.registry import Registry

    with errors_shown() as console:
        Predictor.load(model).check()
        target = Registry(registry) if registry else Registry()
        added = target.add(model, _account())
        target.promote(added.name, _account())
        console.print(f"champion: {added.name} in {target.root}", markup=False, highlight=False)


def _fit(
    path: Path,
    run: Path | None,
    data_root: str,
    ship: Path | None,
    epochs: int,
    console: Console,
    encoder_off: bool = False,
) -> None:
    from training.cpu import fast_cpu

    fast_cpu()  # before torch is first imported
    from training.config import changed, load_config
    from training.fit import fit, refit

    config = changed(load_config(path), data_root=data_root, epochs=epochs, encoder_off=encoder_off)
    suffix = "-linear" if encoder_off else "-ship" if ship else ""
    folder = run or RUNS / f"{config.name}{suffix}"
    toml = path.read_text(encoding="utf-8")

    def tell(message: str) -> None:
        console.print(message, markup=False, highlight=False)

    done = refit(config, toml, folder, ship, tell) if ship else fit(config, toml, folder, tell)
    console.print(f"model {done.version} is in {done.folder}", markup=False, highlight=False)


@contextmanager
def errors_shown() -> Iterator[Console]:
    """A console; what the user can mend is printed there, without a traceback, and exits 2."""
    console = Console(stderr=True)
    try:
        yield console
    except known_errors() as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def known_errors() -> tuple[type[Exception], ...]:
    """What a user can mend; anything else is a fault of ours and shows its traceback."""
    from classifier.errors import ClassifierError
    from data.errors import DataError
    from evaluation.errors import EvaluationError

    return TrainingError, ClassifierError, DataError, EvaluationError


if __name__ == "__main__":
    sys.exit(app())
