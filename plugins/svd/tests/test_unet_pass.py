"""The pass through the network against diffusers' own: equal to the last bit, up to wherever it ends; compiled whole;
with activations that are computed again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from small_video_model import SPACES, build
from torch import Tensor, nn
from vpolicy_svd.options import UNet
from vpolicy_svd.unet import Pass, VideoUNet

from videopolicy.testing import toy_batch

SHAPE = UNet(channels=(32, 64, 64), heads=(2, 4, 4), attention=(True, False, True), layers=2, time_ids_width=8)
CLIPS, FRAMES, TOKENS = 2, 3, 4
CALLED = ("ResidualLayer", "TransformerLayer", "Downsample2D", "Upsample2D")


@pytest.fixture(scope="module")
def unet() -> VideoUNet:
    return build(unet=SHAPE).unet.eval()


def inputs(unet: VideoUNet, per: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    width = unet.config.cross_attention_dim
    text = torch.randn(CLIPS, TOKENS, width) if per == "clip" else torch.randn(CLIPS, FRAMES, TOKENS, width)
    # Of single pixels, normalisation over two numbers would make much of the last digit.
    size = 2 ** len(unet.down_blocks)
    clips = torch.randn(CLIPS, FRAMES, unet.config.in_channels, size, size)
    return clips, torch.randn(CLIPS), text, torch.rand(CLIPS, 3)


def module_of(unet: VideoUNet, tap: str) -> nn.Module:
    """The module of diffusers whose output a tap is."""
    name, _, layer = tap.partition(".")
    if name == "mid":
        return unet.mid_block
    block = unet.get_submodule(f"{name[:-1]}_blocks.{name[-1]}")
    if layer == "":
        return block
    if layer == "downsample":
        return block.downsamplers[0]
    return (block.attentions if hasattr(block, "attentions") else block.resnets)[int(layer)]


@contextlib.contextmanager
def diffusers_with_hooks(unet: VideoUNet, taps: list[str], text: Tensor) -> Iterator[dict[str, Tensor]]:
    """Inside, diffusers' forward leaves its feature maps, and its blocks read the frames' own texts."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            found[name] = output[0] if isinstance(output, tuple) else output

        return hook

    def replace(module: nn.Module, given: Any, named: dict[str, Any]) -> Any:
        return given, {**named, "encoder_hidden_states": text.flatten(0, 1)}

    handles = [module_of(unet, tap).register_forward_hook(keep(tap)) for tap in taps]
    handles.append(unet.time_embedding.register_forward_hook(keep("level")))
    if text.ndim == 4:
        blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
        attending = [block for block in blocks if hasattr(block, "attentions")]
        handles += [block.register_forward_pre_hook(replace, with_kwargs=True) for block in attending]
    yield found
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("per", ["clip", "frame"])
@torch.no_grad()
def test_every_map_is_diffusers_to_the_last_bit(unet, per):
    taps = list(build(unet=SHAPE).tap_specs)
    assert len(taps) == 6 + 2 + 1 + 9 + 3
    given = inputs(unet, per)
    clips, level, text, ids = given
    with diffusers_with_hooks(unet, taps, text) as expected:
        whole = text if per == "clip" else text[:, 0]
        output = UNetSpatioTemporalConditionModel.forward(unet, clips, level, whole, ids, return_dict=False)[0]
    everything = unet(*given, taps=taps)
    assert torch.equal(everything.prediction, output) and torch.equal(everything.level, expected["level"])
    assert list(everything.taps) == taps
    for tap in taps:
        assert torch.equal(everything.taps[tap], expected[tap]), tap
        for predict in (False, True):
            one = unet(*given, taps=[tap], predict=predict)
            assert list(one.taps) == [tap] and torch.equal(one.taps[tap], expected[tap]), tap
            assert torch.equal(one.level, expected["level"])
            assert one.prediction is None if not predict else torch.equal(one.prediction, output)
    nothing = unet(*given, predict=False)
    assert nothing.prediction is None and nothing.taps == {} and torch.equal(nothing.level, expected["level"])


@torch.no_grad()
def test_nothing_behind_the_last_map_is_run(unet):
    ran: list[nn.Module] = []
    called = [one for one in unet.modules() if type(one).__name__ in CALLED]
    handles = [one.register_forward_hook(lambda module, *_: ran.append(module)) for one in called]
    counts = {}
    for tap in build(unet=SHAPE).tap_specs:
        ran.clear()
        unet(*inputs(unet, "clip"), taps=[tap], predict=False)
        counts[tap] = len(ran)
        if tap not in ("mid", "up0", "up1", "up2"):
            assert ran[-1] is module_of(unet, tap), tap
    for handle in handles:
        handle.remove()
    assert len(called) == counts["up2"] == counts["up2.2"] == 17 + 11 + 4
    assert (counts["down0.0"], counts["down0.downsample"], counts["down2.1"]) == (2, 5, 12)
    assert (counts["mid"], counts["up0.0"], counts["up0"], counts["up1"]) == (15, 17, 22, 26)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("taps", "predict"),
    [((), True), (("down1.0", "up0.0", "up0"), False)],
)
@torch.no_grad()
def test_compiles_as_a_whole(taps, predict):
    """Captured as one graph and run as it is: building kernels takes minutes."""
    unet = build().unet.eval()
    given = inputs(unet, "frame")
    torch._dynamo.reset()
    compiled = torch.compile(unet, backend="eager", fullgraph=True, dynamic=False)
    ensure_near(compiled(*given, taps, predict), unet(*given, taps, predict))


def ensure_near(found: Pass, expected: Pass) -> None:
    assert (found.prediction is None) == (expected.prediction is None) and list(found.taps) == list(expected.taps)
    pairs = [(found.level, expected.level), *((found.taps[tap], expected.taps[tap]) for tap in found.taps)]
    if expected.prediction is not None:
        pairs.append((found.prediction, expected.prediction))
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_checkpointing_keeps_the_inputs_of_layers_alone_and_changes_no_gradient():
    """The whole layer is computed again: residual part, attention over pixels and over time."""
    kept, gradients = [], []
    for checkpointing in (False, True):
        backbone = build(unet=SHAPE, gradient_checkpointing=checkpointing)
        torch.manual_seed(0)
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = backbone.loss(toy_batch(SPACES, backbone.window))["video"]
        loss.backward()
        kept.append(sum(sizes))
        gradients.append({name: parameter.grad for name, parameter in backbone.unet.named_parameters()})
    assert kept[1] < 0.15 * kept[0], kept
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
