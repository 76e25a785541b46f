"""The part of videopolicy that runs inside a simulator's own environment: numpy, msgpack and Python >= 3.8."""

from vpolicy_worker.chain import ChainSimulator, Subtask
from vpolicy_worker.simulator import Simulator
from vpolicy_worker.stepwise import StepwiseSimulator
from vpolicy_worker.versions import ensure_versions
from vpolicy_worker.wire import PROTOCOL, ConnectionClosedError, Incoming, MalformedMessageError, receive, send

__all__ = [
    "PROTOCOL",
    "ChainSimulator",
    "ConnectionClosedError",
    "Incoming",
    "MalformedMessageError",
    "Simulator",
    "StepwiseSimulator",
    "Subtask",
    "ensure_versions",
    "receive",
    "send",
]
