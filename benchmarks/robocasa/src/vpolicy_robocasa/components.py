"""RoboCasa's tasks, spaces and protocol. The simulator is never imported here: see ``simulator/``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
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
from vpolicy_robocasa.checkout import CHECKOUT, OFFICIAL, STAND_IN

FOLDER = Path(__file__).parent
CameraName = Literal["robot0_eye_in_hand", "robot0_agentview_left", "robot0_agentview_right"]
SCENES = ((1, 1), (2, 2), (4, 4), (6, 9), (7, 10))
"""(layout, style) of the evaluation kitchens. Styles 9 and 10 were withheld when demonstrations were collected."""
VIDEO_POLICY_STEPS = 992
"""62 plans of 16 actions: what its code makes of 1000 steps."""
ACTION_TAIL = (0.0, 0.0, 0.0, 0.0, -1.0)
"""What follows the arm's 7 numbers: base (3) and torso (1) at rest, and -1 for the mode in which the arm moves."""
VERSIONS = {"robosuite": "1.5.0", "mujoco": "3.2.6", "numpy": "1.23.5"}
"""What the simulator's results depend on, besides `CHECKOUT`; a simulator with others does not start."""
LAYOUTS, STYLES = 10, 12
"""RoboCasa's kitchens (`scene_registry.py`)."""
Scene = tuple[Annotated[int, Field(ge=0, lt=LAYOUTS)], Annotated[int, Field(ge=0, lt=STYLES)]]
STATE = {
    "robot0_base_to_eef_pos": 3,
    "robot0_base_to_eef_quat": 4,
    "robot0_gripper_qpos": 2,
    "robot0_joint_pos": 7,
}
"""What a state can be made of, by RoboCasa's names, with the number of dimensions."""
StateKey = Literal["robot0_base_to_eef_pos", "robot0_base_to_eef_quat", "robot0_gripper_qpos", "robot0_joint_pos"]
CLOSEUP_SIZE = 256


@lru_cache(maxsize=1)
def catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    """Sentence and horizon by group and task."""
    return yaml.safe_load((FOLDER / "tasks.yaml").read_text(encoding="utf-8"))


def tasks_named(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks meant by names of tasks, names of groups, or ``all``."""
    return chosen_tasks(names, {group: tuple(tasks) for group, tasks in catalogue().items()}, "RoboCasa")


class RoboCasa(BenchmarkComponent):
    """The 24 single-stage kitchen tasks of RoboCasa v0.1 and v0.2 (Nasiriany et al., 2024); v0.2 is what is run.

    Success at any step ends an episode. Episode k takes place in scene k modulo 5, so that 50 episodes are ten in each
    kitchen, as in the official protocol (which runs the scenes one after the other).

    Args:
        task_names: Tasks, groups (``pick_and_place``, ``doors``, ``drawers``, ``twisting_knobs``, ``turning_levers``,
            ``pressing_buttons``, ``insertion``) or ``all``.
        cameras: Cameras in the order of the views. Left out: gripper, left, right, as Video Policy has them.
        image_size: Height and width in pixels; RoboCasa's own protocol has 128, Video Policy 256.
        object_split: Objects of the episodes: ``B`` is held out, demonstrations use ``A``.
        assets: ``official``: RoboCasa's meshes, textures and objects, which ``vpolicy env assets robocasa`` downloads.
            ``stand-in``: flat colours and simple shapes that need no download; no number on them is RoboCasa's.
        rendering: ``stock``: as RoboCasa renders. ``fast``: without shadows, reflections and antialiasing; its pictures
            differ.
        state: What the state is made of, in this order; left out: there is none, as in Video Policy.
        scenes: (layout, style) of the kitchens; left out: the five of the evaluation. Demonstrations are in the same
            ones, with other objects at other places.
        horizon: ``task``: RoboCasa's own number of steps for each task, 300 to 1000. ``video-policy``: 992 for every
            task, as Video Policy's published code evaluates; more generous than its baselines' protocol.
    """

    type: Literal["robocasa"] = "robocasa"
    task_names: Annotated[tuple[str, ...], checked(tasks_named)] = Field(("all",), min_length=1)
    cameras: Annotated[tuple[CameraName, ...], checked(different_cameras)] = Field(get_args(CameraName), min_length=1)
    image_size: int = Field(256, ge=16, le=1024)
    object_split: Literal["A", "B"] = "B"
    assets: Literal["official", "stand-in"] = "official"
    rendering: Literal["stock", "fast"] = "stock"
    state: tuple[StateKey, ...] = ()
    scenes: tuple[Scene, ...] = Field(SCENES, min_length=1)
    horizon: Literal["task", "video-policy"] = "task"

    def spaces(self) -> Spaces:
        """An action of 1 moves the gripper by 5 cm or turns it by 0.5 rad (robosuite's ``OSC_POSE``)."""
        return Spaces(
            cameras=tuple(
                Camera(name=camera, height=self.image_size, width=self.image_size) for camera in self.cameras
            ),
            actions=ActionSpace(
                names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
                low=(-1.0,) * 7,
                high=(1.0,) * 7,
                control="delta_position",
                rotation="delta_axis_angle",
                gripper="positive_closes",
                rate=20.0,
            ),
            state=StateSpace(names=tuple(f"{key}_{i}" for key in self.state for i in range(STATE[key])))
            if self.state
            else None,
        )

    def tasks(self) -> tuple[Task, ...]:
        facts = {task: (group, fact) for group, tasks in catalogue().items() for task, fact in tasks.items()}
        return tuple(
            Task(
                name=task,
                instruction=facts[task][1]["instruction"],
                max_steps=facts[task][1]["max_steps"] if self.horizon == "task" else VIDEO_POLICY_STEPS,
                tier=facts[task][0],
            )
            for task in tasks_named(self.task_names)
        )

    def launch(self) -> WorkerSpec:
        return WorkerSpec(
            environment="robocasa",
            requirements=FOLDER / "simulator" / "requirements.txt",
            python=">=3.11,<3.12",
            checkout=CHECKOUT,
            assets=OFFICIAL if self.assets == "official" else STAND_IN,
            module=FOLDER / "simulator" / "simulator.py",
            simulator="RoboCasaSimulator",
            config={
                **self.model_dump(mode="json", include={"cameras", "image_size", "rendering", "assets", "state"}),
                "split": self.object_split,
                "scenes": [list(scene) for scene in self.scenes],
                "horizons": {task.name: task.max_steps for task in self.tasks()},
                "tail": list(ACTION_TAIL),
                "spaces": self.spaces().model_dump(mode="json"),
                "versions": VERSIONS,
                "commit": CHECKOUT.commit,
            },
            timeout=900.0,
            start_timeout=300.0,
        )

    def protocol(self) -> dict[str, Any]:
        """Versions, assets, scenes, pictures and horizon; which tasks are evaluated is seen from the records."""
        pictures = {"cameras", "image_size", "object_split", "horizon", "assets", "rendering", "state"}
        return {
            "success": "any step",
            "simulator": {"robocasa": CHECKOUT.commit, **VERSIONS},
            "scenes": [list(scene) for scene in self.scenes],
            "scene": "episode modulo the number of scenes",
            "textures": "not randomised",
            "action_tail": list(ACTION_TAIL),
            **self.model_dump(mode="json", include=pictures),
        }

    def remarks(self) -> tuple[str, ...]:
        """Results on stand-ins say so."""
        if self.assets == "official":
            return ()
        return (
            "RoboCasa's assets are stand-ins (flat colours, simple shapes): no number is comparable with RoboCasa's",
        )

    def published(self) -> tuple[PublishedNumber, ...]:
        return published_numbers(FOLDER / "published.yaml")

    def closeup(self) -> RoboCasa:
        return self.model_copy(
            update={
                "cameras": ("robot0_agentview_left",),
                "image_size": max(CLOSEUP_SIZE, self.image_size),
                "rendering": "stock",
            }
        )


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [RoboCasa]
