"""Trains the stages of several recipes: what they share once, and all that is ready at the same time."""

from __future__ import annotations

from collections.abc import Sequence

from videopolicy.console.progress import Reporter
from videopolicy.data.own import open_own
from videopolicy.data.preparation import prepare_data
from videopolicy.errors import VpolicyError
from videopolicy.executors.sender import Sender
from videopolicy.executors.units import StageUnit, Workplace, recipe_text
from videopolicy.recipes.recipe import Recipe
from videopolicy.storage.provenance import StageFacts
from videopolicy.storage.store import Store
from videopolicy.training.inputs import ensure_inputs
from videopolicy.training.planning import PlannedStage, plan


def train_all(recipes: Sequence[Recipe], store: Store, sender: Sender, reporter: Reporter) -> dict[str, StageFacts]:
    """Train all stages of all recipes that are not trained yet.

    Demonstrations are collected here, one recipe after the other.

    Args:
        recipes: The recipes, such as the rows of an ablation.
        store: Where results lie, for all nodes.
        sender: Carries out units.
        reporter: Shows progress.

    Returns:
        The facts of every stage that was trained now, by key.

    Raises:
        ExecutionError: Stages have failed for good. Raised last: all that do not build on them are finished.
        VpolicyError: Of a recipe's data or weights.
    """
    planned: list[tuple[Recipe, PlannedStage]] = []
    for recipe in recipes:
        ensure_inputs(recipe)
        dataset = prepare_data(recipe, store, reporter).dataset if recipe.data else None
        own = open_own(recipe, dataset, store, reporter)
        planned += [(recipe, one) for one in plan(recipe, dataset, store, own)]
    return train_planned(planned, store, sender, reporter)


def train_planned(
    planned: Sequence[tuple[Recipe, PlannedStage]], store: Store, sender: Sender, reporter: Reporter
) -> dict[str, StageFacts]:
    """Train what is missing of stages whose data is there, as `train_all` does.

    Every wave holds the stages whose earlier stages are finished, each distinct one once.
    """
    waiting: dict[str, tuple[Recipe, PlannedStage]] = {}
    for recipe, one in planned:
        if one.facts is None:
            waiting.setdefault(one.key, (recipe, one))
    workplace = Workplace.here(store)
    trained: dict[str, StageFacts] = {}
    lost: set[str] = set()
    errors: list[VpolicyError] = []
    while waiting:
        wave = [
            StageUnit(workplace, recipe_text(recipe), one.stage.name, one.key, one.stage.devices)
            for recipe, one in waiting.values()
            if not any(source.key in waiting for source, _ in one.sources)
        ]
        try:
            for outcome in sender.succeeded(wave, store.root / "logs" / "units", reporter):
                assert isinstance(outcome.unit, StageUnit) and isinstance(outcome.value, StageFacts)
                trained[outcome.unit.key] = outcome.value
                reporter.line(_summary(outcome.value))
        except VpolicyError as error:
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


def _summary(facts: StageFacts) -> str:
    losses = "".join(f", loss {name} {value:.3f}" for name, value in facts.final_losses.items())
    remarks = "".join(f"; {remark}" for remark in facts.remarks)
    return f"train {facts.name}: {facts.steps} steps in {facts.seconds or 0.0:.0f} s{losses}{remarks}"
