"""Training in two processes, started by ``torchrun`` and by Lightning, on the processor."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch
from together import VPOLICY, Place, free_port

from videopolicy.console.progress import Reporter
from videopolicy.errors import RecipeError
from videopolicy.recipes.recipe import load_recipe
from videopolicy.running import run
from videopolicy.storage.store import Store
from videopolicy.testing import toy_benchmark
from videopolicy.training.curves import read_curves
from videopolicy.training.distributed import ensure_processes_fit

# A policy without any draw of its own: what two processes learn from half a batch each, one must learn from the whole.
LINES = """\
from typing import Literal

from videopolicy import PolicyComponent, Window


class LinesPolicy(PolicyComponent):
    type: Literal["lines"] = "lines"

    def window(self):
        return Window(horizon=2)

    def build(self, spaces):
        from lines_model import Lines

        return Lines(self.window())
"""
MODEL = """\
import os
from pathlib import Path

import torch
from torch import nn

from videopolicy import Policy


class Lines(Policy):
    def __init__(self, window):
        super().__init__()
        self.layer, self.unused, self._window = nn.Linear(2, 4), nn.Linear(2, 2), window

    @property
    def window(self):
        return self._window

    def loss(self, batch):
        if "SHARES" in os.environ:
            with (Path(os.environ["SHARES"]) / os.environ.get("LOCAL_RANK", "0")).open("a") as file:
                file.write(f"{batch.observation.state.sum().item()} {len(batch)}\\n")
        predicted = self.layer(batch.observation.state[:, -1]).view(-1, 2, 2)
        return {"action": ((predicted - batch.actions) ** 2).mean()}

    def act(self, observation, generator):
        return self.layer(observation.state[:, -1]).view(-1, 2, 2).detach()
"""
RECIPE = f"""\
plugins: [{toy_benchmark.__file__}, lines.py]
benchmark: {{type: toy, task_names: [red], max_steps: 12}}
data: {{type: robomimic-hdf5, episodes_per_task: 6}}
policy: {{type: lines}}
train:
  - {{name: first, steps: 60, batch_size: 4, devices: 2, optimizer: {{learning_rate: 0.01}}}}
  - {{name: second, steps: 5, batch_size: 4, devices: 1}}
eval: {{episodes: 2, execute: 2, workers: 1, batch_size: 2}}
tracking: []
"""
ALL_LEARN = MODEL.replace("class Lines(Policy):", "class Lines(Policy):\n    every_parameter_learns = True\n").replace(
    ".mean()}", ".mean() + 0 * sum(one.sum() for one in self.unused.parameters())}"
)
"""The same, where no process has to look for parameters that have no gradient."""
SLOWLY = """
import time, videopolicy.training.lightning_loop as training, videopolicy.cli.main
videopolicy.training.SECONDS_BETWEEN_CHECKPOINTS = 0.0
videopolicy.training.SHARE_OF_SAVING = float("inf")
end = training._Watch.on_train_batch_end
training._Watch.on_train_batch_end = lambda *given: (end(*given), time.sleep(0.05))[0]
videopolicy.cli.main.main()
"""


def place_of(folder: Path, home: Path, model: str = MODEL) -> Place:
    """A place with the recipe and a folder in which processes note what they see."""
    place = Place(folder, home, lines__py=LINES, lines_model__py=model, small__yaml=RECIPE, slowly__py=SLOWLY)
    (folder / "shares").mkdir()
    return place


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "videopolicy")
RUN = ("run", "small.yaml")
ONLY_TRAIN = "eval.episodes=0"


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Place:
    """Started by torchrun."""
    place = place_of(tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("home"))
    assert place.start(*TORCHRUN, *RUN, SHARES="shares").wait(500) == 0, place.output()
    return place


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_learn_what_one_learns_from_their_batches_together(two, tmp_path, monkeypatch):
    losses = [value for _, value in read_curves(two.stage("first"))["loss/action"]]
    assert losses[-1] < 0.7 * losses[0]
    shares = [(two.folder / "shares" / rank).read_text().split() for rank in ("0", "1")]
    assert len(shares[0]) > len(shares[1]) == 2 * 60  # the second stage is trained by the first process alone
    assert all(a != b for a, b in zip(shares[0][::2], shares[1][::2], strict=False))
    assert set(shares[0][1::2]) == {"4"}
    facts = json.loads((two.stage("first") / "done.json").read_text())
    assert facts["devices"] == 2
    records = (two.folder / "runs" / "small" / "episodes.jsonl").read_text()
    assert records.count("\n") == 2
    assert two.output().count("evaluate trained: success") == 1

    one = place_of(tmp_path / "one", tmp_path / "one-home")
    monkeypatch.syspath_prepend(one.folder)
    alone = ["train.first.devices=1", "train.first.batch_size=8", "eval.episodes=0"]
    recipe = load_recipe(one.folder / "small.yaml", alone)
    run(recipe, one.folder / "runs", Reporter(quiet=True), Store(one.home))
    assert torch.allclose(one.weights("first"), two.weights("first"), atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lightning_starts_the_second_process_itself_and_a_killed_stage_goes_on_in_an_allocation(two, tmp_path):
    """Killed; and begun again by a batch script in an allocation of 8 tasks, numbered 0: one process, which starts the
    other, whatever stray numbers say."""
    place = place_of(tmp_path / "killed", tmp_path / "killed-home")
    process = place.fork(place.folder / "slowly.py", *RUN, ONLY_TRAIN)
    deadline = time.monotonic() + 400
    while not any(place.home.glob("stages/*/checkpoint.ckpt")):
        assert process.poll() is None and time.monotonic() < deadline, place.output()
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    for one in (process, *children):
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    process.wait()
    allocation = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "0"}
    stray = {"SLURM_NODEID": "0", "RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "1"}
    assert place.fork(VPOLICY, *RUN, ONLY_TRAIN, **allocation, **stray).wait(500) == 0, place.output()
    pieces = sorted(path.name for path in place.stage("first").glob("curves/*"))
    assert len(pieces) == 2 and pieces[0] == "from-000000000"
    assert torch.allclose(place.weights("first"), two.weights("first"), atol=1e-6)
    assert torch.allclose(place.weights("second"), two.weights("second"), atol=1e-6)
    assert "2 processes train on processors" in place.output()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_tasks_of_srun_train_together(two, tmp_path):
    """The variables of ``srun --ntasks 2``, which sets no number of tasks a node, within an allocation of 8."""
    place = place_of(tmp_path / "srun", tmp_path / "srun-home", ALL_LEARN)
    step = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "train.sh",
        "SLURM_NODELIST": "localhost",
        "SLURM_NNODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NODEID": "0",
        "MASTER_PORT": str(free_port()),
    }
    tasks = [place.fork(VPOLICY, *RUN, **step, SLURM_PROCID=number, SLURM_LOCALID=number) for number in ("0", "1")]
    assert [task.wait(500) for task in tasks] == [0, 0], place.output()
    # Of its layer; an optimiser moves unused weights a little where they have a gradient of 0.
    assert torch.allclose(place.weights("first")[:12], two.weights("first")[:12], atol=1e-6)
    assert place.output().count("evaluate trained: success") == 1


@pytest.mark.parametrize(
    ("first", "started", "message"),
    [(3, None, "need 2 and 3 devices"), (1, "2", "2 processes were started together"), (2, "4", "4 processes")],
)
def test_other_numbers_of_processes_are_refused(tmp_path, monkeypatch, first, started, message):
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    if started:
        monkeypatch.setenv("WORLD_SIZE", started)
    place = place_of(tmp_path / "place", tmp_path)
    second = 2 if first == 3 else 1
    recipe = load_recipe(
        place.folder / "small.yaml", [f"train.first.devices={first}", f"train.second.devices={second}"]
    )
    with pytest.raises(RecipeError, match=message):
        ensure_processes_fit(recipe)
