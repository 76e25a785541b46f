"""Greetings and answers changed at random: each is understood or said to be malformed, and nothing else happens."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from vpolicy_worker import MalformedMessageError
from vpolicy_worker.wire import pack, unpack

from videopolicy.simulators.answers import Agreement, AnswerError, greeting
from videopolicy.spaces import Spaces
from videopolicy.testing.toy_simulator import ToySimulator

SIMULATOR = ToySimulator()
AGREEMENT = Agreement(Spaces.model_validate(SIMULATOR.hello()["spaces"]), SIMULATOR.max_steps)
CALLS: dict[str, dict[str, Any]] = {
    "hello": {},
    "reset": {"task": "red", "episode": 0},
    "step": {"actions": np.zeros((3, 2), np.float32), "frames": [1, 3]},
    "demonstrate": {"task": "red", "attempt": 0, "action_noise": 0.0},
}
SIMULATOR.reset("red", 0)
ANSWERS = {method: getattr(SIMULATOR, method)(**arguments) for method, arguments in CALLS.items()}
STRANGE = (
    *(None, True, -1, 2**63, 0.5, float("nan"), float("inf"), "", "\x00", "x" * 5000, b"\xff", [], {}, [[[]]]),
    *({1: 2, "a": None}, np.zeros(()), np.zeros((0, 3)), np.full(2, np.nan), np.zeros((16, 16, 3), bool)),
)


def bytes_changed(data: bytes, chance: random.Random) -> bytes:
    """Cut, doubled, or with a few bytes of other values."""
    how = chance.randrange(4)
    place = chance.randrange(len(data))
    if how == 0:
        return data[:place]
    if how == 1:
        return data[:place] + data[chance.randrange(len(data)) :]
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        # Mostly near the beginning, where the structure is and not the pixels.
        changed[chance.randrange(chance.choice((20, 200, len(data))) % len(data) + 1)] = chance.randrange(256)
    return bytes(changed)


def value_changed(message: Any, chance: random.Random) -> Any:
    """With one value, at any depth, gone or replaced by a strange one."""
    if isinstance(message, dict) and message and chance.random() < 0.9:
        key = chance.choice(list(message))
        changed = dict(message)
        if chance.random() < 0.15:
            del changed[key]
        else:
            changed[key] = value_changed(message[key], chance)
        return changed
    if isinstance(message, list) and message and chance.random() < 0.8:
        place = chance.randrange(len(message))
        return [*message[:place], value_changed(message[place], chance), *message[place + 1 :]]
    return chance.choice(STRANGE)


@pytest.mark.parametrize("method", CALLS)
def test_a_damaged_answer_is_malformed_or_wrong_or_sound(method):
    chance = random.Random(f"messages {method}")
    ends = {"malformed": 0, "wrong": 0, "sound": 0}
    for number in range(300):
        if number % 2:
            data = bytes_changed(pack(ANSWERS[method]), chance)
        else:
            data = pack(value_changed(ANSWERS[method], chance))
        try:
            answer = unpack(data)
        except MalformedMessageError:
            ends["malformed"] += 1
            continue
        try:
            AGREEMENT.check(method, CALLS[method], answer)
            if method == "hello":
                AGREEMENT.spaces.mismatches(greeting(answer).spaces, "the benchmark", "the simulator")
        except AnswerError as error:
            assert str(error)
            ends["wrong"] += 1
        else:
            ends["sound"] += 1
    assert ends["malformed"] > 30 and ends["wrong"] > 30, ends
