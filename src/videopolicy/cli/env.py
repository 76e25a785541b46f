"""``vpolicy env``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from videopolicy.cli.interrupts import interruptible
from videopolicy.cli.verbs import Verbs
from videopolicy.console.text import say

if TYPE_CHECKING:
    from videopolicy.components.kinds import BenchmarkComponent

app = Verbs(no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name of a benchmark.", show_default=False)]


@app.command("list")
@interruptible
def list_environments() -> None:
    """List the benchmarks and the environments that their simulators run in."""
    import os

    from rich.table import Table

    from videopolicy.components.registry import current_registry
    from videopolicy.console.terminal import Terminal
    from videopolicy.errors import SimulationError
    from videopolicy.simulators.environments import environment_folder, is_ready, override_variable

    table = Table(box=None, pad_edge=False)
    for column in ("benchmark", "state", "where"):
        table.add_column(column, overflow="fold")
    for name in current_registry().names("benchmark"):
        try:
            spec = _benchmark(name).launch()
        except SimulationError as error:
            table.add_row(name, "no simulator", error.message)
            continue
        folder = environment_folder(spec)
        if folder is not None:
            table.add_row(name, "ready" if is_ready(spec) else "not made yet", str(folder))
        elif given := os.environ.get(override_variable(spec)):
            table.add_row(name, f"given by {override_variable(spec)}", given)
        else:
            table.add_row(name, "needs none", "the interpreter that runs vpolicy")
    Terminal().print(table)


@app.command()
@interruptible
def create(name: Name) -> None:
    """Make the environment of a benchmark's simulator, if it is not there."""
    from videopolicy.simulators.environments import interpreter

    spec = _benchmark(name).launch()
    say(f"The simulator of '{name}' runs with {interpreter(spec, say=say)}")


@app.command()
@interruptible
def assets(
    name: Name,
    stand_in: Annotated[
        bool, typer.Option("--stand-in", help="Write stand-ins, which need no download; results on them differ.")
    ] = False,
) -> None:
    """Download the files that a benchmark's simulator needs besides its packages; a download that broke off goes on."""
    from videopolicy.errors import SimulationError
    from videopolicy.simulators.environments import fetch_assets

    spec = _benchmark(name).launch()
    if stand_in:
        if spec.assets is None or spec.assets.stand_in is None:
            raise SimulationError(f"'{name}' has no stand-ins of assets.", f"Run: vpolicy env assets {name}")
        spec = spec.model_copy(update={"assets": spec.assets.stand_in})
    say(f"The assets of '{name}' are in {fetch_assets(spec, say=say)}")


@app.command()
@interruptible
def check(name: Name) -> None:
    """Start a benchmark's simulator, render a picture, and take a few steps."""
    import numpy as np

    from videopolicy.simulators.environments import check_rendering, interpreter
    from videopolicy.simulators.workers import WorkerPool
    from videopolicy.storage.temporary import temporary_folder

    benchmark = _benchmark(name)
    spec = benchmark.launch()
    python = interpreter(spec, say=say)
    say(f"interpreter  {python}")
    say(f"rendering    {check_rendering(spec, python)}")
    task = benchmark.tasks()[0]
    spaces = benchmark.spaces()
    with temporary_folder() as logs, WorkerPool(spec, python, 1, logs, spaces) as pool:
        hello = pool.call(0, "hello")
        say("versions     " + ", ".join(f"{package} {version}" for package, version in hello["versions"].items()))
        say("spaces       as declared: " + ", ".join(f"{c.name} {c.height}x{c.width}" for c in spaces.cameras))
        begun = pool.call(0, "reset", task=task.name, episode=0)
        images = begun["observation"]["images"]
        brightness = ", ".join(f"{camera} {image.mean():.0f}" for camera, image in images.items())
        say(f"reset        {task.name}, mean brightness {brightness}")
        actions = np.zeros((5, spaces.actions.dim), np.float32)
        say(f"step         {pool.call(0, 'step', actions=actions, frames=[5])['steps']} steps of doing nothing")


def _benchmark(name: str) -> BenchmarkComponent:
    """A benchmark with default options."""
    from videopolicy.components.kinds import BenchmarkComponent
    from videopolicy.components.registry import current_registry

    benchmark = current_registry().get("benchmark", name).model_validate({"type": name})
    assert isinstance(benchmark, BenchmarkComponent)
    return benchmark
