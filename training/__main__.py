"""`python -m training …`: the only entry point of the training room."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.errors import TrainingError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train a model version from labelled rows."
)
RUNS = Path("runs")


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
        added = target.add(model)
        target.promote(added.name)
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
        console.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from error


def known_errors() -> tuple[type[Exception], ...]:
    """What a user can mend; anything else is a fault of ours and shows its traceback."""
    from classifier.errors import ClassifierError
    from data.errors import DataError
    from evaluation.errors import EvaluationError

    return TrainingError, ClassifierError, DataError, EvaluationError


if __name__ == "__main__":
    sys.exit(app())
