"""Robomimic's image benchmark. The simulator itself is never imported here: see ``simulator/``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from videopolicy import (
    ActionSpace,
    BenchmarkComponent,
    Camera,
    Component,
    PublishedNumber,
    Spaces,
    StateSpace,
    Task,
    WorkerSpec,
    hookimpl,
)
from videopolicy.parts.catalogue import checked, chosen_tasks, different_cameras, published_numbers

FOLDER = Path(__file__).parent
VERSIONS = {"robosuite": "1.4.1", "mujoco": "2.3.7"}
"""What the simulator's results depend on; a simulator with others does not start."""
CameraName = Literal["sideview", "robot0_eye_in_hand"]
TASKS = {"tool_hang": "assemble the frame and hang the tool on it"}
"""Sentence by task."""
CLOSEUP_SIZE = 256
STATE = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}


def tasks_named(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks meant by their names or ``all``."""
    return chosen_tasks(names, {"": tuple(TASKS)}, "vpolicy-robomimic")


class Robomimic(BenchmarkComponent):
    """Robomimic (Mandlekar et al. 2021) as Diffusion Policy and Unified Video Action Model use it: absolute actions.

    Success at any step ends an episode.

    Args:
        task_names: ``tool_hang`` or ``all``.
        cameras: Cameras in the order of the views.
        image_size: Height and width in pixels; the published demonstrations of tool_hang have 240.
        rendering: ``stock``: as robosuite renders, to the last bit. ``fast``: no shadows, reflections or antialiasing,
            three to four times quicker without a GPU; its pictures differ.
        max_steps: Steps (of 1/20 s) after which an episode has failed; Diffusion Policy allows 700.
    """

    type: Literal["robomimic"] = "robomimic"
    task_names: Annotated[tuple[str, ...], checked(tasks_named)] = Field(("all",), min_length=1)
    cameras: Annotated[tuple[CameraName, ...], checked(different_cameras)] = Field(get_args(CameraName), min_length=1)
    image_size: int = Field(240, ge=16, le=1024)
    rendering: Literal["stock", "fast"] = "stock"
    max_steps: int = Field(700, ge=1, le=700)

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
            Task(name=name, instruction=TASKS[name], max_steps=self.max_steps) for name in tasks_named(self.task_names)
        )

    def launch(self) -> WorkerSpec:
        return WorkerSpec(
            environment="robomimic",
            requirements=FOLDER / "simulator" / "requirements.txt",
            python=">=3.11,<3.12",
            module=FOLDER / "simulator" / "simulator.py",
            simulator="RobomimicSimulator",
            config={
                **self.model_dump(mode="json", include={"cameras", "image_size", "rendering", "max_steps"}),
                "spaces": self.spaces().model_dump(mode="json"),
                "versions": VERSIONS,
            },
            timeout=300.0,
        )

    def protocol(self) -> dict[str, Any]:
        """Versions, horizon, initial states and pictures; which tasks are evaluated is seen from the records."""
        return {
            "simulator": VERSIONS,
            "success": "any step",
            "initial_states": "random resets seeded 100000 + episode",
            "actions": "absolute",
            **self.model_dump(mode="json", include={"cameras", "image_size", "rendering", "max_steps"}),
        }

    def published(self) -> tuple[PublishedNumber, ...]:
        return published_numbers(FOLDER / "published.yaml")

    def closeup(self) -> Robomimic:
        return self.model_copy(
            update={
                "cameras": ("sideview",),
                "image_size": max(CLOSEUP_SIZE, self.image_size),
                "rendering": "stock",
            }
        )


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Robomimic]
