"""What robots send, read and checked, and what they learn about the policy first."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from videopolicy.deployment.policy import DeployedPolicy
from videopolicy.errors import DataError, did_you_mean
from videopolicy.evaluation.acting import Seen
from videopolicy.parts.messages import MalformedMessageError, unpack

OBSERVED = "observation/"
"""Before the names of cameras, ``state`` and ``past_actions``, as in openpi's examples."""
_LONGEST_SENTENCE = 4096
_VECTORS = ("state", "past_actions")


class Infer(NamedTuple):
    """A robot asks for a chunk."""

    seen: Seen


class Reset(NamedTuple):
    """A new episode begins; ``{"endpoint": "reset"}`` as vLLM-Omni has it, and a seed besides.

    Args:
        seed: Of the noise from now on; None: it goes on.
    """

    seed: int | None


class Prefetch(NamedTuple):
    """From now on the next chunk is planned while one is executed.

    Args:
        execute: Actions of every chunk that the robot executes; 0: no longer.
    """

    execute: int


def metadata(policy: DeployedPolicy) -> dict[str, Any]:
    """What a client receives when it connects, plain data."""
    window = policy.window
    return {
        "server": "videopolicy",
        "policy": policy.name,
        "horizon": policy.horizon,
        "execute": policy.execute,
        "observed": list(window.observed),
        "past_actions": window.past_actions,
        "keys": _keys(policy),
        "spaces": policy.spaces.model_dump(mode="json"),
        "instructions": list(policy.instructions),
    }


def largest_message(policy: DeployedPolicy) -> int:
    """Bytes of the largest message that a client can have reason to send: images in double precision."""
    pixels = sum(3 * camera.height * camera.width for camera in policy.spaces.cameras)
    state = policy.spaces.state.dim if policy.spaces.state else 0
    numbers = len(policy.window.observed) * (pixels + state) + policy.window.past_actions * policy.spaces.actions.dim
    return 8 * numbers + 2**16


def read(data: bytes | str, policy: DeployedPolicy) -> Infer | Reset | Prefetch:
    """What a robot asks for.

    Raises:
        DataError: It is no message, or does not fit the policy.
    """
    if isinstance(data, str):
        raise DataError("A text has arrived.", "Send msgpack in binary messages, as openpi-client does.")
    try:
        asked = unpack(data)
    except MalformedMessageError as error:
        raise DataError(str(error), "Send msgpack with arrays as openpi-client packs them.") from None
    if not isinstance(asked, dict):
        raise DataError(f"A message is a mapping, not {type(asked).__name__}.", f"Send {_listed(policy)}.")
    endpoint = asked.get("endpoint", "infer")
    if endpoint == "infer":
        return Infer(_seen(asked, policy))
    if endpoint == "reset":
        return Reset(_number(asked, "seed", 0, 2**63 - 1) if asked.get("seed") is not None else None)
    if endpoint == "prefetch":
        return Prefetch(_number(asked, "execute", 0, policy.horizon // 2))
    known: tuple[Literal["infer", "reset", "prefetch"], ...] = ("infer", "reset", "prefetch")
    raise DataError(
        f"There is no endpoint {endpoint!r:.60}.{did_you_mean(str(endpoint)[:60], known)}",
        "Leave `endpoint` out to ask for actions, or send 'reset' or 'prefetch'.",
    )


def _seen(asked: dict[Any, Any], policy: DeployedPolicy) -> Seen:
    given = {
        key.removeprefix(OBSERVED): value
        for key, value in asked.items()
        if isinstance(key, str) and key.startswith(OBSERVED)
    }
    wrong = [name for name, value in given.items() if not isinstance(value, np.ndarray)]
    if wrong:
        what = type(given[wrong[0]]).__name__
        raise DataError(f"'{OBSERVED}{wrong[0]:.60}' is {what}, not an array.", f"Send {_listed(policy)}.")
    images = {name: value for name, value in given.items() if name not in _VECTORS}
    prompt = asked.get("prompt", "")
    if isinstance(prompt, str) and len(prompt) > _LONGEST_SENTENCE:
        raise DataError(f"The prompt has {len(prompt)} characters.", f"Send at most {_LONGEST_SENTENCE}.")
    try:
        return policy.seen(images, given.get("state"), prompt, given.get("past_actions"))
    except DataError as error:
        raise DataError(error.message, f"{error.hint}\nA message holds {_listed(policy)}.") from None


def _number(asked: dict[Any, Any], name: str, low: int, high: int) -> int:
    value = asked.get(name)
    if type(value) is not int or not low <= value <= high:
        raise DataError(f"'{name}' is {value!r:.60}.", f"Send a whole number from {low} to {high}.")
    return value


def _keys(policy: DeployedPolicy) -> list[str]:
    names = [camera.name for camera in policy.spaces.cameras]
    names += ["state"] if policy.spaces.state else []
    names += ["past_actions"] if policy.window.past_actions else []
    return [*(f"{OBSERVED}{name}" for name in names), "prompt"]


def _listed(policy: DeployedPolicy) -> str:
    return ", ".join(f"'{key}'" for key in _keys(policy))
