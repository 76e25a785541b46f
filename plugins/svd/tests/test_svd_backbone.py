"""The video model at sizes that a test can train."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from small_video_model import SPACES, build, small
from vpolicy_svd.backbone import SvdBackbone, sine_cosine
from vpolicy_svd.components import Svd
from vpolicy_svd.latents import SpaceToDepth

from videopolicy import Observation, RowGenerator
from videopolicy.components.text import ClipText
from videopolicy.parts.latents import SpaceToDepthLatent
from videopolicy.testing import toy_batch, toy_observation, toy_spaces
from videopolicy.types import Window


def test_the_network_of_the_paper_has_the_official_number_of_parameters() -> None:
    with torch.device("meta"):
        backbone = Svd(weights="stabilityai/stable-video-diffusion-img2vid").build(SPACES)
    assert sum(parameter.numel() for parameter in backbone.unet.parameters()) == 1_524_623_082
    assert len(backbone.unet.state_dict()) == 1428
    assert backbone.latent_shape == (2, 16, 4, 32, 32)
    # Those that Video Prediction Policy reads, and then those that Video Policy reads.
    sizes = {name: (layout.dim, dict(layout.axes)["height"]) for name, layout in backbone.tap_specs.items()}
    assert [sizes[tap] for tap in ("up0", "up1")] == [(1280, 8), (1280, 16)]
    taps = ("down2.downsample", "up0.1", "up1.1", "up2.1", "up3.1")
    assert [sizes[tap] for tap in taps] == [(1280, 4), (1280, 4), (1280, 8), (640, 16), (320, 32)]


def test_the_clip_is_the_present_frame_and_strides_ahead() -> None:
    assert small(frames=4, stride=5).window() == Window(observed=(0,), future=(5, 10, 15))
    assert build(frames=4, stride=5).clip_offsets == (0, 5, 10, 15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (60, 64)}, r"image_size \[60, 64\] must be multiples of 16"),
        ({"unet": {"channels": [48], "heads": [2], "attention": [True]}}, "channels 48 must be a multiple of 32"),
        ({"unet": {"channels": [32, 32], "heads": [2], "attention": [True]}}, "have 2, 1 and 1 entries"),
        ({"level_min": 100}, "level_min 100.0 must be below level_max 80.0"),
        ({"latent": {"type": "wavelet"}}, "space-to-depth"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small(**changes)


def test_reading_stops_at_the_last_tap_with_exactly_the_same_values() -> None:
    backbone = build().eval()
    ran: list[str] = []
    layers = ["up_blocks.0.upsamplers.0", "up_blocks.1.resnets.0", "conv_out"]
    for name in layers:
        module = backbone.unet.get_submodule(name)
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    observation = toy_observation(SPACES, backbone.window)
    noisy, level = torch.randn(2, *backbone.latent_shape), torch.full((2,), 80.0)
    with torch.no_grad():
        condition = backbone.condition(observation)
        whole = backbone.denoise(noisy, level, condition, ["up1", "up0"])
        assert ran == layers
        ran.clear()
        early = backbone.denoise(noisy, level, condition, ["up0"], predict=False)
    assert ran == layers[:1] and early.prediction is None
    assert torch.equal(early.taps["up0"], whole.taps["up0"])
    assert torch.equal(early.step_embedding, whole.step_embedding)


def test_an_error_inside_the_network_is_not_swallowed(monkeypatch) -> None:
    backbone = build().eval()
    monkeypatch.setattr(backbone.unet.up_blocks[0].resnets[0], "forward", lambda *_: 1 / 0)
    observation = toy_observation(SPACES, backbone.window)
    noisy, level = torch.randn(2, *backbone.latent_shape), torch.full((2,), 80.0)
    with torch.no_grad(), pytest.raises(ZeroDivisionError):
        backbone.denoise(noisy, level, backbone.condition(observation), ["up0"], predict=False)


def test_space_to_depth_loses_nothing() -> None:
    codec = SpaceToDepth(SpaceToDepthLatent(patch=4))
    images = torch.rand(2, 3, 8, 12) * 2 - 1
    latents = codec.encode(images)
    assert latents.shape == (2, 48, 2, 3)
    torch.testing.assert_close(codec.decode(latents, frames=2), images)
    # The corner cell holds the corner patch.
    torch.testing.assert_close(latents[0, :, 0, 0].view(3, 4, 4), images[0, :, :4, :4] * 2)


def test_positions_are_sines_then_cosines() -> None:
    code = sine_cosine(5, 8)
    torch.testing.assert_close(code[3, 0], torch.tensor(3.0).sin())
    torch.testing.assert_close(code[3, 4], torch.tensor(3.0).cos())
    torch.testing.assert_close(code[2, 3], torch.tensor(2 * 10000 ** (-3 / 4)).sin())


@pytest.mark.slow
def test_it_learns_to_show_what_a_sentence_asks_for() -> None:
    """Two sentences ask for two colours; what is predicted follows the sentence, with and without guidance."""
    spaces = toy_spaces(16).model_copy(update={"cameras": toy_spaces(16).cameras[:1]})
    torch.manual_seed(0)
    backbone = small(image_size=(16, 16), frames=2, latent=SpaceToDepthLatent(patch=4)).build(spaces)
    batch = toy_batch(spaces, backbone.window, batch_size=16)
    batch.observation.instructions = ["make it dark", "make it bright"] * 8
    batch.observation.images["front"].fill_(128)
    batch.future["front"][0::2], batch.future["front"][1::2] = 40, 215
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=4e-3)
    losses = []
    for step in range(60):
        torch.manual_seed(step)
        loss = backbone.loss(batch)["video"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-15:]) < 0.6 * sum(losses[:15])
    observation = Observation({"front": batch.observation.images["front"][:2]}, ["make it dark", "make it bright"])
    for guidance in (1.0, 2.0):
        generator = RowGenerator.from_seeds([0, 1])
        video = backbone.eval().predict_video(observation, generator, steps=6, guidance=guidance)
        assert video.shape == (2, 1, 2, 3, 16, 16) and video.dtype == torch.uint8
        dark, bright = video[:, :, 1].float().flatten(1).mean(dim=1)
        assert dark < 100 and bright > 155


def test_frames_past_the_end_count_only_when_asked_for() -> None:
    batch = toy_batch(SPACES, small().window())
    assert batch.future_mask is not None and not batch.future_mask.all()
    for past_end, changed in (("repeat", True), ("mask", False)):
        backbone = build(past_end=past_end)
        losses = []
        for filling in (0, 255):
            for view in batch.future.values():
                view[~batch.future_mask] = filling
            torch.manual_seed(0)
            # The network itself still sees these frames, so only its last layer's bias is compared here.
            torch.nn.init.zeros_(backbone.unet.conv_out.weight)
            losses.append(backbone.loss(batch)["video"].item())
        assert (abs(losses[0] - losses[1]) > 1e-3) == changed


def test_text_is_dropped_with_the_given_probability() -> None:
    batch = toy_batch(SPACES, small().window())
    losses = {}
    for drop in (0.0, 1.0):
        backbone = build(text_drop=drop)
        for sentences in (["open it", "shut it"], ["lift", "turn"]):
            batch.observation.instructions = sentences
            torch.manual_seed(0)
            losses[drop, sentences[0]] = backbone.loss(batch)["video"].item()
    assert losses[0.0, "open it"] != losses[0.0, "lift"]
    assert losses[1.0, "open it"] == losses[1.0, "lift"]


def test_gradient_checkpointing_changes_no_gradient() -> None:
    batch = toy_batch(SPACES, small().window())
    gradients = []
    for checkpointing in (False, True):
        backbone = build(gradient_checkpointing=checkpointing)
        assert backbone.unet.is_gradient_checkpointing == checkpointing
        torch.manual_seed(0)
        backbone.loss(batch)["video"].backward()
        gradients.append(backbone.unet.conv_in.weight.grad)
    torch.testing.assert_close(*gradients)


def test_views_are_clips_of_their_own_in_the_order_of_the_spaces() -> None:
    backbone = build().eval()
    observation = toy_observation(SPACES, backbone.window)
    turned = toy_observation(SPACES, backbone.window)
    turned.images = dict(reversed(turned.images.items()))
    noisy, level = torch.randn(2, *backbone.latent_shape), torch.full((2,), 3.0)
    with torch.no_grad():
        one, other = (
            backbone.denoise(noisy, level, backbone.condition(seen)).prediction for seen in (observation, turned)
        )
        observation.images["wrist"] = torch.zeros_like(observation.images["wrist"])
        without = backbone.denoise(noisy, level, backbone.condition(observation)).prediction
    assert torch.equal(one, other)
    assert torch.equal(one[:, 0], without[:, 0]) and not torch.equal(one[:, 1], without[:, 1])


def test_every_official_deviation_is_an_option_with_the_codes_default() -> None:
    options = json.loads(Svd(text=ClipText()).model_dump_json())
    assert options["training"] == {"fps": 7, "motion_bucket": 127, "noise_augmentation": 0.0}
    assert options["reading"] == {"fps": 4, "motion_bucket": 127, "noise_augmentation": 0.0}
    assert options["sampling"] == {"fps": 4, "motion_bucket": 127, "noise_augmentation": 0.02}
    assert (options["level_mean"], options["level_deviation"], options["text_drop"]) == (0.7, 1.6, 0.05)
    assert (options["frames"], options["stride"], options["text"]["max_length"]) == (16, 2, 20)


CONCATENATED = {"views": "concatenated", "pad_frame": True, "frames": 3}


def test_concatenated_views_are_one_clip_behind_a_pad_frame() -> None:
    backbone = build(**CONCATENATED)
    assert backbone.latent_shape[0] == 1 + 2 * 3
    frames = torch.rand(1, 2, 3, 3, *backbone.options.image_size) * 2 - 1
    latents = backbone.encode(frames)
    cells = backbone.encode(frames[:, :, :1].expand(-1, -1, 3, -1, -1, -1))
    assert torch.equal(latents[:, 0], latents[:, 1]) and torch.equal(latents[:, 4], cells[:, 4])
    torch.testing.assert_close(backbone.decode(latents), frames)


def test_every_frame_is_told_the_image_of_its_own_view() -> None:
    backbone = build(**CONCATENATED).eval()
    observation = toy_observation(SPACES, backbone.window)
    image = backbone.condition(observation).image
    assert image.shape[1] == 7
    first, second = image[:, 1], image[:, 4]
    for frame, told in enumerate((first, first, first, first, second, second, second)):
        assert torch.equal(image[:, frame], told)
    assert not torch.equal(first, second)


def test_views_of_one_clip_can_tell_each_other_something() -> None:
    backbone = build(**CONCATENATED).eval()
    observation = toy_observation(SPACES, backbone.window)
    noisy, level = torch.randn(2, *backbone.latent_shape), torch.full((2,), 3.0)
    with torch.no_grad():
        one = backbone.denoise(noisy, level, backbone.condition(observation)).prediction
        observation.images["wrist"] = torch.zeros_like(observation.images["wrist"])
        other = backbone.denoise(noisy, level, backbone.condition(observation)).prediction
    assert not torch.equal(one[:, 1], other[:, 1])


def test_noise_on_the_told_image_is_the_rows_own_and_the_pad_frames_too() -> None:
    backbone = build(**CONCATENATED, image_noise=0.1).eval()
    observation = toy_observation(SPACES, backbone.window)
    one, same, other = (
        backbone.condition(observation, generator=RowGenerator.from_seeds(seeds)).image
        for seeds in ([0, 1], [0, 1], [0, 2])
    )
    assert torch.equal(one, same) and torch.equal(one[0], other[0]) and not torch.equal(one[1], other[1])
    assert not torch.equal(one[:, 0], one[:, 1])
    clean = build(**CONCATENATED).condition(observation).image
    assert (
        0.05
        < (one - clean).std() / backbone.latent.condition(torch.ones(1, 3, *backbone.options.image_size)).mean()
        < 0.2
    )


def test_frames_can_lose_text_and_image_by_themselves() -> None:
    backbone = build(**CONCATENATED, text_drop=0.5, image_drop=0.5, drop_per="frame", text_tokens="pooled")
    torch.manual_seed(0)
    condition = backbone.training_clip(toy_batch(SPACES, backbone.window, batch_size=16)).condition
    text, image = ((part.flatten(2).abs().sum(-1) > 0).float() for part in (condition.text, condition.image))
    assert text.shape == image.shape == (16, 7)
    for kept in (text, image):
        assert 0.35 < kept.mean() < 0.65 and len(kept.mean(dim=1).unique()) > 2
    assert 0.15 < (text * image).mean() < 0.35


def test_a_text_for_every_frame_reaches_its_frame() -> None:
    """The same text for all frames is what diffusers does; another text in one frame changes the clip."""
    backbone = build(**CONCATENATED).eval()
    observation = toy_observation(SPACES, backbone.window)
    noisy, level = torch.randn(2, *backbone.latent_shape), torch.full((2,), 3.0)
    with torch.no_grad():
        condition = backbone.condition(observation)
        once = backbone.denoise(noisy, level, condition).prediction
        condition.text = condition.text.unsqueeze(1).repeat(1, 7, 1, 1)
        repeated = backbone.denoise(noisy, level, condition).prediction
        condition.text[:, 5] += 1
        changed = backbone.denoise(noisy, level, condition).prediction
    torch.testing.assert_close(once, repeated)
    assert not torch.allclose(repeated[:, 5], changed[:, 5])


def test_colours_change_alike_in_all_frames_of_a_view() -> None:
    from vpolicy_svd.augmentation import jitter
    from vpolicy_svd.options import ColorJitter

    frames = (torch.rand(2, 2, 1, 3, 8, 8) * 2 - 1).expand(-1, -1, 4, -1, -1, -1)
    changed = jitter(frames, ColorJitter())
    assert torch.equal(changed[:, :, 0], changed[:, :, 3]) and changed.min() >= -1 and changed.max() <= 1
    shift = (changed - frames).flatten(2).mean(-1).flatten()
    assert len(shift.unique()) == 4


def test_a_horizon_of_nothing_shows_the_present_frame() -> None:
    backbone = build(stride=0, frames=3)
    assert backbone.window == Window() and backbone.clip_offsets == (0, 0, 0)
    clean = backbone.training_clip(toy_batch(SPACES, backbone.window)).latents
    assert torch.equal(clean[:, :, 0], clean[:, :, 2])


def test_guidance_is_constant_where_asked_for() -> None:
    backbone = build(**CONCATENATED, video_guidance="constant").eval()
    observation = toy_observation(SPACES, backbone.window)
    video = backbone.predict_video(observation, RowGenerator.from_seeds([0, 1]), steps=2, guidance=2.0)
    assert video.shape == (2, 2, 3, 3, *backbone.options.image_size)


def test_videos_have_the_guidance_of_the_options_where_none_is_named() -> None:
    """VPP's scale of 7.5 (appendix B.3) by default; Video Policy's recipes have 2."""
    assert Svd().guidance_scale == 7.5
    plain, guided = (build(video_guidance="constant", guidance_scale=scale).eval() for scale in (1.0, 2.0))
    guided.load_state_dict(plain.state_dict())
    observation = toy_observation(SPACES, plain.window)

    def predicted(backbone: SvdBackbone, **options: float) -> torch.Tensor:
        return backbone.predict_video(observation, RowGenerator.from_seeds([0, 1]), steps=3, **options)

    assert torch.equal(predicted(guided), predicted(plain, guidance=2.0))
    assert torch.equal(predicted(plain), predicted(guided, guidance=1.0))
    assert not torch.equal(predicted(plain), predicted(guided))
