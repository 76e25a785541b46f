"""``vpolicy`` in this process: what a command says and how it ends, without the seconds that a new process takes."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from videopolicy.cli.main import main


def vpolicy(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call the entry point as its script does. What a process would die of with a traceback is raised here.

    Args:
        folder: Where the command is given.
        arguments: Those of ``vpolicy``.
        variables: Of the environment.
    """
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["vpolicy", *arguments])
        for name, value in variables.items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess(["vpolicy", *arguments], code, out.getvalue(), err.getvalue())
