"""What identifies a result: a digest of everything that determines its content, the code included."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import videopolicy
from videopolicy.components.kinds import BenchmarkComponent, Component, WhenActing
from videopolicy.components.registry import Registry
from videopolicy.components.sources import code_hash, distribution_of, version_of, with_neighbours
from videopolicy.contracts.benchmark import WorkerSpec
from videopolicy.errors import SimulationError

CORE = Path(videopolicy.__file__).parent
TRAINING = (
    "components.clip_files",
    "components.modular",
    "components.modular_policy",
    "components.text",
    "components.text_encoders",
    "contracts.backbone",
    "contracts.dataset",
    "contracts.decoder",
    "contracts.extractor",
    "contracts.learner",
    "contracts.policy",
    "contracts.text",
    "parts.latents",
    "parts.levels",
    "parts.masks",
    "parts.narrowing",
    "parts.windows",
    "seeds",
    "spaces",
    "training.averaging",
    "training.checkpoints",
    "training.distributed",
    "training.features",
    "training.lightning_loop",
    "training.loading",
    "training.mixture",
    "training.normalization",
    "training.optimization",
    "training.processes",
    "training.saving",
    "training.sharding",
    "training.stages",
    "types",
    "views",
    "weights",
)
"""Modules of the core that decide what a stage computes. A test compares them with what training imports."""
ACTING = ("evaluation.acting", "evaluation.rollout", "evaluation.subtasks")
"""Further modules of the core that decide how an episode ends."""
COLLECTION = ("contracts.benchmark", "contracts.dataset", "data.collection", "spaces")
"""Modules of the core that decide which demonstrations are collected."""


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that identify plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(component: Component, registry: Registry, training: bool = False) -> dict[str, Any]:
    """What a component computes is determined by: its options, and the code of the plugins behind it.

    Args:
        component: The component.
        registry: Says which plugins its parts are from.
        training: Leave out the options that matter only when acting: what training ends with does not depend on them.
    """
    sources: set[str] = set()
    known = {entry.component: entry.plugin for entry in registry.entries()}
    queue: list[Component] = [component]
    while queue:
        part = queue.pop()
        plugin = known.get(type(part))
        sources.add(plugin.code if plugin else type(part).__qualname__)
        queue += part.parts().values()
    options = component.model_dump(mode="json", exclude=_when_acting(component) if training else None)
    return {"options": options, "sources": sorted(sources)}


def code_behind(components: Iterable[Component], registry: Registry) -> str:
    """Identifies the code that a recipe runs through, simulator included; reads the sources that were not read before.

    Asked for before anything takes long, it makes later edits those of the next run.

    Args:
        components: All components of the recipe.
        registry: Says which plugins they are from.
    """
    parts = [*components]
    sources = sorted({source for part in parts for source in identity(part, registry)["sources"]})
    simulators = [simulator_identity(spec) for part in parts if (spec := _simulator(part)) is not None]
    return digest([sources, simulators, core_code(TRAINING), core_code(ACTING)])


@lru_cache
def core_code(modules: tuple[str, ...]) -> str:
    """Says which code some modules of the core are: its version where it was installed, a hash where it can be edited.

    Args:
        modules: Their names in the core, such as `TRAINING`.
    """
    if version := version_of(videopolicy, distribution_of("videopolicy")):
        return version
    return code_hash({name: CORE.joinpath(*name.split(".")).with_suffix(".py") for name in modules})


def simulator_identity(spec: WorkerSpec) -> dict[str, Any]:
    """What a simulator does is determined by: its code, and the packages in its environment.

    The physics engine is one of the packages. Where the interpreter is the user's own, what it holds is theirs to know.

    Args:
        spec: How it is started; its options and its limits of time are not looked at.
    """
    lines = spec.requirements.read_text(encoding="utf-8").splitlines() if spec.requirements else []
    packages = [text for line in lines if (text := line.partition("#")[0].strip())]
    return {
        "simulator_code": code_hash(with_neighbours(spec.module)),
        "simulator_environment": digest([packages, spec.python]),
    }


def collected_by(benchmark: BenchmarkComponent) -> dict[str, Any]:
    """What a benchmark's demonstrations are determined by, besides what is asked for and the worker's code."""
    spec = _simulator(benchmark)
    return {
        "options": benchmark.model_dump(mode="json"),
        "tasks": [task.model_dump(mode="json") for task in benchmark.tasks()],
        "spaces": benchmark.spaces().model_dump(mode="json"),
        "simulator": [spec.simulator, spec.config, spec.variables, simulator_identity(spec)] if spec else [],
        "core": core_code(COLLECTION),
    }


def protocol_of(benchmark: BenchmarkComponent) -> dict[str, Any]:
    """What must be equal for two results to be comparable: what a benchmark declares, and its simulator.

    The simulator itself says the rest when it runs: `videopolicy.storage.provenance.SimulatorFacts`.
    """
    spec = _simulator(benchmark)
    return {**benchmark.protocol(), **(simulator_identity(spec) if spec else {})}


def _simulator(component: Component) -> WorkerSpec | None:
    """How a benchmark's simulator is started; None for one that can be trained for and not evaluated."""
    try:
        return component.launch() if isinstance(component, BenchmarkComponent) else None
    except SimulationError:
        return None


def _when_acting(model: BaseModel) -> dict[str, Any]:
    """The fields marked `WhenActing`, of nested models too, as pydantic's ``exclude`` takes them."""
    found: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if any(isinstance(mark, WhenActing) for mark in field.metadata):
            found[name] = True
        elif isinstance(value, BaseModel) and (inside := _when_acting(value)):
            found[name] = inside
    return found
