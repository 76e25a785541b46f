"""Reads a run folder, finished or not: what is missing is left out, what is damaged is named."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.errors import StorageError, VpolicyError
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord, PolicySummary, summarise
from videopolicy.paths import kind_of
from videopolicy.storage.integrity import read_mapping
from videopolicy.storage.provenance import Provenance, RunIdentity, StageFacts
from videopolicy.storage.run_folder import RunFolder, parse_recipe

Found = TypeVar("Found")
Curves = dict[str, dict[str, list[tuple[int, float]]]]
"""Per stage and metric rows of step and value, ascending."""
_LARGEST_STEP = 2**53
"""From here on a drawing cannot tell one step from the next."""


@dataclass(frozen=True)
class RunContents:
    """Everything that could be read.

    Args:
        folder: The folder.
        recipe: The resolved recipe as plain data; empty when it cannot be read.
        recipe_text: The same as written.
        provenance: Machine, versions, stages, times; None where it is missing or damaged.
        curves: Training curves.
        records: Evaluation episodes.
        summaries: Per policy.
        benchmark: The recipe's benchmark, or None where its plugin is not installed here.
        identity: What the episodes were recorded under; None where it is missing or damaged.
        problems: One sentence for everything that could not be read.
    """

    folder: RunFolder
    recipe: dict[str, Any]
    recipe_text: str
    provenance: Provenance | None
    curves: Curves
    records: list[EpisodeRecord]
    summaries: dict[str, PolicySummary]
    benchmark: BenchmarkComponent | None
    identity: RunIdentity | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def protocol(self) -> dict[str, Any]:
        """Recorded with the episodes, versions of the simulator included; before the first one, the recipe's."""
        recorded = self.identity.whole_protocol if self.identity else {}
        return recorded or (self.benchmark.protocol() if self.benchmark else {})

    @property
    def name(self) -> str:
        recorded = self.provenance.name if self.provenance else ""
        return str(recorded or self.recipe.get("name") or self.folder.path.resolve().name)

    @property
    def stage_names(self) -> list[str]:
        """Stages of the recipe, then any other that has curves or was recorded."""
        recipe = [stage.get("name", "") for stage in self.recipe.get("train") or []]
        recorded = [stage.name for stage in self.provenance.stages] if self.provenance else []
        return [name for name in dict.fromkeys([*recipe, *recorded, *self.curves]) if name]

    def stage(self, name: str) -> StageFacts | None:
        """What was recorded about a finished stage; None for an unfinished one."""
        return self.provenance.stage(name) if self.provenance else None

    def missing(self) -> list[str]:
        """What the recipe asks for and the folder does not have yet, one sentence each."""
        found = [f"stage '{name}' has not finished" for name in self.stage_names if not self.stage(name)]
        settings = self.recipe.get("eval") or {}
        per_task = settings.get("episodes")
        if per_task:
            tasks = [task.name for task in self.benchmark.tasks()] if self.benchmark else []
            for policy in ("trained", *(settings.get("baselines") or ())):
                seen = [record for record in self.records if record.policy == policy]
                expected = per_task * (len(tasks) or len({record.task for record in seen}))
                if not seen:
                    found.append(f"policy '{policy}' has not been evaluated")
                elif len(seen) < expected:
                    found.append(f"policy '{policy}' has run {len(seen)} of {expected} episodes")
        return found


def read_run(path: Path, benchmark: BenchmarkComponent | None = None, trust: bool = False) -> RunContents:
    """Read a run folder.

    Args:
        path: The folder.
        benchmark: The recipe's benchmark; by default the resolved recipe is asked for it.
        trust: Whether the Python files that it names may be run for that.

    Raises:
        StorageError: The folder is not a run folder.
    """
    folder = RunFolder(path)
    folder.ensure_exists()
    problems: list[str] = []
    text = readable(folder.recipe_text, problems) or ""
    recipe = _sections(readable(lambda: parse_recipe(text, folder.recipe_file), problems) or {}, folder, problems)
    if benchmark is None and recipe:
        benchmark = _benchmark(recipe, folder.recipe_file, trust, problems)
    contents = EpisodeLog(folder.episodes_file).contents()
    problems += contents.problems
    for file in (folder.quality_file, folder.videos / "videos.json", folder.videos / "predictions.json"):
        readable(partial(read_mapping, file), problems)
    return RunContents(
        folder,
        recipe,
        text,
        readable(folder.provenance, problems),
        _curves(folder.curves_file, problems),
        contents.records,
        summarise(contents.records, benchmark),
        benchmark,
        readable(folder.identity, problems),
        problems,
    )


def _sections(recipe: dict[str, Any], folder: RunFolder, problems: list[str]) -> dict[str, Any]:
    """The recipe without the sections that are no sections, which one more problem reports."""
    train, evaluation = recipe.get("train") or [], recipe.get("eval") or {}
    fits = {
        "train": isinstance(train, list)
        and all(isinstance(stage, dict) and isinstance(stage.get("name"), str) for stage in train),
        "eval": isinstance(evaluation, dict)
        and isinstance(evaluation.get("episodes") or 0, int)
        and isinstance(evaluation.get("baselines") or [], list),
    }
    wrong = [name for name, fitting in fits.items() if not fitting]
    problems += [f"{folder.recipe_file}: `{name}` is not what a recipe has there" for name in wrong]
    return {name: value for name, value in recipe.items() if name not in wrong}


def readable(read: Callable[[], Found], problems: list[str]) -> Found | None:
    """What a reader of `RunFolder` gives; None, and one more problem, where its file is damaged."""
    try:
        return read()
    except StorageError as error:
        problems.append(error.message)
        return None


def _benchmark(recipe: dict[str, Any], path: Path, trust: bool, problems: list[str]) -> BenchmarkComponent | None:
    from videopolicy.recipes.trust import recorded_benchmark

    try:
        return recorded_benchmark(recipe, path, trust)
    except VpolicyError as error:
        reason = f"{error.message} {error.hint}".strip()
        problems.append(f"The recipe cannot be used here, so tiers and published numbers are left out: {reason}")
        return None


def _curves(path: Path, problems: list[str]) -> Curves:
    """Read ``stage,step,name,value,seconds``; of a step that a resumed stage repeated, the last row counts."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    if kind := kind_of(path):
        problems.append(f"{path} is {kind}, not a file: there are no curves")
        return {}
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                try:
                    step, value = int(row["step"]), float(row["value"])
                    stage, name = row["stage"], row["name"].removeprefix("loss/")
                except (KeyError, TypeError, ValueError, AttributeError):
                    problems.append(f"{path}:{number}: not a row of stage,step,name,value,seconds, skipped")
                    continue
                if math.isfinite(value) and 0 <= step < _LARGEST_STEP:
                    found.setdefault(stage, {}).setdefault(name, {})[step] = value
    except FileNotFoundError:
        return {}
    except csv.Error as error:
        problems.append(f"{path}: {error}; what follows is left out")
    return {stage: {name: sorted(rows.items()) for name, rows in metrics.items()} for stage, metrics in found.items()}
