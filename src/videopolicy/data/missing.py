"""What a recipe lacks on this machine: all of it is said at once, before anything is fetched, made or trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from videopolicy.components.kinds import Component, DatasetComponent
from videopolicy.data.preparation import is_collected
from videopolicy.errors import DataError, SimulationError, VpolicyError
from videopolicy.recipes.recipe import Recipe
from videopolicy.simulators.environments import check_rendering, checks_rendering, interpreter, to_be_made
from videopolicy.storage.store import Store
from videopolicy.training.inputs import ensure_scaling, ensure_weights_of
from videopolicy.weights import ToBeFetchedError, looking_only

Kind = Literal["simulator", "data", "weights"]
_SORTS: tuple[Kind, ...] = ("simulator", "data", "weights")
"""Cheapest first."""


class MissingInputsError(VpolicyError):
    """Several things that a recipe needs are not on this machine."""


@dataclass(frozen=True)
class Missing:
    """Something that is not on this machine.

    Args:
        kind: What it is a part of.
        error: What would be raised for its sake.
        comes: Whether it is fetched or made by itself when everything else is there.
    """

    kind: Kind
    error: VpolicyError
    comes: bool = False

    @property
    def text(self) -> str:
        """One sentence, and a hint below it where somebody has to do something."""
        lines = self.error.message.splitlines()
        if not self.comes and self.error.hint:
            lines += self.error.hint.splitlines()
        return "\n".join([f"{self.kind:<9}  {lines[0]}", *(f"{'':<11}{line}" for line in lines[1:])])


def missing(recipe: Recipe, store: Store, rendering: bool = False, hub: bool = False) -> list[Missing]:
    """What is not here of a recipe's simulator, data and weights.

    Args:
        recipe: The recipe.
        store: Where artifacts lie.
        rendering: Render a picture, where the simulator is there.
        hub: Ask the hub whether it would give what is not here; without it, nothing leaves this machine.
    """
    found = [*_of_simulator(recipe, store, rendering), *_of_data(recipe), *_of_weights(recipe, hub)]
    different = {(one.kind, one.error.message): one for one in found}
    return sorted(different.values(), key=lambda one: _SORTS.index(one.kind))


def ensure_nothing_missing(
    recipe: Recipe, store: Store, rendering: bool = False, say: Callable[[str], None] = lambda text: None
) -> None:
    """Look at simulator, data and weights before anything is fetched or made.

    Args:
        recipe: The recipe.
        store: Where artifacts lie.
        rendering: Whether the simulator renders on this machine.
        say: Gets one line for everything that will be fetched or made.

    Raises:
        MissingInputsError: Several things are missing; the message lists them, and what would be downloaded.
        VpolicyError: One is: its own error.
    """
    found = missing(recipe, store, rendering)
    if found and all(one.comes for one in found):
        found = missing(recipe, store, hub=True)  # asking costs no download
    if all(one.comes for one in found):
        for one in found:
            say(f"{one.kind}: {one.error.message}")
        return
    if len(found) == 1:
        raise found[0].error
    lines = "\n".join(f"  {line}" for one in found for line in one.text.splitlines())
    raise MissingInputsError(
        f"'{recipe.name}' lacks what it needs; nothing has been downloaded or made yet:\n{lines}",
        "Provide what is missing and run the same command again.",
    )


def _of_simulator(recipe: Recipe, store: Store, rendering: bool) -> Iterator[Missing]:
    yield from _of_component("simulator", recipe.benchmark)
    try:
        if not recipe.eval.episodes and (recipe.data is None or is_collected(recipe, store)):
            return
        spec = recipe.benchmark.launch()
        if making := to_be_made(spec):
            yield Missing("simulator", SimulationError(making), comes=True)
        elif rendering and checks_rendering(spec):
            check_rendering(spec, interpreter(spec))
    except SimulationError as error:
        yield Missing("simulator", error)
    except NotImplementedError:
        what = f"Benchmark '{recipe.benchmark.type}' does not say how its simulator is started."
        yield Missing("simulator", SimulationError(what, "Implement `launch`, or train with eval.episodes=0."))


def _of_data(recipe: Recipe) -> Iterator[Missing]:
    for component in recipe.components():
        if not isinstance(component, DatasetComponent):
            continue
        path = getattr(component, "path", None)
        if component.demonstrations() is None and isinstance(path, Path) and not path.exists():
            hint = "Correct `path` in the recipe's data section, or put the data there."
            yield Missing("data", DataError(f"The dataset {path} does not exist.", hint))
        yield from _of_component("data", component)


def _of_weights(recipe: Recipe, hub: bool) -> Iterator[Missing]:
    for component in recipe.components():
        if component != recipe.benchmark and not isinstance(component, DatasetComponent):
            yield from _of_component("weights", component, hub)
    checks = [partial(ensure_weights_of, stage) for stage in recipe.train]
    for check in (*checks, partial(ensure_scaling, recipe)):
        try:
            check()
        except VpolicyError as error:
            yield Missing("weights", error)


def _of_component(kind: Kind, component: Component, hub: bool = False) -> Iterator[Missing]:
    try:
        with looking_only(hub):
            component.fetch()
    except ToBeFetchedError as error:
        yield Missing(kind, error, comes=True)
    except VpolicyError as error:
        yield Missing(kind, error)
