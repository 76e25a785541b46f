"""What serving costs, in processor time: clients, server and policy are in this process."""

from __future__ import annotations

import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from serving import connected, deployed, question, served, told
from torch import Tensor

from videopolicy import Batch, Camera, Observation, Policy, RowGenerator, Window
from videopolicy.deployment import DeployedPolicy
from videopolicy.recipes.recipe import load_recipe
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.training.stages import build_learner

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart.yaml"


class Still(Policy):
    """Costs nothing."""

    window = Window(horizon=8)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def act(self, observation: Observation, generator: RowGenerator) -> Tensor:
        return torch.zeros(len(observation), 8, 2)


def spent(policy: DeployedPolicy, clients: int, calls: int) -> float:
    """Processor seconds for every chunk, of as many clients as ask at the same time."""
    together = threading.Barrier(clients + 1)
    asked = question(policy.spaces, np.random.default_rng(0))

    def client(_: int) -> None:
        with connected(running) as (connection, _):
            told(connection, asked)
            together.wait(60)
            for _ in range(calls):
                assert len(told(connection, asked)["actions"]) == policy.horizon
            together.wait(600)

    with served(policy, clients) as running, ThreadPoolExecutor(clients) as pool:
        done = pool.map(client, range(clients))
        together.wait(60)
        began = time.process_time()
        together.wait(600)
        seconds = time.process_time() - began
        list(done)
        text = urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=10).read().decode()
        shared = [float(text.split(f"vpolicy_pass_robots_{one} ")[1].split()[0]) for one in ("sum", "count")]
        print(f"{clients} robots: {shared[0] / shared[1]:.1f} share a pass")
    return seconds / (clients * calls)


def test_the_protocol_costs_a_few_milliseconds() -> None:
    spaces = ToyBenchmark().spaces()
    large = spaces.model_copy(update={"cameras": (Camera(name="camera", height=224, width=224),)})
    seconds = min(spent(deployed(Still(), large), 1, 40) for _ in range(3))  # beside other work some cost more
    print(f"protocol: {1000 * seconds:.2f} ms a call at 224 pixels")
    assert seconds < 0.006  # 1.7 ms on a quiet machine of 2026; caches that others use cost as much again


@pytest.mark.slow
def test_eight_robots_cost_a_fraction_of_eight_times_one() -> None:
    recipe = load_recipe(QUICKSTART)
    policy = deployed(cast(Policy, build_learner(recipe, "policy", 0)), recipe.benchmark.spaces(), 6)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone, shared = spent(policy, 1, 10), spent(policy, 8, 6)
    finally:
        torch.set_num_threads(threads)
    print(f"quickstart: {1000 * alone:.1f} ms a chunk for one robot, {1000 * shared:.1f} ms for eight")
    assert shared < alone / 2
