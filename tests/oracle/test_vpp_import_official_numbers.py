"""Recorded official weights, written as they were published and imported, act as the official evaluation did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command import vpolicy
from small_clip import write_clip
from torch import Tensor
from vpp_official_files import hollow, write_action_model, write_pipeline
from vpp_official_names import Clip, Sizes, network, openai_image

from videopolicy import Observation
from videopolicy.console.progress import Reporter
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage.store import Store
from videopolicy.training.planning import plan
from videopolicy.training.session import Session
from videopolicy.training.stages import load_policy, train

pytestmark = pytest.mark.oracle


def recipe_of(meta: dict[str, Any]) -> dict[str, Any]:
    """What the shipped recipe says, at the recording's sizes."""
    unet, former, extractor = meta["unet"], meta["video_former"], meta["extractor"]
    clip = {"type": "clip-text", "weights": "clip"}
    backbone = {
        "type": "svd",
        "weights": "video",
        "image_size": [extractor["image_size"]] * 2,
        "frames": extractor["frames"],
        "latent": {
            "type": "vae",
            "channels": meta["vae"]["block_out_channels"],
            "layers": meta["vae"]["layers_per_block"],
        },
        "text": clip | {"max_length": extractor["max_length"]},
        "position_encode": extractor["position_encode"],
        "unet": {
            "channels": unet["block_out_channels"],
            "heads": unet["num_attention_heads"],
            "attention": [name.startswith("Cross") for name in unet["down_block_types"]],
            "layers": unet["layers_per_block"],
            "time_ids_width": unet["addition_time_embed_dim"],
        },
    }
    keys = ("dim", "depth", "heads", "dim_head", "latents_per_frame", "ff_mult")
    return {
        "benchmark": {"type": "calvin"},
        "policy": {
            "type": "modular",
            "extractor": {
                "type": "one-step",
                "backbone": backbone,
                "former": {"type": "video-former"} | {name: former[name] for name in keys},
            },
            "decoder": {
                "type": "dit-diffusion",
                "horizon": meta["denoiser"]["horizon"],
                "text": clip | {"max_length": 77},
                "sampling_levels": {"steps": meta["samplers"]["eval_cfg"]["steps"], "lowest": 1.0},
            },
        },
        "train": [{"name": "imported", "init_from": "weights", "steps": 0}],
        "tracking": [],
    }


def official_state(recording: dict[str, Any]) -> dict[str, Tensor]:
    """An action model's state dict, with what recordings leave out of it."""
    found: dict[str, Tensor] = {}
    for family, place in {
        "Video_Former": "Video_Former.",
        "model": "model.",
        "language_goal": "language_goal.",
        "text_encoder": "TVP_encoder.text_encoder.",
    }.items():
        found |= {place + name: value.clone().float() for name, value in recording["state"][family].items()}
    sizes = Sizes(width=recording["meta"]["denoiser"]["embed_dim"])
    dead = {name: shape for name, shape in network(sizes).items() if name.startswith("goal_emb.")}
    tower = openai_image(Clip(image_width=8, image_layers=1, patch=4, grid=2))
    found |= {f"model.inner_model.{name}": value for name, value in hollow(dead).items()}
    return found | {f"language_goal.clip_rn50.{name}": value for name, value in hollow(tower).items()}


def write_video_model(folder: Path, recording: dict[str, Any]) -> None:
    meta, state = recording["meta"], recording["state"]
    arguments = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in meta[part].items()}
        for part in ("unet", "vae")
    ]
    for name, model in zip(("unet", "vae"), write_pipeline(folder, *arguments), strict=True):
        keys = model.load_state_dict({key: value.float() for key, value in state[name].items()}, strict=False)
        assert not keys.unexpected_keys and all(key.startswith("decoder.") for key in keys.missing_keys)
        model.save_pretrained(folder / name)


def test_imported_weights_act_as_the_official_evaluation(
    vpp_oracle: dict[str, Any],
    clip_tokens: Any,
    clip_goal: Any,
    recorded_noise: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meta = vpp_oracle["meta"]
    if meta["denoiser"]["action_dim"] != 7:
        pytest.skip(f"CALVIN's actions have 7 dimensions, the recording's {meta['denoiser']['action_dim']}.")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe_of(meta)))
    write_action_model(tmp_path / "dp-calvin/saved_models/x.pt", official_state(vpp_oracle))
    write_video_model(tmp_path / "svd-robot-calvin-ft", vpp_oracle)
    write_clip(tmp_path / "clip", 512)
    video = ("svd-robot-calvin-ft", f"position_encode={meta['extractor']['position_encode']}", "-o", "video")
    heads = f"former_heads={meta['video_former']['heads']}"
    for arguments in (video, ("dp-calvin", "taps=[up0,up1]", heads, "-o", "weights")):
        done = vpolicy(tmp_path, "import", "vpp", *arguments, "--recipe", "recipe.yaml", "--quiet")
        assert done.returncode == 0, done.stderr

    recipe, store = load_recipe(tmp_path / "recipe.yaml"), Store(tmp_path / "home")
    planned = plan(recipe, None, store)
    train(Session(recipe, store, torch.device("cpu"), Reporter(quiet=True)), planned[0], None)
    policy, normalizer = load_policy(recipe, planned)
    policy.eval()
    # Both read the words by the recording's token ids.
    policy.extractor.backbone.text, policy.decoder.text = clip_tokens, clip_goal  # type: ignore[union-attr]

    (_, latent), (_, action) = vpp_oracle["draws"]["eval_forward"]
    inputs = vpp_oracle["inputs"]
    views = meta["views"][: len(latent)]
    first = Observation({name: inputs[f"{name}_uint8"][:1] for name in views}, inputs["texts"][:1])
    chunk = policy.act(first, recorded_noise(latent.float()[None], action.float()))
    expected = vpp_oracle["outputs"]["eval_forward_actions"]
    torch.testing.assert_close(normalizer.physical(chunk), expected, atol=5e-4, rtol=0)
