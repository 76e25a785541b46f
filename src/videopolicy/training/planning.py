"""The stages of a recipe before they are trained: what determines each of them, and how they build on each other.

A stage is keyed by its learner's options, its settings, its data, the stages that it starts from and the code of all of
them, not by the recipe's name: recipes that share a video model train it once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videopolicy.components.kinds import LearnerComponent
from videopolicy.contracts.dataset import Dataset
from videopolicy.errors import WeightsError
from videopolicy.recipes.recipe import Recipe, Stage
from videopolicy.storage.digests import content
from videopolicy.storage.files import file_digest
from videopolicy.storage.identity import TRAINING, core_code, digest, identity
from videopolicy.storage.provenance import StageFacts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.training.inputs import scaling_of
from videopolicy.training.weight_files import WEIGHTS

# Not part of a stage's key: they change where and how fast it runs, not what it computes.
_INCIDENTAL = {"target", "data_workers"}


@dataclass
class PlannedStage:
    """A stage, its key, and the earlier stages whose weights it starts from.

    Args:
        stage: As the recipe has it.
        key: Identifies the result.
        folder: Where the result lies or will lie.
        sources: Earlier stages, each with the path of its target inside this stage's target (empty: the same).
        data: Identifies what the files of existing data hold; empty for demonstrations that are collected.
    """

    stage: Stage
    key: str
    folder: Path
    sources: list[tuple[PlannedStage, str]] = field(default_factory=list)
    data: str = ""

    @property
    def facts(self) -> StageFacts | None:
        """What was recorded when the stage was finished; None when it is not.

        Raises:
            StorageError: It was, and what was recorded cannot be read.
        """
        return Store.facts(self.folder, StageFacts)


def plan(recipe: Recipe, dataset: Dataset | None, store: Store) -> list[PlannedStage]:
    """The stages of a recipe on a dataset, with their keys.

    Args:
        recipe: The recipe.
        dataset: What is trained on; None where the recipe has none.
        store: Where results lie.
    """
    planned: list[PlannedStage] = []
    # What was collected here is compared with what was collected, and its files are not the same everywhere.
    existing = recipe.data is not None and recipe.data.demonstrations() is None
    held = content(store, dataset.files()) if dataset and existing else ""
    for stage in recipe.train:
        sources = [
            (earlier, earlier.stage.target.removeprefix(stage.target).removeprefix("."))
            for earlier in planned
            if f"{earlier.stage.target}.".startswith(f"{stage.target}.")
        ]
        # Where initial weights lie says nothing; what they are does.
        incidental = _INCIDENTAL | ({"init_from"} if stage.init_from else set())
        scaling = scaling_of(stage)
        # What is learned from videos alone does not depend on which actions are shown, nor on how they are scaled.
        window = trained_part(recipe, stage.target).window()
        actions = window.horizon > 0 or window.past_actions > 0
        fingerprint = dataset.fingerprint(actions) if dataset else ""
        reader = identity(recipe.data, recipe.registry)["sources"] if recipe.data else []
        key = digest(
            {
                "learner": identity(recipe.part(stage.target), recipe.registry, training=True),
                "stage": stage.model_dump(mode="json", exclude=incidental),
                "initial": file_digest(stage.init_from / WEIGHTS) if stage.init_from else None,
                **({"scaling": file_digest(scaling)} if scaling else {"data": [fingerprint, held], "reader": reader}),
                "normalization": _scaling(recipe, actions),
                "spaces": recipe.benchmark.spaces().model_dump(mode="json"),
                "seed": recipe.seed,
                "sources": [(source.key, where) for source, where in sources],
                "core": core_code(TRAINING),
            }
        )
        planned.append(PlannedStage(stage, key, store.folder("stages", key), sources, held))
    return planned


def stages_of_run(recipe: Recipe, run: Path, store: Store) -> list[PlannedStage]:
    """The finished stages of a run, without its data.

    Args:
        recipe: Of the run.
        run: Its folder.
        store: Where the stages lie.

    Raises:
        StorageError: There is no run.
        WeightsError: A stage that the recipe names has not been finished.
    """
    folder = RunFolder(run)
    folder.ensure_exists()
    provenance = folder.provenance()
    keys = {stage.name: stage.key for stage in provenance.stages} if provenance else {}
    unfinished = [stage.name for stage in recipe.train if stage.name not in keys]
    if unfinished:
        raise WeightsError(
            f"Stage {', '.join(unfinished)} of the recipe has not finished in {run}.",
            "Run its recipe to the end, or name a run that is finished.",
        )
    folders = {name: store.folder("stages", key) for name, key in keys.items()}
    planned = [PlannedStage(stage, keys[stage.name], folders[stage.name]) for stage in recipe.train]
    if elsewhere := [one.stage.name for one in planned if one.facts is None]:
        raise WeightsError(
            f"Stage {', '.join(elsewhere)} of {run} is not in {store.root}.",
            "Set VPOLICY_HOME to the folder where its stages were kept, or go to the folder where it was run.",
        )
    return planned


def needed(planned: list[PlannedStage]) -> list[Path]:
    """Folders without which the stages would have to be trained again, or could not be."""
    return [path for one in planned for path in (one.folder, one.stage.init_from) if path is not None]


def _scaling(recipe: Recipe, actions: bool) -> dict[str, Any]:
    """How vectors are scaled; without actions, of the state alone."""
    modes, state = recipe.normalization, recipe.benchmark.spaces().state
    if actions:
        return modes.model_dump()
    names = state.names if state else ()
    return {"state": modes.state, "unscaled": [name for name in modes.unscaled if name in names]}


def trained_part(recipe: Recipe, target: str) -> LearnerComponent:
    """What a stage trains."""
    component = recipe.part(target)
    assert isinstance(component, LearnerComponent)
    return component


def features_key(recipe: Recipe, planned: PlannedStage, dataset: Dataset) -> str:
    """Identifies the frozen features that a stage trains on; stages that differ in what comes after them share it."""
    target = recipe.part(planned.stage.target)
    part = target.parts().get("extractor", target)
    assert recipe.data is not None  # there is a dataset
    return digest(
        {
            "extractor": identity(part, recipe.registry),
            "sources": [(source.key, where) for source, where in planned.sources],
            "data": [dataset.fingerprint(actions=False), planned.data],
            "reader": identity(recipe.data, recipe.registry)["sources"],
            "normalization": _scaling(recipe, actions=False),
            "spaces": recipe.benchmark.spaces().model_dump(mode="json", include={"cameras", "state"}),
            "seed": recipe.seed,
            "core": core_code(TRAINING),
        }
    )
