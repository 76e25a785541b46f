"""What has to be on this machine before a recipe can be worked on; torch is not needed to say so."""

from __future__ import annotations

from pathlib import Path

from videopolicy.errors import WeightsError
from videopolicy.recipes.recipe import Recipe, Stage
from videopolicy.storage.store import Store
from videopolicy.training.weight_files import NORMALIZATION, WEIGHTS


def ensure_inputs(recipe: Recipe) -> None:
    """Fetch what components need from elsewhere, and check the weights that stages begin with.

    Raises:
        WeightsError: Weights are missing, or come without scaling and the recipe has no data to compute it from.
    """
    for component in recipe.components():
        component.fetch()
    ensure_initial_weights(recipe)


def ensure_initial_weights(recipe: Recipe) -> None:
    """Check the weights that stages begin with.

    Raises:
        WeightsError: There are none, or they come without scaling and the recipe has no data to compute it from.
        StorageError: A stage ended with them, and they are damaged.
    """
    for stage in recipe.train:
        ensure_weights_of(stage)
    ensure_scaling(recipe)


def ensure_weights_of(stage: Stage) -> None:
    """Check the weights that one stage begins with.

    Raises:
        WeightsError: There are none.
        StorageError: A stage ended with them, and they are damaged.
    """
    if stage.init_from is None:
        return
    if not (stage.init_from / WEIGHTS).is_file():
        raise WeightsError(
            f"train.{stage.name}.init_from: there are no weights in {stage.init_from}.",
            f"Name a folder that holds {WEIGHTS}.",
        )
    Store.ensure_whole(stage.init_from)  # where it is a folder of a store


def ensure_scaling(recipe: Recipe) -> None:
    """Check that the scaling of vectors is known or can be computed.

    Raises:
        WeightsError: Weights come without it, and the recipe has no data.
    """
    if not recipe.train:
        return
    last = recipe.train[-1]
    if recipe.data is None and last.data is None and scaling_of(last) is None:
        raise WeightsError(
            f"train.{last.name}.init_from: {last.init_from} has no {NORMALIZATION}, and the recipe has no data from "
            "which the scaling of actions could be computed.",
            "Name the data in the recipe, or import the weights with --recipe.",
        )


def scaling_of(stage: Stage) -> Path | None:
    """The scaling of vectors that a stage without steps takes over with its weights, where it lies beside them."""
    if stage.steps or stage.init_from is None:
        return None
    path = stage.init_from / NORMALIZATION
    return path if path.is_file() else None
