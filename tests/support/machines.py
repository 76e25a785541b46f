"""The toy benchmark on machines that differ in what its simulator says of itself."""

from __future__ import annotations

import json
from pathlib import Path

from toy_recipes import linear

from videopolicy.testing import toy_benchmark

BENCHMARK = """
from pathlib import Path
from typing import Literal

from videopolicy.testing.toy_benchmark import ToyBenchmark


class Machine(ToyBenchmark):
    type: Literal["machine"] = "machine"

    def launch(self):
        return super().launch().model_copy(update={"module": Path(__file__).with_name("on_machine.py")})
"""
SIMULATOR = """
import json
import sys
from pathlib import Path

sys.path.insert(0, TOYS)
import toy_simulator

SAID = Path(__file__).with_name("machine.json")


class ToySimulator(toy_simulator.ToySimulator):
    def hello(self):
        said = json.loads(SAID.read_text())
        following = said.pop("following", None)
        if following:
            SAID.write_text(json.dumps(following))
        return dict(super().hello(), **said)
"""
MACHINE = {
    "versions": {"mujoco": "3.1.0", "robosuite": "1.4.0"},
    "rendering": "egl, llvmpipe (software)",
    "conventions": {"image": "upright"},
}


def recipe_on_machines(folder: Path, evaluation: str) -> Path:
    """Write a recipe whose simulator says of itself what `become` has put there last; returns its path."""
    toys = str(Path(toy_benchmark.__file__).parent)
    (folder / "machine_benchmark.py").write_text(BENCHMARK, encoding="utf-8")
    (folder / "on_machine.py").write_text(SIMULATOR.replace("TOYS", repr(toys)), encoding="utf-8")
    text = linear(evaluation, "red").replace(toy_benchmark.__file__, "machine_benchmark.py")
    text = text.replace("type: toy,", "type: machine,")
    (folder / "small.yaml").write_text(text, encoding="utf-8")
    become(folder)
    return folder / "small.yaml"


def become(folder: Path, following: dict | None = None, **said: object) -> None:
    """Let the simulator say something else of itself, and after its next greeting again something else."""
    changed = {**MACHINE, **said, **({"following": {**MACHINE, **following}} if following else {})}
    (folder / "machine.json").write_text(json.dumps(changed), encoding="utf-8")
