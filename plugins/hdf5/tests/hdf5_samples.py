"""Small episodes and files for the tests."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import h5py
import numpy as np
from vpolicy_hdf5.components import RobomimicHDF5

from videopolicy import ActionSpace, Camera, Episode, Spaces, StateSpace

ACTIONS = ActionSpace(
    names=("x", "y", "z", "gripper"),
    low=(-1.0,) * 4,
    high=(1.0,) * 4,
    control="delta_position",
    gripper="positive_closes",
    rate=20.0,
)
SPACES = Spaces(
    cameras=(Camera(name="side", height=8, width=12), Camera(name="wrist", height=6, width=6)),
    actions=ACTIONS,
    state=StateSpace(names=("hand_x", "hand_y")),
)


def episode(task: str, attempt: int, success: bool = True) -> Episode:
    """An episode that is a function of task and attempt."""
    random = np.random.default_rng([zlib.crc32(task.encode()), attempt])
    steps = 9 + attempt % 4
    return Episode(
        task=task,
        instruction=f"please {task}",
        images={
            camera.name: random.integers(0, 256, (steps, camera.height, camera.width, 3), dtype=np.uint8)
            for camera in SPACES.cameras
        },
        actions=random.uniform(-1, 1, (steps, 4)).astype(np.float32),
        state=random.normal(size=(steps, 2)).astype(np.float32),
        initial_state=f"{task}-{attempt}",
        success=success,
        attempt=attempt,
    )


def collect(
    folder: Path, tasks: tuple[str, ...] = ("open door", "close"), attempts: tuple[int, ...] = (0, 1, 2)
) -> Path:
    """A finished collection."""
    writer = RobomimicHDF5().writer(folder, SPACES)
    for task in tasks:
        for attempt in attempts:
            writer.add(episode(task, attempt))
    return writer.finish({task: list(attempts) for task in tasks})


def foreign_file(path: Path, demos: int = 2) -> Path:
    """A file as robomimic's own tools write it: no attributes of ours."""
    random = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": "lift the cube"})
        for number in range(demos):
            demo = data.create_group(f"demo_{number}")
            steps = 7 + number
            demo["actions"] = random.uniform(-1, 1, (steps, 4))
            demo["obs/agentview_rgb"] = random.integers(0, 256, (steps, 8, 8, 3), dtype=np.uint8)
            demo["obs/ee_pos"] = random.normal(size=(steps, 3))
            demo["obs/gripper"] = random.normal(size=steps)
            demo.attrs["num_samples"] = steps
    return path
