"""Evaluates any object that acts, on any installed benchmark, from Python."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.components.registry import current_registry
from videopolicy.console.progress import Reporter
from videopolicy.deployment.policy import DeployedPolicy
from videopolicy.errors import PluginError, RecipeError
from videopolicy.evaluation.acting import Actor
from videopolicy.evaluation.identity import fingerprint
from videopolicy.evaluation.rollout import Rollout
from videopolicy.outcomes.records import EpisodeLog, EpisodeRecord, PolicySummary, summarise
from videopolicy.recipes.recipe import Evaluation
from videopolicy.recipes.single import component_from
from videopolicy.recipes.source import Source
from videopolicy.simulators.environments import interpreter
from videopolicy.simulators.workers import WorkerPool
from videopolicy.spaces import ActionSpace
from videopolicy.types import Observation, RowGenerator, Window


class Acts(Protocol):
    """What can be evaluated besides a `DeployedPolicy`."""

    def act(self, images: dict[str, np.ndarray], state: np.ndarray | None, instruction: str) -> Any:
        """Actions from now on, ``(H, A)`` or ``(A,)``, in the benchmark's units.

        Args:
            images: By camera ``(height, width, 3)`` uint8 RGB.
            state: ``(S,)`` float32, or None.
            instruction: What is to be done.
        """
        ...


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation has found.

    Args:
        summary: Success by task and over all, with 95 % intervals, and the benchmark's further numbers.
        records: One for every episode.
    """

    summary: PolicySummary
    records: list[EpisodeRecord]


def evaluate(
    policy: Acts | DeployedPolicy,
    benchmark: BenchmarkComponent | Mapping[str, Any] | str,
    episodes: int = 20,
    execute: int | None = None,
    workers: int = 2,
    seed: int = 0,
    quiet: bool = False,
) -> Evaluated:
    """Run a policy in a benchmark's simulator, such as in the middle of its training.

    Initial states are those of ``vpolicy run``: episode i of a task is the same for everybody.

    Args:
        policy: What `load` returns, or any object with a method `Acts.act`. Such an object is asked for one episode at
            a time and must not remember anything from one call to the next, since the episodes take turns.
        benchmark: A component, its options as in a recipe, or its name.
        episodes: Of every task.
        execute: Actions of a chunk that are executed before the policy is asked again; None: as the policy's recipe
            says, else 1.
        workers: Simulators.
        seed: Of the noise.
        quiet: Show no progress.

    Raises:
        PluginError: There is no such benchmark, or the policy returns something else than actions.
        RecipeError: Its options are wrong, or its spaces are not the policy's.
        SimulationError: The simulator cannot be started.
    """
    component = _component(benchmark)
    spaces = component.spaces()
    if isinstance(policy, DeployedPolicy):
        if problems := policy.spaces.mismatches(spaces, f"the policy of '{policy.name}'", f"'{component.type}'"):
            raise RecipeError(f"The policy does not fit the benchmark: {'; '.join(problems)}.", "Choose another one.")
        actor: Actor = policy.actor
        window, chosen = policy.window, execute or policy.execute
    else:
        actor, window, chosen = _Called(policy, spaces.actions, execute or 1), Window(), execute or 1
    settings = Evaluation(episodes=episodes, execute=chosen, workers=workers, batch_size=workers)
    reporter, spec = Reporter(quiet), component.launch()
    python = interpreter(spec, say=reporter.line)
    with tempfile.TemporaryDirectory(prefix="vpolicy-") as name:
        log = EpisodeLog(Path(name) / "episodes.jsonl")
        with WorkerPool(spec, python, workers, Path(name), spaces) as pool:
            pool.ensure_started()
            protocol = fingerprint(component, pool.simulator)
            rollout = Rollout(
                actor, "policy", window, spaces.actions.dim, settings, pool, log, protocol, seed, reporter
            )
            rollout.run(component.tasks())
        records = log.read()
    return Evaluated(summarise(records, component)["policy"], records)


def _component(benchmark: BenchmarkComponent | Mapping[str, Any] | str) -> BenchmarkComponent:
    if isinstance(benchmark, BenchmarkComponent):
        return benchmark
    options = {"type": benchmark} if isinstance(benchmark, str) else dict(benchmark)
    return component_from(Source(options), BenchmarkComponent, current_registry())


class _Called:
    """An object with `Acts.act` as what the episode loop asks: one call for every row that is asked about.

    Args:
        policy: The object.
        actions: For the bounds, to which actions are clipped.
        execute: Actions of a chunk that are wanted.
    """

    def __init__(self, policy: Acts, actions: ActionSpace, execute: int) -> None:
        self._policy, self._execute = policy, execute
        self._low, self._high = np.array(actions.low, np.float32), np.array(actions.high, np.float32)

    def prepare(self, observation: Observation) -> None:
        """Nothing takes long."""

    def reset(self, rows: list[int]) -> None:
        """Nothing is remembered."""

    def act(self, observation: Observation, generator: RowGenerator) -> np.ndarray:
        """See `Actor.act`.

        Raises:
            PluginError: The object returns something else than actions.
        """
        asked = observation.rows if observation.rows is not None else tuple(range(len(observation)))
        chunks = {row: self._chunk(observation, row) for row in asked}
        actions = np.zeros((len(observation), self._execute, len(self._low)), np.float32)
        for row, chunk in chunks.items():
            actions[row] = chunk[: self._execute]
        return np.clip(actions, self._low, self._high)

    def _chunk(self, observation: Observation, row: int) -> np.ndarray:
        images = {name: frames[row, -1].permute(1, 2, 0).numpy() for name, frames in observation.images.items()}
        state = None if observation.state is None else observation.state[row, -1].numpy()
        found = np.asarray(self._policy.act(images, state, observation.instructions[row]), np.float32)
        chunk = found[None] if found.ndim == 1 else found
        fits = chunk.ndim == 2 and chunk.shape[1] == len(self._low) and len(chunk) >= self._execute
        if not (fits and np.isfinite(chunk).all()):
            raise PluginError(
                f"{type(self._policy).__name__}.act has returned an array of shape {found.shape}, and finite actions "
                f"of shape (H, {len(self._low)}) with H of at least {self._execute} are wanted.",
                "Return the actions of a chunk in the benchmark's units; `execute` says how many are wanted.",
            )
        return chunk
