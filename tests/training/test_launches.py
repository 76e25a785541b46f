"""What the environment says of several processes: launchers, allocations, and what is left lying around."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import toy_recipes
from command import vpolicy

from videopolicy.errors import VpolicyError
from videopolicy.recipes.recipe import Recipe, Stage, load_recipe
from videopolicy.training.distributed import Launch, ensure_processes_fit, launch, rank

VARIABLES = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES"),
    *("SLURM_PTY_PORT", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_NAME", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"),
)
ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_NPROCS": "8", "SLURM_NNODES": "2"}
STEP = {**ALLOCATION, "SLURM_STEP_ID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}
FIRST = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
PLACE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
ONE = Launch("", 0, 1, "WORLD_SIZE", 1)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def put(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def recipe_on(folder: Path, devices: int) -> Recipe:
    (folder / "small.yaml").write_text(toy_recipes.linear("episodes: 0"))
    return load_recipe(folder / "small.yaml", [f"train.policy.devices={devices}"])


ALONE = {
    "nothing": {},
    "empty variables": {"RANK": "", "WORLD_SIZE": "", "LOCAL_RANK": " "},
    "sbatch, no srun": ALLOCATION,
    "a batch script, numbered 0": {**ALLOCATION, **FIRST, "SLURM_STEP_ID": str(0xFFFFFFFB)},
    "salloc's shell": {**ALLOCATION, **FIRST, "SLURM_STEP_ID": str(0xFFFFFFFA), "SLURM_JOB_NAME": "interactive"},
    "srun --pty bash": {**STEP, **FIRST, "SLURM_PTY_PORT": "40000", "SLURM_JOB_NAME": "bash"},
    "srun --ntasks 1": {**ALLOCATION, **FIRST, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"},
    "a unit under an executor": {name: value for name, value in STEP.items() if name != "SLURM_PROCID"},
    "a container that is the first of one": {"RANK": "0", "WORLD_SIZE": "1", **PLACE},
    "numbers left of another launcher": {"LOCAL_RANK": "0", "RANK": "0", "NODE_RANK": "1"},
    "a node's number alone": {"NODE_RANK": "1", "GROUP_RANK": "1"},
}


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("devices", [1, 2])
def test_one_process_is_one(tmp_path, environment, name, devices):
    environment(ALONE[name])
    assert launch() == ONE
    ensure_processes_fit(recipe_on(tmp_path, devices))


TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
TOGETHER = {
    "torchrun": ({**TORCHRUN, "GROUP_RANK": "1", **PLACE}, Launch("torchrun", 5, 8, "WORLD_SIZE", 4)),
    "torchrun in a step of srun": (
        {**STEP, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", **TORCHRUN, **PLACE},
        Launch("torchrun", 5, 8, "WORLD_SIZE", 4),
    ),
    "srun": ({**STEP, "SLURM_PROCID": "5"}, Launch("srun", 5, 8, "SLURM_STEP_NUM_TASKS", 4)),
    "srun that began outside": (
        {"SLURM_NTASKS": "8", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NNODES": "1", "RANK": ""},
        Launch("srun", 0, 8, "SLURM_STEP_NUM_TASKS", 8),
    ),
    "Lightning's second": (
        {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "8", **PLACE},
        Launch("variables", 1, 8, "WORLD_SIZE", 8),
    ),
    "by hand": (
        {"RANK": "6", "LOCAL_RANK": "2", "NODE_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", **PLACE},
        Launch("variables", 6, 8, "WORLD_SIZE", 4),
    ),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_launchers_number_their_processes(tmp_path, environment, name):
    variables, found = TOGETHER[name]
    environment(variables)
    assert launch() == found and rank() == found.rank
    ensure_processes_fit(recipe_on(tmp_path, 8))
    with pytest.raises(VpolicyError, match=f"8 processes were started together, as {found.variable} says") as error:
        ensure_processes_fit(recipe_on(tmp_path, 1))
    assert f"unset {found.variable}" in error.value.hint


def test_lightnings_processes_are_known_after_it_has_forgotten_their_number(tmp_path, environment):
    environment({"LOCAL_RANK": "1", "NODE_RANK": "0", **PLACE})
    assert rank() == 1
    ensure_processes_fit(recipe_on(tmp_path, 2))


CONTRADICTIONS = {
    "one of how many": ({"RANK": "1"}, "RANK is 1: this would be one of several processes, but WORLD_SIZE"),
    "one of one": ({"RANK": "1", "WORLD_SIZE": "1", **PLACE}, "RANK is 1: .* WORLD_SIZE is 1"),
    "a local number alone": ({"LOCAL_RANK": "1"}, "LOCAL_RANK is 1: .* WORLD_SIZE, which says of how many"),
    "no place": ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, "MASTER_ADDR, MASTER_PORT are not set"),
    "no local number": ({"WORLD_SIZE": "2", "RANK": "1", **PLACE}, "LOCAL_RANK is not set"),
    "nothing but a number": ({"WORLD_SIZE": "2"}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not set"),
    "too high a number": ({"WORLD_SIZE": "2", "LOCAL_RANK": "2", **PLACE}, "process 2, counted from 0, .* says 2"),
    "two numbers": ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "1", **PLACE}, "RANK is 0, but LOCAL_RANK and"),
    "no number": ({"RANK": "first"}, "RANK is 'first', which is no number"),
    "a negative number": ({"WORLD_SIZE": "-1"}, "WORLD_SIZE is '-1', which is no number"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_named_before_anything_waits(tmp_path, environment, name):
    variables, message = CONTRADICTIONS[name]
    environment(variables)
    with pytest.raises(VpolicyError, match=message) as error:
        ensure_processes_fit(recipe_on(tmp_path, 2))
    assert "nset " in error.value.hint


@pytest.mark.parametrize("verb", ["run", "ablate"])
def test_a_number_without_a_launcher_is_no_silent_success(tmp_path, environment, verb):
    recipe_on(tmp_path, 1)
    (tmp_path / "rows.yaml").write_text("source: nowhere\nmetric: success\nbase: small.yaml\nrows:\n  - {name: one}\n")
    done = vpolicy(tmp_path, verb, {"run": "small.yaml", "ablate": "rows.yaml"}[verb], RANK="1")
    assert done.returncode == 2 and "RANK is 1" in done.stderr and not (tmp_path / "runs").exists()


def test_lightning_gets_the_environment_of_the_launch_and_guesses_nothing(environment):
    from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment

    from videopolicy.training.processes import environment as lightnings

    two = Stage(name="policy", steps=1, batch_size=1, devices=8)
    environment({**ALLOCATION, **FIRST})
    alone = lightnings(two)
    assert isinstance(alone, LightningEnvironment) and not alone.creates_processes_externally
    environment({"LOCAL_RANK": "0", "GROUP_RANK": "1", "RANK": "0"})
    assert not lightnings(two).creates_processes_externally and lightnings(two).node_rank() == 0
    assert "RANK" not in os.environ  # processes that are started now must not all be the first
    environment({**STEP, "SLURM_PROCID": "5", "SLURM_NODEID": "1", "SLURM_LOCALID": "1", "SLURM_NODELIST": "a[3-4]"})
    step = lightnings(two)
    assert isinstance(step, SLURMEnvironment) and not step.auto_requeue
    assert (step.world_size(), step.global_rank(), step.node_rank(), step.local_rank()) == (8, 5, 1, 1)
    assert step.main_address == "a3"
    assert isinstance(lightnings(two.model_copy(update={"devices": 1})), LightningEnvironment)
