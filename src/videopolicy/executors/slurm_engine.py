"""Units as jobs of a Slurm cluster, submitted by submitit."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from videopolicy.console.progress import Reporter
from videopolicy.executors.cluster import ClusterExecutor, ExecutionError
from videopolicy.executors.units import Outcome, Unit, perform

_ATTEMPTS = 3
"""How often a unit is submitted whose job ends without a result: its node died, or it was preempted."""
_ARRAY = 500
"""Units per job array; Slurm's own limit is 1001 unless its administrator has changed it."""
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_QUESTIONS = 15.0


class SlurmExecutor(ClusterExecutor):
    """Submits units as job arrays; a job that ends without a result is submitted again.

    Account, quality of service and the like are taken from sbatch's own variables, such as ``SBATCH_ACCOUNT``.

    Args:
        folder: For scripts, logs and results; shared by all nodes.
        partition: Slurm's partition; None for the default one.
        gpus: GPUs per unit.
        hours: Time limit of a unit.
        shards: Units into which an evaluation is cut at least.
        cluster: ``slurm``; ``local`` starts processes on this machine instead, for trying things out.
    """

    name = "slurm"

    def __init__(
        self, folder: Path, partition: str | None, gpus: int, hours: float, shards: int, cluster: str = "slurm"
    ) -> None:
        super().__init__(shards)
        self.folder, self.partition, self.gpus, self.hours = folder, partition, gpus, hours
        self.cluster = cluster
        self._asked_at = 0.0

    def map(self, units: Sequence[Unit], reporter: Reporter) -> Generator[Outcome, None, None]:
        attempts = dict.fromkeys(units, 0)
        jobs: dict[Unit, Any] = {}
        try:
            while attempts:
                new = [unit for unit in attempts if unit not in jobs]
                for start in range(0, len(new), _ARRAY):
                    jobs |= self._submit(new[start : start + _ARRAY])
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for unit in self._ended(jobs):
                    outcome = self._outcome(unit, job := jobs.pop(unit))
                    attempts[unit] += 1
                    if outcome is None and attempts[unit] < _ATTEMPTS:
                        reporter.line(f"job {job.job_id} ended without a result; sent again: {unit.title}")
                        continue
                    del attempts[unit]
                    yield outcome or self._given_up(unit, job)
        finally:
            for job in jobs.values():
                job.cancel(check=False)

    def _submit(self, units: list[Unit]) -> dict[Unit, Any]:
        import submitit

        jobs: dict[Unit, Any] = {}
        for devices in sorted({unit.devices for unit in units}):
            alike = [unit for unit in units if unit.devices == devices]
            try:
                executor = submitit.AutoExecutor(self.folder, cluster=self.cluster)
                executor.update_parameters(
                    name="vpolicy",
                    timeout_min=max(1, round(60 * self.hours)),
                    **({"gpus_per_node": self.gpus * devices} if self.gpus else {}),
                    **({"slurm_partition": self.partition} if self.partition else {}),
                )
                jobs |= dict(zip(alike, executor.map_array(perform, alike), strict=True))
            except (RuntimeError, subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
                raise ExecutionError(
                    f"Slurm takes no jobs here: {str(error).strip().splitlines()[-1]}",
                    "Run this where `sbatch` works, and name a partition that exists with --partition.",
                ) from error
        self._asked_at = time.monotonic()
        return jobs

    def _ended(self, jobs: dict[Unit, Any]) -> list[Unit]:
        """Units whose result is there, and now and then those whose job is gone."""
        ended = [unit for unit, job in jobs.items() if job.paths.result_pickle.exists()]
        if self.cluster != "slurm":
            return [unit for unit, job in jobs.items() if job.done()]
        if time.monotonic() - self._asked_at > _SECONDS_BETWEEN_QUESTIONS:
            self._asked_at = time.monotonic()
            queue = self._queue()
            if queue is not None:
                ended += [unit for unit, job in jobs.items() if job.job_id not in queue and unit not in ended]
        return ended

    @staticmethod
    def _queue() -> set[str] | None:
        """Ids of all jobs of the user; unlike ``sacct``, which submitit asks, this needs no accounting."""
        command = ["squeue", "--me", "--array", "--noheader", "--format=%F_%K %A"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        return set(done.stdout.split()) if done.returncode == 0 else None

    @staticmethod
    def _outcome(unit: Unit, job: Any) -> Outcome | None:
        """What a job has returned; None where it has ended without a result."""
        import submitit

        try:
            return job.result()
        except submitit.core.utils.UncompletedJobError:
            return None
        except submitit.core.utils.FailedJobError as error:  # it could not even read the unit
            reason = str(error).strip().splitlines()[-1]
            hint = "Check that the nodes see the same Python environment."
            return Outcome(unit, error=ExecutionError(f"Job {job.job_id} failed: {reason}", hint), output=str(error))

    def _given_up(self, unit: Unit, job: Any) -> Outcome:
        printed = job.stderr() or ""
        error = ExecutionError(
            f"Job {job.job_id} ended without a result {_ATTEMPTS} times.",
            f"Look at {job.paths.stderr}: the time limit (--hours) or the memory may be too small.",
        )
        return Outcome(unit, error=error, output=printed)
