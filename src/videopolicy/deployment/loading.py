"""Opens the folder of a run, or one that ``vpolicy export`` wrote, as a policy that can be asked."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from videopolicy.contracts.policy import Policy
from videopolicy.deployment.policy import DeployedPolicy
from videopolicy.errors import StorageError
from videopolicy.evaluation.acting import PolicyActor, ensure_ways_to_act
from videopolicy.paths import expanded
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.training.checkpoints import load_normalizer, load_weights
from videopolicy.training.planning import stages_of_run
from videopolicy.training.session import available_device
from videopolicy.training.stages import ScaledPolicy, build_learner, load_policy
from videopolicy.training.weight_files import WEIGHTS


def load(
    folder: str | Path, device: str | torch.device | None = None, trust: bool = False, store: Store | None = None
) -> DeployedPolicy:
    """Load a trained policy.

    Args:
        folder: Of a finished run, such as ``runs/quickstart``, or one that ``vpolicy export`` wrote.
        device: Where it computes; None: the accelerator where there is one.
        trust: Whether the Python files that its recipe names may be run.
        store: Where the stages of a run lie; by default under ``VPOLICY_HOME``.

    Returns:
        The policy. It acts as an evaluation of its recipe does: in the same precision, compiled where that is.

    Raises:
        StorageError: There is no run.
        WeightsError: A stage has not been finished, or its weights are missing, damaged or of another architecture.
        RecipeError: The recipe cannot be used here.
    """
    path = expanded(str(folder))
    run = RunFolder(path)
    run.ensure_exists()
    if not run.recipe_file.is_file():
        raise StorageError(f"{path} has no {run.recipe_file.name}.", "Restore the file, or run the recipe again.")
    recipe = load_recipe(run.recipe_file, trust=trust)
    target = torch.device(device) if device is not None else available_device()
    settings = recipe.eval
    ensure_ways_to_act(settings, target)
    policy, normalizer = _trained(recipe, run, store or Store())
    spaces = recipe.benchmark.spaces()
    actor = PolicyActor(
        policy, normalizer, spaces.actions, target, settings.precision, settings.compile, settings.graphs
    )
    sentences = tuple(dict.fromkeys(task.instruction for task in recipe.benchmark.tasks()))
    return DeployedPolicy(actor, spaces, settings.execute, recipe.name, sentences)


def _trained(recipe: Recipe, run: RunFolder, store: Store) -> ScaledPolicy:
    if not (run.path / WEIGHTS).is_file():
        return load_policy(recipe, stages_of_run(recipe, run.path, store))
    policy = cast(Policy, build_learner(recipe, "policy", recipe.seed))
    load_weights(policy, run.path)
    return ScaledPolicy(policy, load_normalizer(run.path))
