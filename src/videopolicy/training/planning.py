"""The stages of a recipe before they are trained: what determines each of them, and how they build on each other.

A stage is keyed by its learner's options, its settings, its data, the stages that it starts from and the code of all of
them, not by the recipe's name: recipes that share a video model train it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videopolicy.components.kinds import LearnerComponent
from videopolicy.contracts.dataset import Dataset
from videopolicy.errors import WeightsError
from videopolicy.recipes.recipe import Recipe, Stage
from videopolicy.recipes.stage_data import components_of, needs_numbers
from videopolicy.spaces import Spaces
from videopolicy.storage.digests import content
from videopolicy.storage.files import file_digest
from videopolicy.storage.identity import TRAINING, core_code, digest, identity
from videopolicy.storage.provenance import StageFacts
from videopolicy.storage.run_folder import RunFolder
from videopolicy.storage.store import Store
from videopolicy.training.inputs import scaling_of
from videopolicy.training.weight_files import WEIGHTS

# Not part of a stage's key: they change where and how fast it runs, not what it computes; data count by their content.
_INCIDENTAL = {"target", "data", "data_workers", "validate_every"}


@dataclass
class PlannedStage:
    """A stage, its key, and the earlier stages whose weights it starts from.

    Args:
        stage: As the recipe has it.
        key: Identifies the result.
        folder: Where the result lies or will lie.
        sources: Earlier stages, each with the path of its target inside this stage's target (empty: the same).
        data: Identifies what the files of existing data hold; empty for demonstrations that are collected.
        own: The data that it has to itself, open; None where it trains on the recipe's.
    """

    stage: Stage
    key: str
    folder: Path
    sources: list[tuple[PlannedStage, str]] = field(default_factory=list)
    data: str = ""
    own: Dataset | None = None

    @property
    def facts(self) -> StageFacts | None:
        """What was recorded when the stage was finished; None when it is not.

        Raises:
            StorageError: It was, and what was recorded cannot be read.
        """
        return Store.facts(self.folder, StageFacts)


def plan(
    recipe: Recipe, dataset: Dataset | None, store: Store, own: Mapping[str, Dataset] | None = None
) -> list[PlannedStage]:
    """The stages of a recipe on a dataset, with their keys.

    Args:
        recipe: The recipe.
        dataset: What is trained on; None where the recipe has none.
        store: Where results lie.
        own: What stages train on that have data to themselves, by their names.
    """
    planned: list[PlannedStage] = []
    # What was collected here is compared with what was collected, and its files are not the same everywhere.
    existing = recipe.data is not None and recipe.data.demonstrations() is None
    whole = content(store, dataset.files()) if dataset and existing else ""
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
        mine = (own or {})[stage.name] if stage.data is not None else None
        source, held = (dataset, whole) if mine is None else (mine, content(store, mine.files()))
        fingerprint = source.fingerprint(actions) if source else ""
        read = {"data": [fingerprint, held], "reader": _readers(recipe, stage)}
        key = digest(
            {
                "learner": identity(recipe.part(stage.target), recipe.registry, training=True),
                "stage": stage.model_dump(mode="json", exclude=incidental),
                "initial": file_digest(stage.init_from / WEIGHTS) if stage.init_from else None,
                **({"scaling": file_digest(scaling)} if scaling else read),
                "normalization": _scaling(recipe, actions),
                "spaces": _declared(recipe, stage),
                "seed": recipe.seed,
                "sources": [(source.key, where) for source, where in sources],
                "core": core_code(TRAINING),
            }
        )
        planned.append(PlannedStage(stage, key, store.place("stages", key), sources, held, mine))
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
    folders = {name: store.place("stages", key) for name, key in keys.items()}
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
    return digest(
        {
            "extractor": identity(part, recipe.registry),
            "sources": [(source.key, where) for source, where in planned.sources],
            "data": [dataset.fingerprint(actions=False), planned.data],
            "reader": _readers(recipe, planned.stage),
            "normalization": _scaling(recipe, actions=False),
            "spaces": recipe.benchmark.spaces().model_dump(mode="json", include={"cameras", "state"}),
            "seed": recipe.seed,
            "core": core_code(TRAINING),
        }
    )


def learns_numbers(recipe: Recipe, stage: Stage) -> bool:
    """Whether what a stage trains needs actions or future states: what it sees must then be what the benchmark has."""
    return needs_numbers(trained_part(recipe, stage.target).window())


def spaces_of(recipe: Recipe, stage: Stage, own: Dataset | None) -> Spaces:
    """The spaces that a stage's learner is built for.

    Args:
        recipe: The recipe.
        stage: The stage.
        own: The data that it has to itself, whose cameras a video model sees instead of the benchmark's.
    """
    spaces = recipe.benchmark.spaces()
    if own is None or learns_numbers(recipe, stage):
        return spaces
    return spaces.model_copy(update={"cameras": own.spaces.cameras, "state": own.spaces.state})


def _declared(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """What a stage's key has of the benchmark's spaces: where the data's own take their place, those are in the data's
    fingerprint."""
    videos = stage.data is not None and not learns_numbers(recipe, stage)
    return recipe.benchmark.spaces().model_dump(mode="json", include={"actions"} if videos else None)


def _readers(recipe: Recipe, stage: Stage) -> list[str]:
    """The plugins that read what a stage is trained on."""
    read = [identity(one, recipe.registry)["sources"] for one in components_of(stage.data, recipe.data)]
    return sorted({source for sources in read for source in sources})
