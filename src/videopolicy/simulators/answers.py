"""What the answers of a simulator must look like and how long they may be: nothing that it sends is believed unseen.

The contract is `vpolicy_worker.Simulator`. What is wrong is found where it arrives, before it can end in a record, a
data set, or an endless episode.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from videopolicy.spaces import Spaces
from videopolicy.storage.provenance import SimulatorFacts, differences

UNGREETED = 2**20
"""Bytes of a greeting, and of everything in an answer but its arrays."""
_DEMONSTRATED = 10_000
_NUMBERS = 2048
"""Further numbers of a demonstration's step: states of the simulator and what else it measures."""
_KEY = re.compile(r"(obs/)?[a-z][a-z0-9_]*")
_TAKEN = ("actions", "states", "rewards", "dones", "obs", "obs/state")
"""Keys of an episode in a file that no further array may take."""
LONGEST_SENTENCE = 4_000
"""Characters of an instruction."""
LONGEST_NAME = 200
"""Characters of the name of a sub-task."""
MOST_SUBTASKS = 100
"""Of an episode."""
MOST_FRAMES = 500
"""Of a scene that a demonstration is guided in."""
_POSE = 8 * 16
"""Bytes."""


class AnswerError(Exception):
    """An answer is not what was agreed; the message says what it is and what was expected."""


class Greeting(SimulatorFacts):
    """How a simulator introduces itself; it may say more.

    Args:
        simulator: Its name.
        versions: Versions of its packages.
        spaces: What it offers.
        rendering, conventions: As `SimulatorFacts` has them; they may be absent.
    """

    simulator: str
    versions: dict[str, str]
    spaces: Spaces

    @property
    def facts(self) -> SimulatorFacts:
        """What of it enters the fingerprint of the protocol."""
        return SimulatorFacts(versions=self.versions, rendering=self.rendering, conventions=self.conventions)


def greeting(hello: Any) -> Greeting:
    """What `vpolicy_worker.Simulator.hello` has returned.

    Raises:
        AnswerError: It is something else.
    """
    try:
        return Greeting.model_validate(hello)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"{where or 'all of it'}: {first['msg']}"
        raise AnswerError(f"'hello' returned what is no introduction ({what})") from None


@dataclass
class Introduced:
    """How the workers of a pool have introduced themselves: one that renders otherwise must not mix its episodes in.

    Args:
        facts: What the first of them said; None before.
    """

    facts: SimulatorFacts | None = None

    def ensure_same(self, said: SimulatorFacts) -> None:
        """Compare what a worker says of itself with what the first one said.

        Raises:
            AnswerError: It is something else, as where a driver of graphics works in one process and not in the next.
        """
        self.facts = self.facts or said
        if found := differences(said.in_protocol(), self.facts.in_protocol()):
            what = "; ".join(f"{name}: {one} instead of {other}" for name, (one, other) in found.items())
            raise AnswerError(f"it is not like the first worker's ({what})")


@dataclass(frozen=True)
class Agreement:
    """What a simulator and the core have agreed on.

    Args:
        spaces: What is observed and done.
        longest: Steps of the longest task, by which the length of demonstrations is judged; None: 10,000.
    """

    spaces: Spaces
    longest: int | None = None

    def limit(self, method: str, arguments: Mapping[str, Any]) -> int:
        """Bytes that the answer to a call may have."""
        pictures = sum(3 * camera.height * camera.width for camera in self.spaces.cameras)
        # A state that was not declared is let through in the room for everything else.
        observation = pictures + 8 * (self.spaces.state.dim if self.spaces.state else 0)
        if method == "reset":
            return UNGREETED + observation
        if method == "step":
            # One more: where a sub-task ends, what is seen there.
            return UNGREETED + (len(arguments["frames"]) + 1) * (observation + 1024)
        if method == "demonstrate":
            # Twice: an expert may take longer than an episode.
            numbers = self.spaces.actions.dim + _NUMBERS
            return UNGREETED + 2 * (self.longest or _DEMONSTRATED) * (observation + 8 * numbers)
        if method == "recorded":
            return self.limit("demonstrate", {})
        if method == "replay":
            return UNGREETED + len(arguments["states"]) * _POSE * (MOST_FRAMES + 3)
        if method == "render":
            return UNGREETED + len(arguments["states"]) * pictures
        return UNGREETED

    def check(self, method: str, arguments: Mapping[str, Any], answer: Any) -> None:
        """Compare an answer with what its call asked for.

        Raises:
            AnswerError: It is something else.
        """
        if method == "hello":
            greeting(answer)
            return
        check = {
            "reset": self._reset,
            "step": self._step,
            "demonstrate": self._demonstrate,
            "recorded": self._demonstrate,
            "replay": _replay,
            "guide": _guide,
            "follow": _follow,
            "render": self._render,
        }[method]
        check(arguments, _mapping(answer, "the answer"))
        if "instruction" in answer:
            _text(answer["instruction"], "'instruction'", "a sentence", LONGEST_SENTENCE)
        _seconds(answer)

    def _reset(self, arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        self._observation(_value(answer, "observation"), "the observation", arguments.get("images", True))
        _initial_state(answer)
        if "subtasks" in answer:
            _text_list(answer["subtasks"], "'subtasks'", 1)

    def _step(self, arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        asked = len(arguments["actions"])
        steps, success, done = _value(answer, "steps"), _truth(answer, "success"), _truth(answer, "done")
        if type(steps) is not int or not 0 <= steps <= asked:
            raise AnswerError(f"'steps' is {_described(steps)}, of {asked} actions that were to be executed")
        if steps < asked and not (success or done or "observation" in answer):
            raise AnswerError(
                f"{steps} of {asked} actions were executed, and neither 'done' nor 'success' says that this is the end"
            )
        if "solved" in answer:
            _text_list(answer["solved"], "'solved'", 0)
        if "observation" in answer:
            self._observation(answer["observation"], "the observation after a sub-task")
            missing = [name for name in ("instruction", "solved") if name not in answer]
            if missing:
                raise AnswerError(f"a sub-task ends ('observation' is there), and '{missing[0]}' is missing")
        score = _value(answer, "score")
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise AnswerError(f"'score' is {_described(score)}, not a finite number")
        observations = _mapping(_value(answer, "observations"), "'observations'")
        wanted = sorted(k for k in set(arguments["frames"]) if k <= steps)
        if any(not isinstance(k, int) for k in observations) or sorted(observations) != wanted:
            given = ", ".join(_described(k) for k in observations) or "nothing"
            raise AnswerError(f"'observations' holds {given}; after {steps} steps {wanted} were asked for")
        for k, observation in observations.items():
            self._observation(observation, f"the observation after action {k}")

    def _demonstrate(self, arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        success = _truth(answer, "success")
        _initial_state(answer)
        actions = _value(answer, "actions")
        dim = self.spaces.actions.dim
        if not isinstance(actions, np.ndarray) or actions.dtype.kind != "f" or actions.shape[1:] != (dim,):
            raise AnswerError(f"'actions' is {_described(actions)}, not floating-point numbers of shape (n, {dim})")
        _finite(actions, "'actions'")
        if success and not len(actions):
            raise AnswerError("a demonstration without an action is called a success")
        self._seen(answer, "the demonstration", (len(actions),))
        _further(answer, len(actions))

    def _render(self, arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        _truth(answer, "success")
        _initial_state(answer)
        self._pictures(answer, "the rendered states", (len(arguments["states"]),))

    def _observation(self, observation: Any, what: str, images: bool = True) -> None:
        self._seen(_mapping(observation, what), what, (), images)

    def _seen(self, seen: Mapping[str, Any], what: str, first: tuple[int, ...], images: bool = True) -> None:
        """Check pictures and state whose shapes begin with ``first``."""
        self._pictures(seen, what, first, images)
        if self.spaces.state is not None:
            state = _value(seen, "state")
            _array(state, f"the state in {what}", (*first, self.spaces.state.dim), np.float32)
            _finite(state, f"the state in {what}")

    def _pictures(self, seen: Mapping[str, Any], what: str, first: tuple[int, ...], images: bool = True) -> None:
        pictures = _mapping(_value(seen, "images"), f"'images' of {what}")
        cameras = {camera.name: (*first, camera.height, camera.width, 3) for camera in self.spaces.cameras}
        wanted = cameras if images else {}
        if pictures.keys() != wanted.keys():
            raise AnswerError(f"{what} has pictures of {_names(pictures)}, not of {_names(wanted)}")
        for name, shape in wanted.items():
            _array(pictures[name], f"the picture of camera '{name}' in {what}", shape, np.uint8)


def _replay(arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    _initial_state(answer)
    _truth(answer, "success")
    steps = len(arguments["states"])
    _poses(answer, (steps,))
    _numbers(_value(answer, "targets"), "'targets'", (steps, 4, 4))
    _numbers(_value(answer, "gripper"), "'gripper'", (steps,))


def _guide(arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    _initial_state(answer)
    _poses(answer, ())


def _follow(arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    _truth(answer, "done")
    _poses(answer, ())


def _poses(answer: Mapping[str, Any], first: tuple[int, ...]) -> None:
    """Check the poses of the hand and of all frames, whose shapes begin with ``first``."""
    _numbers(_value(answer, "hand"), "'hand'", (*first, 4, 4))
    frames = _mapping(_value(answer, "frames"), "'frames'")
    if len(frames) > MOST_FRAMES:
        raise AnswerError(f"'frames' holds {len(frames)} poses, more than {MOST_FRAMES}")
    for name, pose in frames.items():
        _text(name, "a name in 'frames'", "the name of an object", LONGEST_NAME)
        _numbers(pose, f"frame '{name}'", (*first, 4, 4))


def _further(answer: Mapping[str, Any], steps: int) -> None:
    """Check what a demonstration may hold besides what was seen and done."""
    arrays = {"states": answer["states"]} if answer.get("states") is not None else {}
    for key, values in _mapping(answer.get("arrays", {}), "'arrays'").items():
        if not isinstance(key, str) or not _KEY.fullmatch(key) or key in arrays or key in _TAKEN:
            raise AnswerError(f"'arrays' has the key {_described(key)}, no name such as robot_states or obs/ee_pos")
        arrays[key] = values
    numbers = 0
    for key, values in arrays.items():
        kind = np.float64 if key == "states" else np.floating
        fits = isinstance(values, np.ndarray) and values.ndim == 2 and np.issubdtype(values.dtype, kind)
        if not fits or len(values) != steps:
            raise AnswerError(f"'{key}' is {_described(values)}, not ({steps}, d) {kind.__name__} numbers")
        _finite(values, f"'{key}'")
        numbers += values.shape[1]
    if numbers > _NUMBERS:
        raise AnswerError(f"'states' and 'arrays' hold {numbers} numbers a step, of at most {_NUMBERS}")
    for name, value in _mapping(answer.get("facts", {}), "'facts'").items():
        plain = _is_text(value) or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        if not plain or not _is_text(name) or not name:
            what = f"{_described(value)} under {_described(name)}"
            raise AnswerError(f"'facts' has {what}, no text, number or truth value")


def _is_text(value: Any) -> bool:
    """Whether something is a text that a file can hold."""
    return isinstance(value, str) and "\0" not in value


def _value(answer: Mapping[str, Any], name: str) -> Any:
    if name not in answer:
        raise AnswerError(f"'{name}' is missing")
    return answer[name]


def _truth(answer: Mapping[str, Any], name: str) -> bool:
    value = _value(answer, name)
    if not isinstance(value, bool):
        raise AnswerError(f"'{name}' is {_described(value)}, not true or false")
    return value


def _initial_state(answer: Mapping[str, Any]) -> None:
    value = _value(answer, "initial_state")
    if not isinstance(value, str) or not value:
        raise AnswerError(f"'initial_state' is {_described(value)}, not the hexadecimal hash of a state")


def _text(value: Any, what: str, wanted: str, longest: int) -> None:
    if not _is_text(value) or not value.strip():
        raise AnswerError(f"{what} is {_described(value)}, not {wanted}")
    if len(value) > longest:
        raise AnswerError(f"{what} has {len(value)} characters, more than {longest}")


def _text_list(value: Any, what: str, fewest: int) -> None:
    if not isinstance(value, list) or not fewest <= len(value) <= MOST_SUBTASKS:
        raise AnswerError(f"{what} is {_described(value)}, not a list of {fewest} to {MOST_SUBTASKS} names")
    for one in value:
        _text(one, f"a name in {what}", "the name of a sub-task", LONGEST_NAME)


def _seconds(answer: Mapping[str, Any]) -> None:
    """Check where the time of a call went, if the answer says so."""
    if "seconds" not in answer:
        return
    seconds = _mapping(answer["seconds"], "'seconds'")
    if seconds.keys() != {"simulation", "rendering"}:
        raise AnswerError("'seconds' has other keys than 'simulation' and 'rendering'")
    for name, value in seconds.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
            raise AnswerError(f"'{name}' of 'seconds' is {_described(value)}, not a number of seconds")


def _mapping(value: Any, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise AnswerError(f"{what} is {_described(value)}, not a mapping")
    return value


def _array(value: Any, what: str, shape: Sequence[int], dtype: type[np.generic]) -> None:
    if not isinstance(value, np.ndarray) or value.shape != tuple(shape) or value.dtype != dtype:
        raise AnswerError(f"{what} is {_described(value)}, not {tuple(shape)} {np.dtype(dtype)}")


def _numbers(value: Any, what: str, shape: Sequence[int]) -> None:
    _array(value, what, shape, np.float64)
    _finite(value, what)


def _finite(values: np.ndarray, what: str) -> None:
    if not np.isfinite(values).all():
        raise AnswerError(f"{what} holds NaN or infinity")


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype}"
    text = repr(value) if isinstance(value, int | float | str | bool | None) else ""
    return text if 0 < len(text) <= 60 else f"a {type(value).__name__}"


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(str(name)[:60] for name in list(values)[:12]) or "no camera"
