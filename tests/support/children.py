"""Processes under test that need not import the large packages first: they are forked from one that has.

A real process of its own, which can be killed, signalled and waited for, begins 5 to 10 seconds sooner so.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

_PRELOADED = [
    "videopolicy.cli.main",
    "videopolicy.running",
    "videopolicy.training.lightning_loop",
    "videopolicy.evaluation.evaluate",
    "videopolicy.quality.measure",
    "torchvision.transforms.v2",
    "diffusers.models.unets.unet_spatio_temporal_condition",
]
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(_PRELOADED)


class Child:
    """A function in a process of its own, with what `subprocess.Popen` offers.

    Args:
        function: What it does; picklable.
        arguments: Of the function.
        folder: Where it runs.
        environment: All of its variables.
        output: Gets what it writes to stdout and stderr, appended.
    """

    def __init__(
        self,
        function: Callable[..., None],
        arguments: tuple[object, ...],
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
    ) -> None:
        given = (function, arguments, folder, dict(environment), output)
        self._process = _FORK.Process(target=_run, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit code, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit code."""
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


def vpolicy_apart(folder: Path, *arguments: str, timeout: float = 280, **variables: str) -> subprocess.CompletedProcess:
    """``vpolicy`` in a process of its own, to its end.

    Args:
        folder: Where the command is given.
        arguments: Those of ``vpolicy``.
        timeout: In seconds.
        variables: Of the environment, besides this process's own.

    Returns:
        Its exit code, and in ``stdout`` all that it wrote.
    """
    output = folder / "output.txt"
    output.unlink(missing_ok=True)
    child = Child(command_line, arguments, folder, os.environ | {"OMP_NUM_THREADS": "1"} | variables, output)
    code = child.wait(timeout)
    return subprocess.CompletedProcess(["vpolicy", *arguments], code, output.read_text("utf-8"), "")


def command_line(*arguments: str) -> None:
    """What the ``vpolicy`` script does, for a `Child`."""
    from videopolicy.cli.main import main

    sys.argv = ["vpolicy", *arguments]
    main()


def script(path: str, *arguments: str) -> None:
    """What an interpreter does with a script, for a `Child`."""
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")


def _run(
    function: Callable[..., None],
    arguments: tuple[object, ...],
    folder: Path,
    environment: dict[str, str],
    output: Path,
) -> None:
    import torch

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [one for one in environment.get("PYTHONPATH", "").split(os.pathsep) if one not in ("", *sys.path)]
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", 1)))  # torch has read its variable long ago
    with output.open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, encoding="utf-8") for stream in (1, 2))
    function(*arguments)
