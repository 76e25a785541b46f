"""Our Video Prediction Policy against recorded outputs of the official code, stage by stage and end to end.

Tolerances are the measured noise between two CPU kernel sets; wrong implementations are off by 0.26 to 7.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from videopolicy import ActionSpace, Camera, FeatureLayout, Observation, Spaces, StateSpace, StaticStream
from videopolicy.components.fields import AnyDecoder, AnyExtractor
from videopolicy.types import Branch

pytestmark = pytest.mark.oracle


def component(kind: Any, **options: Any) -> Any:
    return TypeAdapter(kind).validate_python(options)


def close(actual: Tensor, expected: Tensor, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(actual.float(), expected.float(), atol=atol, rtol=rtol)


def floats(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.float() for key, value in state.items()}


def svd_options(meta: dict[str, Any], **changes: Any) -> dict[str, Any]:
    unet, vae = meta["unet"], meta["vae"]
    options = {
        "type": "svd",
        "image_size": [meta["extractor"]["image_size"]] * 2,
        "frames": meta["extractor"]["frames"],
        "latent": {"type": "vae", "channels": vae["block_out_channels"], "layers": vae["layers_per_block"]},
        # The text module is replaced by recorded token ids, so its weights are never asked for.
        "text": {
            "type": "word-text",
            "width": meta["text_encoder"]["hidden_size"],
            "words": meta["policy"]["max_length"],
            "buckets": 1,
        },
        "position_encode": meta["extractor"]["position_encode"],
        "unet": {
            "channels": unet["block_out_channels"],
            "heads": unet["num_attention_heads"],
            "attention": [name.startswith("Cross") for name in unet["down_block_types"]],
            "layers": unet["layers_per_block"],
            "time_ids_width": unet["addition_time_embed_dim"],
        },
    }
    return options | changes


@pytest.fixture(scope="module")
def spaces(vpp_oracle: dict[str, Any]) -> Spaces:
    meta = vpp_oracle["meta"]
    actions = meta["policy"]["action_dim"]
    size = meta["extractor"]["image_size"]
    return Spaces(
        cameras=tuple(Camera(name=name, height=size, width=size) for name in meta["views"]),
        actions=ActionSpace(
            names=tuple(f"a{index}" for index in range(actions)),
            low=(-1.0,) * actions,
            high=(1.0,) * actions,
            control="delta_position",
            rate=30,
        ),
        state=StateSpace(names=tuple(f"s{index}" for index in range(meta["denoiser"]["proprio_dim"]))),
    )


@pytest.fixture(scope="module")
def observation(vpp_oracle: dict[str, Any]) -> Observation:
    inputs = vpp_oracle["inputs"]
    return Observation({name: inputs[f"{name}_uint8"] for name in vpp_oracle["meta"]["views"]}, inputs["texts"])


@pytest.fixture(scope="module")
def latent_noise(vpp_oracle: dict[str, Any]) -> Tensor:
    """``(B, V, T, c, h, w)``; the official batch is view after view."""
    views = len(vpp_oracle["meta"]["views"])
    return vpp_oracle["inputs"]["latent_noise"].float().unflatten(0, (views, -1)).transpose(0, 1)


@pytest.fixture(scope="module")
def make_extractor(vpp_oracle: dict[str, Any], spaces: Spaces, clip_tokens: Any) -> Any:
    meta, state = vpp_oracle["meta"], vpp_oracle["state"]

    def make(former: str = "video-former", backbone: dict[str, Any] | None = None, **options: Any) -> Any:
        shape = meta["video_former"]
        if former != "linear":
            options["former"] = {
                "type": former,
                "dim": shape["dim"],
                "depth": shape["depth"],
                "heads": shape["heads"],
                "dim_head": shape["dim_head"],
                "latents_per_frame": shape["latents_per_frame"],
                "ff_mult": shape["ff_mult"],
            }
        else:
            options["former"] = {"type": "linear", "dim": 8}
        backbone = svd_options(meta, **(backbone or {}))
        extractor = component(AnyExtractor, type="one-step", backbone=backbone, **options).build(spaces).eval()
        extractor.backbone.text = clip_tokens
        extractor.backbone.unet.load_state_dict(floats(state["unet"]))
        keys = extractor.backbone.latent.vae.load_state_dict(floats(state["vae"]), strict=False)
        assert not keys.unexpected_keys and all(key.startswith("decoder.") for key in keys.missing_keys)
        if former == "video-former":
            extractor.former.load_state_dict(floats(state["Video_Former"]))
        return extractor

    return make


@pytest.fixture(scope="module")
def make_decoder(vpp_oracle: dict[str, Any], spaces: Spaces, clip_goal: Any) -> Any:
    meta = vpp_oracle["meta"]

    def make(**options: Any) -> Any:
        layout = FeatureLayout(meta["denoiser"]["obs_dim"], (("tokens", meta["policy"]["num_latents"]),))
        text = {"type": "word-text", "width": meta["denoiser"]["goal_dim"], "layers": 0, "buckets": 1}
        horizon = meta["denoiser"]["horizon"]
        decoder = component(AnyDecoder, type="dit-diffusion", horizon=horizon, text=text, **options)
        decoder = decoder.build(layout, spaces).eval()
        decoder.text = clip_goal
        ours = {key.removeprefix("inner_model."): value for key, value in floats(vpp_oracle["state"]["model"]).items()}
        del ours["pos_emb"]  # never read by the official code
        if not options.get("proprioception"):
            ours = {key: value for key, value in ours.items() if not key.startswith("proprio_emb")}
        decoder.network.load_state_dict(ours)
        return decoder

    return make


@pytest.fixture(scope="module")
def policy_stream(vpp_oracle: dict[str, Any], observation: Observation) -> StaticStream:
    """The recorded tokens, so that the decoder is compared by itself."""
    tokens = vpp_oracle["outputs"]["policy_tokens"]
    layout = FeatureLayout(tokens.shape[-1], (("tokens", tokens.shape[1]),))
    return StaticStream(observation, layout, [Branch(1.0, tokens)])


def ends_of(vpp_oracle: dict[str, Any]) -> list[int]:
    """The first and the last frame, which single features were recorded of."""
    return [0, vpp_oracle["meta"]["extractor"]["frames"] - 1]


def official_grid(features: Tensor, views: int, size: int) -> Tensor:
    """Our ``(B, T, V h w, C)`` as the official ``(V B, T, C, h, w)``."""
    return features.unflatten(2, (views, size, size)).permute(2, 0, 1, 5, 3, 4).flatten(0, 1)


def test_text_tokens_with_and_without_positions(vpp_oracle, make_extractor):
    texts, outputs = vpp_oracle["inputs"]["texts"], vpp_oracle["outputs"]
    plain = make_extractor().backbone
    close(plain.text_tokens(texts), outputs["text_hidden_pe0"], atol=1e-5)
    positions = make_extractor(backbone={"position_encode": True}).backbone
    close(positions.text_tokens(texts), outputs["text_hidden_pe1"], atol=1e-5)


def test_goal_vector(vpp_oracle, clip_goal):
    close(clip_goal(vpp_oracle["inputs"]["texts"]).pooled, vpp_oracle["outputs"]["goal"][:, 0], atol=1e-5)


def test_video_schedule(vpp_oracle, make_extractor, vpp_steps):
    expected = vpp_oracle["outputs"][f"sched_{vpp_steps}"]
    backbone = make_extractor().backbone
    scheduler = backbone.scheduler(vpp_steps)
    close(scheduler.sigmas, expected["sigmas"], atol=1e-4, rtol=1e-5)
    close(scheduler.timesteps, expected["timesteps"], atol=1e-5)
    assert scheduler.init_noise_sigma == pytest.approx(expected["init_noise_sigma"], rel=1e-6)


def test_image_latents_and_time_embedding(vpp_oracle, make_extractor, observation):
    backbone = make_extractor().backbone
    with torch.no_grad():
        condition = backbone.condition(observation)
        views = len(observation.images)
        official = condition.image[:, 0].unflatten(0, (-1, views)).transpose(0, 1).flatten(0, 1)
        close(official, vpp_oracle["outputs"]["image_latents"], atol=1e-5)
        noisy = torch.zeros(len(observation), *backbone.latent_shape)
        level = torch.full((len(observation),), backbone.highest_level)
        embedding = backbone.denoise(noisy, level, condition, ["up0"], predict=False).step_embedding
    close(embedding, vpp_oracle["outputs"]["t_emb"][: len(observation)], atol=1e-5)


def test_features_of_all_layers(vpp_oracle, make_extractor, observation, latent_noise, recorded_noise):
    features = make_extractor().frozen_features(observation, recorded_noise(latent_noise))
    expected = vpp_oracle["outputs"]["features_all"]
    official = official_grid(features, len(observation.images), expected.shape[-1])
    close(official[:, vpp_oracle["meta"]["feature_frames"]], expected, atol=3e-4)


def test_features_of_one_layer(vpp_oracle, make_extractor, observation, latent_noise, recorded_noise):
    extractor = make_extractor("linear", taps=["up1"], frames=ends_of(vpp_oracle))
    features = extractor.frozen_features(observation, recorded_noise(latent_noise))
    expected = vpp_oracle["outputs"]["features_idx1_single"]
    official = official_grid(features, len(observation.images), expected.shape[-1])
    close(official[: len(expected)], expected, atol=3e-4)


def test_features_of_three_layers(vpp_oracle, make_extractor, observation, latent_noise, recorded_noise):
    extractor = make_extractor("linear", taps=["up0", "up1", "up2"], frames=[3])
    features = extractor.frozen_features(observation, recorded_noise(latent_noise))
    expected = vpp_oracle["outputs"]["features_idx2_all"]
    close(official_grid(features, len(observation.images), expected.shape[-1])[:1], expected, atol=3e-4)


def test_features_after_a_denoising_step(vpp_oracle, make_extractor, observation, latent_noise, recorded_noise):
    extractor = make_extractor("linear", denoising_steps=2, frames=ends_of(vpp_oracle))
    features = extractor.frozen_features(observation, recorded_noise(latent_noise))
    expected = vpp_oracle["outputs"]["features_step2"]
    official = official_grid(features, len(observation.images), expected.shape[-1])
    close(official[: len(expected)], expected, atol=3e-4)


def test_features_from_latents(vpp_oracle, make_extractor, observation, latent_noise, recorded_noise):
    extractor = make_extractor("linear", frames=ends_of(vpp_oracle))
    latents = vpp_oracle["inputs"]["scaled_latents_frame"].float()
    latents = latents.unflatten(0, (len(observation.images), -1)).transpose(0, 1)
    extractor.backbone.latent.condition = lambda images: (
        latents.flatten(0, 2) / extractor.backbone.latent.scaling_factor
    )
    features = extractor.frozen_features(observation, recorded_noise(latent_noise))
    expected = vpp_oracle["outputs"]["features_latent_input"]
    official = official_grid(features, len(observation.images), expected.shape[-1])
    close(official[: len(expected)], expected, atol=3e-4)


def test_policy_tokens_end_to_end(vpp_oracle, make_extractor, observation, latent_noise, recorded_noise):
    with torch.no_grad():
        stream = make_extractor().stream(observation, generator=recorded_noise(latent_noise))
    close(stream.branches[0].tokens, vpp_oracle["outputs"]["policy_tokens"], atol=5e-4)


@pytest.mark.parametrize(
    ("former", "state", "output"),
    [
        ("video-former", "Video_Former", "former_tokens"),
        ("video-former-2d", "Video_Former_2D", "former_tokens_2d"),
    ],
)
def test_formers_alone(vpp_oracle, make_extractor, former, state, output):
    module = make_extractor(former).former
    module.load_state_dict(floats(vpp_oracle["state"][state]))
    with torch.no_grad():
        close(module(vpp_oracle["inputs"]["former_in"].float()), vpp_oracle["outputs"][output], atol=5e-5)


def context_of(decoder: Any, stream: StaticStream, state: Tensor | None = None) -> Tensor:
    goal = decoder.text(stream.observation.instructions).pooled
    return decoder.network.context(stream.branches[0].tokens, goal, state)


@torch.no_grad()
def test_context_raw_and_denoised(vpp_oracle, make_decoder, policy_stream):
    from vpolicy_vpp.decoder import _Contexts

    inputs, outputs = vpp_oracle["inputs"], vpp_oracle["outputs"]
    data = vpp_oracle["meta"]["denoiser"]["sigma_data"]
    decoder = make_decoder()
    context = context_of(decoder, policy_stream)
    close(context, outputs["context"], atol=5e-5)
    memory = decoder.network.remember(context)
    contexts = _Contexts(decoder, policy_stream)
    for index, sigma in enumerate(inputs["sigmas"]):
        noisy = inputs["x_unit"].float() * sigma
        level = sigma.expand(len(noisy))
        raw = decoder.network(noisy / (sigma**2 + data**2).sqrt(), decoder.network.modulations(level), memory)
        close(raw, outputs["raw"][index], atol=5e-5)
        denoised = decoder.denoise(noisy, level, policy_stream.at(level), contexts)
        close(denoised, outputs["denoised"][index], atol=5e-5)


@torch.no_grad()
def test_denoised_with_proprioception(vpp_oracle, make_decoder, policy_stream, observation):
    from vpolicy_vpp.decoder import _Contexts

    inputs = vpp_oracle["inputs"]
    state = inputs["proprio"].float()
    seen = Observation(observation.images, observation.instructions, state)
    stream = StaticStream(seen, policy_stream.layout, policy_stream.branches)
    decoder = make_decoder(proprioception=True)
    level = torch.ones(len(state))
    denoised = decoder.denoise(inputs["x_unit"].float(), level, stream.branches, _Contexts(decoder, stream))
    close(denoised, vpp_oracle["outputs"]["denoised_sigma1_with_proprio"], atol=5e-5)


def test_action_loss(vpp_oracle, make_decoder, policy_stream, monkeypatch):
    from vpolicy_vpp import decoder as module

    inputs = vpp_oracle["inputs"]
    monkeypatch.setattr(module, "sample_levels", lambda options, shape: inputs["loss_sigma"][None])
    monkeypatch.setattr(torch, "randn", lambda *args, **kwargs: inputs["loss_noise"].float()[None])
    actions = inputs["actions"].float()
    with torch.no_grad():
        loss = make_decoder().loss(policy_stream, actions, torch.ones(actions.shape[:2], dtype=torch.bool))
    close(loss, vpp_oracle["outputs"]["loss_eval_mode"], atol=0, rtol=1e-4)


def test_density_of_training_levels(vpp_oracle, make_decoder):
    from vpolicy_vpp.decoder import sample_levels

    kind, uniform = vpp_oracle["draws"]["sigma_density"][0]
    assert kind == "rand"
    levels = sample_levels(make_decoder().options.training_levels, uniform.shape, uniform)
    close(levels, vpp_oracle["outputs"]["sigma_density"], atol=0, rtol=1e-5)


def test_samplers(vpp_oracle, make_decoder, policy_stream, recorded_noise, vpp_sampler):
    from vpolicy_vpp.decoder import sampling_levels

    config = vpp_oracle["meta"]["samplers"][vpp_sampler]
    decoder = make_decoder(
        sampling_levels={
            "schedule": config["schedule"],
            "steps": config["steps"],
            "lowest": config["sigma_min"],
            "highest": config["sigma_max"],
            "rho": config["karras_rho"],
        }
    )
    levels = sampling_levels(decoder.options.sampling_levels)
    close(levels, vpp_oracle["outputs"][f"sigmas_{vpp_sampler}"], atol=1e-6, rtol=1e-5)
    actions = decoder.sample(policy_stream, recorded_noise(vpp_oracle["inputs"]["x_unit"].float()))
    close(actions, vpp_oracle["outputs"][f"actions_{vpp_sampler}"], atol=1e-4)


def test_whole_evaluation(vpp_oracle, make_extractor, make_decoder, observation, recorded_noise):
    """The official evaluation of the first sample, from bytes and words to actions."""
    (_, latent), (_, action) = vpp_oracle["draws"]["eval_forward"]
    images = {name: view[:1] for name, view in list(observation.images.items())[: len(latent)]}
    first = Observation(images, observation.instructions[:1])
    generator = recorded_noise(latent.float()[None], action.float())
    decoder = make_decoder(sampling_levels={"lowest": 1.0})
    with torch.no_grad():
        actions = decoder.sample(make_extractor().stream(first, generator=generator), generator)
    close(actions, vpp_oracle["outputs"]["eval_forward_actions"], atol=5e-4)


def test_video_loss(vpp_oracle, make_extractor):
    """Stage 1 on recorded latents, levels and noise; the second text is dropped."""
    from vpolicy_svd.backbone import SvdCondition, micro_ids
    from vpolicy_svd.clips import ClipLayout

    from videopolicy import Clip

    (_, uniform), (_, normal), (_, noise) = vpp_oracle["draws"]["stage1_loss"]
    backbone = make_extractor().backbone
    clean = vpp_oracle["inputs"]["stage1_latents"].float()
    text = backbone.text_tokens(vpp_oracle["inputs"]["texts"])
    text = text * (uniform > backbone.options.text_drop).view(-1, 1, 1)
    level = (backbone.options.level_deviation * normal.float().flatten() + backbone.options.level_mean).exp()
    image = clean[:, :1] / backbone.latent.scaling_factor
    condition = SvdCondition(image, text, micro_ids(backbone.options.training, clean))
    with torch.no_grad():
        backbone.clips = ClipLayout(1, clean.shape[1], concatenated=False, pad=False)  # stage 1 has one view
        clip = Clip(clean.unsqueeze(1), condition)
        loss = backbone.diffusion_loss(clip, noise.float().unsqueeze(1), level)
    close(loss, vpp_oracle["outputs"]["stage1_loss"], atol=0, rtol=1e-4)


def test_the_option_of_the_paper_differs_from_the_code(vpp_oracle, make_decoder, policy_stream, recorded_noise):
    """Full cross-attention, as the paper draws it, is another function: about 0.8 on the actions."""
    noise = vpp_oracle["inputs"]["x_unit"].float()
    full = make_decoder(causal_cross_attention=False).sample(policy_stream, recorded_noise(noise))
    expected = vpp_oracle["meta"]["wrong_implementation_distance"]["actions: cross-attention not causal"]
    distance = (full - vpp_oracle["outputs"]["actions_train_cfg"]).abs().max().item()
    assert distance == pytest.approx(expected, rel=0.5)
