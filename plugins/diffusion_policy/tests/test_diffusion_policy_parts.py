"""Image encoders and decoders, by what they do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from vpolicy_diffusion_policy.components import Image, TransformerDiffusion, UNetDiffusion
from vpolicy_diffusion_policy.extractor import random_crops
from vpolicy_diffusion_policy.options import (
    Attention,
    Average,
    ClassToken,
    ColorJitter,
    Diffusion,
    Grid,
    ResNet,
    SpatialSoftmax,
    Timm,
)

from videopolicy import AnyDecoder, Branch, FeatureLayout, FeatureStream, Observation, RecipeError, RowGenerator
from videopolicy.components.modular import Modular
from videopolicy.components.text import WordText
from videopolicy.errors import WeightsError
from videopolicy.testing import toy_batch, toy_observation, toy_spaces
from videopolicy.types import Window

SPACES = toy_spaces(32)
SMALL = ResNet(layers=(1, 1), channels=(16, 32), strides=(1, 2))
TEXT = WordText(width=16, buckets=64)
UNET = {"horizon": 4, "down_dims": (16, 32), "groups": 4, "step_dim": 16}
TRANSFORMER = {"horizon": 4, "width": 32, "layers": 2, "heads": 2, "dropout_attention": 0.0}
FAST = Diffusion(training_steps=20, sampling_steps=5, sampler="ddim")


def image(**options: Any) -> Image:
    return Image(**{"encoder": SMALL, "pool": SpatialSoftmax(keypoints=4, dim=8)} | options)


def tokens(extractor: Any, observation: Observation, **given: Any) -> Tensor:
    with torch.no_grad():
        return extractor.stream(observation, **given).branches[0].tokens


@pytest.mark.parametrize(
    ("options", "axes", "dim"),
    [
        ({}, (("frames", 2),), 2 * 8 + 3),
        ({"proprioception": False}, (("frames", 2),), 16),
        ({"views": "apart"}, (("frames", 2), ("views", 2)), 8 + 3),
        ({"views": "apart", "text": TEXT}, (("frames", 2), ("views", 2)), 8 + 3 + 16),
        ({"pool": Average(), "observed": (0,)}, (("frames", 1),), 2 * 32 + 3),
        ({"pool": Grid(dim=8), "views": "apart"}, (("frames", 2), ("views", 2), ("height", 4), ("width", 4)), 11),
        ({"pool": Grid(dim=8), "crop": (28, 16)}, (("frames", 2), ("height", 4), ("width", 2)), 19),
        ({"pool": Attention(), "crop": (28, 28), "restore": True}, (("frames", 2),), 67),
    ],
)
def test_tokens_unfold_as_the_layout_says(options: dict[str, Any], axes: tuple[Any, ...], dim: int) -> None:
    component = image(**options)
    assert (component.layout(SPACES).axes, component.layout(SPACES).dim) == (axes, dim)
    extractor = component.build(SPACES)
    found = tokens(extractor, toy_observation(SPACES, extractor.window, batch_size=3))
    assert found.shape == (3, component.layout(SPACES).tokens, dim)


def test_a_token_holds_its_camera_its_frame_and_the_state_of_that_frame() -> None:
    extractor = image(views="apart").build(SPACES).eval()
    observation = toy_observation(SPACES, extractor.window)
    before = tokens(extractor, observation).unflatten(1, (2, 2))
    observation.images["wrist"][:, 0] = 255 - observation.images["wrist"][:, 0]
    assert observation.state is not None
    observation.state[:, 1] += 1
    after = tokens(extractor, observation).unflatten(1, (2, 2))
    changed = (before != after).any(dim=0)
    assert changed[0, 1, :8].any() and not changed[0, 0].any() and not changed[1, :, :8].any()
    assert changed[1, :, 8:].all() and not changed[0, :, 8:].any()


def test_every_camera_has_an_encoder_of_its_own() -> None:
    extractor = image(proprioception=False, observed=(0,)).build(SPACES).eval()
    observation = toy_observation(SPACES, extractor.window)
    observation.images["wrist"] = observation.images["front"]
    front, wrist = tokens(extractor, observation)[0, 0].chunk(2)
    assert not torch.allclose(front, wrist)
    names = {id(parameter) for encoder in extractor.encoders for parameter in encoder.parameters()}
    assert len(names) == len(list(extractor.parameters()))


def test_images_are_cropped_and_coloured_at_random_in_training_alone() -> None:
    extractor = image(crop=(24, 24), color_jitter=ColorJitter()).build(SPACES)
    batch = toy_batch(SPACES, extractor.window)
    drawn = [tokens(extractor, batch.observation, batch=batch) for _ in range(2)]
    assert not torch.equal(*drawn)
    acting = [
        tokens(extractor, batch.observation),
        tokens(extractor.eval(), batch.observation, batch=batch),
        tokens(extractor, batch.observation, generator=RowGenerator.from_seeds([0, 1])),
    ]
    assert all(torch.equal(acting[0], other) for other in acting[1:])
    middle = toy_observation(SPACES, extractor.window)
    for camera, whole in batch.observation.images.items():
        middle.images[camera] = torch.zeros_like(whole)
        middle.images[camera][..., 4:28, 4:28] = whole[..., 4:28, 4:28]
    middle.state = batch.observation.state
    assert torch.equal(tokens(extractor, middle), acting[0])


def test_every_image_is_cropped_at_a_place_of_its_own() -> None:
    whole = torch.arange(6 * 8).view(1, 1, 6, 8).expand(40, 2, 6, 8)
    torch.manual_seed(0)
    cuts = random_crops(whole, (4, 5))
    assert cuts.shape == (40, 2, 4, 5)
    corners = cuts[:, 0, 0, 0]
    assert set(corners.tolist()) == {8 * row + column for row in range(3) for column in range(4)}
    expected = corners[:, None, None] + 8 * torch.arange(4)[:, None] + torch.arange(5)
    assert torch.equal(cuts[:, 1], expected)


def test_scaling_and_learning_rate_of_the_encoders() -> None:
    extractor = image(scaling="imagenet", learning_rate=0.1).build(SPACES)
    black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert extractor._seen(black, False)[0, :, 0, 0].tolist() == pytest.approx([-2.118, -2.036, -1.804], abs=1e-3)
    assert image().build(SPACES)._seen(black, False).unique().tolist() == [-1]
    assert [group["lr_scale"] for group in extractor.parameter_groups()] == [0.1]
    assert not any("weight_decay" in group for group in extractor.parameter_groups())
    (decayed,) = image(weight_decay=1e-6).build(SPACES).parameter_groups()
    assert decayed["weight_decay"] == 1e-6


def test_the_class_token_and_the_patches_of_a_vision_transformer() -> None:
    vit = Timm(model="test_vit", dim=64, stride=16)
    one = image(encoder=vit, pool=ClassToken(), views="apart", proprioception=False).build(SPACES).eval()
    patches = image(encoder=vit, pool=Average(), views="apart", proprioception=False).build(SPACES).eval()
    patches.load_state_dict(one.state_dict())
    observation = toy_observation(SPACES, one.window)
    model, seen = one.encoders[0][0].model, one._seen(observation.images["front"][:, 0], False)
    with torch.no_grad():
        whole = model.forward_features(seen)
    torch.testing.assert_close(tokens(one, observation)[:, 0], whole[:, 0])
    torch.testing.assert_close(tokens(patches, observation)[:, 0], whole[:, 1:].mean(dim=1))


def test_group_normalisation_takes_the_place_of_batch_normalisation() -> None:
    encoder = Timm(model="test_resnet", dim=96, stride=32, group_norm=True)
    for extractor in (image(encoder=encoder, pool=Average()).build(SPACES), image().build(SPACES)):
        kinds = {type(module).__name__ for module in extractor.modules()}
        assert "GroupNorm" in kinds and not any("BatchNorm" in kind for kind in kinds)


def test_pretrained_weights_come_from_a_folder(tmp_path: Any) -> None:
    import timm
    from safetensors.torch import save_file

    model = timm.create_model("test_vit")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = Timm(model="test_vit", dim=64, weights=str(tmp_path))
    small = toy_spaces(160)  # the size that the model was made for
    extractor = image(encoder=encoder, pool=ClassToken()).build(small)
    torch.testing.assert_close(extractor.encoders[1][0].model.patch_embed.proj.weight, model.patch_embed.proj.weight)
    with pytest.raises(WeightsError, match="does not exist"):
        image(encoder=Timm(model="test_vit", dim=64, weights=str(tmp_path / "no")), pool=ClassToken()).fetch()


@pytest.mark.parametrize(
    ("encoder", "pool", "message"),
    [
        (Timm(model="test_vit", dim=65), ClassToken(), "width 64, not 65"),
        (Timm(model="test_vitt", dim=64), ClassToken(), "no model 'test_vitt'"),
        (Timm(model="test_resnet", dim=96), ClassToken(), "no class token"),
    ],
)
def test_a_model_that_is_not_as_declared_is_refused(encoder: Timm, pool: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        image(encoder=encoder, pool=pool).build(SPACES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: image(pool=ClassToken()), "'resnet' has no class token"),
        (lambda: image(restore=True), "there is no crop"),
        (lambda: image(resize=(24, 24), crop=(28, 28)), r"crop \[28, 28\] exceeds"),
        (lambda: image(observed=(-1,)), "end with 0"),
        (lambda: ResNet(layers=(1, 1)), "one each for every stage"),
        (lambda: ResNet(group_channels=48), "multiples of group_channels 48"),
        (lambda: UNetDiffusion(horizon=10), "horizon 10 must be a multiple of 4"),
        (lambda: UNetDiffusion(groups=7), "multiples of groups 7"),
        (lambda: UNetDiffusion(kernel=4), "must be odd"),
        (lambda: TransformerDiffusion(width=30), "a multiple of heads 4"),
        (lambda: Diffusion(training_steps=50), "sampling_steps 100 exceed training_steps 50"),
    ],
)
def test_options_that_do_not_fit_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()


def test_spaces_that_do_not_fit_are_refused() -> None:
    assert image(crop=(32, 32)).check(SPACES) == []
    assert "proprioception: false" in image().check(SPACES.model_copy(update={"state": None}))[0]
    assert "camera 'front' has [32, 32] pixels" in image(crop=(33, 20)).check(SPACES)[0]
    wide = SPACES.cameras[1].model_copy(update={"width": 64})
    uneven = SPACES.model_copy(update={"cameras": (SPACES.cameras[0], wide)})
    assert image().check(uneven) == []
    assert "several sizes" in image(pool=Grid()).check(uneven)[0]


class Rising(FeatureStream):
    """Features that are the level."""

    def __init__(self, rows: int, layout: FeatureLayout) -> None:
        super().__init__(toy_observation(SPACES, Window(), batch_size=rows), layout)
        self.asked: list[Tensor] = []

    def at(self, level: Tensor) -> list[Branch]:
        self.asked.append(level)
        return [Branch(1.0, level[:, None, None].expand(-1, self.layout.tokens, self.layout.dim))]

    def descend(self, levels: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Branch]]]:
        for level, following in pairwise(levels):
            yield level, following, self.at(level.expand(len(self.observation)))


@pytest.mark.parametrize("decoder", [UNetDiffusion(**UNET, diffusion=FAST), TransformerDiffusion(**TRANSFORMER)])
def test_features_are_asked_for_at_the_levels_of_the_actions(decoder: Any) -> None:
    layout = FeatureLayout(4, (("tokens", 3),))
    built, stream = decoder.build(layout, SPACES).eval(), Rising(2, layout)
    built.sample(stream, RowGenerator.from_seeds([0, 1]))
    asked = torch.stack(stream.asked)[:, 0]
    assert len(asked) == decoder.diffusion.sampling_steps and (asked[1:] < asked[:-1]).all() and asked[-1] > 0
    scheduler = built.diffusion.scheduler
    signal = scheduler.alphas_cumprod[scheduler.timesteps[0]]
    torch.testing.assert_close(asked[0], ((1 - signal) / signal).sqrt())
    batch = toy_batch(SPACES, Window(horizon=4))
    stream.asked.clear()
    built.loss(stream, batch.actions, batch.action_mask)
    known = built.diffusion.level(torch.arange(decoder.diffusion.training_steps))
    assert torch.isin(stream.asked[0], known).all()


@pytest.mark.parametrize(
    "decoder",
    [
        UNetDiffusion(**UNET, text=TEXT, diffusion=Diffusion(noise_samples=8)),
        TransformerDiffusion(**TRANSFORMER, text=TEXT, initial_deviation=None, diffusion=Diffusion(noise_samples=8)),
    ],
)
def test_the_loss_falls_on_a_toy(decoder: Any) -> None:
    torch.manual_seed(0)
    policy = Modular(extractor=image(observed=(0,)), decoder=decoder).build(SPACES)
    optimizer = torch.optim.AdamW(policy.parameters(), 3e-3)
    batch, losses = toy_batch(SPACES, policy.window), []
    for _ in range(60):
        loss = policy.loss(batch)["action"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_instruction_is_heard_where_a_reader_is_given() -> None:
    layout = FeatureLayout(4, (("tokens", 3),))
    for decoder in (UNetDiffusion(**UNET, diffusion=FAST), TransformerDiffusion(**TRANSFORMER, diffusion=FAST)):
        for text in (None, TEXT):
            torch.manual_seed(0)
            built = decoder.model_copy(update={"text": text}).build(layout, SPACES).eval()
            stream = Rising(2, layout)
            before = built.sample(stream, RowGenerator.from_seeds([0, 1]))
            stream.observation.instructions = ["something else"] * 2
            after = built.sample(stream, RowGenerator.from_seeds([0, 1]))
            assert torch.equal(before, after) is (text is None)


def test_actions_are_kept_from_later_ones_and_from_later_tokens() -> None:
    layout = FeatureLayout(4, (("frames", 3),))
    torch.manual_seed(0)
    for causal in (True, False):
        decoder = TransformerDiffusion(**TRANSFORMER, causal=causal, causal_cross_attention=causal)
        network = decoder.build(layout, SPACES).network.eval()
        chunk, step, told = torch.zeros(1, 4, 4), torch.tensor([5]), torch.zeros(1, 3, 4)
        with torch.no_grad():
            plain = network(chunk, step, told, None)
            later = network(chunk + torch.tensor([0, 0, 1, 0])[:, None], step, told, None)
            newest = network(chunk, step, told + torch.tensor([0, 0, 1])[:, None], None)
        assert torch.equal(plain[:, :2], later[:, :2]) is causal
        assert torch.equal(plain[:, :2], newest[:, :2]) is causal
        assert not torch.equal(plain[:, 2:], newest[:, 2:])


HEADS = [
    {"type": "dit-diffusion", "horizon": 4, "text": {"type": "word-text"}, "width": 16, "heads": 2},
    {"type": "action-unet", "horizon": 4, "down_dims": [8, 16], "step_dim": 8},
    {"type": "uva-action", "horizon": 4, "head": {"width": 16, "depth": 1, "sampling_steps": 2}},
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head["type"])
@pytest.mark.parametrize("pool", [SpatialSoftmax(), Grid(dim=8)], ids=lambda pool: pool.type)
def test_other_decoders_read_images(head: dict[str, Any], pool: Any) -> None:
    if head["type"] == "uva-action" and not isinstance(pool, Grid):
        head = head | {"aggregation": "fc2"}
    policy = Modular(extractor=image(pool=pool), decoder=TypeAdapter(AnyDecoder).validate_python(head))
    assert policy.check(SPACES) == []
    built = policy.build(SPACES)
    assert torch.isfinite(built.loss(toy_batch(SPACES, built.window))["action"])
    acted = built.eval().act(toy_observation(SPACES, built.window), RowGenerator.from_seeds([0, 1]))
    assert acted.shape == (2, 4, 4) and torch.isfinite(acted).all()
