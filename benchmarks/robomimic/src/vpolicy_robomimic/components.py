"""Tasks, spaces and protocol of robomimic's image benchmark; its simulator is not part of this version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from videopolicy import (
    ActionSpace,
    Camera,
    Component,
    PublishedNumber,
    Spaces,
    StateSpace,
    Task,
    hookimpl,
)
from videopolicy.parts.catalogue import checked, chosen_tasks, different_cameras, published_numbers
from videopolicy.parts.no_simulator import BenchmarkWithoutSimulator

FOLDER = Path(__file__).parent
CameraName = Literal["sideview", "robot0_eye_in_hand"]
TASKS = {"tool_hang": ("assemble the frame and hang the tool on it", 700)}
"""Sentence and steps by task, in Diffusion Policy's protocol."""
STATE = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}


def tasks_named(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks meant by their names or ``all``."""
    return chosen_tasks(names, {"": tuple(TASKS)}, "vpolicy-robomimic")


class Robomimic(BenchmarkWithoutSimulator):
    """Robomimic (Mandlekar et al. 2021) as Diffusion Policy and Unified Video Action Model use it: absolute actions.

    Success at any step ends an episode.

    Args:
        task_names: ``tool_hang`` or ``all``.
        cameras: Cameras in the order of the views.
        image_size: Height and width in pixels; the published demonstrations of tool_hang have 240.
    """

    called: ClassVar[str] = "Robomimic"
    type: Literal["robomimic"] = "robomimic"
    task_names: Annotated[tuple[str, ...], checked(tasks_named)] = Field(("all",), min_length=1)
    cameras: Annotated[tuple[CameraName, ...], checked(different_cameras)] = Field(get_args(CameraName), min_length=1)
    image_size: int = Field(240, ge=16, le=1024)

    def spaces(self) -> Spaces:
        """Actions are the pose that the gripper shall take, in the world's frame and in metres: its position, the first
        two rows of its rotation matrix, and the gripper (robosuite's ``OSC_POSE`` with ``control_delta: false``)."""
        return Spaces(
            cameras=tuple(
                Camera(name=camera, height=self.image_size, width=self.image_size) for camera in self.cameras
            ),
            actions=ActionSpace(
                names=("x", "y", "z", "r11", "r12", "r13", "r21", "r22", "r23", "gripper"),
                low=(-2.0,) * 3 + (-1.0,) * 7,
                high=(2.0,) * 3 + (1.0,) * 7,
                control="absolute_position",
                rotation="absolute_rotation_6d",
                gripper="positive_closes",
                rate=20.0,
            ),
            state=StateSpace(names=tuple(f"{key}_{i}" for key, size in STATE.items() for i in range(size))),
        )

    def tasks(self) -> tuple[Task, ...]:
        return tuple(
            Task(name=name, instruction=TASKS[name][0], max_steps=TASKS[name][1])
            for name in tasks_named(self.task_names)
        )

    def protocol(self) -> dict[str, Any]:
        """Horizons, initial states and pictures; which tasks are evaluated is seen from the records."""
        return {
            "success": "any step",
            "max_steps": {name: steps for name, (_, steps) in TASKS.items()},
            "initial_states": "random resets seeded 100000 + episode",
            "actions": "absolute",
            **self.model_dump(mode="json", include={"cameras", "image_size"}),
        }

    def published(self) -> tuple[PublishedNumber, ...]:
        return published_numbers(FOLDER / "published.yaml")


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Robomimic]
