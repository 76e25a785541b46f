"""Both networks, the keypoints, the loss and the samplers beside recorded numbers of the official codes.

``official_networks.safetensors`` was made once: small networks of random weights from the official Diffusion Policy
(commit 5ba07ac) and robomimic's spatial softmax (commit d309eae), run with diffusers' schedulers.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from vpolicy_diffusion_policy.components import Image, TransformerDiffusion, UNetDiffusion
from vpolicy_diffusion_policy.decoder import DiffusionDecoder
from vpolicy_diffusion_policy.options import ClassToken, Diffusion, SpatialSoftmax, Timm
from vpolicy_diffusion_policy.pooling import Keypoints
from vpolicy_diffusion_policy.transformer import ConditionalTransformer

from videopolicy import Branch, FeatureLayout, RowGenerator, Spaces, StaticStream
from videopolicy.spaces import ActionSpace, Camera, StateSpace
from videopolicy.testing import toy_observation, toy_spaces
from videopolicy.types import Window

SPACES = toy_spaces(16)
THREE = SPACES.model_copy(
    update={
        "actions": ActionSpace(names=("x", "y", "z"), low=(-1,) * 3, high=(1,) * 3, control="delta_position", rate=10)
    }
)
LAYOUT = FeatureLayout(5, (("frames", 2),))


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return load_file(Path(__file__).with_name("official_networks.safetensors"))


def weights(official: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}.weights."
    return {key.removeprefix(prefix): value for key, value in official.items() if key.startswith(prefix)}


def unet(official: dict[str, Tensor], **diffusion: object) -> DiffusionDecoder:
    options = UNetDiffusion(horizon=4, down_dims=(8, 16), groups=4, step_dim=8, diffusion=Diffusion(**diffusion))
    decoder = options.build(LAYOUT, THREE).eval()
    decoder.network.load_state_dict(weights(official, "unet"))
    return decoder


def stream(official: dict[str, Tensor]) -> StaticStream:
    return StaticStream(toy_observation(SPACES, Window()), LAYOUT, [Branch(1.0, official["unet.tokens"])])


@torch.no_grad()
def test_the_unet_predicts_as_the_official_one(official: dict[str, Tensor]) -> None:
    found = unet(official).network(official["unet.chunk"], official["unet.timestep"], official["unet.tokens"], None)
    torch.testing.assert_close(found, official["unet.prediction"])


@torch.no_grad()
def test_the_transformer_predicts_as_the_official_one(official: dict[str, Tensor]) -> None:
    options = TransformerDiffusion(horizon=4, width=16, layers=2, heads=2, causal_cross_attention=True)
    network = ConditionalTransformer(options, 3, 5, 2).eval()
    network.load_state_dict(weights(official, "transformer"))
    given = (official[f"transformer.{name}"] for name in ("chunk", "timestep", "tokens"))
    torch.testing.assert_close(network(*given, None), official["transformer.prediction"])


@torch.no_grad()
def test_keypoints_are_where_robomimic_sees_them(official: dict[str, Tensor]) -> None:
    pool = Keypoints(SpatialSoftmax(keypoints=5, dim=7), 6, (3, 4))
    pool.load_state_dict(weights(official, "softmax"))
    torch.testing.assert_close(pool(official["softmax.features"])[:, 0], official["softmax.prediction"])


def test_the_loss_is_the_official_one(official: dict[str, Tensor]) -> None:
    decoder = unet(official)
    torch.manual_seed(7)
    loss = decoder.loss(stream(official), official["loss.actions"], torch.ones(2, 4, dtype=torch.bool))
    torch.testing.assert_close(loss.detach(), official["loss.value"])


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 100), ("ddim", 8)])
def test_sampling_is_the_official_one(official: dict[str, Tensor], sampler: str, steps: int) -> None:
    """Recorded row by row, each with a generator of its own."""
    decoder = unet(official, sampler=sampler, sampling_steps=steps)
    found = decoder.sample(stream(official), RowGenerator.from_seeds([0, 1]))
    torch.testing.assert_close(found, official[f"sample.{sampler}"], atol=1e-4, rtol=1e-4)


def test_the_official_sizes() -> None:
    """PushT from images: 262.69 M in Li et al. 2025, section V; its parts as the official code counts them."""
    spaces = Spaces(
        cameras=(Camera(name="image", height=96, width=96),),
        actions=ActionSpace(names=("x", "y"), low=(0, 0), high=(512, 512), control="planar_target", rate=10),
        state=StateSpace(names=("agent_x", "agent_y")),
    )
    image = Image(crop=(84, 84))
    layout = image.layout(spaces)
    assert (layout.axes, layout.dim) == ((("frames", 2),), 66)
    with torch.device("meta"):
        parts = [
            image.build(spaces),
            UNetDiffusion().build(layout, spaces),
            TransformerDiffusion().build(layout, spaces),
        ]
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert counts == [11_197_088, 251_511_938, 8_975_362]
    assert counts[0] + counts[1] == pytest.approx(262.69e6, rel=1e-4)


def test_the_size_of_umis_policy() -> None:
    """DP-UMI has 171.27 M in Li et al. 2025, section V: ViT-B/16 of CLIP, two frames, pose and width of the gripper."""
    actions, state = tuple(f"action_{i}" for i in range(10)), tuple(f"state_{i}" for i in range(16))
    spaces = Spaces(
        cameras=(Camera(name="camera0", height=224, width=224),),
        actions=ActionSpace(names=actions, low=(-1,) * 10, high=(1,) * 10, control="absolute_position", rate=20),
        state=StateSpace(names=state),
    )
    image = Image(encoder=Timm(), pool=ClassToken(), crop=(212, 212), restore=True)
    with torch.device("meta"):
        parts = [image.build(spaces), UNetDiffusion(down_dims=(256, 512, 1024)).build(image.layout(spaces), spaces)]
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert counts == [85_799_424, 85_474_186]
