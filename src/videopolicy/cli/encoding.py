"""``vpolicy data encode``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from videopolicy.console.text import say

if TYPE_CHECKING:
    from videopolicy.components.kinds import DatasetComponent
    from videopolicy.contracts.dataset import Dataset
    from videopolicy.recipes.recipe import Recipe, Stage
    from videopolicy.training.session import Session


def encode_data(path: Path, overrides: list[str], name: str, output: Path | None, type_: str, quiet: bool) -> None:
    """Encode the data of a stage, and say how to train on them."""
    from videopolicy.console.progress import Reporter
    from videopolicy.recipes.recipe import load_recipe
    from videopolicy.storage.store import Store
    from videopolicy.training.inputs import ensure_inputs

    recipe = load_recipe(path, overrides)
    stage = _stage(recipe, name)
    kind = _kind(recipe, type_)
    ensure_inputs(recipe)
    # These need torch: everything that can be found wrong without it has been.
    from videopolicy.data.encoding import encode
    from videopolicy.training.session import Session

    session = Session.here(recipe, Store(), Reporter(quiet))
    folder = output or Path("latents") / f"{recipe.name}-{stage.name}"
    for found in encode(session, stage, _whole(session, stage), folder, kind):
        say(f"{found.windows} windows in {found.folder}")
        where = f"train.{stage.name}.data{f'.{found.name}.data' if found.name else ''}"
        say(f"  train on them with '{where}={{type: {kind.type}, path: {found.folder}}}'")
    if isinstance(stage.data, tuple) and any(part.stride for part in stage.data):
        say("  without the parts' `stride`, which is in what was encoded")


def _stage(recipe: Recipe, name: str) -> Stage:
    """The stage whose data are meant: the one that is named, or the only one that trains something with an autoencoder.

    Raises:
        RecipeError: There is no such stage, or there are several.
    """
    from videopolicy.components.kinds import LearnerComponent
    from videopolicy.errors import RecipeError, did_you_mean, listing

    names = [stage.name for stage in recipe.train]
    if name:
        for stage in recipe.train:
            if stage.name == name:
                return stage
        raise RecipeError(f"The recipe has no stage '{name}'.{did_you_mean(name, names)}", f"It has {listing(names)}.")
    fitting = []
    for stage in recipe.train:
        component = recipe.part(stage.target)
        if stage.steps and isinstance(component, LearnerComponent) and component.frame_encoder() is not None:
            fitting.append(stage)
    if len(fitting) != 1:
        text = f"{len(fitting) or 'None'} of the stages {listing(names)} train what encodes frames by themselves"
        raise RecipeError(f"{text}.", "Name one with --stage.")
    return fitting[0]


def _kind(recipe: Recipe, name: str) -> DatasetComponent:
    """The dataset type that can hold latents, which is built by nobody here.

    Raises:
        PluginError: There is none, or there are several.
    """
    from videopolicy.components.kinds import DatasetComponent
    from videopolicy.errors import PluginError, listing

    known: dict[str, type[DatasetComponent]] = {}
    for one in recipe.registry.names("dataset"):
        component = recipe.registry.get("dataset", one)
        assert issubclass(component, DatasetComponent)
        if component.latent_writer is not DatasetComponent.latent_writer:
            known[one] = component
    chosen = [name] if name in known else ([] if name else list(known))
    if len(chosen) != 1:
        text = f"Dataset types that hold latents: {listing(known)}."
        wrong = f"'{name}' is none of them. " if name else ""
        raise PluginError(f"{wrong}{text}", "Name one with --type, or install one.")
    return known[chosen[0]].model_construct(type=chosen[0])


def _whole(session: Session, stage: Stage) -> Dataset | None:
    """The recipe's own data, open, where the stage reads them."""
    from videopolicy.data.preparation import prepare_data

    read = stage.data is None or (isinstance(stage.data, tuple) and any(part.data is None for part in stage.data))
    return prepare_data(session.recipe, session.store, session.reporter).dataset if read else None
