"""LIBERO's tasks, spaces and protocols; its simulator is not part of this version."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import yaml
from pydantic import Field

from videopolicy import (
    ActionSpace,
    Camera,
    Component,
    PublishedNumber,
    Spaces,
    Task,
    hookimpl,
)
from videopolicy.parts.catalogue import checked, chosen_tasks, different_cameras, published_numbers
from videopolicy.parts.no_simulator import BenchmarkWithoutSimulator

FOLDER = Path(__file__).parent
CameraName = Literal["agentview", "robot0_eye_in_hand"]
OPEN = (0.0,) * 6 + (-1.0,)
PRESETS: dict[str, dict[str, Any]] = {
    # LIBERO's own evaluator: configs/eval/default.yaml and lifelong/evaluate.py.
    "libero": {"max_steps": 600, "initial_states": "the benchmark's 50", "settling": [5, [0.0] * 7]},
    # OpenVLA's evaluation, which LeRobot and others share.
    "openvla": {"max_steps": 520, "initial_states": "the benchmark's 50", "settling": [10, list(OPEN)]},
    # Unified Video Action Model: env_runner/libero_image_runner.py and config/task/libero10.yaml.
    "uva": {"max_steps": 500, "initial_states": "random resets seeded 100000 + episode", "settling": [0, []]},
}
"""What the protocols in use differ in; ``settling`` is how often which action is taken before an episode begins."""
ACTIONS = {
    # robosuite's OSC_POSE: an action of 1 moves the gripper by 5 cm or turns it by 0.5 rad.
    "relative": ActionSpace(
        names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
        low=(-1.0,) * 7,
        high=(1.0,) * 7,
        control="delta_position",
        rotation="delta_axis_angle",
        gripper="positive_closes",
        rate=20.0,
    ),
    # The same with control_delta off, in metres and the world's frame.
    "absolute": ActionSpace(
        names=("x", "y", "z", "r11", "r12", "r13", "r21", "r22", "r23", "gripper"),
        low=(-2.0,) * 3 + (-1.0,) * 7,
        high=(2.0,) * 3 + (1.0,) * 7,
        control="absolute_position",
        rotation="absolute_rotation_6d",
        gripper="positive_closes",
        rate=20.0,
    ),
}
"""What an action is: as recorded, or the pose to take with the first two rows of its rotation matrix."""


@lru_cache(maxsize=1)
def sentences() -> dict[str, str]:
    """Sentence by task."""
    return yaml.safe_load((FOLDER / "tasks.yaml").read_text(encoding="utf-8"))


def tasks_named(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks meant by their names or ``all``."""
    return chosen_tasks(names, {"": tuple(sentences())}, "LIBERO-10")


class Libero(BenchmarkWithoutSimulator):
    """LIBERO-10, the ten long tasks of LIBERO (Liu et al., 2023).

    Success at any step ends an episode. Pictures are upright and not mirrored: robosuite's raw ones flipped vertically,
    as Unified Video Action Model has them (OpenVLA and its successors turn them by 180 degrees, which mirrors them).

    Args:
        task_names: Names of BDDL files, or ``all``.
        cameras: Cameras in the order of the views.
        image_size: Height and width in pixels; the published demonstrations have 128.
        preset: Whose horizon, initial states and settling steps. ``libero``: its own evaluator's, 600 steps from
            50 recorded states. ``openvla``: 520 steps from the same. ``uva``: 500 steps from random resets, which
            Video Policy follows too (Table 9).
        actions: ``relative``, as recorded, or ``absolute``, as Unified Video Action Model converts them: ten numbers.
        sentences: ``libero``: what the benchmark gives policies. ``file-name``: the name of the file of a task, which
            begins with the scene ("KITCHEN SCENE3 turn on ..."), as Unified Video Action Model's code has them.
    """

    called: ClassVar[str] = "LIBERO"
    type: Literal["libero"] = "libero"
    task_names: Annotated[tuple[str, ...], checked(tasks_named)] = Field(("all",), min_length=1)
    cameras: Annotated[tuple[CameraName, ...], checked(different_cameras)] = Field(get_args(CameraName), min_length=1)
    image_size: int = Field(128, ge=16, le=1024)
    preset: Literal["libero", "openvla", "uva"] = "libero"
    actions: Literal["relative", "absolute"] = "relative"
    sentences: Literal["libero", "file-name"] = "libero"

    def spaces(self) -> Spaces:
        cameras = tuple(Camera(name=name, height=self.image_size, width=self.image_size) for name in self.cameras)
        return Spaces(cameras=cameras, actions=ACTIONS[self.actions])

    def tasks(self) -> tuple[Task, ...]:
        steps = PRESETS[self.preset]["max_steps"]
        words = {name: name.replace("_", " ") for name in sentences()} if self.sentences == "file-name" else sentences()
        return tuple(Task(name=name, instruction=words[name], max_steps=steps) for name in tasks_named(self.task_names))

    def protocol(self) -> dict[str, Any]:
        """What results depend on; which tasks are evaluated is seen from the records."""
        return {
            "suite": "libero_10",
            "success": "any step",
            "orientation": "upright",
            **PRESETS[self.preset],
            **self.model_dump(mode="json", include={"cameras", "image_size", "actions", "sentences"}),
        }

    def published(self) -> tuple[PublishedNumber, ...]:
        return published_numbers(FOLDER / "published.yaml")


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Libero]
