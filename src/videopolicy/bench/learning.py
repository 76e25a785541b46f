"""What a training step of a stage costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from videopolicy.bench.counting import count_parameters
from videopolicy.bench.settings import DTYPES, Settings
from videopolicy.bench.subject import build, unit_normalizer
from videopolicy.bench.timing import Timing, peak_memory, timed
from videopolicy.console.progress import Reporter
from videopolicy.contracts.extractor import CachesFeatures
from videopolicy.contracts.learner import Learner
from videopolicy.recipes.recipe import Recipe, Stage
from videopolicy.testing import toy_batch
from videopolicy.training.optimization import make_optimizer
from videopolicy.types import RowGenerator, with_features

_AUTOCAST = {"16-mixed": "float16", "bf16-mixed": "bfloat16", "bf16-true": "bfloat16"}


@dataclass(frozen=True)
class StageSize:
    """Parameters of a stage's learner.

    Args:
        stage: As the recipe has it.
        total, trainable: All of them, and those that the optimiser moves.
    """

    stage: Stage
    total: int
    trainable: int


def stage_sizes(recipe: Recipe) -> list[StageSize]:
    """Parameters of all stages, from shapes alone."""
    shapes = Settings(meta=True)
    found = []
    for stage in recipe.train:
        learner = build(recipe, stage.target, shapes)
        found.append(StageSize(stage, count_parameters(learner), sum(p.numel() for p in _trained(learner))))
    return found


def time_stage(recipe: Recipe, stage: Stage, settings: Settings, reporter: Reporter) -> tuple[Timing, int]:
    """Time forward, backward and optimiser step on random windows at the stage's batch size.

    Returns:
        The timing of one batch, and the peak memory in bytes.
    """
    learner = build(recipe, stage.target, settings)
    step = _step(recipe, stage, learner, settings)
    warmup, calls, seconds = settings.warmup, settings.calls, settings.seconds
    timing = timed(f"train {stage.name}", step, settings.torch_device, reporter, warmup, calls, seconds=seconds)
    return timing, peak_memory(step, settings.torch_device)


def _step(recipe: Recipe, stage: Stage, learner: Learner, settings: Settings) -> Callable[[], None]:
    """One optimiser step without data loading, as the stage's precision has it unless a dtype was asked for."""
    spaces, device = recipe.benchmark.spaces(), settings.torch_device
    normalizer = unit_normalizer(recipe, spaces).to(device)
    batch = toy_batch(spaces, learner.window, batch_size=stage.batch_size).to(device)
    if stage.cache_features and isinstance(learner, CachesFeatures):
        rows = RowGenerator.from_seeds(list(range(len(batch))))
        batch = with_features(batch, learner.eval().frozen_features(batch.observation, rows).half().float())
    if stage.precision == "bf16-true":
        learner.to(torch.bfloat16)
    chosen = _AUTOCAST.get(stage.precision, "tf32") if settings.dtype == "float32" else settings.dtype
    numbers = replace(settings, dtype=chosen)
    # A scale that overflows would skip the optimiser's part of the step.
    scaler = torch.amp.GradScaler(device.type, init_scale=1.0, enabled=DTYPES[chosen] == torch.float16)
    optimizer = make_optimizer(learner, stage.optimizer, fused=not scaler.is_enabled())
    learner.train()

    def step() -> None:
        with numbers.numbers():
            total = torch.stack(list(learner.loss(normalizer.batch(batch)).values())).sum()
        scaler.scale(total).backward()
        if stage.gradient_clip is not None:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(_trained(learner), stage.gradient_clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def _trained(learner: Learner) -> list[torch.nn.Parameter]:
    return [parameter for group in learner.parameter_groups() for parameter in group["params"]]
