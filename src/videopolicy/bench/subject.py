"""What is measured: a recipe's policy with its weights, and observations of random content for it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from videopolicy.bench.settings import Settings
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Dataset, FieldStatistics, Statistics
from videopolicy.contracts.learner import Learner
from videopolicy.contracts.policy import Policy
from videopolicy.data.own import open_own
from videopolicy.data.preparation import open_data
from videopolicy.errors import DataError, VpolicyError, WeightsError
from videopolicy.evaluation.acting import PolicyActor
from videopolicy.recipes.recipe import Recipe
from videopolicy.spaces import Spaces
from videopolicy.storage.store import Store
from videopolicy.testing import toy_observation
from videopolicy.training.checkpoints import load_normalizer
from videopolicy.training.inputs import ensure_initial_weights
from videopolicy.training.normalization import Normalizer, statistics_for
from videopolicy.training.planning import PlannedStage, plan, stages_of_run
from videopolicy.training.stages import build_learner, load_stages
from videopolicy.types import Observation, RowGenerator
from videopolicy.weights import random_weights


@dataclass(frozen=True)
class Trained:
    """Finished stages of a recipe.

    Args:
        stages: In the order of training.
        dataset: What they were trained on, where it can be opened here.
        origin: How to call them in the output.
    """

    stages: list[PlannedStage]
    dataset: Dataset | None
    origin: str


def trained_stages(recipe: Recipe, run: Path | None, store: Store, reporter: Reporter) -> Trained | None:
    """The weights that were trained for a recipe, if there are any.

    Args:
        recipe: The recipe.
        run: A finished run's folder; None looks for what the recipe's own stages have left in the store.
        store: Where they lie.
        reporter: Shows progress.

    Raises:
        WeightsError: ``run`` has no finished stage that the recipe names.
    """
    try:
        dataset = open_data(recipe, store, reporter) if recipe.data else None
    except VpolicyError:  # no data here, so nothing can be said of what it was trained on
        dataset = None
    if run is not None:
        return Trained(stages_of_run(recipe, run, store), dataset, str(run))
    if dataset is None and recipe.data is not None:
        return None
    try:
        ensure_initial_weights(recipe)
        planned = plan(recipe, dataset, store, open_own(recipe, dataset, store, reporter))
    except (WeightsError, DataError):  # and of data that are not here nothing is known
        return None
    if any(one.facts is None for one in planned):
        return None
    return Trained(planned, dataset, "trained by this recipe")


def build(recipe: Recipe, target: str, settings: Settings, trained: Trained | None = None) -> Learner:
    """A learner of the recipe on the device: with random weights, as trained, or as shapes alone."""
    with ExitStack() as stack:
        if settings.torch_device.type != "cpu" and trained is None:
            # Random weights are drawn where they are needed: an accelerator takes a moment for billions of them.
            stack.enter_context(settings.torch_device)
        if trained is None:
            stack.enter_context(random_weights())
        learner = build_learner(recipe, target, recipe.seed)
    if trained and not settings.meta:
        load_stages(learner, target, trained.stages)
    return learner.to(settings.torch_device)


class Subject:
    """A policy that is ready to act.

    Args:
        recipe: Where it comes from.
        settings: How it is measured.
        trained: Its weights; random ones when None.
    """

    def __init__(self, recipe: Recipe, settings: Settings, trained: Trained | None) -> None:
        self.settings = settings
        self.spaces = recipe.benchmark.spaces()
        policy = cast(Policy, build(recipe, "policy", settings, trained)).eval()
        if trained is None and not settings.meta:
            _fill(policy)
        # Autocast remembers the cast of a weight only where the weight could learn; nothing here does.
        self.policy = policy.requires_grad_(settings.casts)
        normalizer = load_normalizer(trained.stages[-1].folder) if trained else None
        self.normalizer = (normalizer or unit_normalizer(recipe, self.spaces)).to(settings.torch_device)
        self.actor = PolicyActor(self.policy, self.normalizer, self.spaces.actions, settings.torch_device)
        self._executed = recipe.eval.execute
        self.plans = 1
        """Plans that were observed so far, the first of which `operations` looks at."""
        self._sentences = [task.instruction for task in recipe.benchmark.tasks()]

    def observation(self, rows: int, plan: int = 0) -> Observation:
        """Random images and state with the benchmark's own sentences, as an environment would hand them over.

        Args:
            rows: Episodes.
            plan: Which plan of the episode. Its frames are those of the environment's steps at which an evaluation
                would ask, so a plan sees frames that earlier ones have seen where the window reaches back that far.
        """
        observation = toy_observation(self.spaces, self.policy.window, batch_size=rows)
        steps = [plan * self._executed + offset for offset in self.policy.window.observed]
        observation.images = {
            name: torch.stack([_frame(images, step) for step in steps], dim=1)
            for name, images in observation.images.items()
        }
        observation.instructions = [self._sentences[row % len(self._sentences)] for row in range(rows)]
        return observation

    def act(self, observation: Observation) -> None:
        """Choose one chunk of actions in the simulator's units, as an evaluation does."""
        with self.settings.numbers():
            self.actor.act(observation, RowGenerator.from_seeds(list(range(len(observation)))))

    def act_on_device(self, observation: Observation) -> None:
        """The same without bringing the actions back: on the meta device there is nothing to bring."""
        with torch.no_grad(), self.settings.numbers():
            seen = self.normalizer.observation(observation.to(self.settings.torch_device))
            self.policy.act(seen, RowGenerator.from_seeds(list(range(len(observation)))))


class UnfoldingEpisode:
    """One plan after the other, each with an observation of its own.

    Plans are numbered through all that is measured of a subject, so that nothing has been seen but what earlier plans
    of an evaluation would have seen.

    Args:
        subject: The policy.
        rows: Episodes at a time.
    """

    def __init__(self, subject: Subject, rows: int = 1) -> None:
        self._subject, self._rows = subject, rows
        subject.policy.reset(list(range(rows)))

    def unfold(self) -> None:
        """Go on to the next plan."""
        self._subject.plans += 1
        self._observation = self._subject.observation(self._rows, self._subject.plans)

    def act(self) -> None:
        """Choose a chunk of actions for this plan."""
        self._subject.act(self._observation)


def _frame(like: torch.Tensor, step: int) -> torch.Tensor:
    """The same random bytes ``(B, 3, height, width)`` whenever a step of the environment is asked for."""
    generator = torch.Generator().manual_seed(2**32 + step)
    return torch.randint(0, 256, (len(like), *like.shape[2:]), dtype=like.dtype, generator=generator)


@torch.no_grad()
def _fill(module: nn.Module) -> None:
    """Give weights that training begins with at zero small random values: behind a zero everything looks the same,
    and products of zeros take less time than others."""
    for parameter in module.parameters():
        if not parameter.any():
            parameter.normal_(std=0.02)


def unit_normalizer(recipe: Recipe, spaces: Spaces) -> Normalizer:
    """Scaling by the bounds of the actions, for a policy that has seen no data."""
    low, high = list(spaces.actions.low), list(spaces.actions.high)
    size = spaces.state.dim if spaces.state else 0
    state = FieldStatistics([-1.0] * size, [1.0] * size, [0.0] * size, [1.0] * size) if size else None
    actions = FieldStatistics(low, high, [0.0] * len(low), [1.0] * len(low))
    return Normalizer(recipe.normalization, statistics_for(recipe, Statistics(actions, state)))
