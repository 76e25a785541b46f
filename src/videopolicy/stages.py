"""The stages of a recipe: what determines each of them, how they build on each other, and training them.

A stage is keyed by its learner's options, its settings, its data and the stages that it starts from, not by the
recipe's name: recipes that share a video model train it once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from videopolicy.artifacts import Store, digest, identity, locked
from videopolicy.checkpoints import WEIGHTS, load_normalizer, load_weights, save_weights
from videopolicy.component import BackboneComponent, PolicyComponent
from videopolicy.contracts.dataset import Dataset, Windows
from videopolicy.contracts.extractor import CachesFeatures
from videopolicy.contracts.learner import Learner
from videopolicy.contracts.policy import Policy
from videopolicy.errors import RecipeError, WeightsError
from videopolicy.features import cache_features
from videopolicy.monitor import MemoryMonitor
from videopolicy.normalization import Normalizer
from videopolicy.order import derived_seed
from videopolicy.progress import Reporter, duration
from videopolicy.recipe import Recipe, Stage

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
    """

    stage: Stage
    key: str
    folder: Path
    sources: list[tuple[PlannedStage, str]] = field(default_factory=list)

    @property
    def facts(self) -> dict[str, Any] | None:
        """What was recorded when the stage was finished; None when it is not."""
        return Store.finished(self.folder)


def plan(recipe: Recipe, fingerprint: str, store: Store) -> list[PlannedStage]:
    """The stages of a recipe on a dataset, with their keys.

    Args:
        recipe: The recipe.
        fingerprint: Of the dataset.
        store: Where results lie.
    """
    planned: list[PlannedStage] = []
    for stage in recipe.train:
        sources = [
            (earlier, earlier.stage.target.removeprefix(stage.target).removeprefix("."))
            for earlier in planned
            if f"{earlier.stage.target}.".startswith(f"{stage.target}.")
        ]
        if stage.init_from is not None and not (stage.init_from / WEIGHTS).is_file():
            raise WeightsError(
                f"train.{stage.name}.init_from: there are no weights in {stage.init_from}.",
                f"Name a folder that holds {WEIGHTS}.",
            )
        key = digest(
            {
                "learner": identity(recipe.part(stage.target), recipe.registry),
                "stage": stage.model_dump(mode="json", exclude=_INCIDENTAL),
                "initial": _file_digest(stage.init_from / WEIGHTS) if stage.init_from else None,
                "data": fingerprint,
                "normalization": recipe.normalization.model_dump(),
                "spaces": recipe.benchmark.spaces().model_dump(mode="json"),
                "seed": recipe.seed,
                "sources": [(source.key, where) for source, where in sources],
            }
        )
        planned.append(PlannedStage(stage, key, store.folder("stages", key), sources))
    return planned


def _file_digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def build_learner(recipe: Recipe, target: str, seed: int) -> Learner:
    """Build what a stage trains, with initial weights that depend on the seed only."""
    component = recipe.part(target)
    assert isinstance(component, PolicyComponent | BackboneComponent)
    torch.manual_seed(derived_seed(seed, "build"))
    return component.build(recipe.benchmark.spaces())


def load_sources(learner: Learner, planned: PlannedStage) -> None:
    """Put the weights of all earlier stages into a learner, in order."""
    for source, where in planned.sources:
        load_weights(learner.get_submodule(where), source.folder)


def load_policy(recipe: Recipe, planned: list[PlannedStage]) -> tuple[Policy, Normalizer]:
    """The policy as the stages have left it, and the scaling that belongs to it."""
    policy = build_learner(recipe, "policy", recipe.seed)
    for one in planned:
        load_weights(policy.get_submodule(one.stage.target.removeprefix("policy").removeprefix(".")), one.folder)
    return cast(Policy, policy), load_normalizer(planned[-1].folder)


def train(
    recipe: Recipe, planned: PlannedStage, dataset: Dataset, store: Store, device: torch.device, reporter: Reporter
) -> dict[str, Any]:
    """Train one stage, or return what is known of it when it was finished earlier.

    Returns:
        Steps, seconds, parameters, final losses and peak memory.

    Raises:
        RecipeError: ``cache_features`` is asked of a learner without frozen features.
    """
    stage = planned.stage
    if (facts := planned.facts) is not None:
        reporter.line(f"train {stage.name}: done earlier ({facts['steps']} steps, {duration(facts['seconds'])})")
        return {**facts, "reused": True}
    from videopolicy.training import train_stage  # Lightning takes seconds to import

    with locked(planned.folder, f"stage '{stage.name}'"), MemoryMonitor() as memory:
        learner = build_learner(recipe, stage.target, recipe.seed)
        load_sources(learner, planned)
        if stage.init_from is not None:
            load_weights(learner, stage.init_from)
        statistics = dataset.statistics()
        normalizer = Normalizer(recipe.normalization, statistics)
        windows = dataset.windows(learner.window)
        if len(windows) == 0:
            raise RecipeError(
                "The dataset holds no training windows.", "Collect or name episodes with at least one step."
            )
        if stage.cache_features:
            windows = _cached(recipe, planned, learner, normalizer, windows, dataset, store, device, reporter)
        trained = train_stage(
            learner, normalizer, windows, stage, recipe.seed, planned.folder, reporter, recipe.tracking
        )
        save_weights(
            learner,
            planned.folder,
            recipe.part(stage.target).model_dump(mode="json"),
            recipe.normalization,
            statistics,
        )
    facts = {
        "name": stage.name,
        "target": stage.target,
        "key": planned.key,
        "steps": stage.steps,
        "seconds": trained.seconds,
        "peak_memory_bytes": memory.peak_bytes,
        "parameters": sum(p.numel() for p in learner.parameters()),
        "trainable_parameters": sum(p.numel() for p in learner.parameters() if p.requires_grad),
        "final_losses": trained.final_losses,
    }
    Store.finish(planned.folder, facts)
    losses = "".join(f", loss {name} {value:.3f}" for name, value in trained.final_losses.items())
    reporter.line(f"train {stage.name}: {stage.steps} steps in {duration(trained.seconds)}{losses}")
    return {**facts, "reused": False}


def _cached(
    recipe: Recipe,
    planned: PlannedStage,
    learner: Learner,
    normalizer: Normalizer,
    windows: Windows,
    dataset: Dataset,
    store: Store,
    device: torch.device,
    reporter: Reporter,
) -> Windows:
    if not (isinstance(learner, CachesFeatures) and learner.features_are_frozen):
        raise RecipeError(
            f"train.{planned.stage.name}.cache_features: '{planned.stage.target}' has no frozen features to compute.",
            "Set cache_features: false, or freeze the backbone.",
        )
    target = recipe.part(planned.stage.target)
    part = target.parts().get("extractor", target)
    key = digest(
        {
            "extractor": identity(part, recipe.registry),
            "sources": [(source.key, where) for source, where in planned.sources],
            "data": dataset.fingerprint,
            "seed": recipe.seed,
        }
    )
    folder = store.folder("features", key)
    learner.to(device).eval()
    with locked(folder, "these frozen features"):
        return cache_features(learner, normalizer.to(device), windows, recipe.seed, folder, device, reporter)
