"""A finished run with damaged files, given again: it ends with the same records, or names what is damaged.

Never in a traceback, and never with exit code 0 and other numbers.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import vpolicy
from damage import damage, damageable

PIECES, EACH = 6, 6
VERBS = ("show", "report", "compare")


def tried(uninterrupted: Any, runner_in: Any, folder: Path, number: int) -> None:
    draw = random.Random(number)
    shutil.copytree(uninterrupted.folder, folder, copy_function=shutil.copy2)
    runner = runner_in(folder)
    home = str(folder / "home")
    expected = uninterrupted.records()
    files = draw.sample(damageable(folder / "home", folder / "runs"), draw.choice((1, 1, 2)))
    done = [f"{number}: " + damage(path, draw) for path in files]
    try:
        for verb in (draw.choice(VERBS), "run"):
            what = {"run": [str(runner.recipe)], "compare": ["--runs", "runs"]}
            said = vpolicy(folder, verb, *what.get(verb, ["runs/small"]), VPOLICY_HOME=home)
            text = said.stdout + said.stderr
            assert said.returncode in (0, 2), f"{done} and `{verb}` ends with {said.returncode}:\n{text}"
            if verb == "run" and said.returncode == 0:
                assert runner.records() == expected, f"{done} and `run` has other records:\n{text}"
            elif verb == "run":
                named = [path for path in files if path.name in text or path.parent.name in text]
                assert named, f"{done} and `run` names none of them:\n{text}"
                assert len(said.stderr.strip().splitlines()) > 1, f"{done}: nothing says what to do:\n{text}"
    except Exception as error:
        raise AssertionError(f"{done} end in a traceback") from error


@pytest.mark.slow
@pytest.mark.timeout(300)  # one that waits for ever
@pytest.mark.parametrize("piece", range(PIECES))
def test_a_run_with_damaged_files_goes_on_or_names_them(
    piece: int, uninterrupted: Any, runner_in: Any, tmp_path: Path
) -> None:
    problems = []
    for number in range(piece * EACH, (piece + 1) * EACH):
        try:
            tried(uninterrupted, runner_in, tmp_path / str(number), number)
        except AssertionError as error:
            problems.append(f"{error} {error.__cause__!r}")
    assert not problems, "\n\n".join(problems)
