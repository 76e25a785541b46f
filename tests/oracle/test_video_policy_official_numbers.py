"""Our Video Policy against recorded outputs of the official code: stages, guided sampler, losses and gradients.

Tolerances are those of the recordings, the noise between two CPU kernel sets; wrong orders of views, frames or texts
are off by 2 to 4. Recorded conditions and draws take the place of our own images, words and noise.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from vpolicy_video_policy.importing.names import action_unet_names, adapter_names, unet_names, vae_names
from vpolicy_video_policy.options import SamplingLevels

from videopolicy import (
    ActionSpace,
    Branch,
    Camera,
    Clip,
    Denoised,
    FeatureLayout,
    Observation,
    RowGenerator,
    Spaces,
    StaticStream,
)
from videopolicy.components.fields import AnyBackbone, AnyDecoder, AnyExtractor
from videopolicy.parts.levels import karras
from videopolicy.types import Batch

pytestmark = pytest.mark.oracle

VIEWS = ("gripper", "left", "right")  # wired into the official code, like the pad frame before them
TAPS = {
    "up3.1": "h22_output_blocks.10",
    "up2.1": "h19_output_blocks.7",
    "up1.1": "h16_output_blocks.4",
    "up0.1": "h13_output_blocks.1",
    "down2.downsample": "h09_input_blocks.9",
}


def close(actual: Tensor, expected: Tensor, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(actual.float(), expected.float(), atol=atol, rtol=rtol)


def family(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, in single precision."""
    return {key.removeprefix(prefix): value.float() for key, value in state.items() if key.startswith(prefix)}


class Parts:
    """Extractor and decoder with the official weights, and the recording that they are compared with."""

    def __init__(self, oracle: dict[str, Any]) -> None:
        self.meta, self.inputs, self.outputs = oracle["meta"], oracle["inputs"], oracle["outputs"]
        self.draws = oracle["draws"]
        actions, size = self.meta["action_dim"], {side: 8 * self.meta[f"latent_{side}"] for side in ("height", "width")}
        spaces = Spaces(
            cameras=tuple(Camera(name=name, **size) for name in VIEWS),
            actions=ActionSpace(
                names=tuple(f"a{index}" for index in range(actions)),
                low=(-1.0,) * actions,
                high=(1.0,) * actions,
                control="delta_position",
                rate=20,
            ),
        )
        self.scales = first, last = [self.meta["sampler"][f"guidance_{end}"] for end in ("min", "max")]
        self.extractor = extractor_of(self.meta, guidance=last, guidance_start=first).build(spaces).eval()
        layout, self.spaces = self.extractor.layout, spaces
        self.decoder = decoder_of(self.meta).build(layout, spaces).eval()
        self.weights: dict[str, torch.nn.Parameter] = {}
        """Ours by their official names."""
        model = oracle["state"]["model"]
        heads = ("vision_encoder.", "pose_pred_net.")
        for prefix, names, module in (
            ("", unet_names, self.extractor.backbone.unet),
            ("vision_encoder.", adapter_names, self.extractor.adapter),
            ("pose_pred_net.", action_unet_names, self.decoder.network),
        ):
            state = {k: v for k, v in family(model, prefix).items() if prefix or not k.startswith(heads)}
            mapping = names(state)
            module.load_state_dict({mapping[key]: value for key, value in state.items()})
            self.weights |= {prefix + key: module.get_parameter(ours) for key, ours in mapping.items()}

    def condition(self, text: Tensor, rows: slice = slice(None)) -> Any:
        """The recorded condition; ``text`` as the network takes it."""
        from vpolicy_svd.backbone import SvdCondition

        images = self.inputs["cond_image_latents"].float()[:, self.inputs["frame_to_image"]]
        return SvdCondition(images[rows], text, self.inputs["added_time_ids"][rows])

    def denoised(self, text: Tensor) -> Denoised:
        with torch.no_grad():
            return self.extractor.backbone.denoise(
                self.inputs["noised_video"].float(), self.inputs["sigma"], self.condition(text), list(TAPS)
            )

    def velocity(self, denoised: Denoised) -> Tensor:
        """The network's own output, from the prediction made of it."""
        sigma = self.inputs["sigma"].view(-1, 1, 1, 1, 1)
        kept = self.inputs["noised_video"].float() / (sigma**2 + 1)
        return (kept - denoised.prediction) * (sigma**2 + 1).sqrt() / sigma

    @torch.no_grad()
    def actions(self, denoised: Denoised) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, the action network's own output, and the denoised actions."""
        tokens = self.extractor.tokens(denoised)
        branches = [Branch(1.0, tokens, denoised.step_embedding)]
        stream = StaticStream(Observation({}, [""] * self.meta["batch"]), self.extractor.layout, branches)
        noisy, level = self.inputs["noised_action"].float(), self.inputs["sigma"]
        clean = self.decoder.denoise(noisy, level, branches, stream)
        scale = level.view(-1, 1, 1)
        return tokens, (noisy / (scale**2 + 1) - clean) * (scale**2 + 1).sqrt() / scale, clean


def backbone_options(meta: dict[str, Any]) -> dict[str, Any]:
    unet = meta["unet"]["diffusers"]
    return {
        "type": "svd",
        "image_size": [8 * meta["latent_height"], 8 * meta["latent_width"]],
        "frames": (meta["video_frames"] - 1) // len(VIEWS),
        "stride": 4,
        "views": "concatenated",
        "pad_frame": True,
        # The conditions are recorded, so neither text nor images are ever encoded.
        "text": {"type": "word-text", "width": unet["cross_attention_dim"], "buckets": 1},
        "text_tokens": "pooled",
        "double_text": False,
        "unet": {
            "channels": unet["block_out_channels"],
            "heads": unet["num_attention_heads"],
            "time_ids_width": unet["addition_time_embed_dim"],
            "norm_epsilon": "sgm",
        },
    }


def extractor_of(meta: dict[str, Any], **options: Any) -> Any:
    widths, groups = meta["adapter"]["width_map"], meta["adapter"]["bottleneck_groups"]

    def layers(*official: int) -> list[tuple[int, int]]:
        return [(widths[str(width)], groups) for width in official]

    adapter = {
        "stages": layers(320, 640, 1280, 1280, 1280),
        "merges": layers(320, 640, 640, 640),
        "squeeze": layers(864, 576),
        "trunk": layers(1280, 960, 720, 540, 420),
        "deep_groups": groups,
        "norm_groups": meta["adapter"]["final_norm_groups"],
    }
    given = {"type": "every-step", "backbone": backbone_options(meta), "adapter": adapter, **options}
    return TypeAdapter(AnyExtractor).validate_python(given)


def decoder_of(meta: dict[str, Any], **options: Any) -> Any:
    unet, sampler = meta["action_unet"], meta["sampler"]
    given = {
        "type": "action-unet",
        "horizon": meta["action_steps"],
        "down_dims": unet["down_dims"],
        "kernel": unet["kernel_size"],
        "groups": unet["n_groups"],
        "step_dim": unet["step_embed_dim"],
        "training_levels": {"mean": meta["loss"]["p_mean"], "deviation": meta["loss"]["p_std"]},
        "sampling_levels": {
            "steps": sampler["steps"],
            "lowest": sampler["sigma_min"],
            "highest": sampler["sigma_max"],
            "rho": sampler["rho"],
        },
        **options,
    }
    return TypeAdapter(AnyDecoder).validate_python(given)


@pytest.fixture(scope="module")
def parts(video_policy_oracle: dict[str, Any]) -> Parts:
    return Parts(video_policy_oracle)


@pytest.fixture(scope="module")
def denoised(parts: Parts) -> Denoised:
    """One forward with one text a clip."""
    return parts.denoised(parts.inputs["context"].float())


def test_feature_maps_of_the_five_layers(parts, denoised):
    frames = parts.meta["selected_frames"]
    assert frames[0] == 0, "the first recorded frame is the pad frame, which is no feature"
    for tap, name in TAPS.items():
        ours = denoised.taps[tap].flatten(1, 2)[:, [frame - 1 for frame in frames[1:]]]
        close(ours, parts.outputs["single"][name][:, 1:], atol=5e-4)


def test_the_embedding_of_the_level_is_the_video_models(parts, denoised):
    expected = parts.outputs["single"]["time_embed"]
    close(denoised.step_embedding, expected, atol=1e-5)
    with torch.no_grad():
        close(parts.extractor.backbone.embed_level(parts.inputs["sigma"]), expected, atol=1e-5)


def test_video_and_action_outputs(parts, denoised):
    single = parts.outputs["single"]
    close(parts.velocity(denoised), single["unet_out_raw"], atol=2e-4)
    selected = denoised.prediction[:, parts.meta["selected_frames"]]
    close(selected, single["denoised_video_selected"], atol=2e-4)
    tokens, velocity, clean = parts.actions(denoised)
    close(tokens.transpose(1, 2).flatten(1), single["adapter_vector_h"], atol=1e-3)
    close(velocity, single["action_out_raw"], atol=1e-3)
    close(clean, single["denoised_action"], atol=1e-3)


def test_the_unnecessary_half_of_a_forward_changes_no_feature(parts, denoised):
    with torch.no_grad():
        early = parts.extractor.backbone.denoise(
            parts.inputs["noised_video"].float(),
            parts.inputs["sigma"],
            parts.condition(parts.inputs["context"].float()),
            list(TAPS),
            predict=False,
        )
    assert early.prediction is None
    for tap in TAPS:
        close(early.taps[tap], denoised.taps[tap], atol=1e-5)  # to rounding, which depends on where tensors lie


def test_every_frame_may_be_told_something_else(parts):
    """The dropout of training does that; attention over time reads the first frame's text."""
    text = parts.inputs["context_per_frame"].float().unflatten(0, (-1, parts.meta["video_frames"]))
    found, expected = parts.denoised(text), parts.outputs["per_frame_context"]
    selected = parts.velocity(found)[:, parts.meta["selected_frames"]]
    close(selected, expected["unet_out_raw_selected"], atol=2e-4)
    close(parts.actions(found)[1], expected["action_out_raw"], atol=1e-3)


def test_guided_sampling_in_lock_step(parts, recorded_noise, monkeypatch):
    item, sampler = parts.meta["sampler"]["batch_item"], parts.outputs["sampler"]
    rows = slice(item, item + 1)
    backbone, text = parts.extractor.backbone, parts.inputs["context"].float()[rows]

    def condition(observation: Observation, unconditional: bool = False, generator: RowGenerator | None = None) -> Any:
        told = parts.condition(text, rows)
        if unconditional:
            told.image, told.text = torch.zeros_like(told.image), torch.zeros_like(text)
        return told

    seen = []
    forward = backbone.denoise

    def denoise(noisy: Tensor, level: Tensor, *arguments: Any, **named: Any) -> Denoised:
        found = forward(noisy, level, *arguments, **named | {"predict": True})
        seen.append((noisy, level[0], found.prediction))
        return found

    monkeypatch.setattr(backbone, "condition", condition)
    monkeypatch.setattr(backbone, "denoise", denoise)
    (_, video), (_, action) = parts.draws["sampler"]
    generator = recorded_noise(action.float()[None], video.float()[None])
    with torch.no_grad():
        stream = parts.extractor.stream(Observation({}, [""]), generator=generator)
        actions = parts.decoder.sample(stream, generator)
    close(torch.stack([level for _, level, _ in seen]), sampler["sigmas"][:-1], atol=0, rtol=1e-5)
    close(actions[0], sampler["action"], atol=5e-3)
    # Nobody reads the video behind the last features, so its last step, down to 0, is done here.
    without, told = seen[-1][2].split(1)
    scale = torch.linspace(*parts.scales, parts.meta["video_frames"]).view(-1, 1, 1, 1)
    close((without + scale * (told - without))[0], sampler["video"], atol=5e-4)


def test_levels_of_the_official_thirty_steps(parts):
    options = SamplingLevels()
    levels = karras(options.steps, options.lowest, options.highest, options.rho)
    close(levels, parts.outputs["sampler"]["sigmas_30"], atol=0, rtol=1e-5)


def test_joint_losses_and_their_gradients(parts, monkeypatch):
    """The draws in the official order: levels, noise of the video, noise of the actions."""
    inputs, expected = parts.inputs, parts.outputs["loss"]
    clean, actions = inputs["clean_video"].float(), inputs["clean_action"].float()
    frames, (rows, steps) = parts.meta["video_frames"], actions.shape[:2]
    levels, video_noise, action_noise = (draw.float() for _, draw in parts.draws["loss"])
    levels = levels.view(rows, frames)[:, 0]  # one level a clip, the draw of its first frame
    draws = [levels, video_noise.view(clean.shape), action_noise.view(actions.shape)]
    backbone = parts.extractor.backbone
    clip = Clip(clean, parts.condition(inputs["context"].float()))
    errors: list[Tensor] = []
    error = backbone.error

    def recording(prediction: Tensor, given: Clip, level: Tensor) -> Tensor:
        weight = ((level**2 + 1) / level**2).view(-1, 1, 1, 1, 1)
        errors.append((weight * (prediction - given.latents) ** 2).mean(dim=(2, 3, 4)).detach())
        return error(prediction, given, level)

    velocities: list[Tensor] = []
    velocity = parts.decoder._velocity
    monkeypatch.setattr(
        parts.decoder, "_velocity", lambda *given: velocities.append(velocity(*given)) or velocities[-1]
    )
    monkeypatch.setattr(torch, "randn", lambda shape, **kwargs: draws.pop(0).view(shape))
    monkeypatch.setattr(backbone, "training_clip", lambda batch: clip)
    monkeypatch.setattr(backbone, "error", recording)
    observation = Observation({}, [""] * rows)
    stream = parts.extractor.stream(observation, Batch(observation))
    losses = {"action": parts.decoder.loss(stream, actions, torch.ones(rows, steps, dtype=torch.bool)), **stream.losses}
    total = torch.stack(list(losses.values())).sum()
    assert not draws
    close(total, expected["mean"], atol=0, rtol=1e-4)
    of_video, of_actions = expected["per_element"].split([rows * frames, rows * steps])
    close(errors[0].flatten(), of_video, atol=1e-3)
    level = (parts.meta["loss"]["p_std"] * levels.view(-1, 1, 1) + parts.meta["loss"]["p_mean"]).exp()
    target = (action_noise.view(actions.shape) - level * actions) / (level**2 + 1).sqrt()
    close(((velocities[0] - target) ** 2).mean(dim=2).flatten(), of_actions, atol=1e-3)

    total.backward()
    for name in parts.meta["grad_probe"]:
        close(parts.weights[name].grad.norm(), expected["grad_norm"][name], atol=0, rtol=1e-3)
    parts.extractor.zero_grad()
    parts.decoder.zero_grad()


@pytest.mark.parametrize("horizon", [16, 32])
def test_the_loss_is_one_mean_over_frames_and_actions(parts, horizon):
    """At 16 actions too: with weights of 32 actions the recorded errors would give another number."""
    meta, per_element = parts.meta, parts.outputs["loss"]["per_element"]
    rows, frames, steps = meta["batch"], meta["video_frames"], meta["action_steps"]
    of_video, of_actions = per_element.split([rows * frames, rows * steps])
    of_actions = of_actions.view(rows, steps)[:, : min(horizon, steps)]
    official = torch.cat([of_video, of_actions.flatten()]).mean()
    observation, count = Observation({}, [""] * rows), of_actions.shape[1]
    batch = Batch(observation, actions=torch.zeros(rows, count, meta["action_dim"]))
    stream = parts.extractor.stream(observation, batch)
    decoder = decoder_of(meta, horizon=count).build(parts.extractor.layout, parts.spaces)
    weights = stream.video_weight, decoder.weight(stream)
    assert weights == pytest.approx((frames / (frames + count), count / (frames + count)))
    close(weights[0] * of_video.mean() + weights[1] * of_actions.mean(), official, atol=0, rtol=1e-6)


def test_the_two_autoencoders(video_policy_oracle):
    from diffusers.models.unets.unet_3d_blocks import MidBlockTemporalDecoder

    meta, state = video_policy_oracle["meta"]["vae"], video_policy_oracle["state"]
    size = video_policy_oracle["meta"]["vae"]["size"]
    given = {
        "type": "svd",
        "image_size": [size, size],
        "latent": {
            "type": "vae",
            "channels": [meta["ch"] * factor for factor in meta["ch_mult"]],
            "layers": meta["num_res_blocks"],
            "condition_encoder": "own",
        },
        "text": {"type": "word-text", "width": 16, "buckets": 1},
        "double_text": False,
        "unet": {"channels": [32], "heads": [1], "attention": [False], "layers": 1, "time_ids_width": 8},
    }
    spaces = Spaces(
        cameras=(Camera(name="gripper", height=size, width=size),),
        actions=ActionSpace(names=("x",), low=(-1.0,), high=(1.0,), control="delta_position", rate=20),
    )
    latent = TypeAdapter(AnyBackbone).validate_python(given).build(spaces).latent
    # The official decoder always has two layers in the middle; diffusers' has as many as elsewhere, officially two.
    width = meta["ch"] * meta["ch_mult"][-1]
    latent.vae.decoder.mid_block = MidBlockTemporalDecoder(width, width, attention_head_dim=width, num_layers=2)
    channels = 2 * meta["z_channels"]
    identity = {"quant_conv.weight": torch.eye(channels)[..., None, None], "quant_conv.bias": torch.zeros(channels)}
    load_autoencoder(latent.vae, family(state["vae_first_stage"], ""), identity)  # the official one has no such layer
    load_autoencoder(latent.condition_vae, family(state["vae_cond_encoder"], ""), {})
    inputs, outputs = video_policy_oracle["inputs"]["vae"], video_policy_oracle["outputs"]["vae"]
    with torch.no_grad():
        posterior = latent.vae.encode(inputs["image"].float()).latent_dist
        close(posterior.parameters, outputs["first_stage_moments"], atol=1e-4)
        close(latent.condition(inputs["image"].float()), outputs["cond_latent_mode"], atol=1e-4)
        decoded = latent.decode(inputs["latent"].float() * latent.scaling_factor, meta["frames"])
        close(decoded, outputs["decoded"], atol=1e-4)


def load_autoencoder(module: torch.nn.Module, state: dict[str, Tensor], further: dict[str, Tensor]) -> None:
    """Under our names; the one-by-one convolutions of the attention are linear layers here."""
    shapes, names = {name: value.shape for name, value in module.state_dict().items()}, vae_names(state)
    named = {names[key]: value for key, value in state.items()}
    module.load_state_dict({name: value.reshape(shapes[name]) for name, value in (named | further).items()})


def test_the_vector_is_told_in_the_official_order(parts):
    """Channels, then frames, height and width: 6720 numbers at the official size."""
    layout, meta = parts.extractor.layout, parts.meta
    assert layout.tokens * layout.dim == meta["adapter"]["obs_dim"]
    height, width = (meta[f"latent_{side}"] // 8 for side in ("height", "width"))  # of the coarsest feature map
    assert layout == FeatureLayout(
        meta["adapter"]["out_channels"],
        (("frames", 1), ("height", height), ("width", width)),
        meta["adapter"]["emb_dim"],
    )
