"""Inferred against executed actions of held-out episodes, with policies whose error is known exactly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from videopolicy import PluginError, Policy, Window
from videopolicy.compare.grid import inverse_text
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.parts.windows import EpisodeWindows
from videopolicy.quality import measure_quality, read_quality
from videopolicy.quality.measure import described
from videopolicy.quality.model import quality_of
from videopolicy.recipes.recipe import Normalization, load_recipe
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.testing import toy_benchmark, toys
from videopolicy.training.normalization import Normalizer
from videopolicy.training.session import Session
from videopolicy.training.stages import ScaledPolicy

STEPS, EPISODES, DIM = 12, 3, 4
WINDOW = Window(observed=(-1, 0), future=(2, 4), horizon=4)
ACTIONS = FieldStatistics([-2.0] * DIM, [6.0] * DIM, [2.0] * DIM, [4.0] * DIM)


def executed(episode: int) -> np.ndarray:
    return np.random.default_rng(episode).uniform(-2, 6, (STEPS, DIM)).astype(np.float32)


class Recorded:
    """Held-out episodes whose pictures say which step of which episode they are of."""

    def __init__(self) -> None:
        self.splits = {"train": 1, "validation": EPISODES}
        self.opened: list[tuple[Window, str]] = []

    def fingerprint(self, actions: bool = True) -> str:
        return "recorded"

    def statistics(self) -> Statistics:
        return Statistics(ACTIONS)

    def windows(self, window: Window, split: str = "train") -> EpisodeWindows:
        self.opened.append((window, split))
        steps = torch.arange(EPISODES * STEPS, dtype=torch.uint8)
        frames = steps[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
        taken = SimpleNamespace(take=lambda camera, indices: frames[torch.from_numpy(indices)])
        actions = [executed(one) for one in range(EPISODES)]
        return EpisodeWindows(window, taken, ["top"], ["wait"] * EPISODES, actions, None)


class Knows(Policy):
    """Infers the executed actions, which it has looked up, with a constant error in the benchmark's units."""

    window = WINDOW

    def __init__(self, error: tuple[float, ...], rows: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.error, self.short = torch.tensor(error), rows
        self.shown: list[int] = []

    def loss(self, batch: Any) -> Any:
        raise NotImplementedError

    def act(self, observation: Any, generator: Any) -> Any:
        raise NotImplementedError

    def infer_actions(self, frames: Any, generator: Any, observation: Any = None) -> torch.Tensor:
        now = observation.images["top"][:, -1, 0, 0, 0].long()
        assert torch.equal(observation.images["top"][:, 0, 0, 0, 0].long(), torch.where(now % STEPS > 0, now - 1, now))
        assert frames["top"].shape[1:] == (2, 3, 8, 8) and len(generator) == len(now)
        self.shown += now.tolist()
        whole = torch.from_numpy(np.concatenate([*[executed(one) for one in range(EPISODES)], np.zeros((4, DIM))]))
        chunk = torch.stack([whole[step : step + 4] for step in now.tolist()]) + self.error
        return ((chunk - 2) / 4).float()[: self.short]


@pytest.fixture
def measure(tmp_path: Path):
    path = tmp_path / "small.yaml"
    path.write_text(
        f"plugins: [{toys.__file__}, {toy_benchmark.__file__}]\n"
        "benchmark: {type: toy, action_dim: 4}\ndata: {type: robomimic-hdf5}\npolicy: {type: toy}\n"
        "normalization: {actions: standard}\ntrain: [{name: policy, steps: 8, batch_size: 4}]\n"
    )
    recipe, folder = load_recipe(path), tmp_path / "run"
    folder.mkdir()
    normalizer = Normalizer(Normalization(actions="standard"), Statistics(ACTIONS))
    session = Session(recipe, Store(tmp_path / "home"), torch.device("cpu"), Reporter(quiet=True))

    def call(policy: Policy, dataset: Any, **options: Any) -> Any:
        return measure_quality(session, ScaledPolicy(policy, normalizer), dataset, RunFolder(folder), **options)

    call.folder = folder
    return call


def test_the_error_is_the_mean_distance_in_the_benchmarks_units(measure: Any) -> None:
    policy, dataset = Knows((3.0, 0.0, 0.0, 4.0)), Recorded()
    quality = measure(policy, dataset, clips=100)
    error = quality.inverse
    inside = [step for step in range(EPISODES * STEPS) if step % STEPS < STEPS - 4]
    assert (error.windows, error.actions) == (len(inside), 4)
    assert error.l2 == pytest.approx(5, abs=1e-5) and error.position == pytest.approx(3, abs=1e-5)
    assert error.interval == pytest.approx((5, 5), abs=1e-4)
    every = [np.concatenate([executed(one) for one in range(EPISODES)])[step : step + 4] for step in inside]
    constant = np.mean([np.linalg.norm(chunk - 2, axis=1).mean() for chunk in every])
    assert error.constant == pytest.approx(constant, abs=1e-4)
    assert dataset.opened == [(WINDOW, "validation")] * 2 and len(policy.shown) == EPISODES * STEPS
    assert quality.source == f"inverse dynamics of {len(inside)} windows of {EPISODES} held-out episodes"
    assert quality.values == {"inverse_l2": error.l2} and read_quality(measure.folder) == quality
    assert "inverse dynamics L2 5.0000 [5.0000, 5.0000]" in described(quality)
    assert f"n = {len(inside)} held-out windows of 4 actions" in inverse_text(error)


def test_the_interval_is_students_over_windows(measure: Any) -> None:
    from scipy import stats

    from videopolicy.quality.inverse import _interval

    values = np.random.default_rng(0).gamma(2.0, size=12)
    expected = stats.t.interval(0.95, 11, values.mean(), values.std(ddof=1) / 12**0.5)
    assert _interval(torch.from_numpy(values)) == pytest.approx(expected, rel=1e-6)
    assert _interval(torch.ones(1)) is None


def test_what_was_measured_is_not_measured_again(measure: Any) -> None:
    first, again = Knows((0.0,) * DIM), Knows((9.0,) * DIM)
    assert measure(again, Recorded(), clips=6) != measure(first, Recorded(), clips=12)
    assert measure(again, Recorded(), clips=12).inverse.l2 == pytest.approx(0, abs=1e-5)
    assert len(again.shown) == 6


def test_a_policy_that_does_not_practise_it_is_not_asked(measure: Any) -> None:
    policy = Knows((0.0,) * DIM)
    policy.practises_inverse = False
    assert measure(policy, Recorded()) is None and not policy.shown


def test_another_shape_than_a_chunk_is_the_policys_error(measure: Any) -> None:
    with pytest.raises(PluginError, match="`infer_actions` returned a tensor of shape"):
        measure(Knows((0.0,) * DIM, rows=1), Recorded())


def test_files_from_before_it_was_measured_are_read(measure: Any) -> None:
    facts = {"clips": 3, "source": "3 clips", "offsets": [1], "values": {"psnr": 20.0}}
    assert quality_of(facts).inverse is None
    assert quality_of({**facts, "inverse": {"l2": 1}}) is None
