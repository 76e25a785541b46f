"""The MetaWorld benchmark. The simulator itself is never imported here: see ``simulator/``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

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
    did_you_mean,
    hookimpl,
)
from videopolicy.parts.catalogue import chosen_tasks, different, published_numbers

FOLDER = Path(__file__).parent
SEEDING = 1
"""Version of the map from (task, episode) to the initial state."""
VERSIONS = {"metaworld": "3.1.1", "mujoco": "3.3.0"}
"""What the simulator's results depend on; a simulator with others does not start."""
CAMERAS = ("topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")
GROUPS = {"easy": "easy", "medium": "middle", "hard": "hard", "very_hard": "hard"}
"""Our four tiers to the three of VPP's Table 2."""
CLOSEUP_SIZE = 256


@lru_cache(maxsize=1)
def catalogue() -> dict[str, dict[str, str]]:
    """Sentences by tier and task."""
    return yaml.safe_load((FOLDER / "tasks.yaml").read_text(encoding="utf-8"))


def tasks_named(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks meant by names of tasks, names of tiers, or ``all``."""
    return chosen_tasks(names, {tier: tuple(tasks) for tier, tasks in catalogue().items()}, "MetaWorld")


class MetaWorld(BenchmarkComponent):
    """MetaWorld v3: a Sawyer arm and 50 tasks (Yu et al., 2020).

    Papers leave the camera, the sentences and the horizon open; these are our choices. ``corner4`` stands where the
    community usually moves ``corner2`` to, sees every object unhidden, and shows them larger than the others do.

    Args:
        task_names: Tasks, tiers (``easy``, ``medium``, ``hard``, ``very_hard``) or ``all``.
        cameras: Cameras of the model: ``topview``, ``corner``, ``corner2``, ``corner3``, ``corner4``,
            ``behindGripper``, ``gripperPOV``.
        image_size: Height and width in pixels.
        rendering: ``stock``: MuJoCo's quality as MetaWorld sets it. ``fast``: no shadows, reflections or
            antialiasing, about ten times quicker without a GPU; its pictures differ.
        max_steps: Steps (of 1/80 s) after which an episode has failed; MetaWorld allows at most 500.
    """

    type: Literal["metaworld"] = "metaworld"
    task_names: tuple[str, ...] = Field(("all",), min_length=1)
    cameras: tuple[str, ...] = Field(("corner4",), min_length=1)
    image_size: int = Field(256, ge=16, le=1024)
    rendering: Literal["stock", "fast"] = "stock"
    max_steps: int = Field(500, ge=1, le=500)

    @field_validator("task_names")
    @classmethod
    def _known_tasks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        tasks_named(names)
        return names

    @field_validator("cameras")
    @classmethod
    def _known_cameras(cls, cameras: tuple[str, ...]) -> tuple[str, ...]:
        for camera in cameras:
            if camera not in CAMERAS:
                raise ValueError(
                    f"MetaWorld has no camera '{camera}'.{did_you_mean(camera, CAMERAS)} It has {', '.join(CAMERAS)}."
                )
        return different(cameras, "camera")

    def spaces(self) -> Spaces:
        return Spaces(
            cameras=tuple(
                Camera(name=camera, height=self.image_size, width=self.image_size) for camera in self.cameras
            ),
            actions=ActionSpace(
                names=("dx", "dy", "dz", "gripper"),
                low=(-1.0,) * 4,
                high=(1.0,) * 4,
                control="delta_position",
                gripper="positive_closes",
                rate=80.0,
            ),
            state=StateSpace(names=("hand_x", "hand_y", "hand_z", "gripper_opening")),
        )

    def tasks(self) -> tuple[Task, ...]:
        return tuple(
            Task(name=task, instruction=sentences[task], max_steps=self.max_steps, tier=GROUPS[tier])
            for task in tasks_named(self.task_names)
            for tier, sentences in catalogue().items()
            if task in sentences
        )

    def launch(self) -> WorkerSpec:
        return WorkerSpec(
            environment="metaworld",
            requirements=FOLDER / "simulator" / "requirements.txt",
            python=">=3.11,<3.14",
            module=FOLDER / "simulator" / "simulator.py",
            simulator="MetaWorldSimulator",
            config={
                **self.model_dump(mode="json", include={"cameras", "image_size", "rendering", "max_steps"}),
                "spaces": self.spaces().model_dump(mode="json"),
                "versions": VERSIONS,
            },
            timeout=300.0,
        )

    def protocol(self) -> dict[str, Any]:
        """Versions, seeding, pictures and horizon; which tasks are evaluated is seen from the records."""
        return {
            "simulator": VERSIONS,
            "seeding": SEEDING,
            "success": "any step",
            **self.model_dump(mode="json", include={"cameras", "image_size", "rendering", "max_steps"}),
        }

    def published(self) -> tuple[PublishedNumber, ...]:
        return published_numbers(FOLDER / "published.yaml")

    def closeup(self) -> MetaWorld:
        return self.model_copy(
            update={"cameras": ("corner4",), "image_size": max(CLOSEUP_SIZE, self.image_size), "rendering": "stock"}
        )


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [MetaWorld]
