"""Measures a recipe's policy, one figure after the other."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import torch

from videopolicy.bench.accuracy import ErrorMeter
from videopolicy.bench.acting import compiled_policy, latency_of, measured_acting, timed_plans
from videopolicy.bench.counting import operations, parameters_by_part
from videopolicy.bench.learning import stage_sizes, time_stage
from videopolicy.bench.results import BenchResult, StageFacts, SweepResult, SweepRow
from videopolicy.bench.settings import Settings
from videopolicy.bench.subject import Subject, Trained, trained_stages
from videopolicy.console.progress import Reporter
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.storage.store import Store
from videopolicy.storage.surroundings import machine


def bench(
    recipe: Recipe, settings: Settings, reporter: Reporter, run: Path | None = None, store: Store | None = None
) -> BenchResult:
    """Measure everything about one recipe.

    Args:
        recipe: The recipe.
        settings: What to measure, and where.
        reporter: Shows progress.
        run: A finished run whose weights are used; None takes what the recipe's own stages have left in the store,
            and random weights where they have not finished.
        store: Where those lie.
    """
    with settings.applied():
        trained = None if settings.meta else trained_stages(recipe, run, store or Store(), reporter)
        subject = Subject(recipe, settings, trained)
        facts: dict[str, Any] = {
            "recipe": recipe.name,
            "weights": trained.origin if trained else "random",
            "device": str(settings.torch_device),
            "dtype": settings.dtype,
            "threads": torch.get_num_threads(),
            "machine": machine().model_dump(),
            "torch": torch.__version__,
            "horizon": subject.policy.window.horizon,
            "executed": recipe.eval.execute,
            "control_rate": subject.spaces.actions.rate,
            "parameters": parameters_by_part(subject.policy),
            "operations": operations(subject),
        }
        if not settings.meta:
            facts |= measured_acting(subject, reporter)
        del subject
        facts["stages"] = _stages(recipe, settings, reporter)
    return BenchResult(**facts)


def _stages(recipe: Recipe, settings: Settings, reporter: Reporter) -> list[StageFacts]:
    found = []
    for sizes in stage_sizes(recipe):
        stage = sizes.stage
        facts: dict[str, Any] = {}
        if settings.training and not settings.meta:
            gc.collect()  # the policy, or the learner before: the next one may need its room
            timing, memory = time_stage(recipe, stage, settings, reporter)
            facts = {
                "step_seconds": timing.median,
                "step_seconds_p95": timing.p95,
                "samples_per_second": stage.batch_size / timing.median,
                "peak_memory_bytes": memory,
                "timed_steps": len(timing.seconds),
            }
        found.append(
            StageFacts(
                stage.name,
                stage.target,
                stage.batch_size,
                stage.precision,
                stage.cache_features,
                sizes.total,
                sizes.trainable,
                **facts,
            )
        )
    return found


def sweep(
    path: Path,
    overrides: list[str],
    field: str,
    values: list[Any],
    settings: Settings,
    reporter: Reporter,
    run: Path | None = None,
    store: Store | None = None,
) -> SweepResult:
    """Vary one field of a recipe: latency, operations, and action error where there are trained weights and data.

    The weights are those of the recipe as it stands; the field must not change their shapes.

    Args:
        path, overrides: The recipe.
        field: Path of the field, such as ``policy.decoder.steps``.
        values: What it becomes in turn.
        settings, reporter, run, store: As in `bench`.

    Raises:
        RecipeError: There is no such field, or a value does not fit it.
    """
    base = load_recipe(path, overrides)
    # All of them are checked before the first is measured.
    varied = [load_recipe(path, [*overrides, f"{field}={_written(value)}"]) for value in values]
    with settings.applied():
        trained: Trained | None = None if settings.meta else trained_stages(base, run, store or Store(), reporter)
        meter = ErrorMeter.of(base, trained)
        rows = []
        for recipe, value in zip(varied, values, strict=True):
            subject = Subject(recipe, settings, trained)
            name = f"{field.rpartition('.')[2]} {_written(value)}"
            count = sum(operations(subject).values())
            if settings.compile and not settings.meta:
                compiled_policy(subject, reporter)
            latency = None if settings.meta else latency_of(timed_plans(subject, name, 1, reporter))
            rows.append(SweepRow(value, latency, count, meter.error(subject, reporter) if meter else None))
            del subject
            gc.collect()
    return SweepResult(
        base.name,
        trained.origin if trained else "random",
        str(settings.torch_device),
        settings.dtype,
        machine().model_dump(),
        field,
        meter.description if meter else "",
        rows,
    )


def _written(value: Any) -> str:
    """A value as YAML on one line."""
    return json.dumps(value)
