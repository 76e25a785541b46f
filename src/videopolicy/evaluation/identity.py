"""What must stay equal for episodes to belong into one run folder."""

from __future__ import annotations

from collections.abc import Sequence

from videopolicy.recipes.recipe import Recipe
from videopolicy.storage.identity import digest, protocol_of
from videopolicy.storage.provenance import RunIdentity


def run_identity(recipe: Recipe, stages: Sequence[str] = ()) -> RunIdentity:
    """The identity of a recipe's run.

    Args:
        recipe: The recipe.
        stages: Keys of all its stages: every weight that acts is in one of them. Empty before they are known.
    """
    return RunIdentity(
        stages=tuple(stages),
        acting=digest(recipe.policy.model_dump(mode="json")),
        protocol=protocol_of(recipe.benchmark),
        execute=recipe.eval.execute,
        batch_size=recipe.eval.batch_size,
        seed=recipe.seed,
    )
