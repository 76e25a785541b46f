"""What must not import torch: the command's help, the list of plugins, and reading a recipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(ROOT.glob("recipes/*.yaml"))
ABLATIONS = sorted(ROOT.glob("recipes/ablations/*.yaml"))
HEAVY = ("torch", "lightning", "diffusers", "transformers", "torchvision", "matplotlib", "scipy")


def heavy_modules_after(code: str) -> tuple[list[str], str]:
    """Run code in a fresh interpreter; which heavy modules it had loaded at the end, and what it printed."""
    program = "\n".join(
        [
            "import atexit, json, sys",
            f"report = lambda: print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)",
            "atexit.register(report)",
            code,
        ]
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.strip().splitlines()[-1]), done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--help"], "plugins"), (["plugins"], "modular"), (["describe", "modular"], "decoder:")],
)
def test_command_answers_without_torch(arguments: list[str], expected: str):
    code = f"sys.argv = ['vpolicy', *{arguments!r}]\nfrom videopolicy.cli.main import main\nmain()"
    heavy, printed = heavy_modules_after(code)
    assert expected in printed
    assert heavy == []


def test_every_recipe_is_read_without_torch():
    code = "\n".join(
        [
            "from pathlib import Path",
            "from videopolicy.recipes.recipe import load_recipe",
            f"for path in {[str(path) for path in RECIPES]!r}: print(load_recipe(Path(path)).benchmark.type)",
            "from videopolicy.recipes.ablation import load_ablation",
            f"for path in {[str(path) for path in ABLATIONS]!r}: print(load_ablation(Path(path))[0].source)",
        ]
    )
    heavy, printed = heavy_modules_after(code)
    assert len(RECIPES) >= 2 and len(printed.splitlines()) == len(RECIPES) + len(ABLATIONS)
    assert heavy == []
