"""What an importer promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from videopolicy.components.kinds import ImporterComponent
from videopolicy.contracts.importer import Checkpoint
from videopolicy.errors import WeightsError
from videopolicy.testing.component_contract import ComponentContract


class ImporterContract(ComponentContract):
    """Checks that an importer accounts for everything in a checkpoint.

    Override ``checkpoint`` with a small one of the published layout; without it, only errors are checked.
    """

    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        """What the importer reads."""
        pytest.skip("Override the fixture `checkpoint` to check what is imported.")

    @pytest.fixture
    def keys(self) -> tuple[str, ...]:
        """Where the state dict lies, keys one inside the other; empty for where `Checkpoint.state` looks."""
        return ()

    def test_refuses_a_checkpoint_of_something_else(self, component: ImporterComponent) -> None:
        stranger = Checkpoint(Path("stranger.pt"), {"no.such.weight": torch.zeros(2)})
        try:
            imported = component.convert(stranger)
        except WeightsError:
            return
        assert "no.such.weight" in imported.unexpected, "A tensor that nobody knows must be listed in `unexpected`."

    def test_gives_tensors_of_the_checkpoint(
        self, component: ImporterComponent, checkpoint: Checkpoint, keys: tuple[str, ...]
    ) -> None:
        imported = component.convert(checkpoint)
        assert imported.unexpected == [] and imported.missing == [], "A whole checkpoint has nothing odd."
        names = [name for part in imported.parts.values() for name in part]
        assert names, "Nothing was imported."
        assert len(names) == len(set(names)), "A name stands in two parts."
        values = [value for part in imported.parts.values() for value in part.values()]
        assert all(isinstance(value, Tensor) for value in values)
        beside = [name for depth in range(len(keys)) for name in _below(checkpoint, keys[:depth])]
        known = {*_below(checkpoint, keys), *beside} if keys else set(checkpoint.state)
        assert set(imported.dropped) <= known, "`dropped` names what the checkpoint does not have."

    def test_lists_what_it_does_not_know(
        self, component: ImporterComponent, checkpoint: Checkpoint, keys: tuple[str, ...]
    ) -> None:
        content = {**(_below(checkpoint, keys) if keys else checkpoint.state), "no.such.weight": torch.zeros(2)}
        for depth in reversed(range(len(keys))):
            content = {**_below(checkpoint, keys[:depth]), keys[depth]: content}
        assert "no.such.weight" in component.convert(Checkpoint(checkpoint.path, content)).unexpected


def _below(checkpoint: Checkpoint, keys: tuple[str, ...]) -> dict[str, Any]:
    node = checkpoint.content
    for key in keys:
        node = node[key]
    return dict(node)
