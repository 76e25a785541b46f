"""``vpolicy bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videopolicy.cli import completing

if TYPE_CHECKING:
    from videopolicy.bench.results import BenchResult, SweepResult


def bench(
    recipe: completing.RecipeArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Values to change, such as policy.decoder.horizon=8.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda where there is one.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, tf32, or bfloat16 and float16 (autocast).")] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    threads: Annotated[int | None, typer.Option(help="Processor threads.", show_default="torch's own")] = None,
    batch_sizes: Annotated[str, typer.Option(help="Rows of a forward pass, for throughput.")] = "1,4,16",
    warmup: Annotated[int | None, typer.Option(help="Calls before the timed ones.", show_default="adaptive")] = None,
    calls: Annotated[int | None, typer.Option(help="Timed calls.", show_default="adaptive")] = None,
    no_training: Annotated[bool, typer.Option("--no-training", help="Leave out the training steps.")] = False,
    meta: Annotated[
        bool, typer.Option("--meta", help="Only parameters and operations, from shapes: nothing is allocated.")
    ] = False,
    run: Annotated[
        Path | None, typer.Option(help="Finished run whose weights are used.", show_default="this recipe's, or random")
    ] = None,
    vary: Annotated[
        str | None, typer.Option(help="One field and its values, such as policy.decoder.steps=1,2,5,10: a table.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Measure a recipe's policy: latency, throughput, memory, parameters, operations, training speed."""
    from videopolicy.recipes.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    varied = None if vary is None else parse_variation(vary)
    from rich.text import Text

    from videopolicy.bench import Settings, sweep
    from videopolicy.bench import bench as measure
    from videopolicy.bench.settings import parse_sizes
    from videopolicy.bench.tables import bench_tables, sweep_tables
    from videopolicy.console.progress import Reporter
    from videopolicy.console.terminal import Terminal

    sizes = parse_sizes(batch_sizes)
    settings = Settings(device, dtype, compiled, threads, sizes, warmup, calls, not no_training, meta)
    reporter = Reporter(quiet)
    result: BenchResult | SweepResult
    if varied is None:
        result = measure(loaded, settings, reporter, run)
        parts = bench_tables(result)
    else:
        result = sweep(recipe, overrides or [], *varied, settings, reporter, run)
        parts = sweep_tables(result)
    console = Terminal()
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))
    if json_file is not None:
        _write(result, json_file)


def _write(result: BenchResult | SweepResult, path: Path) -> None:
    import dataclasses

    from videopolicy.storage.files import storage_errors, write_json

    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dataclasses.asdict(result))


def parse_variation(text: str) -> tuple[str, list[Any]]:
    """``a.b=1,2,3`` as the path and its values, which are YAML.

    Raises:
        VpolicyError: It is something else.
    """
    from videopolicy.errors import VpolicyError
    from videopolicy.storage.plain_yaml import YamlError, read_yaml

    field, equals, values = text.partition("=")
    try:
        found, _ = read_yaml(f"[{values}]", "--vary")
    except YamlError as error:
        raise VpolicyError(f"The values of --vary '{text[:200]}' cannot be used: {error.reason}.", error.hint) from None
    if not (field and equals and found):
        raise VpolicyError(f"'{text}' names no field with values.", "Write --vary path.to.field=1,2,5.")
    return field, found
