"""What a run was made of: versions, machine, times. Written anew after every step, so that a killed run has it too."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import psutil

from videopolicy.components.registry import Registry
from videopolicy.storage.files import write_json

_PACKAGES = ("torch", "diffusers", "transformers", "lightning", "numpy", "pydantic", "h5py", "av")


class Provenance:
    """``provenance.json`` of a run folder.

    Args:
        folder: The run folder.
        name: Of the run.
        registry: The plugins that it may use.
    """

    def __init__(self, folder: Path, name: str, registry: Registry) -> None:
        self.path = folder / "provenance.json"
        try:
            self.facts: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            self.facts = {"started": _now(), "seconds": 0.0, "stages": [], "peak_memory_bytes": 0}
        self.facts.update(
            name=name,
            command=" ".join(["vpolicy", *sys.argv[1:]]),
            versions=_versions(registry),
            commit=_commit(),
            machine=machine(),
        )

    def update(self, **facts: Any) -> None:
        """Record facts and write the file."""
        self.facts.update(facts)
        write_json(self.path, self.facts)

    def add_stage(self, facts: dict[str, Any]) -> None:
        """Record a stage; one of the same name is replaced."""
        stages = [stage for stage in self.facts["stages"] if stage["name"] != facts["name"]]
        self.update(stages=[*stages, facts])

    def finish(self) -> None:
        self.update(finished=_now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions(registry: Registry) -> dict[str, str]:
    installed = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
    versions = {name: installed[name] for name in _PACKAGES if name in installed}
    for plugin in registry.plugins:
        name, _, version = plugin.distribution.partition(" ")
        versions[name if version else Path(plugin.name).name] = version or plugin.source_hash[:12]
    return versions


def _commit() -> str | None:
    here = Path(__file__).parent
    result = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or None if result.returncode == 0 else None


def machine() -> dict[str, Any]:
    """Processor, cores, memory, accelerator, Python and platform."""
    import torch

    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
