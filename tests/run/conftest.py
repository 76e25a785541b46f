"""A complete recipe of toy size: real parts, a video model of a few thousand weights, the toy benchmark."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from children import Child, command_line
from filelock import FileLock
from toy_recipes import DIFFUSION, video

RECIPE = video(
    (
        "name: video, target: policy.extractor.backbone, steps: 40, batch_size: 4",
        "name: policy, steps: 60, batch_size: 8, cache_features: true, ema_decay: 0.9",
    ),
    "episodes: 5, execute: 3, workers: 2, batch_size: 4, baselines: [untrained, random]",
    decoder=f"{DIFFUSION}, encoder_layers: 1, decoder_layers: 1, sampling_levels: {{steps: 3}}",
    data="episodes_per_task: 6",
)


def program(*arguments: str) -> None:
    """The command line, with checkpoints so quick that a kill falls between two of them.

    A test run in the background inherits that Ctrl-C is ignored, and under nohup SIGHUP; the program under test must
    not ignore them.
    """
    from videopolicy import training

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    training.SECONDS_BETWEEN_CHECKPOINTS, training.SHARE_OF_SAVING = 0.3, float("inf")
    command_line(*arguments)


class Runner:
    """Runs the recipe in folders of its own, as a user would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.recipe = folder / "small.yaml"
        self.recipe.write_text(RECIPE, encoding="utf-8")
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "VPOLICY_HOME": str(folder / "home")}
        self.run_folder = folder / "runs" / "small"

    def start(self, *overrides: str) -> Child:
        arguments = ("run", str(self.recipe), *overrides)
        return Child(program, arguments, self.folder, self.environment, self.folder / "output.txt")

    def finish(self, *overrides: str) -> None:
        assert self.start(*overrides).wait(300) == 0, self.output()

    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def records(self) -> list[dict]:
        """Episode records without wall times, sorted."""
        lines = (self.run_folder / "episodes.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        for record in records:
            del record["seconds"]
        return sorted(records, key=lambda r: (r["policy"], r["task"], r["episode"]))


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The recipe, run once without being disturbed; every process of tests goes on with a copy of its own."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    whole = shared / "uninterrupted"
    with FileLock(shared / "uninterrupted.lock"):
        if not (whole / "finished").exists():
            Runner(whole).finish()
            (whole / "finished").touch()
    copy = tmp_path_factory.mktemp("whole") / "copy"
    shutil.copytree(whole, copy, copy_function=shutil.copy2)
    return Runner(copy)


@pytest.fixture(scope="session")
def runner_in() -> type[Runner]:
    """Makes runners in a given folder."""
    return Runner
