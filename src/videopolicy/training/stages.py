"""Training the stages of a recipe, and putting what they ended with into a policy."""

from __future__ import annotations

import shutil
from typing import NamedTuple, cast

import torch
from torch import nn

from videopolicy.components.building import title
from videopolicy.console.monitor import MemoryMonitor
from videopolicy.console.progress import duration
from videopolicy.contracts.dataset import Dataset, Windows
from videopolicy.contracts.extractor import CachesFeatures
from videopolicy.contracts.learner import Learner
from videopolicy.contracts.policy import Policy
from videopolicy.contracts.samples import ensure_sound_sample
from videopolicy.errors import RecipeError
from videopolicy.recipes.recipe import Recipe, Stage
from videopolicy.seeds import derived_seed
from videopolicy.spaces import Spaces
from videopolicy.storage.files import locked, written_whole
from videopolicy.storage.provenance import StageFacts
from videopolicy.storage.store import Store
from videopolicy.storage.surroundings import machine
from videopolicy.training.checkpoints import (
    check_weights,
    load_normalizer,
    load_weights,
    save_normalization,
    save_weights,
)
from videopolicy.training.distributed import rank, wait_for
from videopolicy.training.features import CachedWindows, cache_features
from videopolicy.training.inputs import scaling_of
from videopolicy.training.normalization import Normalizer, statistics_for, unscaled
from videopolicy.training.planning import PlannedStage, features_key, learns_numbers, spaces_of, trained_part
from videopolicy.training.resuming import begun, can_be_joined, drop_checkpoint, drop_damaged_checkpoint
from videopolicy.training.session import Session
from videopolicy.training.validation import validation_windows
from videopolicy.training.weight_files import NORMALIZATION


def build_learner(recipe: Recipe, target: str, seed: int, spaces: Spaces | None = None) -> Learner:
    """Build what a stage trains, with initial weights that depend on the seed only.

    Args:
        recipe: The recipe.
        target: Where it stands in the recipe.
        seed: Of the run.
        spaces: What it will see; None: what the benchmark shows.
    """
    component = trained_part(recipe, target)
    torch.manual_seed(derived_seed(seed, "build"))
    return component.build(spaces or recipe.benchmark.spaces())


def load_sources(learner: Learner, planned: PlannedStage) -> None:
    """Put the weights of all earlier stages into a learner, in order."""
    for source, where in planned.sources:
        _load_stage(learner.get_submodule(where), source)


def _load_stage(module: nn.Module, planned: PlannedStage) -> None:
    """Put the weights that a stage ended with into a module.

    A stage's own folder holds what it trained: what was frozen stays as the stage found it.
    """
    if planned.stage.init_from is not None:
        load_weights(module, planned.stage.init_from)
    if planned.stage.steps:
        Store.ensure_whole(planned.folder)
        load_weights(module, planned.folder)


def load_stages(learner: Learner, target: str, planned: list[PlannedStage]) -> None:
    """Put what stages have ended with into a learner, in order.

    Args:
        learner: Whose weights they are.
        target: Its path in the recipe; all stages have trained it or a part of it.
        planned: The stages.
    """
    for one in planned:
        _load_stage(learner.get_submodule(one.stage.target.removeprefix(target).removeprefix(".")), one)


class ScaledPolicy(NamedTuple):
    """A policy and the scaling of vectors that belongs to it."""

    policy: Policy
    normalizer: Normalizer

    def ready(self, device: torch.device) -> ScaledPolicy:
        """Both on a device, the policy in evaluation mode."""
        return ScaledPolicy(self.policy.eval().to(device), self.normalizer.to(device))


def load_policy(recipe: Recipe, planned: list[PlannedStage]) -> ScaledPolicy:
    """The policy as the stages have left it."""
    policy = build_learner(recipe, "policy", recipe.seed)
    load_stages(policy, "policy", planned)
    scaling = scaling_after(planned) if planned else unscaled(recipe.benchmark.spaces())
    return ScaledPolicy(cast(Policy, policy), scaling)


def scaling_after(planned: list[PlannedStage]) -> Normalizer:
    """The scaling that the last stage was trained with.

    Raises:
        StorageError: What the stage ended with is damaged.
    """
    Store.ensure_whole(planned[-1].folder)
    return load_normalizer(planned[-1].folder)


def train(session: Session, planned: PlannedStage, dataset: Dataset | None) -> StageFacts:
    """Train one stage, or return what is known of it when it was finished earlier, or by another process meanwhile.

    Of several processes that train together the first one keeps what comes out; the others join it where the stage
    trains on several devices, and wait for it where not.

    Args:
        session: The recipe; frozen features are computed on its device.
        planned: The stage.
        dataset: What it trains on where it has no data to itself; None where nothing has to be trained or measured.

    Raises:
        RecipeError: ``cache_features`` is asked of a learner without frozen features.
        StorageError: It was finished earlier, and what it ended with is damaged.
    """
    if (facts := planned.facts) is not None:
        return _finished(session, planned, facts)
    if rank() > 0:
        return _join(session, planned, dataset)
    with locked(planned.folder, f"stage '{planned.stage.name}'", session.reporter.line):
        if (facts := planned.facts) is not None:  # by whoever held the lock
            return _finished(session, planned, facts)
        if not planned.stage.steps:
            return _take(session, planned, dataset)
        drop_damaged_checkpoint(planned.folder, session.reporter)
        with begun(planned.folder):
            return _train(session, planned, dataset)


def _finished(session: Session, planned: PlannedStage, facts: StageFacts) -> StageFacts:
    """What is known of a stage that need not be trained."""
    Store.ensure_whole(planned.folder)
    session.store.used(planned.folder)
    if rank() == 0:
        drop_checkpoint(planned.folder)  # of a process that was killed after it had finished the stage
    took = f"{facts.steps} steps, {duration(facts.seconds or 0.0)}"
    session.reporter.line(f"train {planned.stage.name}: done earlier ({took})")
    for remark in facts.remarks:
        session.reporter.line(f"train {planned.stage.name}: {remark}")
    return facts.model_copy(update={"reused": True})


def _join(session: Session, planned: PlannedStage, dataset: Dataset | None) -> StageFacts:
    """Train a stage on several devices together with the first process, unless nothing is left to be trained."""
    if planned.stage.steps == 0 or planned.stage.devices == 1:
        return wait_for(lambda: planned.facts)
    found = wait_for(lambda: planned.facts or can_be_joined(planned.folder))
    return found if isinstance(found, StageFacts) else _train(session, planned, dataset)


def _train(session: Session, planned: PlannedStage, dataset: Dataset | None) -> StageFacts:
    """Train a stage, alone or together with other processes, from its checkpoint where it has one."""
    recipe, reporter, stage = session.recipe, session.reporter, planned.stage
    dataset = dataset if planned.own is None else planned.own
    assert dataset is not None  # a recipe without data has no steps
    from videopolicy.training.lightning_loop import train_stage  # Lightning takes seconds to import

    with MemoryMonitor() as memory:
        learner = _build(recipe, planned)
        load_sources(learner, planned)
        if stage.init_from is not None:
            load_weights(learner, stage.init_from)
        statistics = dataset.statistics()
        if planned.own is None or learns_numbers(recipe, stage):
            statistics = statistics_for(recipe, statistics)
        normalizer = Normalizer(recipe.normalization, statistics)
        windows = dataset.windows(learner.window)
        if len(windows) == 0:
            raise RecipeError(
                "The dataset holds no training windows.", "Collect or name episodes with at least one step."
            )
        ensure_sound_sample(windows, learner.window, dataset.spaces, _title(recipe, stage))
        features = 0.0
        if stage.cache_features:
            windows = _cached(session, planned, learner, normalizer, windows, dataset)
            features = windows.processor_seconds
        trained = train_stage(
            learner,
            normalizer,
            windows,
            stage,
            recipe.seed,
            planned.folder,
            reporter,
            recipe.tracking,
            measured=validation_windows(dataset, learner.window) if stage.validate_every else {},
        )
        if rank() > 0:
            return wait_for(lambda: planned.facts)
        save_weights(
            learner,
            planned.folder,
            recipe.part(stage.target).model_dump(mode="json"),
            recipe.normalization,
            statistics,
            trained.weights,
        )
    facts = _facts(planned, learner, trained.accelerator).model_copy(
        update={
            "seconds": trained.spent["seconds"],
            "processor_seconds": trained.spent["processor_seconds"] + features,
            "peak_memory_bytes": memory.peak_bytes,
            "final_losses": trained.final_losses,
            "precision": trained.precision,
            "remarks": trained.remarks,
        }
    )
    Store.finish(planned.folder, facts.model_dump(mode="json"))
    drop_checkpoint(planned.folder)
    losses = "".join(f", loss {name} {value:.3f}" for name, value in trained.final_losses.items())
    reporter.line(f"train {stage.name}: {stage.steps} steps in {duration(trained.spent['seconds'])}{losses}")
    return facts


def _build(recipe: Recipe, planned: PlannedStage) -> Learner:
    """The learner of a stage, for the cameras that it will see.

    Raises:
        RecipeError: It has other weights than for the benchmark's, where later stages need them.
    """
    target = planned.stage.target
    learner = build_learner(recipe, target, recipe.seed, spaces_of(recipe, planned.stage, planned.own))
    if planned.own is None:
        return learner
    with torch.device("meta"):
        usual = build_learner(recipe, target, recipe.seed)
    shapes = [{name: one.shape for name, one in each.state_dict().items()} for each in (learner, usual)]
    if shapes[0] != shapes[1]:
        both = planned.own.spaces, recipe.benchmark.spaces()
        cameras = [", ".join(one.name for one in each.cameras) for each in both]
        raise RecipeError(
            f"train.{planned.stage.name}.data: {target} has other weights for the cameras of these data ({cameras[0]}) "
            f"than for those of the benchmark ({cameras[1]}), so no later stage could go on with them.",
            "Train it on data with the benchmark's cameras.",
        )
    return learner


def _title(recipe: Recipe, stage: Stage) -> str:
    """What the data of a stage are called in messages."""
    if isinstance(stage.data, tuple):
        return f"the mixture of stage '{stage.name}'"
    return title(stage.data or recipe.required_data())


def _take(session: Session, planned: PlannedStage, dataset: Dataset | None) -> StageFacts:
    """Finish a stage without steps: its weights stay where they are, and must fit."""
    recipe, stage = session.recipe, planned.stage
    assert stage.init_from is not None  # a recipe without it is invalid
    with torch.device("meta"):
        learner = build_learner(recipe, stage.target, recipe.seed)
    check_weights(learner, stage.init_from)
    if (scaling := scaling_of(stage)) is not None:
        with written_whole(planned.folder / NORMALIZATION) as part:
            shutil.copyfile(scaling, part)
    elif dataset is not None:
        save_normalization(planned.folder, recipe.normalization, statistics_for(recipe, dataset.statistics()))
    facts = _facts(planned, learner)
    Store.finish(planned.folder, facts.model_dump(mode="json"))
    session.reporter.line(f"train {stage.name}: weights of {stage.init_from} as they are")
    return facts


def _facts(planned: PlannedStage, learner: Learner, accelerator: bool = False) -> StageFacts:
    here = machine()
    return StageFacts(
        name=planned.stage.name,
        target=planned.stage.target,
        key=planned.key,
        steps=planned.stage.steps,
        devices=planned.stage.devices,
        device=here.accelerator if accelerator else here.processor,
        accelerator=accelerator,
        parameters=sum(p.numel() for p in learner.parameters()),
        trainable_parameters=sum(p.numel() for p in learner.parameters() if p.requires_grad),
        seconds=0.0,
        peak_memory_bytes=0,
    )


def _cached(
    session: Session,
    planned: PlannedStage,
    learner: Learner,
    normalizer: Normalizer,
    windows: Windows,
    dataset: Dataset,
) -> CachedWindows:
    recipe, device = session.recipe, session.device
    if not (isinstance(learner, CachesFeatures) and learner.features_are_frozen):
        raise RecipeError(
            f"train.{planned.stage.name}.cache_features: '{planned.stage.target}' has no frozen features to compute.",
            "Set cache_features: false, or freeze the backbone.",
        )
    key = features_key(recipe, planned, dataset)
    folder = session.store.folder("features", key)
    learner.to(device).eval()
    with locked(folder, "these frozen features", session.reporter.line):
        session.store.note_uses(planned.folder, [folder])
        return cache_features(learner, normalizer.to(device), windows, recipe.seed, folder, device, session.reporter)
