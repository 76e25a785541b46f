"""``vpolicy recipes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videopolicy.console.text import say


def recipes(
    words: Annotated[
        list[str] | None, typer.Argument(help="Show those only whose name or summary has all of these words.")
    ] = None,
    copy: Annotated[
        Path | None,
        typer.Option(help="Copy all recipes into this new folder, to be changed there.", show_default="list them"),
    ] = None,
) -> None:
    """List the recipes and ablations that come with the package; each runs by its name."""
    from videopolicy.recipes.shipped import shipped_recipes

    if copy is not None:
        _copy(copy)
        return
    wanted = [word.lower() for word in words or []]
    found = [one for one in shipped_recipes() if all(word in f"{one.name} {one.summary}".lower() for word in wanted)]
    if not found:
        from videopolicy.errors import RecipeError

        raise RecipeError(
            f"No recipe has {' and '.join(wanted)} in its name or summary.", "`vpolicy recipes` lists all."
        )
    from rich.padding import Padding
    from rich.text import Text

    from videopolicy.console.terminal import Terminal

    console = Terminal()
    for one in found:
        console.print(Text(one.name, style="bold"))
        console.print(Padding(Text(one.summary), (0, 0, 0, 4)))
    say("`vpolicy run NAME` runs a recipe, `vpolicy ablate ablations/NAME` an ablation.")
    if not wanted:
        say("Begin with first_policy, which needs no simulator, or with quickstart.")


def _copy(folder: Path) -> None:
    import shutil

    from videopolicy.errors import StorageError
    from videopolicy.recipes.shipped import shipped_folder
    from videopolicy.storage.files import storage_errors

    if folder.exists() or folder.is_symlink():
        raise StorageError(f"{folder} is there already.", "Name a new folder.")
    with storage_errors(folder):
        shutil.copytree(shipped_folder(), folder)
    say(f"Recipes are in {folder}: vpolicy run {folder / 'quickstart.yaml'}")
