"""Demonstrations made out of demonstrations: sources are replayed, a multiplier guides the hand in new scenes.

What it does in an attempt follows from its options and the attempt's number, so that any number of workers, killed and
started again, end with the same episodes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopolicy.components.kinds import MultiplierComponent
from videopolicy.console.progress import Reporter
from videopolicy.contracts.benchmark import DemonstrationRequest
from videopolicy.contracts.dataset import Episode, EpisodeWriter
from videopolicy.contracts.multiplier import Multiplier, Scene, Source
from videopolicy.data.collection import Ask, Conversation, collect
from videopolicy.data.sources import LOGS, claim, ensure_as_recorded, open_sources
from videopolicy.errors import DataError, PluginError, RecipeError, SimulationError
from videopolicy.recipes.recipe import Recipe
from videopolicy.simulators.environments import interpreter, worker_code
from videopolicy.simulators.workers import WorkerPool
from videopolicy.storage.files import storage_errors, write_json
from videopolicy.storage.identity import collected_by, identity
from videopolicy.storage.store import Store

PROVENANCE = "multiplied.json"
"""File in the folder that says what the episodes were made of."""


@dataclass(frozen=True)
class Outcome:
    """What became of the attempts at a task.

    Args:
        attempts: How many were made.
        successes: How many of them solved the task.
        kept: How many of those are in the dataset.
    """

    attempts: int
    successes: int
    kept: int


def multiply(
    recipe: Recipe, multiplier: MultiplierComponent, folder: Path, store: Store, reporter: Reporter
) -> dict[str, Outcome]:
    """Multiply the demonstrations of a recipe, or go on with it; they are collected first where they have to be.

    Args:
        recipe: Its data are the sources, its benchmark has the new scenes.
        multiplier: How.
        folder: Where the new dataset is to lie, in the layout of the sources.
        store: Where the sources are looked for.
        reporter: Shows progress.

    Returns:
        By task.

    Raises:
        RecipeError: The multiplier does not fit the benchmark's tasks.
        PluginError: The benchmark or the dataset cannot do it.
        DataError: There is no source, or one cannot be replayed; the folder holds something else.
        SimulationError: See `collect`.
    """
    benchmark = recipe.benchmark.demonstrating()
    tasks = [task.name for task in benchmark.tasks()]
    if problems := multiplier.check(tasks):
        misfit = f"Multiplier '{multiplier.type}' does not fit the benchmark's tasks:"
        raise RecipeError("\n  ".join([misfit, *problems]), "Correct it, or choose other tasks.")
    if not benchmark.guided:
        raise PluginError(
            f"The simulator of benchmark '{benchmark.type}' cannot be guided from pose to pose.",
            "Name a benchmark whose simulator says where objects are and follows poses (`guided`).",
        )
    there, content = open_sources(recipe, store, reporter)
    sources = _chosen(there, tasks, multiplier.sources)
    made_of = {
        "multiplier": {"options": multiplier.model_dump(mode="json"), "code": identity(multiplier, recipe.registry)},
        "benchmark": collected_by(benchmark),
        "worker": worker_code(),
        "data": content,
        "sources": [
            {"task": one.task, "attempt": one.attempt, "initial_state": one.initial_state, "steps": len(one.actions)}
            for one in sources
        ],
    }
    claim(folder, PROVENANCE, made_of)
    expert = next((str(one.facts["expert"]) for one in sources if one.facts.get("expert")), "an unknown expert")
    facts = {
        "expert": f"{multiplier.type} from {expert}",
        "recorded_by": "vpolicy data multiply",
        "benchmark": benchmark.type,
    }

    def begin(pool: WorkerPool) -> Ask:
        return _guiding(multiplier.build(_replayed(pool, sources)), facts)

    request = DemonstrationRequest(
        episodes_per_task=multiplier.episodes_per_task, first_attempt=1 + max(one.attempt for one in there)
    )
    writer = recipe.required_data().writer(folder, benchmark.spaces())
    found = collect(
        benchmark,
        request,
        writer,
        interpreter(benchmark.launch(), say=reporter.line),
        min(recipe.eval.workers, os.cpu_count() or 1),
        folder / LOGS,
        reporter,
        begin,
        "multiply demonstrations",
    )
    outcomes = _outcomes(writer, found.episodes)
    with storage_errors(folder):
        write_json(folder / PROVENANCE, {**made_of, "tasks": {task: vars(one) for task, one in outcomes.items()}})
    return outcomes


def _chosen(there: Sequence[Episode], tasks: Sequence[str], most: int) -> list[Episode]:
    """The first recorded episodes of every task.

    Raises:
        DataError: There is none of a task.
    """
    chosen = []
    for task in tasks:
        own = [episode for episode in there if episode.task == task][:most]
        if not own:
            raise DataError(
                f"There is no demonstration of task '{task}' to multiply.",
                "Record one of every task, or leave the task out of the benchmark's.",
            )
        chosen += own
    return chosen


def _replayed(pool: WorkerPool, episodes: Sequence[Episode]) -> list[Source]:
    """Where things were in recorded episodes.

    Raises:
        DataError: One of them did not happen like this in this simulator.
        SimulationError: The simulator fails.
    """
    answers: dict[int, Mapping[str, Any]] = {}
    running: dict[int, int] = {}
    waiting = list(range(len(episodes)))
    while waiting or running:
        for worker in range(len(pool)):
            if worker not in running and waiting:
                running[worker] = number = waiting.pop(0)
                one = episodes[number]
                pool.send(worker, "replay", task=one.task, attempt=one.attempt, states=one.states, actions=one.actions)
        for worker, answer in pool.wait():
            if isinstance(answer, SimulationError):
                raise answer
            answers[running.pop(worker)] = answer
    return [_source(one, answers[number]) for number, one in enumerate(episodes)]


def _source(episode: Episode, answer: Mapping[str, Any]) -> Source:
    ensure_as_recorded(episode, answer)
    name = f"attempt {episode.attempt}"
    return Source(name, episode.task, answer["hand"], answer["targets"], answer["gripper"], answer["frames"])


def _guiding(multiplier: Multiplier, facts: Mapping[str, str]) -> Ask:
    def ask(task: str, attempt: int) -> Conversation:
        scene = _scene((yield "guide", {"task": task, "attempt": attempt}))
        said: dict[str, Any] = {}
        motions = multiplier.guide(task, attempt, scene)
        motion = next(motions, None)
        while motion is not None:
            called = {"targets": motion.targets, "gripper": motion.gripper, "noise": motion.noise}
            answer = yield "follow", called
            said.update(motion.facts)
            if answer["done"]:
                break
            try:
                motion = motions.send(_scene(answer))
            except StopIteration:
                break
        recorded = yield "recorded", {}
        return {**recorded, "facts": {**recorded.get("facts", {}), **facts, **said}}

    return ask


def _scene(answer: Mapping[str, Any]) -> Scene:
    return Scene(answer["hand"], answer["frames"])


def _outcomes(writer: EpisodeWriter, kept: Mapping[str, int]) -> dict[str, Outcome]:
    tried = writer.present()
    outcomes = {}
    for task, count in kept.items():
        attempts = tried.get(task, {})
        outcomes[task] = Outcome(len(attempts), sum(attempts.values()), count)
    return outcomes
