"""CALVIN's tasks, spaces, protocols and demonstrations; its simulator is not part of this version."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import yaml
from pydantic import Field

from videopolicy import (
    ActionSpace,
    Camera,
    Component,
    DatasetComponent,
    DeclaredSpaces,
    PublishedNumber,
    Spaces,
    StateSpace,
    Task,
    hookimpl,
)
from videopolicy.parts.catalogue import published_numbers
from videopolicy.parts.no_simulator import BenchmarkWithoutSimulator
from vpolicy_calvin.options import CalvinNpzOptions, CameraName, Cameras

if TYPE_CHECKING:
    from videopolicy import Dataset, Reporter

FOLDER = Path(__file__).parent
SIZES: dict[str, int] = {"rgb_static": 200, "rgb_gripper": 84}
"""Height and width in pixels of what the recorded demonstrations and the official simulator show."""
TRAINED_ON = {"ABC_D": ("A", "B", "C"), "ABCD_D": ("A", "B", "C", "D"), "D_D": ("D",)}
"""Tables (textures, and places of drawer, slider, switch and button) in the demonstrations, by preset."""
CHAINS, CHAIN_LENGTH, STEPS = 1000, 5, 360
"""Chains of an evaluation, tasks of a chain, and steps that every task of it may take."""
CHAIN = "chain_of_5"
JOINTS = tuple(f"joint_{i}" for i in range(1, 8))


@lru_cache(maxsize=1)
def sentences() -> dict[str, str]:
    """Sentence by task."""
    return yaml.safe_load((FOLDER / "tasks.yaml").read_text(encoding="utf-8"))


class Calvin(BenchmarkWithoutSimulator):
    """CALVIN's long-horizon evaluation (Mees et al., 2022): chains of five instructions on table D.

    An episode is one chain: nothing is reset between its tasks, every task has 360 steps, and the first that is not
    solved ends the chain. Its score is the number of tasks solved in a row; it is a success when all five are.

    Args:
        preset: Which tables the policy may learn from; all are evaluated on table D. ``ABC_D``: on three others.
            ``ABCD_D``: on all four. ``D_D``: on that table alone.
        cameras: Cameras in the order of the views: over the table (200 pixels) and on the gripper (84).
    """

    called: ClassVar[str] = "CALVIN"
    ordinal: ClassVar[str] = "chain length"
    type: Literal["calvin"] = "calvin"
    preset: Literal["ABC_D", "ABCD_D", "D_D"] = "ABC_D"
    cameras: Cameras = Field(get_args(CameraName), min_length=1)

    def spaces(self) -> Spaces:
        """Actions as in ``rel_actions``: 1 moves the gripper's target by 2 cm or turns it by 0.05 rad (Euler angles
        xyz), +1 opens the gripper and -1 closes it. The state is ``robot_obs``."""
        return Spaces(
            cameras=tuple(Camera(name=name, height=SIZES[name], width=SIZES[name]) for name in self.cameras),
            actions=ActionSpace(
                names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
                low=(-1.0,) * 7,
                high=(1.0,) * 7,
                control="delta_position",
                rotation="delta_euler",
                gripper="positive_opens",
                rate=30.0,
            ),
            state=StateSpace(
                names=("x", "y", "z", "roll", "pitch", "yaw", "gripper_opening", *JOINTS, "gripper_action")
            ),
        )

    def tasks(self) -> tuple[Task, ...]:
        sentence = "five instructions, the next when the one before it is done"
        return (Task(name=CHAIN, instruction=sentence, max_steps=CHAIN_LENGTH * STEPS),)

    def subtasks(self) -> tuple[Task, ...]:
        """The 34 tasks that chains are made of, with the sentences that the policy is given one after the other."""
        return tuple(Task(name=name, instruction=text, max_steps=STEPS) for name, text in sentences().items())

    def stored_states(self) -> int:
        """The official chains, each with the state in which it begins."""
        return CHAINS

    def protocol(self) -> dict[str, Any]:
        """Tables, chains, sentences and pictures."""
        return {
            "success": "all tasks of the chain",
            "score": "tasks solved in a row",
            "trained_on": list(TRAINED_ON[self.preset]),
            "evaluated_on": "D",
            "chains": f"episode k is the k-th of the {CHAINS} official ones",
            "chain_length": CHAIN_LENGTH,
            "steps_per_task": STEPS,
            "sentences": "the official ones for validation",
            **self.model_dump(mode="json", include={"cameras"}),
        }

    def metrics(self, records: Sequence[dict[str, Any]]) -> dict[str, float]:
        """The numbers that papers report: shares of chains with at least 1 to 5 tasks solved, and their sum."""
        solved = [record["score"] for record in records]
        rates = {
            f"success after {count} {'task' if count == 1 else 'tasks'}": sum(s >= count for s in solved) / len(solved)
            for count in range(1, CHAIN_LENGTH + 1)
        }
        return {**rates, "average chain length": sum(solved) / len(solved)}

    def published(self) -> tuple[PublishedNumber, ...]:
        return published_numbers(FOLDER / "published.yaml")


class CalvinNpz(CalvinNpzOptions, DatasetComponent):
    """CALVIN's recordings as they are published: one ``.npz`` file for every frame, and annotations.

    An episode is an annotated segment: up to 65 frames of free play in which one task is done, with a sentence. Frames
    that belong to no segment are not read. The split ``validation`` is the data set's own, where it is there: segments
    on table D. Annotations are pickled; they are read without running what is pickled in them.

    See `CalvinNpzOptions` for the options.
    """

    type: Literal["calvin-npz"] = "calvin-npz"

    def declared(self) -> DeclaredSpaces:
        spaces = Calvin().spaces()
        return DeclaredSpaces(cameras=self.cameras, actions=spaces.actions, state=spaces.state)

    def build(self, folder: Path | None) -> Dataset:
        from vpolicy_calvin.frames.dataset import CalvinDataset

        return CalvinDataset(self, Calvin().spaces())

    def open(self, folder: Path | None, cache: Path, reporter: Reporter) -> Dataset:
        from vpolicy_calvin.frames.dataset import CalvinDataset

        return CalvinDataset(self, Calvin().spaces(), cache / self.type, reporter)


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Calvin, CalvinNpz]
