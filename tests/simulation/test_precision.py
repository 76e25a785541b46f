"""``eval.precision``: in which numbers a policy computes, and that episodes of two of them do not mix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import vpolicy
from torch import nn
from toy_recipes import linear

from videopolicy import Policy, Window
from videopolicy.bench.subject import unit_normalizer
from videopolicy.evaluation.acting import PolicyActor
from videopolicy.evaluation.identity import run_identity
from videopolicy.recipes.recipe import load_recipe
from videopolicy.testing import toy_observation
from videopolicy.types import RowGenerator


class Noting(Policy):
    """A product of matrices, and in which numbers it was computed."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer, self.dim, self.seen = nn.Linear(64, 2 * dim).requires_grad_(False), dim, []

    @property
    def window(self) -> Window:
        return Window(horizon=2)

    def loss(self, batch):
        raise NotImplementedError

    def act(self, observation, generator):
        generators = [torch.Generator().manual_seed(7) for _ in range(len(observation))]
        noise = torch.stack([torch.rand(64, generator=one) for one in generators])
        found = self.layer(noise)
        self.seen.append(found.dtype)
        return found.view(len(observation), 2, self.dim)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(linear("episodes: 1, execute: 3, workers: 1, batch_size: 2"), encoding="utf-8")
    return path


def test_the_policy_computes_in_the_chosen_numbers_and_is_scaled_in_fp32(recipe: Path):
    made = load_recipe(recipe)
    spaces = made.benchmark.spaces()
    torch.manual_seed(0)
    policy = Noting(spaces.actions.dim)
    actions = {}
    for precision in ("fp32", "bf16", "fp16"):
        actor = PolicyActor(
            policy, unit_normalizer(made, spaces), spaces.actions, torch.device("cpu"), precision=precision
        )
        actions[precision] = actor.act(toy_observation(spaces, policy.window), RowGenerator.from_seeds([0, 1]))
    assert policy.seen == [torch.float32, torch.bfloat16, torch.float16]
    assert {one.dtype for one in actions.values()} == {np.dtype("float32")}
    for half, error in (("bf16", 2e-2), ("fp16", 2e-3)):
        difference = np.abs(actions[half] - actions["fp32"]).max()
        assert 0 < difference < error


def test_another_precision_is_another_run(recipe: Path):
    home = {"VPOLICY_HOME": str(recipe.parent / "home")}
    assert run_identity(load_recipe(recipe)).precision == "fp32"
    assert vpolicy(recipe.parent, "run", "small.yaml", **home).returncode == 0
    other = vpolicy(recipe.parent, "run", "small.yaml", "eval.precision=bf16", **home)
    assert other.returncode == 2 and "(different: precision)" in other.stderr and "name=OTHER" in other.stderr
    apart = vpolicy(recipe.parent, "run", "small.yaml", "eval.precision=bf16", "name=half", **home)
    assert apart.returncode == 0, apart.stderr
    assert "in bf16" in (recipe.parent / "runs" / "half" / "report.html").read_text("utf-8")
    wrong = vpolicy(recipe.parent, "run", "small.yaml", "eval.precision=int8", **home)
    assert wrong.returncode == 2 and "'fp32', 'bf16' or 'fp16'" in wrong.stderr
