"""Episodes of the toy benchmark, run by `Rollout` without a recipe."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from videopolicy import Policy
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.evaluation.acting import PolicyActor
from videopolicy.evaluation.rollout import Rollout
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord
from videopolicy.recipes.recipe import Evaluation, Normalization
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.run_folder import RunFolder
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.training.normalization import Normalizer


def rollout_of(folder: Path, policy: Policy, toy: ToyBenchmark, pool: WorkerPool, settings: Evaluation) -> Rollout:
    """A rollout whose policy acts and sees in the simulator's own units."""
    unit = FieldStatistics([-1.0] * 2, [1.0] * 2, [0.0] * 2, [1.0] * 2)
    normalizer = Normalizer(Normalization(actions="minmax", state="minmax"), Statistics(unit, unit))
    actor = PolicyActor(policy, normalizer, toy.spaces().actions, torch.device("cpu"))
    run = RunFolder(folder)
    log, quiet = EpisodeLog(run.episodes_file), Reporter(quiet=True)
    return Rollout(actor, "trained", policy.window, 2, settings, pool, log, "p", 0, quiet, run)


def play(
    folder: Path, policy: Policy, toy: ToyBenchmark, workers: int = 1, batch_size: int = 1, **options: int
) -> tuple[list[EpisodeRecord], dict[str, np.ndarray]]:
    """Run episodes; returns their records by key, and the executed actions ``(n, A)`` by file name."""
    settings = Evaluation(workers=workers, batch_size=batch_size, **{"execute": 3, **options})
    run = RunFolder(folder)
    with WorkerPool(toy.launch(), Path(sys.executable), workers, run.logs, toy.spaces()) as pool:
        rollout = rollout_of(folder, policy, toy, pool, settings)
        rollout.run(toy.tasks())
    records = sorted(rollout.log.read(), key=lambda record: record.key)
    assert [record.error for record in records] == [None] * len(records)
    return records, {path.stem: np.load(path) for path in sorted((run.trajectories / "trained").iterdir())}
