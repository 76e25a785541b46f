"""From what the user has typed to an engine."""

from __future__ import annotations

import importlib.util

from videopolicy.errors import VpolicyError
from videopolicy.executors.engine import Executor, LocalExecutor
from videopolicy.storage.store import Store


def executor_from(
    name: str = "local",
    shards: int | None = None,
    address: str | None = None,
    gpus_per_unit: float = 0.0,
    partition: str | None = None,
    hours: float = 24.0,
    store: Store | None = None,
) -> Executor:
    """The engine that runs units.

    Args:
        name: ``local``, ``ray`` or ``slurm``.
        shards: Units into which an evaluation is cut at least; None: one for every policy and task.
        address: Of a Ray cluster's head; None for the one that this machine is part of.
        gpus_per_unit: GPUs, for Ray also shares of one.
        partition: Slurm's partition.
        hours: Time limit of a unit under Slurm.
        store: Folder of artifacts, which holds Slurm's files too.

    Raises:
        VpolicyError: An option belongs to another engine, or the engine is not installed.
    """
    given = {
        "--shards": (shards is not None, ("ray", "slurm")),
        "--address": (address is not None, ("ray",)),
        "--gpus-per-unit": (gpus_per_unit > 0, ("ray", "slurm")),
        "--partition": (partition is not None, ("slurm",)),
    }
    for option, (is_given, engines) in given.items():
        if is_given and name not in engines:
            wanted = " or ".join(f"--executor {engine}" for engine in engines)
            raise VpolicyError(f"{option} means nothing with --executor {name}.", f"Leave it out, or add {wanted}.")
    if name == "local":
        return LocalExecutor()
    package = {"ray": "ray", "slurm": "submitit"}[name]
    if importlib.util.find_spec(package) is None:
        raise VpolicyError(
            f"--executor {name} needs the package '{package}', which is not installed.",
            f"Install videopolicy[{name}], on every node, or leave out --executor.",
        )
    if name == "ray":
        from videopolicy.executors.ray_engine import RayExecutor

        return RayExecutor(address or "auto", gpus_per_unit, shards or 1)
    if gpus_per_unit != int(gpus_per_unit):
        raise VpolicyError("Slurm gives whole GPUs only.", "Give --gpus-per-unit a whole number.")
    from videopolicy.executors.slurm_engine import SlurmExecutor

    folder = (store or Store()).root / "slurm"
    return SlurmExecutor(folder, partition, int(gpus_per_unit), hours, shards or 1)
