"""Episodes tell the policy the actions that were really executed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from videopolicy import Observation, Policy, RowGenerator, Window, normal_noise
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.evaluation.acting import PolicyActor, last_actions
from videopolicy.evaluation.rollout import Rollout
from videopolicy.outcomes.records import EpisodeLog
from videopolicy.recipes.recipe import Evaluation, Normalization
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.run_folder import RunFolder
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.training.normalization import Normalizer

SCALE = 2.0
"""Of the actions: 1 of the policy is 2 of the simulator, whose bound is 1."""


class GoesOn(Policy):
    """Answers with the last action that it is told, a little further; remembers what it was told."""

    def __init__(self, past: int, noise: float = 0.0) -> None:
        super().__init__()
        self.past, self.noise = past, noise
        self.told: list[torch.Tensor] = []

    @property
    def window(self) -> Window:
        return Window(horizon=3, past_actions=self.past)

    def loss(self, batch):
        raise NotImplementedError

    def act(self, observation: Observation, generator: RowGenerator) -> torch.Tensor:
        assert observation.past_actions is not None
        self.told.append(observation.past_actions.clone())
        last = observation.past_actions[:, -1:].nan_to_num(nan=0.0)
        last = last + self.noise * normal_noise((len(observation), 1, 2), last, generator)
        return last + torch.tensor([[0.1], [0.2], [0.3]]) * torch.tensor([1.0, -1.0])


@pytest.fixture
def normalizer() -> Normalizer:
    vectors = FieldStatistics([-SCALE] * 2, [SCALE] * 2, [0.0] * 2, [1.0] * 2)
    return Normalizer(Normalization(actions="minmax"), Statistics(vectors, vectors))


def play(folder: Path, policy: GoesOn, normalizer: Normalizer, **options: int) -> dict[str, np.ndarray]:
    """Run two episodes; returns the executed actions ``(n, A)`` by file name."""
    toy = ToyBenchmark(task_names=("red",), max_steps=7)
    settings = Evaluation(episodes=2, execute=3, **options)
    run = RunFolder(folder)
    log = EpisodeLog(run.episodes_file)
    with WorkerPool(toy.launch(), Path(sys.executable), settings.workers, run.logs, toy.spaces()) as pool:
        pool.start()
        actor = PolicyActor(policy, normalizer, toy.spaces().actions, torch.device("cpu"))
        window, quiet = policy.window, Reporter(quiet=True)
        Rollout(actor, "trained", window, 2, settings, pool, log, "p", 0, quiet, run).run(toy.tasks())
    assert [record.error for record in log.read()] == [None] * 2
    return {path.stem: np.load(path) for path in sorted((run.trajectories / "trained").iterdir())}


def test_a_policy_is_told_what_was_executed_after_clipping(tmp_path, normalizer):
    policy = GoesOn(past=4)
    executed = play(tmp_path, policy, normalizer, workers=1, batch_size=1)["red-0"]
    assert np.allclose(executed[:6, 0], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0])  # 0.9 + 0.3 is beyond the bound
    first, second, third = (told[0] for told in policy.told[:3])
    assert first.isnan().all()
    assert second[:1].isnan().all() and torch.allclose(second[1:], torch.tensor(executed[:3]) / SCALE)
    assert torch.allclose(third, torch.tensor(executed[2:6]) / SCALE)


def test_rows_are_told_their_own_actions_whatever_shares_the_batch(tmp_path, normalizer):
    one = play(tmp_path / "one", GoesOn(past=2, noise=0.1), normalizer, workers=1, batch_size=2)
    two = play(tmp_path / "two", GoesOn(past=2, noise=0.1), normalizer, workers=2, batch_size=2)
    assert list(one) == ["red-0", "red-1"] and not np.array_equal(one["red-0"], one["red-1"])
    for name, actions in one.items():
        assert np.array_equal(actions, two[name])


def test_the_last_actions_are_the_nearest_ones():
    executed = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert np.array_equal(last_actions(executed, 2), [[2, 3], [4, 5]])
    assert np.array_equal(last_actions(executed, 5)[2:], executed)
    assert np.isnan(last_actions(executed, 5)[:2]).all()
    assert np.isnan(last_actions(executed[:0], 2)).all() and last_actions(executed[:0], 2).shape == (2, 2)
