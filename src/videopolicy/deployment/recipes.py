"""Runs recipes from Python, and gives what their episodes were."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from videopolicy.console.progress import Reporter
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord
from videopolicy.paths import expanded
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.running import run as run_recipe
from videopolicy.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = [name for name in EpisodeRecord.model_fields if name != "subtasks"]


def run(recipe: str | Path | Recipe, *overrides: str, runs: str | Path = "runs", quiet: bool = False) -> Path:
    """Do what a recipe says, and nothing that was done before, as ``vpolicy run`` does.

    Args:
        recipe: A recipe file, whose Python files are run where it names some, or a recipe that was read from one.
        overrides: Values to change, such as ``"seed=1"`` or ``"train.video.steps=100"``; of a recipe file only.
        runs: Folder of run folders.
        quiet: Show no progress.

    Returns:
        The run folder.

    Raises:
        VpolicyError: Of every kind that bad input and a failing machine can cause; it says what to do.
    """
    if isinstance(recipe, Recipe):
        if overrides:
            raise TypeError("overrides change recipe files; this recipe has been read: give them to load_recipe")
        loaded = recipe
    else:
        loaded = load_recipe(expanded(str(recipe)), overrides)
    return run_recipe(loaded, expanded(str(runs)), Reporter(quiet))


def results(run: str | Path) -> pd.DataFrame:
    """The evaluation episodes of a run, one a row.

    Args:
        run: Run folder. What is finished of an evaluation that still goes on is given, too.

    Returns:
        ``run`` (name of the folder), ``policy`` (``trained``, ``untrained``, ``random``), ``task``, ``episode``,
        ``success``, ``score``, ``steps``, ``seconds``, ``initial_state``, ``protocol``, ``error`` (None, or why the
        simulator could not finish it: leave these out of rates), ``instruction``, and ``solved``: sub-tasks in a row
        where an episode is a chain of them, else 1 or 0. ``attrs["problems"]`` has a sentence for every damaged line.

    Raises:
        StorageError: There is no such run.
    """
    import pandas as pd  # takes half a second to import

    folder = RunFolder(expanded(str(run)))
    folder.ensure_exists()
    contents = EpisodeLog(folder.episodes_file).contents()
    rows = [
        {
            "run": folder.path.name,
            **record.model_dump(include=set(_COLUMNS)),
            "solved": sum(one.success for one in record.subtasks) if record.subtasks else int(record.success),
        }
        for record in contents.records
    ]
    frame = pd.DataFrame(rows, columns=["run", *_COLUMNS, "solved"])
    frame.attrs["problems"] = contents.problems
    return frame
