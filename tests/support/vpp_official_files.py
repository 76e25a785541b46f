"""Files of the layouts in which Video Prediction Policy was published, of small sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from vpp_official_names import Clip, Shapes, Sizes

from videopolicy.testing import toy_benchmark

TINY = Sizes(
    channels=96,
    dim=16,
    depth=2,
    inner=128,
    frames=2,
    latents=3,
    width=16,
    encoder=1,
    decoder=2,
    horizon=4,
    actions=2,
    clip=Clip(16, 40, 9, 8, 1, 8, 1, 4, 2, 40, 16, 32, 1),
)
"""Reads the two maps of `UNET`, 64 and 32 channels, and acts on the toy benchmark."""
BACKBONE = f"""\
plugins: [{toy_benchmark.__file__}]
benchmark: {{type: toy, task_names: [red], max_steps: 3}}
policy:
  type: modular
  extractor:
    type: one-step
    backbone:
      type: svd
      weights: video
      image_size: [16, 16]
      frames: 2
      latent: {{type: vae, channels: [32, 32], layers: 1}}
      text: {{type: clip-text, weights: clip, width: 16, pooled_width: 16}}
      unet: {{channels: [32, 64], heads: [2, 2], attention: [true, false], layers: 1, time_ids_width: 8}}
"""
"""A recipe's beginning, up to the video model of these sizes."""

UNET: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "num_attention_heads": (2, 2),
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 24,
    "num_frames": 2,
}
VAE: dict[str, Any] = {
    "block_out_channels": (32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "layers_per_block": 1,
    "latent_channels": 4,
}
SCHEDULER = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "v_prediction", "sigma_max": 700.0}


def random(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """No weight like another, so that none can be mistaken for another."""
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def hollow(shapes: Shapes) -> dict[str, Tensor]:
    """Of the right shapes, and of no size."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def write_action_model(path: Path, state: Mapping[str, Tensor], **entries: Any) -> Path:
    """As ``step2_train_action_calvin.py`` saves it: beside the tensors a configuration of omegaconf.

    Args:
        path: The file; its folder is made.
        state: Tensors under official names.
        entries: Further entries of the file.
    """
    omegaconf = pytest.importorskip("omegaconf")
    args = omegaconf.OmegaConf.create({"act_seq_len": 10, "model": {"action_seq_len": "${act_seq_len}", "seed": 242}})
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": dict(state), "args": args, **entries}, path)
    return path


def write_pipeline(folder: Path, unet: Mapping[str, Any] = UNET, vae: Mapping[str, Any] = VAE) -> tuple[Any, Any]:
    """As ``StableVideoDiffusionPipeline.save_pretrained`` does, with what else lies there.

    Args:
        folder: Where.
        unet, vae: Arguments of diffusers' models.

    Returns:
        The models.
    """
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

    torch.manual_seed(0)
    models = UNetSpatioTemporalConditionModel(**unet), AutoencoderKLTemporalDecoder(**vae)
    for name, model in zip(("unet", "vae"), models, strict=True):
        model.save_pretrained(folder / name)
    for name in ("image_encoder", "feature_extractor", "scheduler"):
        (folder / name).mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (folder / "image_encoder" / "model.safetensors").write_bytes(b"\0" * 64)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableVideoDiffusionPipeline"}))
    return models
