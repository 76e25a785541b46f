"""``vpolicy new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopolicy.cli import completing
from videopolicy.console.text import say


def new(
    kind: Annotated[
        str,
        typer.Argument(
            help="backbone, extractor, decoder, policy, dataset, benchmark or importer.",
            show_default=False,
            autocompletion=completing.new_kinds,
        ),
    ],
    name: Annotated[str, typer.Argument(help="What recipes call it, such as my-decoder.", show_default=False)],
    file: Annotated[bool, typer.Option("--file", help="Write one Python file in place of a package.")] = False,
) -> None:
    """Write a new part into this folder: a package that works, with tests, a recipe and a README."""
    from videopolicy.components.registry import current_registry
    from videopolicy.errors import PluginError, did_you_mean
    from videopolicy.scaffold.names import Names
    from videopolicy.scaffold.writing import KINDS, write_file, write_package

    if kind not in KINDS:
        raise PluginError(
            f"There is no template of '{kind}'.{did_you_mean(kind, KINDS)} There are {', '.join(KINDS)}.",
            "Name one of them, then the new part.",
        )
    names = Names(kind, name)
    if file:
        written = write_file(names, Path(), current_registry())
        say(f"{written} is written. Recipes name it as plugins: [./{written}]. Next:")
        say(f"  vpolicy check {written}")
        say(f"  vpolicy describe {written}")
        return
    folder = write_package(names, Path(), current_registry())
    say(f"{folder} is written. Next:")
    say(f"  cd {folder}")
    say('  uv pip install --editable ".[test]"')
    say("  pytest")
    say("  vpolicy check recipe.yaml")
