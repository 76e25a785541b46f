"""Which of several processes this one is, when one command was started several times to train together.

``torchrun``, ``srun`` and Lightning say so in the environment. The first process does everything that a run does; the
others join its training and do nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from videopolicy.errors import RecipeError
from videopolicy.recipes.recipe import Recipe

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # in the order in which Lightning asks for them
_SECONDS_BETWEEN_LOOKS = 0.5

Found = TypeVar("Found")


def rank() -> int:
    """The number of this process among those that train together; 0 does everything else too."""
    return next((int(os.environ[name]) for name in _RANKS if name in os.environ), 0)


def started_processes() -> int:
    """How many processes a launcher has started; 1 where there is none."""
    return int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)


def processes_per_node() -> int:
    """How many of them are on this machine."""
    nodes = int(os.environ.get("SLURM_NNODES") or 1)
    return int(os.environ.get("LOCAL_WORLD_SIZE") or max(1, started_processes() // nodes))


def ensure_processes_fit(recipe: Recipe) -> None:
    """Check that the stages of a recipe want as many processes as there are.

    Raises:
        RecipeError: A stage could never begin.
    """
    wanted = {stage.devices for stage in recipe.train if stage.steps and stage.devices > 1}
    if len(wanted) > 1:
        raise RecipeError(
            f"Stages of '{recipe.name}' want {' and '.join(map(str, sorted(wanted)))} devices.",
            "Give the stages that train on several devices the same number; the others may have one.",
        )
    started = started_processes()
    if started > 1 and wanted != {started}:
        raise RecipeError(
            f"{started} processes were started together, but no stage of '{recipe.name}' trains on {started} devices.",
            f"Start {max(wanted, default=1)}, or set train.STAGE.devices={started}, the number over all nodes.",
        )


def wait_for(look: Callable[[], Found | None]) -> Found:
    """Wait until the first process has made something; its launcher ends this process too when it fails."""
    while (found := look()) is None:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return found
