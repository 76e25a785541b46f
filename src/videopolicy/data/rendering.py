"""Recorded episodes seen in another way: their states are put back into the simulator, and pictures are made of them.

Only the pictures are new. Actions, states, sentences and whatever else was recorded are carried over as they are.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from videopolicy.components.kinds import BenchmarkComponent
from videopolicy.console.progress import Reporter
from videopolicy.contracts.benchmark import Task
from videopolicy.contracts.dataset import Episode
from videopolicy.data.collection import Ask, Conversation, Plan, record
from videopolicy.data.sources import LOGS, claim, ensure_as_recorded, open_sources
from videopolicy.errors import DataError, PluginError, RecipeError, SimulationError, listing
from videopolicy.recipes.recipe import Recipe
from videopolicy.simulators.environments import interpreter, worker_code
from videopolicy.storage.files import storage_errors, write_json
from videopolicy.storage.identity import collected_by, simulator_identity
from videopolicy.storage.store import Store

PROVENANCE = "rendered.json"
"""File in the folder that says what was rendered, and how."""


def render(
    recipe: Recipe, target: BenchmarkComponent, folder: Path, store: Store, reporter: Reporter
) -> dict[str, int]:
    """Render the recorded episodes of a recipe, or go on with it; they are collected first where they have to be.

    Args:
        recipe: Of whose data new pictures are made.
        target: Its benchmark with other cameras, sizes, rendering or versions of the simulator.
        folder: Where the new dataset is to lie, in the layout of the recipe's.
        store: Where the recipe's data are looked for.
        reporter: Shows progress.

    Returns:
        Episodes by task.

    Raises:
        RecipeError: The target is the same benchmark, or one with other tasks, actions or another state vector.
        PluginError: The benchmark or the dataset cannot do it.
        DataError: An episode is none of the benchmark's, or fails when it is replayed; the folder holds something else.
        SimulationError: The simulator cannot be started or keeps failing.
    """
    recorded, target = recipe.benchmark.demonstrating(), target.demonstrating()
    _ensure_only_seen_otherwise(recorded, target)
    if not target.rerenders:
        raise PluginError(
            f"The simulator of benchmark '{target.type}' cannot render recorded states.",
            "Collect demonstrations with the new cameras instead, or use a benchmark that can (`rerenders`).",
        )
    episodes, content = open_sources(recipe, store, reporter)
    sources = _by_task(episodes, target)
    made_of = {
        "recording": collected_by(recorded),
        "rendering": collected_by(target),
        "worker": worker_code(),
        "data": content,
    }
    claim(folder, PROVENANCE, made_of)
    same = simulator_identity(recorded.launch()) == simulator_identity(target.launch())
    found = record(
        target,
        [_Rendered(task, sources[task.name]) for task in target.tasks() if task.name in sources],
        recipe.required_data().writer(folder, target.spaces()),
        interpreter(target.launch(), say=reporter.line),
        min(recipe.eval.workers, os.cpu_count() or 1),
        folder / LOGS,
        reporter,
        lambda pool: _rendering(sources, same),
        "render demonstrations",
    )
    with storage_errors(folder):
        write_json(folder / PROVENANCE, {**made_of, "episodes": found.episodes})
    return found.episodes


def _ensure_only_seen_otherwise(recorded: BenchmarkComponent, target: BenchmarkComponent) -> None:
    """Check that what differs is how the same episodes are seen.

    Raises:
        RecipeError: Something else does, or nothing.
    """
    ours, theirs = recorded.spaces(), target.spaces()
    parts = {
        "benchmark": (recorded.type, target.type),
        "tasks": (recorded.tasks(), target.tasks()),
        "actions": (ours.actions, theirs.actions),
        "state vector": (ours.state, theirs.state),
    }
    if changed := [name for name, (one, other) in parts.items() if one != other]:
        raise RecipeError(
            f"Rendering cannot change the {changed[0]}: what was recorded would mean something else.",
            "With --as, change cameras, their size, rendering or the simulator's version only.",
        )
    if recorded == target:
        raise RecipeError(
            "What --as says changes nothing in demonstrations: they look like this already.",
            "Name what is to differ, such as --as benchmark.image_size=256.",
        )


def _by_task(episodes: Sequence[Episode], target: BenchmarkComponent) -> dict[str, dict[int, Episode]]:
    """Episodes by task and attempt, in the order of the data.

    Raises:
        DataError: There is none, one of a task that the benchmark does not have, or two of the same attempt.
    """
    if not episodes:
        raise DataError("There is no episode to render.", "Name data that hold some.")
    known = [task.name for task in target.tasks()]
    sources: defaultdict[str, dict[int, Episode]] = defaultdict(dict)
    for one in episodes:
        if one.task not in known:
            raise DataError(
                f"The data hold a demonstration of '{one.task}', which is no task of the recipe's benchmark "
                f"({listing(known)}).",
                "Name the data's tasks in the benchmark section, or leave this one out of the data.",
            )
        if one.attempt in sources[one.task]:
            raise DataError(
                f"The data hold attempt {one.attempt} of task '{one.task}' twice.",
                "Render the collections one by one.",
            )
        sources[one.task][one.attempt] = one
    return dict(sources)


class _Rendered(Plan):
    """The attempts that were recorded, all of which have to succeed again."""

    def __init__(self, task: Task, sources: Mapping[int, Episode]) -> None:
        super().__init__(task, len(sources))
        self.sources = sources

    def chosen(self) -> list[int]:
        return [attempt for attempt in self.sources if self.known.get(attempt)]

    def next(self) -> int | None:
        return next((one for one in self.sources if one not in self.known and one not in self.running), None)

    def give_up(self, attempt: int, error: SimulationError) -> None:
        """Stop: an episode that is missing would not be noticed.

        Raises:
            SimulationError: Always.
        """
        raise SimulationError(
            f"Attempt {attempt} of task '{self.task.name}' cannot be rendered. {error.message}",
            f"What was rendered is kept: the same command goes on with the rest. {error.hint}",
        ) from error

    def episode(self, attempt: int, answer: dict[str, Any] | None) -> Episode:
        assert answer is not None  # nothing is given up
        return replace(self.sources[attempt], images=answer["images"])


def _rendering(sources: Mapping[str, Mapping[int, Episode]], same_simulator: bool) -> Ask:
    def ask(task: str, attempt: int) -> Conversation:
        one = sources[task][attempt]
        answer = yield "render", {"task": task, "attempt": attempt, "states": one.states}
        ensure_as_recorded(one, answer, same_simulator)
        return dict(answer)

    return ask
