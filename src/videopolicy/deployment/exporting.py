"""Writes what a policy consists of into one folder that needs neither the store nor the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from videopolicy.deployment.frozen import FROZEN, FrozenFacts, digests, published_weights
from videopolicy.errors import StorageError
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.recipes.trust import received
from videopolicy.storage.files import write_json, written_whole
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.training.planning import PlannedStage, stages_of_run
from videopolicy.training.stages import build_learner
from videopolicy.training.weight_files import CONFIG, NORMALIZATION, WEIGHTS

PLUGINS = "plugins"
"""Folder of the Python files that the recipe names."""
FILES = (
    *(WEIGHTS, CONFIG, NORMALIZATION, FROZEN),
    *("recipe.yaml", "identity.json", "provenance.json", "episodes.jsonl"),
)
"""What the folder holds besides."""


def export(run: Path, folder: Path, trust: bool = False, store: Store | None = None, force: bool = False) -> Path:
    """Write the trained policy of a run into a folder.

    The folder holds what any stage has trained, the scaling of actions and state, the recipe with the Python files that
    it names, and the run's provenance, identity and episodes. Published weights that no stage has changed are not
    copied: ``frozen.json`` says which they are, and loading fetches that revision and compares what it holds.

    Args:
        run: Of a finished run.
        folder: Where it goes.
        trust: Whether the Python files that its recipe names may be run.
        store: Where the run's stages lie.
        force: Replace what an earlier export left there.

    Returns:
        The folder.

    Raises:
        StorageError: There is no run, or the folder is not empty.
        WeightsError: A stage has not been finished.
    """
    source = RunFolder(run)
    source.ensure_exists()
    recipe = load_recipe(source.recipe_file, trust=trust)
    stages = stages_of_run(recipe, source.path, store or Store())
    if not stages:
        what = f"The policy of {run}, '{recipe.policy.type}', has no weights."
        raise StorageError(what, "Give its recipe to whoever wants it.")
    if folder.resolve() == source.path.resolve():
        raise StorageError(f"{folder} is the run itself.", "Name another folder with -o.")
    if folder.exists() and any(folder.iterdir()) and not (force and (folder / WEIGHTS).is_file()):
        raise StorageError(f"{folder} is not empty.", "Name another folder, or replace an earlier export with --force.")
    folder.mkdir(parents=True, exist_ok=True)
    weights, frozen = _merged(stages)
    for file in (source.identity_file, source.provenance_file, source.episodes_file):
        if file.is_file():
            with written_whole(folder / file.name) as part:
                shutil.copyfile(file, part)
    _write_recipe(source, recipe, folder)
    with written_whole(folder / NORMALIZATION) as part:
        shutil.copyfile(stages[-1].folder / NORMALIZATION, part)
    _frozen_facts(recipe, weights, bool(frozen)).write(folder)
    write_json(folder / CONFIG, {"component": recipe.policy.model_dump(mode="json"), "frozen": sorted(frozen)})
    with written_whole(folder / WEIGHTS) as part:  # last: a folder with it is whole
        save_file(weights, part)
        part.chmod((folder / CONFIG).stat().st_mode)  # safetensors keeps others from reading it
    return folder


def _merged(stages: list[PlannedStage]) -> tuple[dict[str, Tensor], set[str]]:
    """What all stages have trained, by the names in the policy, and the names of what they found and left as it was."""
    weights: dict[str, Tensor] = {}
    frozen: set[str] = set()
    for one in stages:
        inside = one.stage.target.removeprefix("policy").removeprefix(".")
        begin = f"{inside}." if inside else ""
        places = [one.stage.init_from] if one.stage.init_from is not None else []
        if one.stage.steps:
            Store.ensure_whole(one.folder)
            places.append(one.folder)
        for place in places:
            weights |= {begin + name: value for name, value in load_file(place / WEIGHTS).items()}
            found = json.loads((place / CONFIG).read_text(encoding="utf-8"))
            frozen |= {begin + name for name in found.get("frozen", [])}
    return weights, frozen - weights.keys()


def _frozen_facts(recipe: Recipe, weights: dict[str, Tensor], frozen: bool) -> FrozenFacts:
    """What is not among the weights, as the run's policy has loaded it."""
    if not frozen:
        return FrozenFacts(published=published_weights(recipe))
    whole = build_learner(recipe, "policy", recipe.seed).state_dict()
    elsewhere = {name: tensor for name, tensor in whole.items() if name not in weights}
    return FrozenFacts(published=published_weights(recipe), digests=digests(elsewhere))


def _write_recipe(source: RunFolder, recipe: Recipe, folder: Path) -> None:
    """The recipe, and beside it the Python files that it names, so that it names them wherever the folder goes."""
    shutil.rmtree(folder / PLUGINS, ignore_errors=True)  # an earlier export's
    files = received(recipe.plugins)
    names = [file.name for file in files]
    alone = [name if names.count(name) == 1 else f"{number}_{name}" for number, name in enumerate(names)]
    copied = {file: f"{PLUGINS}/{name}" for file, name in zip(files, alone, strict=True)}
    for file, name in copied.items():
        with written_whole(folder / name) as part:
            shutil.copyfile(file, part)
    plain = source.recipe()
    named = {"plugins": [copied.get(file, str(file)) for file in recipe.plugins]} if copied else {}
    RunFolder(folder).write_recipe({**plain, **named})
