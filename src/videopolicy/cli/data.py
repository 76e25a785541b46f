"""``vpolicy data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videopolicy.cli import completing
from videopolicy.cli.interrupts import interruptible
from videopolicy.cli.verbs import Verbs
from videopolicy.console.text import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from videopolicy.components.kinds import DatasetComponent
    from videopolicy.console.progress import Reporter
    from videopolicy.contracts.dataset import Dataset

app = Verbs(no_args_is_help=True)
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors and results only.")]


@app.command()
@interruptible
def collect(
    recipe: completing.RecipeArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Values to change, such as data.episodes_per_task=10.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Collect the demonstrations that a recipe asks for, or go on with it."""
    from videopolicy.console.progress import Reporter
    from videopolicy.data.preparation import prepare_data
    from videopolicy.errors import RecipeError
    from videopolicy.recipes.recipe import load_recipe
    from videopolicy.storage.store import Store

    loaded = load_recipe(recipe, overrides or [])
    if loaded.required_data().demonstrations() is None:
        raise RecipeError(
            f"The data of {recipe} exists already; nothing is to be collected.", "Use `vpolicy data info` on it."
        )
    dataset, facts = prepare_data(loaded, Store(), Reporter(quiet))
    assert facts is not None  # of demonstrations
    splits = ", ".join(f"{count} {split}" for split, count in dataset.splits.items())
    say(f"{sum(facts.episodes.values())} episodes ({splits}) in {Store().place('datasets', facts.key)}")


@app.command()
@interruptible
def info(
    path: Annotated[Path, typer.Argument(help="A dataset's folder or file.", show_default=False)],
    options: Annotated[list[str] | None, typer.Argument(help="Options of the dataset type, as in a recipe.")] = None,
    type_: Annotated[str, typer.Option("--type", help="Dataset type; left out: the one that can open it.")] = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every byte with what was collected, or first opened.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Say what a dataset holds. Every frame is read, so damage is found."""
    from rich.table import Table

    from videopolicy.console.progress import Reporter
    from videopolicy.console.terminal import Terminal
    from videopolicy.data.remarks import remarks_on

    reporter = Reporter(quiet)
    dataset = _open(path, type_, options or [], reporter, verify)
    spaces = dataset.spaces
    table = Table(box=None, pad_edge=False)
    for column in ("split", "instruction", "episodes", "steps", "shortest", "longest"):
        table.add_column(column, justify="left" if column in ("split", "instruction") else "right")
    for split, instruction, lengths in _episodes(dataset, reporter):
        counts = (len(lengths), sum(lengths), min(lengths), max(lengths))
        table.add_row(split, instruction, *(str(count) for count in counts))
    console = Terminal()
    console.print(f"cameras      {', '.join(f'{c.name} {c.height}x{c.width}' for c in spaces.cameras)}")
    console.print(
        f"actions      {', '.join(spaces.actions.names)} ({spaces.actions.control}, {spaces.actions.rate:g} Hz)"
        if spaces.actions.dim
        else "actions      none"
    )
    console.print(f"state        {', '.join(spaces.state.names) if spaces.state else 'none'}")
    console.print(
        f"content      {dataset.fingerprint()[:16]}, every frame could be read"
        + (", and all is what it was when it was recorded or first opened" if verify else "")
    )
    console.print(table)
    for remark in remarks_on(dataset):
        say(f"note: {remark}")


@app.command()
@interruptible
def encode(
    recipe: completing.RecipeArgument,
    overrides: Annotated[list[str] | None, typer.Argument(help="Values to change, as for run.")] = None,
    stage: Annotated[str, typer.Option(help="Stage whose data are encoded; left out: the only one that can be.")] = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the latents.", show_default="latents/RECIPE-STAGE")
    ] = None,
    type_: Annotated[str, typer.Option("--type", help="Dataset type that holds them; left out: the only one.")] = "",
    quiet: Quiet = False,
) -> None:
    """Encode the frames of a stage's data once, as its video model sees them; several processes may help each other."""
    from videopolicy.cli.encoding import encode_data

    encode_data(recipe, overrides or [], stage, output, type_, quiet)


@app.command(name="export")
@interruptible
def export(
    recipe: completing.RecipeArgument,
    overrides: Annotated[list[str] | None, typer.Argument(help="Values to change, as for run.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder.", show_default=False)] = ...,  # type: ignore[assignment]
    format_: Annotated[
        str, typer.Option("--format", help="A dataset type that can be written; without its version, if it has one.")
    ] = "",
    quiet: Quiet = False,
) -> None:
    """Write a recipe's data in the layout of another dataset type; the same command goes on where it was cut off."""
    from videopolicy.cli.data_export import export_data

    export_data(recipe, overrides or [], format_, output, quiet)


@app.command()
@interruptible
def multiply(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="Recipe, whose data are the sources.", show_default=False, autocompletion=completing.recipes
        ),
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="Values to change, as for run.")] = None,
    by: Annotated[Path, typer.Option("--by", help="YAML file that says how: a multiplier.", show_default=False)] = ...,  # type: ignore[assignment]
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder.", show_default=False)] = ...,  # type: ignore[assignment]
    quiet: Quiet = False,
) -> None:
    """Make demonstrations out of a recipe's few in new scenes; the same command goes on where it was cut off."""
    from videopolicy.cli.data_multiply import multiply_data

    multiply_data(recipe, overrides or [], by, output, quiet)


@app.command()
@interruptible
def render(
    recipe: Annotated[
        Path,
        typer.Argument(help="Recipe, whose data are rendered.", show_default=False, autocompletion=completing.recipes),
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="Values to change, as for run.")] = None,
    as_: Annotated[
        list[str],
        typer.Option(
            "--as", help="What is to look otherwise, such as benchmark.image_size=256; repeatable.", show_default=False
        ),
    ] = ...,  # type: ignore[assignment]
    output: Annotated[Path, typer.Option("-o", "--output", help="A new folder.", show_default=False)] = ...,  # type: ignore[assignment]
    quiet: Quiet = False,
) -> None:
    """Render a recipe's data with other cameras, sizes or renderers; the same command goes on where it was cut off."""
    from videopolicy.cli.data_render import render_data

    render_data(recipe, overrides or [], as_, output, quiet)


def _open(path: Path, name: str, options: list[str], reporter: Reporter, verify: bool) -> Dataset:
    from videopolicy.data.preparation import open_existing
    from videopolicy.errors import DataError, PluginError, listing
    from videopolicy.paths import input_paths
    from videopolicy.storage.store import Store

    if not path.exists():
        raise DataError(f"{path} does not exist.", "Name the folder or file of a dataset.")
    input_paths(path)
    fitting = _fitting(path, name, options)
    opened: list[Dataset] = []
    failed: dict[str, DataError] = {}
    for component in fitting:
        try:
            opened.append(open_existing(component, Store(), reporter, verify))
        except DataError as error:
            if len(fitting) == 1:
                raise
            failed[component.type] = error
    if len(opened) == 1:
        return opened[0]
    if opened:
        raise PluginError(f"Several dataset types read {path} with these options.", "Choose one with --type.")
    raise DataError(
        f"{path} cannot be opened as {listing(failed)}:\n"
        + "\n".join(f"  {kind}: {error.message}" for kind, error in failed.items()),
        "Choose the right type with --type to see what to do.",
    )


def _fitting(path: Path, name: str, options: list[str]) -> list[DatasetComponent]:
    """The dataset types that the options fit, with them."""
    from pydantic import ValidationError

    from videopolicy.components.kinds import DatasetComponent
    from videopolicy.components.registry import current_registry
    from videopolicy.errors import DataError, PluginError, listing
    from videopolicy.recipes.source import Source, override

    registry = current_registry()
    source = Source({"path": str(path)})
    for text in options:
        override(source, text)
    readers = [known for known in registry.names("dataset") if "path" in registry.get("dataset", known).model_fields]
    fitting: list[DatasetComponent] = []
    misfit: Exception | None = None
    for reader in [name] if name else readers:
        try:
            component = registry.get("dataset", reader).model_validate({**source.data, "type": reader})
        except ValidationError as error:
            misfit = error
        else:
            assert isinstance(component, DatasetComponent)
            fitting.append(component)
    if fitting:
        return fitting
    if name or len(readers) == 1:
        raise DataError(f"These options do not fit dataset type '{name or readers[0]}': {misfit}", "Correct them.")
    raise PluginError(
        f"Of the dataset types that read paths ({listing(readers)}), none fit these options.",
        "Choose one with --type, and give the options that it needs.",
    )


def _episodes(dataset: Dataset, reporter: Reporter) -> Iterator[tuple[str, str, list[int]]]:
    """Split, instruction and the lengths of its episodes; reads everything on the way."""
    from videopolicy.types import Window

    for split in dataset.splits:
        windows = dataset.windows(Window(future=(1,)), split)
        lengths: dict[str, list[int]] = {}
        steps = 0
        with reporter.activity(f"read {split}", len(windows)) as progress:
            for start in range(0, len(windows), 64):
                batch = windows.batch(range(start, min(start + 64, len(windows))))
                assert batch.future_mask is not None
                for instruction, goes_on in zip(batch.observation.instructions, batch.future_mask[:, 0], strict=True):
                    steps += 1
                    if not goes_on:
                        lengths.setdefault(instruction, []).append(steps)
                        steps = 0
                progress.advance(len(batch))
        for instruction in sorted(lengths):
            yield split, instruction, lengths[instruction]
