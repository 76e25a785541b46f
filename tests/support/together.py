"""Processes that train together: started by hand, in a folder with a recipe, and what comes of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from children import Child, script
from safetensors.torch import load_file

VPOLICY = Path(sys.executable).with_name("vpolicy")
_OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def torchrun(rank: int, port: int) -> dict[str, str]:
    """What torchrun tells one of two processes."""
    return {
        "TORCHELASTIC_RUN_ID": "none",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


class Place:
    """A folder, and its artifacts.

    Args:
        folder: Where commands are given; Python files in it can be imported.
        home: ``VPOLICY_HOME``.
        files: What is written into the folder, by name.
    """

    def __init__(self, folder: Path, home: Path, **files: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.home = folder, home
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)

    def variables(self, **more: str) -> dict[str, str]:
        """The environment of a process."""
        own = {name: value for name, value in os.environ.items() if name not in _OF_LAUNCHERS}
        return own | {
            "OMP_NUM_THREADS": "1",
            "VPOLICY_HOME": str(self.home),
            "PYTHONPATH": str(self.folder),
            "CUDA_VISIBLE_DEVICES": "",
            **more,
        }

    def start(self, *command: str, **more: str) -> subprocess.Popen:
        """A new interpreter, which takes seconds to import everything."""
        with (self.folder / "output.txt").open("a") as output:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.variables(**more),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def fork(self, path: Path, *arguments: str, **more: str) -> Child:
        """A script in a process that has imported everything."""
        given = (str(path), *arguments)
        return Child(script, given, self.folder, self.variables(**more), self.folder / "output.txt")

    def both(self, path: Path, *arguments: str, **more: str) -> list[Child]:
        """The same twice, as torchrun starts it."""
        port = free_port()
        return [self.fork(path, *arguments, **torchrun(rank, port), **more) for rank in (0, 1)]

    def output(self) -> str:
        """What all processes have said."""
        return (self.folder / "output.txt").read_text()

    def stage(self, name: str) -> Path:
        """The folder of a finished stage, the last one of this name."""
        done = [(json.loads(path.read_text()), path) for path in self.home.glob("stages/*/done.json")]
        found = [path for facts, path in done if facts["name"] == name]
        return max(found, key=lambda path: path.stat().st_mtime).parent

    def weights(self, name: str) -> torch.Tensor:
        """All weights of a stage, one behind the other."""
        found = load_file(self.stage(name) / "weights.safetensors")
        return torch.cat([found[one].flatten() for one in sorted(found)])
