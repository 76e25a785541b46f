"""Units as tasks of a Ray cluster that the user has."""

from __future__ import annotations

import socket
from collections.abc import Generator, Sequence
from typing import Any

from videopolicy.console.progress import Reporter
from videopolicy.executors.cluster import ClusterExecutor, ExecutionError
from videopolicy.executors.units import Outcome, Unit, perform

_RETRIES = 4
"""How often a unit is sent again whose node or process has died."""
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_ANSWER = 20.0


class RayExecutor(ClusterExecutor):
    """Sends units to a Ray cluster. Ray sends a unit again when its node or its process dies.

    Args:
        address: Of the cluster's head, such as ``10.0.0.1:6379``; ``auto`` for the one that this machine is in.
        gpus: GPUs per unit, a share of one allowed.
        shards: Units into which an evaluation is cut at least.
    """

    name = "ray"

    def __init__(self, address: str, gpus: float, shards: int) -> None:
        super().__init__(shards)
        self.address, self.gpus = address, gpus

    def map(self, units: Sequence[Unit], reporter: Reporter) -> Generator[Outcome, None, None]:
        import ray

        self._connect(ray)
        self._ensure_gpus(ray)
        waiting = {
            ray.remote(perform).options(num_cpus=1, num_gpus=self.gpus * unit.devices, max_retries=_RETRIES)
            .remote(unit): unit
            for unit in units
        }  # fmt: skip
        try:
            while waiting:
                for reference in ray.wait(list(waiting), timeout=_SECONDS_BETWEEN_LOOKS)[0]:
                    unit = waiting.pop(reference)
                    yield self._outcome(ray, unit, reference)
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def _connect(self, ray: Any) -> None:
        if ray.is_initialized():
            return
        host, _, port = self.address.rpartition(":")
        try:
            if host and port.isdigit() and "/" not in host:  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
            ray.init(address=self.address, log_to_driver=False, logging_level="error")
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise ExecutionError(
                f"No Ray cluster can be reached at '{self.address}': {str(error).splitlines()[0]}",
                "Start one with `ray start --head` on its first machine, join the others with `ray start "
                "--address=HEAD:6379`, and give that address with --address.",
            ) from error

    def _ensure_gpus(self, ray: Any) -> None:
        """A task that no node can ever take would wait for ever."""
        most = max((node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
        if self.gpus > most:
            raise ExecutionError(
                f"A unit needs {self.gpus:g} GPUs, and no node of the Ray cluster has more than {most:g}.",
                "Lower --gpus-per-unit, or start nodes with `ray start --num-gpus`.",
            )

    @staticmethod
    def _outcome(ray: Any, unit: Unit, reference: Any) -> Outcome:
        try:
            return ray.get(reference)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()
            return Outcome(
                unit,
                error=ExecutionError(
                    f"Ray gave up after {_RETRIES} retries: {reason[-1] if reason else type(error).__name__}",
                    "Look at that node's memory and at Ray's own logs.",
                ),
                output=str(error),
            )
