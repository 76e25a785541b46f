"""What a recipe says of its data and of its benchmark is compared before anything is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import vpolicy
from vpolicy_hdf5.components import RobomimicHDF5
from vpolicy_libero.components import Libero

from videopolicy import Episode

ACTIONS = (
    "{names: [x, y, z, roll, pitch, yaw, gripper], low: [-1,-1,-1,-1,-1,-1,-1], high: [1,1,1,1,1,1,1], "
    "control: delta_position, rotation: delta_axis_angle, gripper: positive_closes, rate: 20}"
)
RECIPE = f"""\
benchmark: {{type: libero, task_names: [all], cameras: [agentview], image_size: 16}}
data: {{type: robomimic-hdf5, path: none.hdf5, cameras: {{agentview: agentview_rgb}}, actions: {ACTIONS}}}
policy:
  type: modular
  extractor:
    type: image
    encoder: {{type: resnet, layers: [1], channels: [16], strides: [2]}}
    pool: {{type: grid, dim: 8}}
    observed: [0]
    proprioception: false
  decoder: {{type: unet-diffusion, horizon: 4, down_dims: [16, 16], step_dim: 16, groups: 4}}
train:
  - {{name: policy, steps: 4, batch_size: 4}}
eval: {{episodes: 0, execute: 2}}
"""
CALVIN = ["benchmark={type: calvin, cameras: [rgb_static]}", "data={type: calvin-npz, path: none}"]
PUSHT = [
    "benchmark={type: pusht}",
    "data={type: replay-buffer-zarr, path: none, instruction: push, cameras: {image: img}, "
    "actions: {names: [x, y], low: [0, 0], high: [512, 512], control: planar_target, rate: 10}}",
]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "overrides", [[], ["data.cameras={}"], ["data.cameras={agentview: a, wrist: b}"], CALVIN, PUSHT]
)
def test_what_fits_or_is_not_said_is_valid(recipe: Path, overrides: list[str]) -> None:
    found = vpolicy(recipe, "check", "r.yaml", *overrides)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("overrides", "part", "says"),
    [
        (["data.actions.rate=10"], "data.actions.rate", "20.0 in benchmark 'libero' and 10.0 in the data section"),
        (["data.actions.gripper=positive_opens"], "data.actions.gripper", "'positive_opens' in the data section"),
        (["data.actions.control=velocity"], "data.actions.control", "'velocity'"),
        (["data.actions.rotation=delta_euler"], "data.actions.rotation", "'delta_euler'"),
        (["data.actions.names=[x, y, z, a, b, c, gripper]"], "data.actions.names", "'pitch'"),
        (["data.actions.high=[1, 1, 1, 1, 1, 1, 255]"], "data.actions.high", "255.0] in the data section"),
        (
            ["data.cameras={front: agentview_rgb}"],
            "data.cameras",
            "camera 'agentview', the data section has front",
        ),
        ([*CALVIN, "data.cameras=[rgb_gripper]"], "data.cameras", "'rgb_static', the data section has rgb_gripper"),
        ([*PUSHT, "data.cameras={top: img}"], "data.cameras", "the data section has top"),
        ([*PUSHT, "data.actions.high=[1, 1]"], "data.actions.high", "[1.0, 1.0] in the data section"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "run"])
def test_what_does_not_fit_is_found_without_the_data(
    recipe: Path, verb: str, overrides: list[str], part: str, says: str
) -> None:
    found = vpolicy(recipe, verb, "r.yaml", *overrides)
    assert found.returncode == 2
    words = " ".join(found.stderr.split())
    assert f": {part}: " in words and says in words
    assert not (recipe / "runs").exists()


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["data={type: robomimic-hdf5, path: collected}", "benchmark.actions=absolute"],
            "'absolute_position' in bench",
        ),
        (
            ["data={type: robomimic-hdf5, path: collected, orientation: upright}"],
            "stored bottom-up ('macros_image_convention' is 'opengl'), and the recipe's data section says upright",
        ),
    ],
)
def test_what_files_say_of_themselves_is_compared_before_anything_is_opened(
    recipe: Path, verb: str, overrides: list[str], says: str
) -> None:
    benchmark = Libero(cameras=("agentview",), image_size=16)
    writer = RobomimicHDF5().writer(recipe / "collected", benchmark.spaces())
    task = benchmark.tasks()[0]
    writer.add(
        Episode(
            task=task.name,
            instruction=task.instruction,
            images={"agentview": np.zeros((3, 16, 16, 3), np.uint8)},
            actions=np.zeros((3, 7), np.float32),
            state=None,
            initial_state="a",
            success=True,
            attempt=0,
            facts={"expert": "scripted", "bddl_file_name": f"libero_10/{task.name}.bddl"},
        )
    )
    writer.finish({task.name: [0]})
    fits = vpolicy(recipe, "check", "r.yaml", "data={type: robomimic-hdf5, path: collected}")
    assert fits.returncode == 0, fits.stderr
    found = vpolicy(recipe, verb, "r.yaml", *overrides)
    assert found.returncode == 2 and says in " ".join(found.stderr.split())
    assert not (recipe / "runs").exists()


def test_names_of_any_length_are_cut_in_the_message(recipe: Path) -> None:
    found = vpolicy(recipe, "check", "r.yaml", f"data.actions.names=[x, y, z, {'r' * 70_000}, pitch, yaw, gripper]")
    assert found.returncode == 2 and "data.actions.names: action names is" in found.stderr
    assert len(found.stderr) < 3000 and "characters)" in found.stderr
