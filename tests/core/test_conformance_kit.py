"""The kit passes sound parts, and says of a broken one what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from videopolicy.components.plugins import Plugin, file_plugin
from videopolicy.components.registry import Registry
from videopolicy.components.text import WordText
from videopolicy.errors import PluginError, RecipeError
from videopolicy.testing import (
    BackboneContract,
    BenchmarkContract,
    DatasetContract,
    DecoderContract,
    ExtractorContract,
    PolicyContract,
    TextContract,
    run_contract,
    toys,
)
from videopolicy.testing.toy_benchmark import ToyBenchmark
from videopolicy.testing.toy_dataset import ToyDataset


class TestToyBackbone(BackboneContract):
    @pytest.fixture
    def component(self) -> toys.ToyBackbone:
        return toys.ToyBackbone()


class TestToyExtractor(ExtractorContract):
    @pytest.fixture
    def component(self) -> toys.ToyExtractor:
        return toys.ToyExtractor()


class TestToyTaps(ExtractorContract):
    @pytest.fixture
    def component(self) -> toys.ToyTaps:
        return toys.ToyTaps(backbone=toys.ToyBackbone(size=16))


class TestToyDecoder(DecoderContract):
    @pytest.fixture
    def component(self) -> toys.ToyDecoder:
        return toys.ToyDecoder()


class TestToyPolicy(PolicyContract):
    @pytest.fixture
    def component(self) -> toys.ToyPolicy:
        return toys.ToyPolicy()


class TestModularPolicy(PolicyContract):
    @pytest.fixture
    def component(self):
        from videopolicy.components.modular import Modular

        return Modular(extractor=toys.ToyExtractor(), decoder=toys.ToyDecoder())


class TestWordText(TextContract):
    @pytest.fixture
    def component(self) -> WordText:
        return WordText(width=16, buckets=64)


class TestToyDataset(DatasetContract):
    @pytest.fixture
    def component(self) -> ToyDataset:
        return ToyDataset(validation=0.3)


class TestToyBenchmark(BenchmarkContract):
    @pytest.fixture
    def component(self) -> ToyBenchmark:
        return ToyBenchmark()


BROKEN = """
from typing import Literal

import torch
from torch import nn

from videopolicy import ActionDecoder, DecoderComponent


class Head(ActionDecoder):
    def __init__(self, dim, horizon, actions):
        super().__init__()
        self.linear = nn.Linear(dim, horizon * actions)
        self.forgotten = nn.Linear(2, 2)
        self.shape = (horizon, actions)

    def predict(self, branches):
        return self.linear(branches[0].tokens.mean(1)).unflatten(1, self.shape)

    def loss(self, stream, actions, mask):
        return (self.predict(stream.at(torch.ones(len(actions)))) - actions).abs().mean()

    def sample(self, stream, generator):
        actions = self.predict(stream.at(torch.ones(len(generator))))
        return actions - actions.mean(0) + torch.randn_like(actions)


class Broken(DecoderComponent):
    type: Literal["broken"] = "broken"
    horizon: int = 4

    def build(self, layout, spaces):
        return Head(layout.dim, self.horizon, spaces.actions.dim)
"""


def test_a_broken_decoder_is_told_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    registry = Registry([file_plugin(tmp_path / "broken.py")])
    assert run_contract("decoder", "broken", {}, registry) == 1
    said = capsys.readouterr().out
    for sentence in (
        "With the same generators, the chunk (draw all noise from the rows' generators): values differ",
        "The chunk of a row depends on the others in its batch",
        "With other values in masked actions, the loss: values differ",
        "A branch of weight 0 changes the actions",
        "these trainable parameters have had no gradient: ['forgotten.bias', 'forgotten.weight']",
    ):
        assert sentence in said
    assert "Traceback" not in said


def test_what_every_check_stumbles_over_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = BROKEN.replace("        return Head(", "        raise FloatingPointError('no head')\n        return Head(")
    (tmp_path / "broken.py").write_text(broken)
    assert run_contract("decoder", "broken", {}, Registry([file_plugin(tmp_path / "broken.py")])) == 1
    said = capsys.readouterr().out
    details, _, outcome = said.partition("short test summary info")
    assert "failed" in outcome or "error" in outcome
    assert details.count("E   FloatingPointError: no head") == 1 and details.count("The same as in test_") > 4


CARELESS = """
from typing import Literal

from videopolicy import hookimpl
from videopolicy.testing.toy_models import ToyReflex
from videopolicy.testing.toys import ToyPolicy


class Counts(ToyReflex):
    calls = 0

    def reset(self, rows):
        self.calls = 0

    def act(self, observation, generator):
        self.calls += 1
        return super().act(observation, generator) + self.calls


class Careless(ToyPolicy):
    \"\"\"Counts how often it was asked, and not about whom.\"\"\"

    type: Literal["careless"] = "careless"

    def build(self, spaces):
        return Counts(self.window(), len(spaces.cameras), spaces.actions.dim)


@hookimpl
def vpolicy_components():
    return [Careless]
"""


def test_a_policy_that_minds_rows_of_nobody_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "careless.py").write_text(CARELESS)
    registry = Registry([file_plugin(tmp_path / "careless.py")])
    assert run_contract("policy", "careless", {}, registry) == 1
    said = capsys.readouterr().out
    assert "The chunk of rows that were not asked about in an earlier call" in said and "Observation.rows" in said


def test_a_sound_component_passes_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry([Plugin("toys", "tests", toys.vpolicy_components())])
    assert run_contract("decoder", "toy", {"horizon": 2, "steps": 2}, registry) == 0
    assert " passed" in capsys.readouterr().out


def test_what_cannot_be_checked_is_explained() -> None:
    registry = Registry([Plugin("toys", "tests", toys.vpolicy_components())])
    with pytest.raises(PluginError, match=r"no decoder named 'tooy'\. Did you mean 'toy'\?"):
        run_contract("decoder", "tooy", {}, registry)
    with pytest.raises(
        RecipeError, match=r"'toy' cannot be made of these options: horizn: .* Did you mean 'horizon'\?"
    ):
        run_contract("decoder", "toy", {"horizn": 2}, registry)


SILENT = """
from videopolicy.testing.toy_models import ToyReflex
from videopolicy.testing.toys import ToyPolicy


class Model(ToyReflex):
    clip_offsets = (1,)

    def predict_video(self, observation, generator, actions=None, steps=30, guidance=1.0):
        return next(iter(observation.images.values()))[:, None, -1:]


class Silent(ToyPolicy):
    type: Literal["silent"] = "silent"

    def build(self, spaces):
        return Model(self.window(), len(spaces.cameras), spaces.actions.dim)
"""


def test_a_policy_that_predicts_video_and_does_not_say_so_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "silent.py").write_text(f"from typing import Literal\n{SILENT}")
    registry = Registry([file_plugin(tmp_path / "silent.py")])
    assert run_contract("policy", "silent", {}, registry) == 1
    assert "lacks `clip_offsets` or `predicted_cameras`" in capsys.readouterr().out
