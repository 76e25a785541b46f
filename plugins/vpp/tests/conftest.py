"""The command line, as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import command
import pytest


@pytest.fixture
def vpolicy(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs a command in a folder of its own; gives the exit code and all that was said, on one line."""

    def run(*arguments: str) -> tuple[int, str]:
        home = str(tmp_path / "home")
        done = command.vpolicy(tmp_path, *arguments, COLUMNS="100", VPOLICY_HOME=home)
        assert "Traceback" not in done.stderr
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run
