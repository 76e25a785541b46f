"""Finds run folders and reads of each what a comparison needs, many of them in little time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from videopolicy.compare.model import Cost
from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.errors import VpolicyError, listing
from videopolicy.results.records import EpisodeLog, EpisodeRecord

_SECTION = re.compile(r"^(?=[A-Za-z_]+:)", re.MULTILINE)
_OF_THE_RUN = ("name", "seed")
"""What may differ between runs of one method."""


@dataclass(frozen=True)
class MeasuredRun:
    """A run folder, read.

    Args:
        path: The folder.
        name: Of the run.
        seed: Of the run.
        method: Digest of its recipe without name and seed.
        sections: Text of the resolved recipe by top-level field.
        protocol: What ``identity.json`` says of the protocol; empty where it is missing.
        provenance: ``provenance.json``; empty where it is missing.
        records: Evaluation episodes.
        problems: One sentence for everything that could not be read.
    """

    path: Path
    name: str
    seed: int
    method: str
    sections: Mapping[str, str]
    protocol: Mapping[str, Any]
    provenance: Mapping[str, Any]
    records: Sequence[EpisodeRecord]
    problems: tuple[str, ...]

    @property
    def benchmark(self) -> str:
        """The ``type`` of the recipe's benchmark; empty where the recipe cannot be read."""
        found = _value(self.sections, "benchmark")
        return str(found.get("type", "")) if isinstance(found, dict) else ""

    def cost(self, policy: str) -> Cost:
        """What a policy of this run took to train and takes to act."""
        evaluation = self.provenance.get("evaluation") or {}
        chunk = (evaluation.get("seconds_per_chunk") or {}).get(policy) or {}
        rows = evaluation.get("batch_size") if chunk else None
        acting = Cost(chunk.get("median"), chunk.get("p95"), rows)
        stages = self.provenance.get("stages") or []
        if policy == "random" or not stages:
            return acting
        parameters = max((stage["parameters"] for stage in stages if stage.get("parameters")), default=None)
        if policy != "trained":
            return replace(acting, parameters=parameters)
        machine = self.provenance.get("machine") or {}
        last = stages[-1]
        return replace(
            acting,
            parameters=parameters,
            trained_steps=sum(stage.get("steps") or 0 for stage in stages),
            training_seconds=sum(stage.get("seconds") or 0.0 for stage in stages),
            processor_seconds=_total(stages, "processor_seconds"),
            device=str(last.get("device") or machine.get("processor") or ""),
            devices=max(stage.get("devices") or 1 for stage in stages) if last.get("accelerator") else 1,
            accelerator=bool(last.get("accelerator")),
        )


def _total(stages: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The sum over stages; None where one of them has not recorded it."""
    found = [stage.get(name) for stage in stages]
    return None if None in found else float(sum(value for value in found if value is not None))


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


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.yaml").is_file() or (folder / "episodes.jsonl").is_file()


def read_measured_run(path: Path) -> MeasuredRun:
    """Read one run folder; what is missing is empty, what is damaged is named."""
    problems: list[str] = []
    provenance = _json(path / "provenance.json", problems)
    protocol = _json(path / "identity.json", problems).get("protocol")
    try:
        text = (path / "recipe.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path / 'recipe.yaml'}: {error}")
        text = ""
    # A resolved recipe is written by us, one field after another: most of it need not be parsed.
    sections = {part.partition(":")[0]: part for part in _SECTION.split(text) if ":" in part}
    kept = "".join(part for name, part in sections.items() if name not in _OF_THE_RUN)
    contents = EpisodeLog(path / "episodes.jsonl").contents()
    return MeasuredRun(
        path,
        str(_value(sections, "name") or path.resolve().name),
        _seed(_value(sections, "seed")),
        hashlib.sha256((kept or str(path.resolve())).encode()).hexdigest(),
        sections,
        protocol if isinstance(protocol, dict) else {},
        provenance,
        contents.records,
        (*problems, *contents.problems),
    )


def _seed(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path}: {error}")
        return {}
    return found if isinstance(found, dict) else {}


_parsed: dict[str, Any] = {}


def _value(sections: Mapping[str, str], name: str) -> Any:
    """A top-level field of a recipe; None where it is missing or no YAML. Equal texts are parsed once."""
    text = sections.get(name, "")
    if text not in _parsed:
        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError:
            found = None
        _parsed[text] = found
    found = _parsed[text]
    return found.get(name) if isinstance(found, dict) else None


def benchmark_component(run: MeasuredRun) -> tuple[BenchmarkComponent | None, str]:
    """The benchmark as a run's recipe configures it, or None and why it cannot be had here."""
    from pydantic import ValidationError

    from videopolicy.components.plugins import file_plugin
    from videopolicy.components.registry import current_registry

    section = _value(run.sections, "benchmark")
    files = _value(run.sections, "plugins") or []
    try:
        registry = current_registry().extended([file_plugin(Path(file)) for file in files])
        component = registry.get("benchmark", run.benchmark)
        return component.model_validate(section, context={"registry": registry}), ""  # type: ignore[return-value]
    except VpolicyError as error:
        return None, error.message
    except ValidationError as error:
        return None, f"{error.error_count()} of its options are unknown here"
