"""Options that matter only when a policy acts belong to a run's identity and to no stage's key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from videopolicy.contracts.dataset import Dataset
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage.store import Store
from videopolicy.training.planning import plan

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


class _Data:
    """Stands for a dataset that need not exist: planning asks for its fingerprint alone."""

    def fingerprint(self, actions: bool = True) -> str:
        return f"data, actions {actions}"


@pytest.fixture
def keys(tmp_path: Path) -> Callable[..., list[str]]:
    def of(name: str, *overrides: str) -> list[str]:
        planned = plan(load_recipe(RECIPES / name, overrides), cast(Dataset, _Data()), Store(tmp_path))
        return [one.key for one in planned]

    return of


@pytest.mark.parametrize(
    ("recipe", "override"),
    [
        ("quickstart.yaml", "policy.decoder.sampling_levels.steps=3"),
        ("quickstart.yaml", "policy.extractor.backbone.level_min=1"),
        ("video_policy_metaworld_small.yaml", "policy.extractor.guidance=2"),
        ("video_policy_metaworld_small.yaml", "policy.decoder.sampling_levels.steps=2"),
        ("uva_metaworld_small.yaml", "policy.joint.video_steps=4"),
        ("uva_metaworld_small.yaml", "policy.action.head.sampling_steps=16"),
        ("uva_metaworld_small.yaml", "policy.action.head.temperature=0.5"),
    ],
)
def test_what_matters_only_when_acting_trains_nothing_anew(keys: Callable[..., list[str]], recipe: str, override: str):
    assert keys(recipe, override) == keys(recipe)


@pytest.mark.parametrize(
    ("recipe", "override"),
    [
        ("quickstart.yaml", "policy.extractor.former.depth=2"),
        ("quickstart.yaml", "policy.decoder.training_levels.median=1"),
        ("uva_metaworld_small.yaml", "policy.action.head.depth=4"),
    ],
)
def test_everything_else_does(keys: Callable[..., list[str]], recipe: str, override: str):
    assert keys(recipe, override)[-1] != keys(recipe)[-1]
