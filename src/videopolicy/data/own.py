"""Data that stages have to themselves, opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from videopolicy.components.kinds import DatasetComponent, LearnerComponent
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import Dataset
from videopolicy.data.preparation import open_existing
from videopolicy.data.remarks import remarks_on
from videopolicy.errors import DataError, RecipeError
from videopolicy.recipes.recipe import Recipe, Stage
from videopolicy.storage.identity import digest
from videopolicy.storage.store import Store

if TYPE_CHECKING:
    from videopolicy.training.mixture import OpenPart


def open_own(recipe: Recipe, dataset: Dataset | None, store: Store, reporter: Reporter) -> dict[str, Dataset]:
    """What stages train on that have data to themselves, by their names.

    Args:
        recipe: The recipe.
        dataset: Its own data, open, which may be a part of a mixture.
        store: Remembers what was there.
        reporter: Shows progress.

    Raises:
        DataError: Data cannot be opened, or do not fit the benchmark where they have to.
        RecipeError: What is trained cannot see these data.
    """
    found = {}
    for stage in recipe.train:
        if stage.data is not None:
            found[stage.name] = open_data_of(stage, recipe, dataset, store, reporter)
            for remark in remarks_on(found[stage.name]):
                reporter.line(f"data of {stage.name}: {remark}")
    return found


def open_data_of(stage: Stage, recipe: Recipe, dataset: Dataset | None, store: Store, reporter: Reporter) -> Dataset:
    """The same for one stage that has data to itself."""
    from videopolicy.training.planning import learns_numbers, spaces_of

    own = _opened(stage, recipe, dataset, store, reporter)
    _ensure_encoded_so(stage, recipe, own)
    if learns_numbers(recipe, stage):
        ours, theirs = f"benchmark '{recipe.benchmark.type}'", f"the data of stage '{stage.name}'"
        if found := recipe.benchmark.spaces().mismatches(own.spaces, ours, theirs):
            raise DataError(
                f"The data of stage '{stage.name}' do not fit the benchmark: {'; '.join(found)}.",
                "Name other data there, or leave `data` out, so that the stage trains on the recipe's.",
            )
    elif found := _learner(recipe, stage).check(spaces_of(recipe, stage, own)):
        raise RecipeError(
            f"train.{stage.name}.data: {stage.target} cannot see these data: {'; '.join(found)}.",
            "Change its options, or name other data.",
        )
    return own


def _ensure_encoded_so(stage: Stage, recipe: Recipe, own: Dataset) -> None:
    """Where data hold latents, check that they are those of what is trained."""
    if own.encoder is None:
        return
    encoder = _learner(recipe, stage).frame_encoder()
    if encoder is None:
        raise RecipeError(
            f"train.{stage.name}.data: {stage.target} learns from pictures with these options, and these are latents.",
            "Name the data that they were encoded from, or leave out what changes pictures in training.",
        )
    if own.encoder and own.encoder != digest(encoder):
        raise DataError(
            f"The latents of stage '{stage.name}' were encoded by another autoencoder, or at another size, than "
            f"that of {stage.target}.",
            "Encode the data again with `vpolicy data encode`, or set its options to those of the encoding.",
        )


def _opened(stage: Stage, recipe: Recipe, dataset: Dataset | None, store: Store, reporter: Reporter) -> Dataset:
    if isinstance(stage.data, DatasetComponent):
        return open_existing(stage.data, store, reporter)
    from videopolicy.training.mixture import Mixture  # which needs torch

    parts = open_parts(stage, recipe, dataset, store, reporter)
    return Mixture(parts, _learner(recipe, stage).picture_size())


def open_parts(
    stage: Stage, recipe: Recipe, dataset: Dataset | None, store: Store, reporter: Reporter
) -> list[OpenPart]:
    """The parts of a stage's data; data that are not mixed are one, of all cameras, without a name.

    Raises:
        DataError: One cannot be opened.
    """
    from videopolicy.training.mixture import OpenPart  # which needs torch

    if not isinstance(stage.data, tuple):
        whole = dataset if stage.data is None else open_existing(stage.data, store, reporter)
        if whole is None:
            raise DataError("The recipe's own data are not there yet.", "Collect them with `vpolicy data collect`.")
        cameras = whole.spaces.cameras
        return [OpenPart("", 1.0, whole, cameras={camera.name: 1 / len(cameras) for camera in cameras})]
    parts = []
    for part in stage.data:
        source = part.data or recipe.required_data()
        opened = dataset if part.data is None else open_existing(part.data, store, reporter)
        if opened is None:
            raise DataError(
                f"Part '{part.name}' of stage '{stage.name}' is the recipe's own data, which are not there yet.",
                "Collect them with `vpolicy data collect`.",
            )
        existing = source.demonstrations() is None
        options = part.stride, part.window_stride, part.cameras
        parts.append(OpenPart(part.name, part.ratio, opened, *options, existing))
    return parts


def _learner(recipe: Recipe, stage: Stage) -> LearnerComponent:
    component = recipe.part(stage.target)
    assert isinstance(component, LearnerComponent)  # recipes are checked
    return component
