"""Which of several processes this one is, when one command was started several times to train together.

``torchrun``, ``srun`` and Lightning say so in the environment. The first process does everything that a run does; the
others join its training and do nothing else.

Variables of that kind also lie around where nothing was started together: an allocation of Slurm describes the tasks
that it has room for, and schedulers of containers number what they start. Only what a launcher says of the process
itself counts; what contradicts itself is an error, since processes would wait for others that there are not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from videopolicy.errors import RecipeError, VpolicyError
from videopolicy.recipes.recipe import Recipe

_SECONDS_BETWEEN_LOOKS = 0.5
_STEPS_OF_SRUN = 0xFFFFFFF0
"""Numbers of Slurm's steps are below; those from here on are of batch scripts and of interactive shells."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Launch:
    """What has started this process, as the environment says.

    Args:
        by: ``torchrun``, ``srun``, or ``variables``: Lightning, who sets the same as others do by hand. Empty where
            nothing but the user has.
        rank: The number of this process.
        processes: Number of processes that were started together.
        variable: Says how many they are.
        per_node: How many of them are on this machine.
    """

    by: Literal["", "torchrun", "srun", "variables"]
    rank: int
    processes: int
    variable: str
    per_node: int


def launch() -> Launch:
    """What has started this process.

    Raises:
        VpolicyError: A variable that should hold a number does not.
    """
    world, here = _number("WORLD_SIZE") or 1, _number("LOCAL_WORLD_SIZE")
    if _text("TORCHELASTIC_RUN_ID") and (rank := _number("RANK")) is not None:
        return Launch("torchrun", rank, world, "WORLD_SIZE", here or world)
    if (tasks := _tasks_of_step()) > 1:
        nodes = _number("SLURM_STEP_NUM_NODES") or _number("SLURM_NNODES") or 1
        return Launch("srun", _number("SLURM_PROCID") or 0, tasks, "SLURM_STEP_NUM_TASKS", max(1, tasks // nodes))
    local = _number("LOCAL_RANK")
    if local is None:
        return Launch("variables" if world > 1 else "", _number("RANK") or 0, world, "WORLD_SIZE", here or world)
    node = _number("NODE_RANK") or 0 if world > 1 else 0  # of whoever numbers nodes
    rank = node * (here or world) + local
    return Launch("variables" if world > 1 or rank else "", rank, world, "WORLD_SIZE", here or world)


def rank() -> int:
    """The number of this process among those that train together; 0 does everything else too."""
    return launch().rank


def started_processes() -> int:
    """How many processes a launcher has started; 1 where there is none."""
    return launch().processes


def processes_per_node() -> int:
    """How many of them are on this machine."""
    return launch().per_node


def ensure_processes_fit(recipe: Recipe) -> None:
    """Check that the stages of a recipe need as many processes as there are, and that these can find each other.

    Raises:
        RecipeError: A stage could never begin.
        VpolicyError: The environment contradicts itself.
    """
    wanted = {stage.devices for stage in recipe.train if stage.steps and stage.devices > 1}
    if len(wanted) > 1:
        raise RecipeError(
            f"Stages of '{recipe.name}' need {' and '.join(map(str, sorted(wanted)))} devices.",
            "Give the stages that train on several devices the same number; the others may have one.",
        )
    found = launch()
    if found.processes > 1 and wanted != {found.processes}:
        raise RecipeError(
            f"{found.processes} processes were started together, as {found.variable} says, but no stage of "
            f"'{recipe.name}' trains on {found.processes} devices.",
            f"Start {max(wanted, default=1)}, or set train.STAGE.devices={found.processes}, the number over all nodes. "
            f"Where only one was started, unset {found.variable}.",
        )
    ensure_launched()


def ensure_launched() -> None:
    """Check that what the environment says of several processes is whole.

    Raises:
        VpolicyError: It is not: processes would wait for each other for ever, or none would do the work of the first.
    """
    if problem := _contradiction(launch()):
        raise VpolicyError(
            problem,
            "Start the processes with torchrun or srun, which set all of that (docs/scaling.md); where only one was "
            "started, unset RANK, LOCAL_RANK and WORLD_SIZE.",
        )


def _contradiction(found: Launch) -> str:
    """What is wrong with what the environment says of several processes, as a sentence; empty where nothing is."""
    said = _number("RANK")
    if found.by == "":
        return _alone() if said else ""
    if found.by == "variables":
        if found.processes == 1:
            # Lightning forgets WORLD_SIZE after every stage; its processes still know where the first one is.
            return "" if _text("MASTER_PORT") and said is None else _alone()
        needed = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        if missing := [name for name in needed if _text(name) is None]:
            verb = "is" if len(missing) == 1 else "are"
            return (
                f"WORLD_SIZE={found.processes} says that as many processes train together, but {', '.join(missing)} "
                f"{verb} not set: they would not find each other."
            )
        if said is not None and said != found.rank:
            return f"RANK is {said}, but LOCAL_RANK and NODE_RANK say that this is process {found.rank}."
    if found.rank >= found.processes:
        return f"This is process {found.rank}, counted from 0, but {found.variable} says {found.processes}."
    return ""


def _alone() -> str:
    says = "RANK" if _number("RANK") else "LOCAL_RANK"
    size = "WORLD_SIZE, which says of how many, is not set" if _text("WORLD_SIZE") is None else "WORLD_SIZE is 1"
    return f"{says} is {_number(says)}: this would be one of several processes, but {size}."


def _tasks_of_step() -> int:
    """How many tasks srun has started together with this process; 1 where it has not started this process.

    An allocation sets ``SLURM_NTASKS`` for whatever runs in it, and Slurm numbers a batch script's one process with 0.
    Only srun's steps have a small number. A shell at a terminal (``srun --pty bash``) is one too, but what is called
    from it was not started several times.
    """
    step = _number("SLURM_STEP_ID")
    if step is None or step >= _STEPS_OF_SRUN or _text("SLURM_PROCID") is None or _text("SLURM_PTY_PORT"):
        return 1
    return _number("SLURM_STEP_NUM_TASKS") or _number("SLURM_NTASKS") or 1


def _text(name: str) -> str | None:
    """A variable; None where it is not set or empty."""
    return os.environ.get(name, "").strip() or None


def _number(name: str) -> int | None:
    text = _text(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise VpolicyError(f"The environment variable {name} is {text!r}, which is no number.", f"Unset {name}.")
    return int(text)


def wait_for(look: Callable[[], Found | None]) -> Found:
    """Wait until the first process has made something; its launcher ends this process too when it fails."""
    while (found := look()) is None:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return found
