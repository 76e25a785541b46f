"""Trains the stages of several recipes: what they share once, and all that is ready at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from videopolicy.console.progress import Reporter
from videopolicy.data.preparation import prepare_data
from videopolicy.executors.engine import ExecutionError, Executor, succeeded
from videopolicy.executors.units import StageUnit, Workplace, recipe_text
from videopolicy.recipes.recipe import Recipe
from videopolicy.storage.store import Store
from videopolicy.training import stages
from videopolicy.training.stages import PlannedStage


def train_stages(
    recipes: Sequence[Recipe], store: Store, executor: Executor, reporter: Reporter
) -> dict[str, dict[str, Any]]:
    """Train all stages of all recipes that are not trained yet.

    Demonstrations are collected here, one recipe after the other.

    Args:
        recipes: The recipes, such as the rows of an ablation.
        store: Where results lie, for all nodes.
        executor: The engine.
        reporter: Shows progress.

    Returns:
        The facts of every stage that was trained now, by key.

    Raises:
        ExecutionError: Stages have failed for good. Raised last: all that do not build on them are finished.
        VpolicyError: Of a recipe's data or weights.
    """
    planned: list[tuple[Recipe, PlannedStage]] = []
    for recipe in recipes:
        stages.refuse_missing_weights(recipe)
        dataset = prepare_data(recipe, store, reporter)[0] if recipe.data else None
        planned += [(recipe, one) for one in stages.plan(recipe, dataset, store)]
    return train_planned(planned, store, executor, reporter)


def train_planned(
    planned: Sequence[tuple[Recipe, PlannedStage]], store: Store, executor: Executor, reporter: Reporter
) -> dict[str, dict[str, Any]]:
    """Train what is missing of stages whose data is there, as `train_stages` does.

    Every wave holds the stages whose earlier stages are finished, each distinct one once.
    """
    waiting: dict[str, tuple[Recipe, PlannedStage]] = {}
    for recipe, one in planned:
        if one.facts is None:
            waiting.setdefault(one.key, (recipe, one))
    workplace = Workplace.here(store)
    trained: dict[str, dict[str, Any]] = {}
    lost: set[str] = set()
    errors: list[ExecutionError] = []
    while waiting:
        wave = [
            StageUnit(workplace, recipe_text(recipe), one.stage.name, one.key, one.stage.devices)
            for recipe, one in waiting.values()
            if not any(source.key in waiting for source, _ in one.sources)
        ]
        try:
            for outcome in succeeded(executor, wave, store.root / "logs" / "units", reporter):
                assert isinstance(outcome.unit, StageUnit)
                trained[outcome.unit.key] = outcome.value
                if executor.name != "local":
                    reporter.line(_told(outcome.unit, outcome.value))
        except ExecutionError as error:
            errors.append(error)
        for unit in wave:
            one = waiting.pop(unit.key)[1]
            if one.facts is None:
                lost.add(unit.key)
        for key, (_, one) in list(waiting.items()):
            if any(source.key in lost for source, _ in one.sources):
                lost.add(key)
                del waiting[key]
    if errors:
        raise errors[0]
    return trained


def _told(unit: StageUnit, facts: dict[str, Any]) -> str:
    losses = "".join(f", loss {name} {value:.3f}" for name, value in facts["final_losses"].items())
    return f"train {unit.name}: {facts['steps']} steps in {facts['seconds']:.0f} s{losses}"
