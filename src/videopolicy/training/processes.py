"""Which process is which, as Lightning needs to know it."""

from __future__ import annotations

import logging
import os
import signal
import warnings

from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from videopolicy.console.text import say
from videopolicy.recipes.recipe import Stage
from videopolicy.training.distributed import launch

_NUMBERS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
_OBSERVER = "lightning.fabric.strategies.launchers.subprocess_script"
"""Logs that one of the processes that Lightning has started is dead, before it kills all others, this one included."""


def quieten() -> None:
    """Keep what Lightning says about itself out of our output; its real errors still come through."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    say_when_a_process_dies()
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*num_workers.*|.*does not have many workers.*")


def say_when_a_process_dies() -> None:
    """Let the user know why training ends without any error of this process; Lightning says so to its own log only."""
    logger = logging.getLogger(_OBSERVER)
    logger.setLevel(logging.INFO)
    logger.addFilter(_said)


def _said(record: logging.LogRecord) -> bool:
    if record.levelno == logging.INFO:
        what = record.getMessage().partition(". ")[0]
        say(f"vpolicy: Processes that train together end, because one of them has ended: {what}.", error=True)
        say("The same command goes on from the last checkpoint.", error=True)
    return record.levelno > logging.INFO


class _Srun(SLURMEnvironment):
    """A step of srun. Interrupted stages go on from our checkpoints: Slurm is not asked to send the job again."""

    def __init__(self) -> None:  # not Lightning's, which needs --ntasks-per-node
        self.auto_requeue, self.requeue_signal = False, signal.SIGUSR1

    def world_size(self) -> int:
        return launch().processes

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """The number of processes was compared with the stage's devices before."""


def environment(stage: Stage) -> ClusterEnvironment:
    """Which process is which. Lightning would guess, and take the variables of an allocation for a start.

    Without a launcher Lightning starts the other processes of a stage, unless it has done so for an earlier stage; they
    inherit the environment, in which nothing of another launcher may be left then.
    """
    by = launch().by if stage.devices > 1 else ""
    if by == "torchrun":
        return TorchElasticEnvironment()
    if by == "srun":
        return _Srun()
    started = os.environ.get("LOCAL_RANK") and os.environ.get("MASTER_PORT")
    if stage.devices > 1 and not started:
        for name in _NUMBERS:
            os.environ.pop(name, None)
    return LightningEnvironment()
