"""Demonstrations of the toy benchmark that others are made of: copies to damage, and a kill in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import h5py
from children import Child


def digests(folder: Path) -> dict[str, list[str]]:
    """Of all that every episode of a dataset holds, pictures, states and facts included."""
    return json.loads((folder / "dataset.json").read_text())["digests"]


def slowly(command: Callable[[Path], object], home: Path) -> None:
    """A command, with time for a kill behind every attempt."""
    import vpolicy_hdf5.writer

    add = vpolicy_hdf5.writer.HDF5Writer.add

    def wait(self: vpolicy_hdf5.writer.HDF5Writer, episode: object) -> None:
        add(self, episode)
        time.sleep(0.3)

    vpolicy_hdf5.writer.HDF5Writer.add = wait
    command(home)


def kill_behind_three(command: Callable[[Path], object], home: Path, here: Path) -> Path:
    """Kill a command that writes into the folder ``killed`` when three of its attempts are there.

    Args:
        command: A function of a module, given ``home``.
        home: The folder in which ``killed`` lies.
        here: Where it runs.

    Returns:
        ``killed``, which has not become a dataset.
    """
    folder, log = home / "killed", home / "killed.log"
    child = Child(slowly, (command, home), here, os.environ, log)
    while len(list(folder.glob("parts/*/*.*"))) < 3:
        assert child.poll() is None, log.read_text()
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (folder / "dataset.json").exists()
    return folder


def source(home: Path, name: str) -> tuple[Path, h5py.File]:
    """A copy of the collected file of task red, of which nothing is compared with digests any more."""
    (made,) = home.glob("store/datasets/*/red.hdf5")
    copy = home / name
    shutil.copy(made, copy)
    file = h5py.File(copy, "r+")
    for demo in file["data"].values():
        del demo.attrs["digest"]
    return copy, file


def stateless(demo: h5py.Group) -> None:
    """Take the simulator's states away."""
    del demo["states"]


def elsewhere(demo: h5py.Group) -> None:
    """Let an episode begin in another state."""
    demo.attrs["initial_state"] = "0"


def failing(demo: h5py.Group) -> None:
    """Let an episode stand still."""
    demo["states"][:] = demo["states"][0]


_LACKING = """
from typing import ClassVar, Literal
from videopolicy import hookimpl
from videopolicy.testing.toy_benchmark import ToyBenchmark

class Blind(ToyBenchmark):
    {ability}: ClassVar[bool] = False
    type: Literal["blind"] = "blind"

@hookimpl
def vpolicy_components():
    return [Blind]
"""


def lacking(home: Path, ability: str) -> str:
    """Write the recipe toy.yaml for a benchmark 'blind' that lacks an ability, such as ``guided``; returns its name."""
    (home / "blind.py").write_text(_LACKING.format(ability=ability))
    text = (home / "toy.yaml").read_text().replace("plugins: [", f"plugins: [{home / 'blind.py'}, ")
    (home / "blind.yaml").write_text(text.replace("type: toy,", "type: blind,", 1))
    return "blind.yaml"
