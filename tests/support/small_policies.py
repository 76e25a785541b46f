"""Every method as a policy of a few thousand weights with random weights, on the toy benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from videopolicy.recipes.recipe import Recipe, load_recipe
from videopolicy.testing import toy_benchmark

_TEXT = "{type: clip-text, weights: nowhere, width: 64, pooled_width: 64, max_length: 6}"
_SVD = f"""\
      type: svd
      image_size: [16, 16]
      frames: 2
      stride: 2
      text: {_TEXT}
      double_text: false"""
_UNET = "      unet: {channels: [32, 32], heads: [2, 2], attention: [true, true], layers: 1, time_ids_width: 8}"
POLICIES = {
    "vpp": f"""
  type: modular
  extractor:
    type: one-step
    backbone:
{_SVD}
      latent: {{type: vae, channels: [32, 32], layers: 1}}
{_UNET}
    taps: [up0, up1]
    former: {{type: video-former, dim: 32, depth: 2, heads: 2, dim_head: 16, latents_per_frame: 2}}
  decoder:
    type: dit-diffusion
    horizon: 4
    text: {_TEXT}
    width: 32
    encoder_layers: 2
    decoder_layers: 2
    heads: 2
    dropout: {{attention: 0, residual: 0, feed_forward: 0, embedding: 0}}
    sampling_levels: {{steps: 3}}
""",
    "video_policy": f"""
  type: modular
  extractor:
    type: every-step
    backbone:
{_SVD}
      latent: {{type: space-to-depth, patch: 4}}
{_UNET}
      views: concatenated
      pad_frame: true
      text_tokens: pooled
      text_drop: 0.1
      image_drop: 0.1
      drop_per: frame
      image_noise: 0.02
      guidance_scale: 2
      video_guidance: constant
    taps: [up1.1, up0.1]
    adapter:
      stages: [[16, 2], [16, 2]]
      merges: [[8, 2]]
      squeeze: [[8, 2]]
      trunk: [[16, 2]]
      deep_layers: 0
      halvings: 1
      blocks: 1
      halving_blocks: 1
      deep_groups: 2
      norm_groups: 4
    frozen: false
    guidance: 2
  decoder: {{type: action-unet, horizon: 4, down_dims: [16, 32], groups: 4, step_dim: 8, sampling_levels: {{steps: 3}}}}
""",
    "uva": f"""
  type: uva
  joint:
    image_size: [16, 16]
    frames: 2
    stride: 2
    history_stride: 2
    latent: {{type: kl, channels: [32, 32, 32], layers: 1, latent_channels: 4}}
    text: {_TEXT}
    text_tokens: 2
    transformer: {{width: 32, depth: 1, heads: 2, attention_dropout: 0, dropout: 0}}
    video: {{width: 16, depth: 1, sampling_steps: 3}}
  action: {{type: uva-action, horizon: 4, head: {{width: 32, depth: 2, sampling_steps: 6}}}}
  modes: [full]
""",
    "diffusion_policy": """
  type: modular
  extractor:
    type: image
    encoder: {type: resnet, layers: [1, 1], channels: [16, 32], strides: [1, 2]}
    pool: {type: grid, dim: 16}
    observed: [0]
  decoder:
    type: unet-diffusion
    horizon: 4
    text: {type: word-text}
    down_dims: [16, 32]
    step_dim: 16
    diffusion: {predict: sample, noise_samples: 2, sampler: ddim, sampling_steps: 4}
""",
}


def small_policy(name: str, folder: Path, changed: Mapping[str, str] | None = None) -> Recipe:
    """The recipe of one of `POLICIES`, which nothing has to be fetched for when it is built with random weights.

    Args:
        changed: Text of the recipe to put in place of other text.
    """
    path = folder / f"{name}.yaml"
    policy = POLICIES[name]
    for old, new in (changed or {}).items():
        policy = policy.replace(old, new)
    path.write_text(
        f"""\
plugins: [{toy_benchmark.__file__}]
benchmark: {{type: toy, task_names: [red, blue], image_size: 16}}
data: {{type: robomimic-hdf5, episodes_per_task: 3}}
policy:{policy}
train: [{{name: policy, steps: 2, batch_size: 3}}]
""",
        encoding="utf-8",
    )
    return load_recipe(path)
