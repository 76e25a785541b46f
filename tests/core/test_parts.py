"""What plugins share: groups of options, masked means, what is missing, and reading pickles."""

from __future__ import annotations

import pickle

import pytest
import torch
from pydantic import ValidationError

from videopolicy import Observation, RecipeError, SimulationError, Spaces
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.parts.masks import masked_mean, without_masked
from videopolicy.parts.no_simulator import BenchmarkWithoutSimulator
from videopolicy.parts.options import Options
from videopolicy.parts.pickles import restricted_unpickler
from videopolicy.parts.requirements import missing_cameras, missing_state, required_state, unknown_cameras
from videopolicy.testing import toy_spaces


class Shape(Options):
    width: int = 4


class Bench(BenchmarkWithoutSimulator):
    called = "Bench"
    type: str = "bench"


def test_options_are_strict_and_stay_as_they_are() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Shape(widht=3)
    with pytest.raises(ValidationError, match="frozen"):
        Shape().width = 3
    assert hash(Shape(width=3)) == hash(Shape(width=3))


def test_masked_values_reach_neither_mean_nor_gradient() -> None:
    values = torch.tensor([[1.0, 3.0], [torch.nan, torch.nan]], requires_grad=True)
    mean = masked_mean(values, torch.tensor([True, False]).unsqueeze(-1))
    mean.backward()
    assert mean.item() == 2 and values.grad.tolist() == [[0.5, 0.5], [0, 0]]
    nothing = masked_mean(values, torch.tensor(False))
    assert nothing.item() == 0 and torch.autograd.grad(nothing, values)[0].tolist() == [[0, 0], [0, 0]]
    draws = torch.tensor([[[1.0], [9.0]], [[3.0], [9.0]]])  # the mask of a batch counts for every draw
    assert masked_mean(draws, torch.tensor([True, False]).unsqueeze(-1)).item() == 2
    assert without_masked(values, torch.tensor([True, False])).tolist() == [[1, 3], [0, 0]]


def test_missing_state_and_cameras_are_said_alike() -> None:
    spaces = toy_spaces()
    blind = Spaces(cameras=(), actions=spaces.actions)
    assert missing_state("mine", True, spaces) == missing_state("mine", False, blind) == []
    assert missing_state("mine", True, blind) == [
        "mine has proprioception on, but the spaces have no state; set proprioception: false"
    ]
    assert missing_cameras("mine", spaces) == []
    assert missing_cameras("mine", blind) == ["mine needs at least one camera, the spaces have none"]
    assert unknown_cameras("mine predicts view", ("wrist",), spaces) == []
    assert unknown_cameras("mine predicts view", ("wrist", "top"), spaces) == [
        "mine predicts view top, and the cameras are front, wrist"
    ]
    state = torch.ones(1, 2, 3)
    assert required_state(Observation({}, [""], state), "The decoder") is state
    with pytest.raises(RecipeError, match=r"The decoder reads proprioception.* has no state") as caught:
        required_state(Observation({}, [""]), "The decoder")
    assert "proprioception: false" in caught.value.hint


def test_space_to_depth_loses_nothing() -> None:
    latent, images = SpaceToDepthLatent(patch=4, scaling_factor=2.0), torch.rand(2, 3, 8, 12)
    cells = latent.encode(images)
    assert cells.shape == (2, latent.latent_channels, 2, 3) and torch.equal(cells, 2 * latent.cells(images))
    assert torch.equal(latent.decode(cells), images)


def test_a_benchmark_without_a_simulator_says_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "__module__", "vpolicy_my_bench.components")
    with pytest.raises(SimulationError, match=r"Bench's simulator .* vpolicy-my-bench, .*evaluated") as caught:
        Bench().launch()
    assert "eval.episodes=0" in caught.value.hint


def test_an_unpickler_calls_what_is_permitted_and_nothing_else(tmp_path) -> None:
    met: list[str] = []
    permitted = {("collections", "OrderedDict"): dict, ("torch", "float32"): "a type"}
    path = tmp_path / "file"
    for content, found in (
        (b"ccollections\nOrderedDict\n)R.", {}),
        (b"ctorch\nfloat32\n.", "a type"),
        (b"cos\nsystem\n.", None),
        (b"\x80\x04\x8c\x0bcollections\x8c\x12OrderedDict.update\x93.", None),  # through a permitted name
    ):
        path.write_bytes(content)
        with path.open("rb") as file:
            assert restricted_unpickler(permitted, met.append)(file).load() == found
    assert met == ["os.system", "collections.OrderedDict.update"]
    path.write_bytes(b"ccollections\nOrderedDict\n}S'called'\nK\x01sb.")
    with path.open("rb") as file, pytest.raises((AttributeError, pickle.UnpicklingError)):
        restricted_unpickler(permitted, met.append)(file).load()
