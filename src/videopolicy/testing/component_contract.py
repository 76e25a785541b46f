"""What every component promises, and what several kinds of models promise alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from videopolicy.components.kinds import Component
from videopolicy.components.plugins import Plugin
from videopolicy.components.registry import Registry
from videopolicy.spaces import Spaces
from videopolicy.testing.toy_data import toy_spaces
from videopolicy.types import Batch, Observation, RowGenerator

COMPONENT = pytest.StashKey[Component]()
"""Where `videopolicy.testing.run_contract` puts the component that it was asked to check."""

TRAINING_STEPS = 8


class ComponentContract:
    """Checks of the component itself; subclasses add those of what it builds."""

    @pytest.fixture
    def component(self, request: pytest.FixtureRequest) -> Any:
        """The component under test; authors override this."""
        chosen = request.config.stash.get(COMPONENT, None)
        if chosen is None:
            pytest.fail("Override the fixture `component` in your test class; it returns the component to check.")
        return chosen

    @pytest.fixture
    def spaces(self) -> Spaces:
        """What the robot sees and does; authors whose part needs particular cameras override this."""
        return toy_spaces()

    def test_has_one_name(self, component: Component) -> None:
        assert component.type == type(component).name(), (
            f"`type` is '{component.type}' and the class is called '{type(component).name()}'; "
            'declare `type: Literal["my-name"] = "my-name"`.'
        )

    def test_survives_being_written_to_a_recipe(self, component: Component) -> None:
        registry = Registry([Plugin("under test", "tests", list(dict.fromkeys(_classes(component))))])
        written = component.model_dump(mode="json")
        again = type(component).model_validate(written, context={"registry": registry})
        assert again == component, f"Written to a recipe and read back, {component!r} became {again!r}."

    def test_refuses_an_unknown_field(self, component: Component) -> None:
        with pytest.raises(ValidationError, match="no_such_field"):
            type(component).model_validate({**component.model_dump(mode="json"), "no_such_field": 1})

    def test_is_found_without_importing_torch(self, component: Component) -> None:
        module = type(component).__module__
        if module.startswith("vpolicy_file_") or module == "__main__":
            pytest.skip("A single file is imported only by the recipes that name it.")
        code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", errors="replace")
        if "ModuleNotFoundError" in done.stderr and f"'{module.split('.')[0]}'" in done.stderr:
            pytest.skip(f"{module} is part of a test, not of an installed package.")
        assert done.returncode == 0, (
            f"Importing {module} imports torch{': ' + done.stderr if done.stderr else ''}. "
            "Import heavy modules inside `build`, so that listing plugins and reading recipes stay quick."
        )


def _classes(component: Component) -> Iterable[type[Component]]:
    yield type(component)
    for part in component.parts().values():
        yield from _classes(part)


def built(build: Callable[[], Any], seed: int = 0) -> Any:
    """Build a model with seeded initial weights, in evaluation mode."""
    torch.manual_seed(seed)
    return build().eval()


def generators(rows: int, seed: int = 0) -> RowGenerator:
    return RowGenerator.from_seeds([100 * seed + row for row in range(rows)])


def fits(problems: list[str]) -> None:
    """Skip what cannot be built on the toy spaces; the component itself says why."""
    if problems:
        pytest.fail(f"The part does not fit the fixtures of this test: {'; '.join(problems)}. Override `spaces`.")


def mixed(first: Observation, second: Observation) -> Observation:
    """Row 0 of the first observation with the other rows of the second."""

    def mix(one: Tensor, other: Tensor) -> Tensor:
        return torch.cat([one[:1], other[1:]])

    return replace(
        first,
        images={name: mix(image, second.images[name]) for name, image in first.images.items()},
        instructions=first.instructions[:1] + second.instructions[1:],
        state=mix(first.state, second.state) if first.state is not None and second.state is not None else None,
    )


def equal(one: Tensor, other: Tensor, what: str) -> None:
    """Fail with ``what`` unless two tensors are the same to the last bit."""
    assert one.shape == other.shape, f"{what}: shapes are {tuple(one.shape)} and {tuple(other.shape)}."
    difference = (one.double() - other.double()).abs().max().item() if one.numel() else 0.0
    assert torch.equal(one, other), f"{what}: values differ by up to {difference:.3g}."


def healthy(values: Tensor, shape: tuple[int, ...], what: str) -> None:
    assert tuple(values.shape) == shape, f"{what} has shape {tuple(values.shape)}, not {shape}."
    assert values.is_floating_point(), f"{what} is of type {values.dtype}, not a floating-point type."
    assert torch.isfinite(values).all(), f"{what} contains NaN or infinity."


def sound_losses(losses: dict[str, Tensor]) -> None:
    assert losses, "The loss is an empty mapping; return at least one named loss."
    for name, value in losses.items():
        assert isinstance(name, str), f"Losses are named by strings, not by {name!r}."
        assert isinstance(value, Tensor) and value.ndim == 0, f"Loss '{name}' is not a scalar tensor: {value!r}."
        assert torch.isfinite(value), f"Loss '{name}' is {value.item()}."


def trains(model: nn.Module, losses: Callable[[int], dict[str, Tensor]], groups: Iterable[dict[str, Any]]) -> None:
    """Train a few steps: every trainable parameter must be reached, and no frozen one may move.

    Args:
        model: What is trained.
        losses: The losses at a step; called again at every step.
        groups: Parameter groups for the optimiser.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    trainable = {parameter for parameter in names if parameter.requires_grad}
    frozen = {name: parameter.detach().clone() for parameter, name in names.items() if not parameter.requires_grad}
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped)), "`parameter_groups` names a parameter twice."
    assert set(grouped) == trainable, (
        "`parameter_groups` and the parameters that require gradients differ: "
        f"{sorted(names.get(parameter, 'one of another module') for parameter in set(grouped) ^ trainable)[:5]}."
    )
    model.train()
    missed = set(trainable)
    optimizer = torch.optim.AdamW(grouped, lr=1e-3) if grouped else None
    for step in range(TRAINING_STEPS if optimizer else 1):
        torch.manual_seed(step)
        found = losses(step)
        sound_losses(found)
        if optimizer is None:
            break
        optimizer.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        without = sorted(names[parameter] for parameter in trainable if parameter.grad is None)
        assert not (without and getattr(model, "every_parameter_learns", False)), (
            f"`every_parameter_learns`, but at step {step} these parameters have no gradient: {without[:8]}. "
            "Leave it False, or add them to the loss with a factor of 0."
        )
        missed = {parameter for parameter in missed if parameter.grad is None or not parameter.grad.abs().any()}
        optimizer.step()
        if not missed:
            break
    assert not missed, (
        f"After {TRAINING_STEPS} steps these trainable parameters have had no gradient: "
        f"{sorted(names[parameter] for parameter in missed)[:8]}. Use them, or set `requires_grad_(False)`."
    )
    for name, before in frozen.items():
        equal(model.get_parameter(name), before, f"The frozen parameter '{name}' has moved")
    model.eval()


def reloads(build: Callable[[], Any], output: Callable[[Any], Tensor]) -> None:
    """A state dict must carry everything: a differently initialised twin gives the same output after loading."""
    model, twin = built(build, seed=0), built(build, seed=1)
    twin.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})
    equal(output(twin), output(model), "After loading the state dict into a new object, the output")


def without_future(batch: Batch) -> Batch:
    """The same batch without what only training sees."""
    return Batch(batch.observation)
