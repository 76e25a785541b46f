"""Reads a run folder, finished or not: what is missing is left out, what is damaged is named."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.errors import VpolicyError, listing
from videopolicy.results.records import EpisodeLog, EpisodeRecord, PolicySummary, summarise

Curves = dict[str, dict[str, list[tuple[int, float]]]]
"""Per stage and metric rows of step and value, ascending."""


@dataclass(frozen=True)
class RunFolder:
    """Everything that could be read.

    Args:
        path: The folder.
        recipe: The resolved recipe as plain data; empty when it cannot be read.
        recipe_text: The same as written.
        provenance: Machine, versions, stages, times; any part may be missing.
        curves: Training curves.
        records: Evaluation episodes.
        summaries: Per policy.
        benchmark: The recipe's benchmark, or None where its plugin is not installed here.
        problems: One sentence for everything that could not be read.
    """

    path: Path
    recipe: dict[str, Any]
    recipe_text: str
    provenance: dict[str, Any]
    curves: Curves
    records: list[EpisodeRecord]
    summaries: dict[str, PolicySummary]
    benchmark: BenchmarkComponent | None
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.provenance.get("name") or self.recipe.get("name") or self.path.resolve().name)

    @property
    def stage_names(self) -> list[str]:
        """Stages of the recipe, then any other that has curves or was recorded."""
        recipe = [stage.get("name", "") for stage in self.recipe.get("train") or []]
        recorded = [stage.get("name", "") for stage in self.provenance.get("stages") or []]
        return [name for name in dict.fromkeys([*recipe, *recorded, *self.curves]) if name]

    def stage(self, name: str) -> dict[str, Any]:
        """What was recorded about a finished stage; empty for an unfinished one."""
        return next((s for s in self.provenance.get("stages") or [] if s.get("name") == name), {})

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


def read_run(path: Path, benchmark: BenchmarkComponent | None = None) -> RunFolder:
    """Read a run folder.

    Args:
        path: The folder.
        benchmark: The recipe's benchmark; by default the resolved recipe is asked for it.

    Raises:
        VpolicyError: The folder is not a run folder.
    """
    _refuse_other_folders(path)
    problems: list[str] = []
    recipe_text = _text(path / "recipe.yaml", problems)
    if benchmark is None and recipe_text:
        benchmark = _benchmark(path / "recipe.yaml", problems)
    contents = EpisodeLog(path / "episodes.jsonl").contents()
    problems += contents.problems
    return RunFolder(
        path,
        _mapping(path / "recipe.yaml", recipe_text, problems),
        recipe_text,
        _mapping(path / "provenance.json", _text(path / "provenance.json", problems), problems),
        _curves(path / "train.csv", problems),
        contents.records,
        summarise(contents.records, benchmark),
        benchmark,
        problems,
    )


def _refuse_other_folders(path: Path) -> None:
    if any((path / name).exists() for name in ("recipe.yaml", "episodes.jsonl", "provenance.json")):
        return
    parent = path.parent if path.parent.is_dir() else Path("runs")
    near = [str(folder.parent) for folder in parent.glob("*/recipe.yaml")]
    raise VpolicyError(
        f"{path} is not a run folder: it has no recipe.yaml." if path.exists() else f"There is no run folder {path}.",
        f"Runs here: {listing(near)}." if near else "Make one with `vpolicy run RECIPE`.",
    )


def _text(path: Path, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: {error}")
        return ""


def _mapping(path: Path, text: str, problems: list[str]) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        problems.append(f"{path}: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _benchmark(path: Path, problems: list[str]) -> BenchmarkComponent | None:
    from videopolicy.recipes.recipe import load_recipe

    try:
        return load_recipe(path).benchmark
    except VpolicyError as error:
        problems.append(f"The recipe cannot be used here, so tiers and published numbers are left out: {error.message}")
        return None


def _curves(path: Path, problems: list[str]) -> Curves:
    """Read ``stage,step,name,value,seconds``; of a step that a resumed stage repeated, the last row counts."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                try:
                    step, value = int(row["step"]), float(row["value"])
                    stage, name = row["stage"], row["name"].removeprefix("loss/")
                except (KeyError, TypeError, ValueError, AttributeError):
                    problems.append(f"{path}:{number}: not a row of stage,step,name,value,seconds, skipped")
                    continue
                if math.isfinite(value):
                    found.setdefault(stage, {}).setdefault(name, {})[step] = value
    except FileNotFoundError:
        return {}
    return {stage: {name: sorted(rows.items()) for name, rows in metrics.items()} for stage, metrics in found.items()}
