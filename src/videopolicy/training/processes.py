"""Which process is which, as Lightning wants to know it."""

from __future__ import annotations

import os
import signal

from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from videopolicy.recipes.recipe import Stage
from videopolicy.training.distributed import launch


class _OwnProcesses(LightningEnvironment):
    """Lightning starts the other processes, unless it has started them for an earlier stage.

    What is left of other launchers' variables is not taken for a start.
    """

    @property
    def creates_processes_externally(self) -> bool:
        return bool(os.environ.get("LOCAL_RANK") and os.environ.get("MASTER_PORT"))

    def node_rank(self) -> int:
        return super().node_rank() if self.creates_processes_externally else 0


class _Srun(SLURMEnvironment):
    """A step of srun. Interrupted stages go on from our checkpoints: Slurm is not asked to send the job again."""

    def __init__(self) -> None:  # not Lightning's, which wants --ntasks-per-node
        self.auto_requeue, self.requeue_signal = False, signal.SIGUSR1

    def world_size(self) -> int:
        return launch().processes

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """The number of processes was compared with the stage's devices before."""


def environment(stage: Stage) -> ClusterEnvironment:
    """Which process is which. Lightning would guess, and take the variables of an allocation for a start."""
    by = launch().by if stage.devices > 1 else ""
    if by == "torchrun":
        return TorchElasticEnvironment()
    if by == "srun":
        return _Srun()
    if by == "" and stage.devices > 1:
        os.environ.pop("RANK", None)  # the processes that are started now would inherit it
    return _OwnProcesses()
