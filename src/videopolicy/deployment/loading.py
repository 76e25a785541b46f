"""Opens a run, a folder that ``vpolicy export`` wrote, or a policy on the Hub, as a policy that can be asked."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open

from videopolicy.contracts.policy import Policy
from videopolicy.deployment.frozen import ensure_frozen, pinned
from videopolicy.deployment.hub import located
from videopolicy.deployment.policy import DeployedPolicy
from videopolicy.errors import StorageError
from videopolicy.evaluation.acting import PolicyActor, ensure_ways_to_act
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
        folder: Of a finished run, such as ``runs/quickstart``, or one that ``vpolicy export`` wrote; or the name of
            what ``vpolicy push`` published, ``user/name`` or ``user/name@revision``. A local folder of that name wins.
        device: Where it computes; None: the accelerator where there is one.
        trust: Whether the Python files that its recipe names may be run.
        store: Where the stages of a run lie; by default under ``VPOLICY_HOME``.

    Returns:
        The policy. It acts as an evaluation of its recipe does: in the same precision, compiled where that is.

    Raises:
        StorageError: There is no run.
        HubError: The Hub does not give the policy, or gives something else.
        WeightsError: A stage has not been finished, or its weights are missing, damaged or of another architecture.
        RecipeError: The recipe cannot be used here.
    """
    path = located(folder)
    run = RunFolder(path)
    run.ensure_exists()
    if not run.recipe_file.is_file():
        raise StorageError(f"{path} has no {run.recipe_file.name}.", "Restore the file, or run the recipe again.")
    recipe = load_recipe(run.recipe_file, pinned(path) if _is_exported(run) else (), trust=trust)
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
    if not _is_exported(run):
        return load_policy(recipe, stages_of_run(recipe, run.path, store))
    policy = cast(Policy, build_learner(recipe, "policy", recipe.seed))
    load_weights(policy, run.path)
    with safe_open(run.path / WEIGHTS, "pt") as file:
        ensure_frozen(policy, run.path, file.keys())
    return ScaledPolicy(policy, load_normalizer(run.path))


def _is_exported(run: RunFolder) -> bool:
    return (run.path / WEIGHTS).is_file()
