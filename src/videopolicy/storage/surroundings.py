"""Where a run happens: the machine, the versions of packages and plugins, the commit of a source tree."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from videopolicy.components.registry import Registry
from videopolicy.storage.provenance import Machine

_PACKAGES = ("torch", "diffusers", "transformers", "lightning", "numpy", "pydantic", "h5py", "av")
_GIT_SECONDS = 30.0


def versions(registry: Registry) -> dict[str, str]:
    """Versions of the packages that decide results, and of all plugins; of a single file a part of its hash."""
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    for plugin in registry.plugins:
        name, _, number = plugin.distribution.partition(" ")
        found[name if number else Path(plugin.name).name] = number or plugin.source_hash[:12]
    return found


def commit() -> str | None:
    """Of the checkout that this package is in; None where it is in none, or git cannot say."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    try:
        result = subprocess.run(command, capture_output=True, check=False, timeout=_GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):  # no git here, none that may be run, or one that waits for a disk
        return None
    return result.stdout.decode(errors="replace").strip() or None if result.returncode == 0 else None


@lru_cache(maxsize=1)
def machine() -> Machine:
    """Processor, cores, memory, accelerator, Python and platform; looked up once a process."""
    import torch

    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
            if "model name" in line
        ]
        processor = models[0] if models else processor
    return Machine(
        processor=processor,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        memory_bytes=psutil.virtual_memory().total,
        accelerator=torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        python=platform.python_version(),
        platform=platform.platform(),
    )
