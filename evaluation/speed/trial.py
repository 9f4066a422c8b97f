"""One contender, alone, in one round: warm-up, saturation, fixed rates, the highest sustained rate."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

from evaluation.errors import ServerFailed
from evaluation.speed.contenders import Contender, Layout, Place
from evaluation.speed.driving import Driver, Stage
from evaluation.speed.processes import Running, free_port, started
from evaluation.speed.schedule import Arrivals
from evaluation.speed.texts import TextList
from evaluation.speed.wrk import Checked

__all__ = ["Effort", "Trial", "keeps_up", "sustained", "throughput_of", "try_out"]

PROBES = 16  # texts that all servers with the torch model must label alike
GUESS = 200.0  # texts a second, until the warm-up has shown better
FULL = 0.97  # above this share of its saturation a server can't hold a fixed rate: its queue only grows


@dataclass(frozen=True)
class Effort:
    """How long and how hard. ``bound``: seconds that the 99th percentile may take at a sustained rate.

    ``in_flight``: texts under way at saturation; twice what servers of several processes with batches of 32
    take at a time, so that no queue runs dry. ``steps`` of the search for the sustained rate. ``checked``:
    whether saturation is measured by wrk as well.
    """

    seconds: float = 10.0
    warm: float = 3.0
    in_flight: int = 128
    bound: float = 0.2
    steps: int = 5
    arrivals: Arrivals = "poisson"
    checked: bool = False


@dataclass(frozen=True)
class Trial:
    """What one contender showed in one round. ``rates`` holds None where it can't keep up.

    ``sustained``: highest rate tried, in texts a second, at which the 99th percentile stayed within the
    bound and nothing failed; 0 if none. ``probes``: its likeliest labels of the first texts. ``checked``:
    saturation by wrk, where it was asked.
    """

    name: str
    layout: Layout
    saturation: Stage
    rates: tuple[Stage | None, ...]
    sustained: float
    search: tuple[Stage, ...]
    probes: tuple[str, ...]
    checked: Checked | None = None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages that were measured."""
        return (self.saturation, *(stage for stage in self.rates if stage), *self.search)


@dataclass(frozen=True)
class Bench:
    """What all contenders share: the model in both forms, the texts, the effort."""

    model: Path
    torch_folder: Path
    texts: Callable[[], TextList]
    effort: Effort


def try_out(
    contender: Contender,
    layout: Layout,
    bench: Bench,
    rates: Sequence[float],
    done: Callable[[int], None] = lambda stages: None,
) -> Trial:
    """Start the server, measure, end it. ``done`` is called after every stage.

    Raises ServerFailed when it does not start, dies or answers nothing.
    """
    with tempfile.TemporaryDirectory(prefix="jiesu-speed-") as scratch:
        place = Place(free_port(), bench.model, bench.torch_folder, Path(scratch), layout)
        command, environment = contender.command(place)
        url = f"http://127.0.0.1:{place.port}"
        with started(contender.name, command, environment, url, contender.ready, place.folder) as running:
            driver = Driver(contender, running, bench.texts(), place.folder, bench.effort.arrivals)
            return _measured(contender, layout, driver, bench, rates, done)


def throughput_of(contender: Contender, layout: Layout, bench: Bench) -> float:
    """Texts a second at saturation, measured shortly: to choose layouts and rates by."""
    return try_out(contender, layout, bench, ()).saturation.throughput


def keeps_up(stage: Stage, bound: float) -> bool:
    """Whether a stage at a fixed rate is within the bound without an error."""
    return stage.errors == 0 and stage.p99 <= bound


def sustained(
    attempt: Callable[[float], Stage], saturation: float, bound: float, steps: int
) -> tuple[float, list[Stage]]:
    """Highest rate of ``steps`` attempts that keeps up, by bisection; 0 if none. And the attempts.

    Starts at 0.8 of the saturation throughput: queueing lets the 99th percentile rise well before 1.
    """
    low, high, rate = 0.0, 1.1 * saturation, 0.8 * saturation
    tried: list[Stage] = []
    for _ in range(steps):
        tried.append(attempt(rate))
        if keeps_up(tried[-1], bound):
            low = rate
        else:
            high = rate
        rate = (low + high) / 2
    return low, tried


def _measured(
    contender: Contender,
    layout: Layout,
    driver: Driver,
    bench: Bench,
    rates: Sequence[float],
    done: Callable[[int], None],
) -> Trial:
    effort = bench.effort

    def counted(stage: Stage) -> Stage:
        done(1)
        return stage

    probes = _probes(contender, driver.running, bench.texts().take(0, PROBES))
    warm = driver.closed(effort.warm, effort.in_flight, GUESS)
    full = counted(driver.closed(effort.seconds, effort.in_flight, warm.throughput))
    held = tuple(
        counted(driver.open(rate, effort.seconds)) if rate <= FULL * full.throughput else None
        for rate in rates
    )
    best, tried = sustained(
        lambda rate: counted(driver.open(rate, effort.seconds)), full.throughput, effort.bound, effort.steps
    )
    # Last: it leaves without waiting for what is under way, which some servers work off nevertheless.
    checked = driver.checked(effort.seconds, effort.in_flight, full.throughput) if effort.checked else None
    return Trial(contender.name, layout, full, held, best, tuple(tried), probes, checked)


def _probes(contender: Contender, running: Running, texts: Sequence[str]) -> tuple[str, ...]:
    if contender.best is None:
        return ()
    try:
        return tuple(contender.best(_ask(contender, running, text)) for text in texts)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ServerFailed(
            f"{contender.name}: expected a likeliest label from {running.url}{contender.path}, got "
            f"{type(error).__name__}: {error}; the server's last lines:\n{running.tail()}"
        ) from error


def _ask(contender: Contender, running: Running, text: str) -> object:
    headers = {"Content-Type": "application/json"}
    request = Request(running.url + contender.path, contender.request([text], "probe"), headers)
    with urlopen(request, timeout=60) as response:
        answer: object = json.loads(response.read())
    return answer
