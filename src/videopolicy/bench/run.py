"""Measures a recipe's policy, one figure after the other."""

from __future__ import annotations

import gc
import json
import time
from pathlib import Path
from typing import Any

import torch

from videopolicy.bench.accuracy import ErrorMeter
from videopolicy.bench.compiling import compile_modules
from videopolicy.bench.counting import operations, parameters_by_part
from videopolicy.bench.learning import stage_sizes, time_stage
from videopolicy.bench.parts import PARTS, TEXT, Account, split
from videopolicy.bench.results import (
    BenchResult,
    Compiled,
    Latency,
    Split,
    StageFacts,
    SweepResult,
    SweepRow,
    Throughput,
)
from videopolicy.bench.settings import DTYPES, Settings
from videopolicy.bench.subject import Subject, Trained, UnfoldingEpisode, trained_stages
from videopolicy.bench.timing import Timing, peak_memory, peak_rate, synchronize, timed
from videopolicy.console.progress import Reporter
from videopolicy.errors import VpolicyError
from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.storage.store import Store
from videopolicy.storage.surroundings import machine
from videopolicy.types import RowGenerator

SPLIT_CALLS = 10
"""Calls with a synchronised clock at every part, at most; fewer where they are slow."""


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
            facts |= _acting(subject, reporter)
        del subject
        facts["stages"] = _stages(recipe, settings, reporter)
    return BenchResult(**facts)


def _acting(subject: Subject, reporter: Reporter) -> dict[str, Any]:
    """Times and memory of choosing actions."""
    count = sum(operations(subject, plan=1).values())
    settings, device = subject.settings, subject.settings.torch_device
    compiled = _compile(subject, reporter) if settings.compile else None
    one = _latency(_timed(subject, "latency", 1, reporter))
    found: dict[str, Any] = {"compiled": compiled, "latency": one}
    found["split"] = _split(subject, min(SPLIT_CALLS, one.calls), reporter)
    found["throughput"] = [_throughput(subject, size, reporter) for size in settings.batch_sizes]
    peak = peak_rate(device, DTYPES[settings.dtype])
    return {**found, "device_peak": peak, "share_of_peak": count / one.median / peak}


def _timed(subject: Subject, name: str, rows: int, reporter: Reporter) -> Timing:
    settings, episode = subject.settings, UnfoldingEpisode(subject, rows)
    return timed(
        name, episode.act, settings.torch_device, reporter, settings.warmup, settings.calls, before=episode.unfold
    )


def _latency(timing: Timing) -> Latency:
    return Latency(
        timing.median,
        timing.p95,
        min(timing.seconds),
        len(timing.seconds),
        (timing.warmup_seconds or timing.seconds)[0],
        len(timing.warmup_seconds),
        timing.seconds,
    )


def _compile(subject: Subject, reporter: Reporter) -> Compiled:
    observation = subject.observation(1)
    before = _actions(subject)
    modules = compile_modules(subject.policy, lambda: subject.act(observation))
    try:
        first = timed("compile", lambda: subject.act(observation), subject.settings.torch_device, reporter, 0, 1)
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise VpolicyError(
            f"torch.compile cannot compile this policy: {reason}",
            "Leave --compile out; on a processor it needs a C++ compiler such as g++.",
        ) from error
    return Compiled(modules, first.seconds[0], float((_actions(subject) - before).abs().max()))


@torch.inference_mode()
def _actions(subject: Subject) -> torch.Tensor:
    """Normalised actions for one fixed observation and fixed noise."""
    subject.policy.reset([0])
    with subject.settings.numbers():
        seen = subject.normalizer.observation(subject.observation(1).to(subject.settings.torch_device))
        return subject.policy.act(seen, RowGenerator.from_seeds([0])).float().cpu()


def _split(subject: Subject, calls: int, reporter: Reporter) -> Split:
    def clock() -> float:
        synchronize(subject.settings.torch_device)
        return time.perf_counter()

    account, new = Account(clock), Account(clock)
    episode, other = UnfoldingEpisode(subject), subject.observation(1)
    other.instructions = ["a sentence that has never been seen before"]
    with reporter.activity("split by part", calls + 1) as progress:
        with split(subject.policy, new):
            subject.act(other)
        progress.advance()
        with split(subject.policy, account):
            for _ in range(calls):
                episode.unfold()
                episode.act()
                progress.advance()
    seconds = {part: account.spent[part] / calls for part in PARTS if part in account.spent}
    return Split(seconds, sum(seconds.values()), new.spent.get(TEXT, 0.0), calls)


def _throughput(subject: Subject, size: int, reporter: Reporter) -> Throughput:
    try:
        median = _timed(subject, f"batch of {size}", size, reporter).median
        episode = UnfoldingEpisode(subject, size)
        episode.unfold()
        memory = peak_memory(episode.act, subject.settings.torch_device)
    except torch.OutOfMemoryError:
        return Throughput(size, None, None, None)
    return Throughput(size, median, size / median, memory)


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
                _compile(subject, reporter)
            latency = None if settings.meta else _latency(_timed(subject, name, 1, reporter))
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
