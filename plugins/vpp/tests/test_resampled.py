"""Anybody's features behind VPP's formers: what is condensed, what is told apart, and when it is computed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from vpolicy_vpp.components import OneStep, Resampled
from vpolicy_vpp.options import VideoFormer, VideoFormer2D
from vpolicy_vpp.resampled import FrameReader, ResampledStream, fourier

from videopolicy import Branch, FeatureLayout, FeatureStream
from videopolicy.testing import toy_batch, toy_observation, toy_spaces
from videopolicy.testing.toys import ToyBackbone, ToyExtractor
from videopolicy.types import Window

SPACES = toy_spaces()
FORMER = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8, "latents_per_frame": 3}


def test_two_cameras_become_256_tokens_of_the_published_width() -> None:
    component = Resampled(extractor=ToyExtractor())
    assert component.layout(SPACES) == FeatureLayout(384, (("frames", 1), ("latents", 256)))
    assert component.check(SPACES) == []


def test_order_is_seen_with_positions_only() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(1, 32, 16)
    mixed = tokens[:, torch.randperm(32)]
    for bands, different in ((0, False), (4, True)):
        component = Resampled(extractor=ToyExtractor(), former=VideoFormer2D(**FORMER), position_bands=bands)
        reader = FrameReader(component, component.extractor.layout(SPACES))
        assert (not torch.allclose(reader(tokens), reader(mixed), atol=1e-4)) == different


def test_positions_are_those_of_the_perceiver() -> None:
    found = fourier((2, 3), 2)
    assert found.shape == (6, 2 * 5) and fourier((2, 3), 0).shape == (6, 0)
    place = torch.tensor(0.0)  # of the fifth token: second row, middle column
    assert torch.allclose(found[4, :1], torch.ones(1)) and torch.allclose(found[4, 5:6], place[None])
    last = torch.pi * torch.tensor([1.0, 1.5])  # frequencies up to half of three columns
    assert torch.allclose(found[5, 6:], torch.cat([last.sin(), last.cos()]), atol=1e-6)


def test_frames_that_do_not_stand_in_front_are_an_error() -> None:
    class Odd(ToyExtractor):
        def layout(self, spaces: object) -> FeatureLayout:
            return FeatureLayout(8, (("views", 2), ("frames", 3)))

    (told,) = Resampled(extractor=Odd()).check(SPACES)
    assert told == "resampled reads frame by frame, and the features of toy are 2 views x 3 frames of width 8"


class Levels(FeatureStream):
    """Features that are the level itself."""

    def at(self, level: Tensor) -> list[Branch]:
        self.losses["video"] = level.sum()
        rows = len(self.observation)
        tokens = level.view(-1, 1, 1).expand(rows, 4, 8)
        return [Branch(0.25, tokens), Branch(0.75, 2 * tokens, last_weight=0.5)]

    def descend(self, levels: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Branch]]]:
        for level, following in pairwise(levels):
            yield level, following, self.at(level.expand(len(self.observation)))


def test_features_that_change_with_the_level_are_condensed_at_every_level() -> None:
    layout = FeatureLayout(8, (("frames", 2), ("width", 2)))
    component = Resampled(extractor=ToyExtractor(), former=VideoFormer(**FORMER))
    reader = FrameReader(component, layout)
    inner = Levels(toy_observation(SPACES, Window()), layout)
    inner.video_frames = 5
    stream = ResampledStream(inner, reader, FeatureLayout(16, (("frames", 2), ("latents", 3))))
    stream.actions = 7
    first, second = stream.at(torch.tensor([1.0, 2.0]))
    assert (first.weight, second.weight, second.last_weight) == (0.25, 0.75, 0.5)
    assert torch.equal(first.tokens, reader(torch.tensor([1.0, 2.0]).view(2, 1, 1).expand(2, 4, 8)))
    assert (stream.video_frames, inner.actions) == (5, 7) and stream.losses["video"] == 3
    seen = [(float(level), branches[0].tokens) for level, _, branches in stream.descend(torch.tensor([3.0, 1.0, 0.0]))]
    assert [level for level, _ in seen] == [3.0, 1.0]
    assert torch.equal(seen[0][1], reader(torch.full((2, 4, 8), 3.0)))


def test_frozen_features_are_kept_and_the_former_learns() -> None:
    inside = OneStep(backbone=ToyBackbone(), taps=("hidden",), former=VideoFormer(**FORMER), noise="zero")
    assert not Resampled(extractor=ToyExtractor()).build(SPACES).features_are_frozen
    extractor = Resampled(extractor=inside, former=VideoFormer(**FORMER)).build(SPACES)
    assert extractor.features_are_frozen
    groups = [parameter for group in extractor.parameter_groups() for parameter in group["params"]]
    assert {id(one) for one in groups} == {id(one) for one in extractor.parameters() if one.requires_grad}
    batch = toy_batch(SPACES, extractor.window)
    (branch,) = extractor.stream(batch.observation, batch).at(torch.ones(2))
    branch.tokens.square().mean().backward()
    assert all(one.grad is not None for one in extractor.reader.parameters())
    assert all(one.grad is None for one in extractor.extractor.backbone.parameters())


@pytest.mark.parametrize("former", [VideoFormer(**FORMER), VideoFormer2D(**FORMER)])
def test_static_features_are_condensed_once(former: VideoFormer) -> None:
    extractor = Resampled(extractor=ToyExtractor(), former=former).build(SPACES).eval()
    calls = []
    extractor.reader.register_forward_hook(lambda *_: calls.append(1))
    stream = extractor.stream(toy_observation(SPACES, Window()))
    assert len(list(stream.descend(torch.tensor([3.0, 2.0, 1.0, 0.0])))) == 3 and calls == [1]
