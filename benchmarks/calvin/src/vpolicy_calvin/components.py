"""CALVIN's tasks, spaces, protocols and demonstrations. The simulator is never imported here: see ``simulator/``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import yaml
from pydantic import Field, ValidationInfo, field_validator

from videopolicy import (
    ActionSpace,
    BenchmarkComponent,
    Camera,
    Component,
    DataError,
    DatasetComponent,
    DeclaredSpaces,
    DemonstrationRequest,
    PublishedNumber,
    Spaces,
    StateSpace,
    Task,
    WhenActing,
    WorkerSpec,
    hookimpl,
)
from videopolicy.parts.catalogue import chosen_tasks, published_numbers
from vpolicy_calvin.checkout import CHECKOUT
from vpolicy_calvin.options import CalvinNpzOptions, CameraName, Cameras
from vpolicy_calvin.simulator import chains

if TYPE_CHECKING:
    from videopolicy import Dataset, EpisodeWriter, Reporter

FOLDER = Path(__file__).parent
SIZES: dict[str, int] = {"rgb_static": 200, "rgb_gripper": 84}
"""Height and width in pixels of what the recorded demonstrations and the official simulator show."""
TRAINED_ON = {"ABC_D": ("A", "B", "C"), "ABCD_D": ("A", "B", "C", "D"), "D_D": ("D",)}
"""Tables (textures, and places of drawer, slider, switch and button) in the demonstrations, by preset."""
CHAIN_LENGTH, STEPS = 5, 360
"""Tasks of a chain, and steps that every task of it may take in publications."""
CHAIN = "chain_of_5"
JOINTS = tuple(f"joint_{i}" for i in range(1, 8))
VERSIONS = {"pybullet": "3.2.7", "numpy": "2.4.6", "scipy": "1.17.1"}
"""What the simulator's results depend on, besides `CHECKOUT`; a simulator with others does not start."""
COLORS = ("red", "blue", "pink")


@lru_cache(maxsize=1)
def sentences() -> dict[str, str]:
    """Sentence by task."""
    return yaml.safe_load((FOLDER / "tasks.yaml").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def training_sentences() -> dict[str, list[str]]:
    """The wordings of demonstrations, by task."""
    found: dict[str, list[str]] = {}
    text = (FOLDER / "training_sentences.yaml").read_text(encoding="utf-8")
    for name, wordings in yaml.safe_load(text).items():
        fields = {"color": COLORS, "side": ("left", "right"), "state": ("on", "off")}
        used = [field for field in fields if f"{{{field}}}" in name]
        for values in product(*(fields[field] for field in used)):
            words = dict(zip(used, values, strict=True))
            found[name.format(**words)] = [wording.format(**words) for wording in wordings]
    return found


class Calvin(BenchmarkComponent):
    """CALVIN's long-horizon evaluation (Mees et al., 2022): chains of five instructions on table D.

    An episode is one chain: nothing is reset between its tasks, every task has 360 steps, and the first that is not
    solved ends the chain. Its score is the number of tasks solved in a row; it is a success when all five are.

    Args:
        preset: Which tables the policy may learn from; all are evaluated on table D. ``ABC_D``: on three others.
            ``ABCD_D``: on all four. ``D_D``: on that table alone. Demonstrations are collected on these tables.
        cameras: Cameras in the order of the views: over the table (200 pixels) and on the gripper (84).
        rendering: ``egl``: pybullet's OpenGL plugin, with which CALVIN's recordings and the published evaluations were
            made, on whatever OpenGL finds. ``tiny``: its own rasterizer, quicker where there is no graphics processor;
            its pictures differ visibly (textures, shadows), so data and evaluation must have the same.
        evaluate: ``chains``, or ``tasks``: each on its own. They begin in states of the same kinds with blocks and hand
            a little elsewhere, drawn from a seed made of task and episode; what a task needs (a block in the hand, in
            the drawer or on another one) is done by the experts before. No publication has such numbers.
        task_names: Names of tasks, or ``all``. Of chains, those are evaluated all of whose tasks are among them, in
            their order.
        max_steps: Steps of 1/30 s that every task may take; all publications have 360.
        demonstration_sentences: ``training``: each has a wording of CALVIN's own demonstrations, none of which is
            evaluated. ``evaluation``: the sentence that the evaluation has, which is then not held out.
    """

    ordinal: ClassVar[str] = "chain length"
    type: Literal["calvin"] = "calvin"
    preset: Literal["ABC_D", "ABCD_D", "D_D"] = "ABC_D"
    cameras: Cameras = Field(get_args(CameraName), min_length=1)
    rendering: Literal["egl", "tiny"] = "egl"
    evaluate: Annotated[Literal["chains", "tasks"], WhenActing()] = "chains"
    task_names: tuple[str, ...] = Field(("all",), min_length=1)
    max_steps: int = Field(STEPS, ge=1)
    demonstration_sentences: Literal["training", "evaluation"] = "training"

    @field_validator("task_names")
    @classmethod
    def _known_tasks(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        chosen = chosen_tasks(names, {"": tuple(sentences())}, "CALVIN")
        if info.data.get("evaluate") == "chains" and not _chains_within(chosen):
            raise ValueError("no official chain has these tasks alone; name more of them, or set evaluate: tasks")
        return names

    def _names(self) -> tuple[str, ...]:
        return chosen_tasks(self.task_names, {"": tuple(sentences())}, "CALVIN")

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
        """The chain, or the tasks that are evaluated alone."""
        if self.evaluate == "tasks":
            return self.subtasks()
        sentence = "five instructions, the next when the one before it is done"
        return (Task(name=CHAIN, instruction=sentence, max_steps=CHAIN_LENGTH * self.max_steps),)

    def subtasks(self) -> tuple[Task, ...]:
        """The chosen ones of the 34 tasks that chains are made of, with the sentences that the policy is given one
        after the other."""
        return tuple(Task(name=name, instruction=sentences()[name], max_steps=self.max_steps) for name in self._names())

    def stored_states(self) -> int | None:
        """The official chains, each with the state in which it begins."""
        return _chains_within(self._names()) if self.evaluate == "chains" else None

    def launch(self) -> WorkerSpec:
        taught = training_sentences() if self.demonstration_sentences == "training" else {}
        return WorkerSpec(
            environment="calvin",
            requirements=FOLDER / "simulator" / "requirements.txt",
            python=">=3.11,<3.12",
            checkout=CHECKOUT,
            module=FOLDER / "simulator" / "simulator.py",
            simulator="CalvinSimulator",
            config={
                **self.model_dump(mode="json", include={"cameras", "rendering"}),
                "chain": CHAIN,
                "within": [] if self.task_names == ("all",) else list(self._names()),
                "sentences": sentences(),
                "taught": taught,
                "tables": list(TRAINED_ON[self.preset]),
                "steps_per_task": self.max_steps,
                "spaces": self.spaces().model_dump(mode="json"),
                "versions": VERSIONS,
                "commit": CHECKOUT.commit,
            },
            variables={"VPOLICY_CALVIN_RENDERING": self.rendering},
            timeout=600.0,
            start_timeout=300.0,
        )

    def demonstrating(self) -> Calvin:
        """Single tasks are demonstrated."""
        return self.model_copy(update={"evaluate": "tasks"})

    def protocol(self) -> dict[str, Any]:
        """Tables, chains, sentences and pictures."""
        if self.evaluate == "chains":
            chosen = f"episode k is the k-th of the {len(chains.chains())} official ones"
            if self.task_names != ("all",):
                chosen = f"{chosen} whose tasks are among {', '.join(sorted(self._names()))}"
            evaluated = {"chains": chosen, "chain_length": CHAIN_LENGTH, "success": "all tasks of the chain"}
        else:
            evaluated = {"initial_states": "like the official ones, drawn from a seed", "success": "any step"}
        return {
            **evaluated,
            "score": "tasks solved in a row",
            "simulator": {"calvin_env": CHECKOUT.commit, **VERSIONS},
            "trained_on": list(TRAINED_ON[self.preset]),
            "evaluated_on": "D",
            "steps_per_task": self.max_steps,
            "sentences": "the official ones for validation",
            **self.model_dump(mode="json", include={"cameras", "rendering"}),
        }

    def metrics(self, records: Sequence[dict[str, Any]]) -> dict[str, float]:
        """The numbers that papers report: shares of chains with at least 1 to 5 tasks solved, and their sum."""
        if self.evaluate == "tasks":
            return {}
        solved = [record["score"] for record in records]
        rates = {
            f"success after {count} {'task' if count == 1 else 'tasks'}": sum(s >= count for s in solved) / len(solved)
            for count in range(1, CHAIN_LENGTH + 1)
        }
        return {**rates, "average chain length": sum(solved) / len(solved)}

    def published(self) -> tuple[PublishedNumber, ...]:
        """None where the protocol is another one: fewer chains or tasks, or other limits."""
        same = (self.evaluate, self.task_names, self.max_steps) == ("chains", ("all",), STEPS)
        return published_numbers(FOLDER / "published.yaml") if same else ()

    def closeup(self) -> Calvin:
        return self.model_copy(update={"cameras": ("rgb_static",)})


def _chains_within(names: tuple[str, ...]) -> int:
    """How many official chains have no other tasks than these."""
    return sum(set(one.tasks) <= set(names) for one in chains.chains())


class CalvinNpz(CalvinNpzOptions, DatasetComponent):
    """CALVIN's recordings as they are published: one ``.npz`` file for every frame, and annotations.

    An episode is an annotated segment: up to 65 frames of free play in which one task is done, with a sentence. Frames
    that belong to no segment are not read. The split ``validation`` is the data set's own, where it is there: segments
    on table D. Annotations are pickled; they are read without running what is pickled in them.

    See `CalvinNpzOptions` for the options.
    """

    type: Literal["calvin-npz"] = "calvin-npz"

    def demonstrations(self) -> DemonstrationRequest | None:
        if self.path is not None:
            return None
        count = {} if self.episodes_per_task is None else {"episodes_per_task": self.episodes_per_task}
        return DemonstrationRequest(action_noise=self.action_noise, **count)

    def declared(self) -> DeclaredSpaces:
        spaces = Calvin().spaces()
        return DeclaredSpaces(cameras=self.cameras, actions=spaces.actions, state=spaces.state)

    def build(self, folder: Path | None) -> Dataset:
        from vpolicy_calvin.frames.dataset import CalvinDataset

        return CalvinDataset(self._placed(folder), Calvin().spaces())

    def open(self, folder: Path | None, cache: Path, reporter: Reporter) -> Dataset:
        from vpolicy_calvin.frames.dataset import CalvinDataset

        return CalvinDataset(self._placed(folder), Calvin().spaces(), cache / self.type, reporter)

    def writer(self, folder: Path, spaces: Spaces) -> EpisodeWriter:
        from vpolicy_calvin.frames.writer import CalvinWriter

        return CalvinWriter(folder, spaces)

    def _placed(self, folder: Path | None) -> CalvinNpzOptions:
        """The options with the folder of the data."""
        path = self.path or folder
        if path is None:
            raise DataError(
                "The dataset names no path and nothing has been collected.",
                "Set `path` to a folder such as task_ABC_D, or name a benchmark whose experts can be asked.",
            )
        return self.model_copy(update={"path": path})


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Calvin, CalvinNpz]
