"""A policy server in a thread of this process, and the policies that it serves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from toy_recipes import linear
from websockets.sync.client import ClientConnection, connect

from videopolicy import Policy, Spaces
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.deployment import DeployedPolicy
from videopolicy.evaluation.acting import PolicyActor
from videopolicy.parts.messages import pack, unpack
from videopolicy.recipes.recipe import Normalization, load_recipe
from videopolicy.serving.server import bound, serving, warm_up
from videopolicy.storage.run_folder import RunFolder
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.training.checkpoints import save_weights
from videopolicy.training.normalization import Normalizer
from videopolicy.training.stages import build_learner

TOY = ToyBenchmark(task_names=("red", "blue"))


def deployed(policy: Policy, spaces: Spaces | None = None, execute: int = 2) -> DeployedPolicy:
    """A policy that sees and acts in the units of its spaces, by default those of the toy benchmark."""
    spaces = spaces or TOY.spaces()
    unit = [
        FieldStatistics([-1.0] * n, [1.0] * n, [0.0] * n, [1.0] * n)
        for n in (spaces.actions.dim, spaces.state.dim if spaces.state else 0)
    ]
    normalizer = Normalizer(Normalization(actions="minmax", state="minmax"), Statistics(*unit))
    actor = PolicyActor(policy, normalizer, spaces.actions, torch.device("cpu"))
    return DeployedPolicy(actor, spaces, execute, "toy", ("go to the red square",))


def untrained(folder: Path) -> Path:
    """A folder as ``vpolicy export`` writes it, of a linear policy on the toy benchmark that nothing has trained."""
    folder.mkdir()
    text = linear("episodes: 2, execute: 2, workers: 1, batch_size: 2")
    RunFolder(folder).recipe_file.write_text(f"name: linear\n{text}", encoding="utf-8")
    recipe = load_recipe(RunFolder(folder).recipe_file)
    learner = build_learner(recipe, "policy", 0)
    unit = FieldStatistics([-1.0] * 2, [1.0] * 2, [0.0] * 2, [1.0] * 2)
    save_weights(learner, folder, recipe.policy.model_dump(mode="json"), Normalization(), Statistics(unit, unit))
    return folder


@dataclass
class Running:
    """A server.

    Args:
        port: At which it listens, on this machine.
        lines: What it has said.
    """

    port: int
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


@contextmanager
def served(policy: DeployedPolicy, rows: int = 8, key: str | None = None) -> Iterator[Running]:
    """Serve a policy until the block ends."""
    with bound("127.0.0.1", 0, key) as listening:
        running = Running(listening.getsockname()[1])
        fixed = warm_up(policy, rows)
        ready, ended = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def main() -> None:
            loops.append(asyncio.get_running_loop())
            await serving(policy, listening, rows, fixed, key, ended, running.lines.append, ready.set)

        thread = threading.Thread(target=asyncio.run, args=[main()])
        thread.start()
        try:
            assert ready.wait(20)
            yield running
        finally:
            loops[0].call_soon_threadsafe(ended.set)
            thread.join(20)
            assert not thread.is_alive(), "the server does not end"


def question(spaces: Spaces, draw: np.random.Generator, prompt: str = "go to the red square") -> dict[str, Any]:
    """An observation as a client sends it."""
    asked: dict[str, Any] = {
        f"observation/{one.name}": draw.integers(0, 256, (one.height, one.width, 3), np.uint8) for one in spaces.cameras
    }
    if spaces.state is not None:
        asked["observation/state"] = draw.uniform(-1, 1, spaces.state.dim)
    return {**asked, "prompt": prompt}


@contextmanager
def connected(running: Running, **options: Any) -> Iterator[tuple[ClientConnection, dict[str, Any]]]:
    """A connection, and what the server has said first."""
    with connect(running.url, compression=None, **options) as connection:
        yield connection, unpack(connection.recv(10))


def told(connection: ClientConnection, message: Any) -> Any:
    """The answer to a message: unpacked data, or a text."""
    connection.send(message if isinstance(message, bytes | str) else pack(message))
    answer = connection.recv(20)
    return answer if isinstance(answer, str) else unpack(answer)
