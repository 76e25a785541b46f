"""Finds run folders and reads of each what a comparison needs, many of them in little time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videopolicy.compare.model import Cost
from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.errors import VpolicyError, listing
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord
from videopolicy.report.contents import readable
from videopolicy.storage.identity import digest
from videopolicy.storage.provenance import Provenance
from videopolicy.storage.run_folder import RunFolder, parse_recipe

_OF_THE_RUN = ("name", "seed", "tracking")
"""What may differ between runs of one method, besides the settings below."""
_OF_THE_MACHINE = {"eval": ("workers",), "train": ("data_workers", "validate_every")}
"""What only costs time."""


@dataclass(frozen=True)
class MeasuredRun:
    """A run folder, read.

    Args:
        path: The folder.
        name: Of the run.
        seed: Of the run.
        method: Digest of its recipe without what may differ between runs of one method.
        recipe: The resolved recipe as plain data; empty where it cannot be read.
        protocol: What ``identity.json`` says of the protocol; empty where it is missing.
        provenance: What was recorded; None where it is missing.
        records: Evaluation episodes.
        problems: One sentence for everything that could not be read.
    """

    path: Path
    name: str
    seed: int
    method: str
    recipe: Mapping[str, Any]
    protocol: Mapping[str, Any]
    provenance: Provenance | None
    records: Sequence[EpisodeRecord]
    problems: tuple[str, ...]

    @property
    def benchmark(self) -> str:
        """The ``type`` of the recipe's benchmark; empty where the recipe cannot be read."""
        found = self.recipe.get("benchmark")
        return str(found.get("type", "")) if isinstance(found, dict) else ""

    def cost(self, policy: str) -> Cost:
        """What a policy of this run took to train and takes to act."""
        if self.provenance is None:
            return Cost()
        evaluation, stages = self.provenance.evaluation, self.provenance.stages
        chunk = evaluation.seconds_per_chunk.get(policy) if evaluation else None
        acting = Cost(chunk.median, chunk.p95, evaluation.batch_size) if evaluation and chunk else Cost()
        if policy == "random" or not stages:
            return acting
        parameters = max((stage.parameters for stage in stages if stage.parameters), default=None)
        if policy != "trained":
            return replace(acting, parameters=parameters)
        last = stages[-1]
        processor = [stage.processor_seconds for stage in stages]
        return replace(
            acting,
            parameters=parameters,
            trained_steps=sum(stage.steps for stage in stages),
            training_seconds=sum(stage.seconds or 0.0 for stage in stages),
            processor_seconds=None if None in processor else sum(seconds or 0.0 for seconds in processor),
            device=last.device or self.provenance.machine.processor,
            devices=max(stage.devices for stage in stages) if last.accelerator else 1,
            accelerator=last.accelerator,
        )


def find_runs(folders: Iterable[Path]) -> list[MeasuredRun]:
    """Read every run folder among or directly inside some folders, each once, by name.

    Raises:
        VpolicyError: One of the folders does not exist.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            near = [str(run) for run in sorted(folder.parent.glob("*/")) if _is_run(run)]
            raise VpolicyError(
                f"There is no folder {folder}.",
                f"Runs there: {listing(near)}." if near else "Make a run with `vpolicy run RECIPE`.",
            )
        inside = [folder] if _is_run(folder) else [child for child in sorted(folder.iterdir()) if _is_run(child)]
        for run in inside:
            found.setdefault(run.resolve(), run)
    return sorted((read_measured_run(run) for run in found.values()), key=lambda run: (run.name, str(run.path)))


def _is_run(path: Path) -> bool:
    folder = RunFolder(path)
    return folder.recipe_file.is_file() or folder.episodes_file.is_file()


def read_measured_run(path: Path) -> MeasuredRun:
    """Read one run folder; what is missing is empty, what is damaged is named."""
    problems: list[str] = []
    folder = RunFolder(path)
    identity = readable(folder.identity, problems)
    recipe = readable(lambda: _recipe(folder), problems) or {}
    contents = EpisodeLog(folder.episodes_file).contents()
    seed = recipe.get("seed")
    return MeasuredRun(
        path,
        str(recipe.get("name") or path.resolve().name),
        seed if isinstance(seed, int) else 0,
        digest(_method(recipe)) if recipe else digest(str(path.resolve())),
        recipe,
        identity.whole_protocol if identity else {},
        readable(folder.provenance, problems),
        contents.records,
        (*problems, *contents.problems),
    )


_parsed: dict[str, dict[str, Any]] = {}


def _recipe(folder: RunFolder) -> dict[str, Any]:
    """The resolved recipe; the many runs of an ablation have few texts, of which each is parsed once."""
    text = folder.recipe_text()
    if text not in _parsed:
        _parsed[text] = parse_recipe(text, folder.recipe_file)
    return _parsed[text]


def _method(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What of a recipe makes the method."""
    method = {name: value for name, value in recipe.items() if name not in _OF_THE_RUN}
    for section, names in _OF_THE_MACHINE.items():
        if section in method:
            method[section] = _without(method[section], names)
    return method


def _without(section: Any, names: Sequence[str]) -> Any:
    if isinstance(section, list):
        return [_without(one, names) for one in section]
    return {k: v for k, v in section.items() if k not in names} if isinstance(section, dict) else section


def benchmark_component(run: MeasuredRun, trust: bool) -> tuple[BenchmarkComponent | None, str]:
    """The benchmark as a run's recipe configures it, or None and why it cannot be had here."""
    from videopolicy.recipes.trust import recorded_benchmark

    try:
        return recorded_benchmark(run.recipe, RunFolder(run.path).recipe_file, trust), ""
    except VpolicyError as error:
        return None, f"{error.message} {error.hint}".strip()
