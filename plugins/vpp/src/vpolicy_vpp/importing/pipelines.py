"""A video model as stage 1 saves it (``step1_train_svd.py``): a folder of ``StableVideoDiffusionPipeline``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videopolicy import Checkpoint, Imported, WeightsError
from vpolicy_vpp.importing.sizes import Report, Shapes

UNET, VAE = "unet", "vae"
PARTS = {UNET: "UNetSpatioTemporalConditionModel", VAE: "AutoencoderKLTemporalDecoder"}
"""Folders that are read, and diffusers' classes that they hold."""
WEIGHTS, CONFIG = "diffusion_pytorch_model.safetensors", "config.json"

OTHERS = {
    "image_encoder": "CLIP's image tower, in whose place this model reads the sentence",
    "feature_extractor": "the preparation of images for it",
    "scheduler": "the schedule, which the recipe's svd component has as options",
    "text_encoder": "CLIP, which the recipe's clip-text loads",
    "tokenizer": "CLIP's tokenizer, which the recipe's clip-text loads",
}
TEXT = (
    "CLIP's text encoder, which nothing has trained: the recipe's clip-text component loads it from "
    "openai/clip-vit-base-patch32."
)
_AGAIN = "Download the folder again, and compare the sizes of its files with the published ones."
_ONLY = "Only video models with the parts of Stable Video Diffusion can be imported."


def is_pipeline(folder: Path) -> bool:
    """Whether a folder is that of a pipeline."""
    return (folder / "model_index.json").is_file() or (folder / UNET).is_dir()


def ensure_positions_given(folder: Path, position_encode: bool | None) -> None:
    """Ensure that somebody says what no file shows.

    Raises:
        WeightsError: Nobody does.
    """
    if position_encode is None:
        raise WeightsError(
            f"{folder}: nothing in the files of a video model shows whether positions were added to the text tokens "
            "that it was trained with, and with the other choice it reads other sentences.",
            "Say it behind the folder: position_encode=true for svd-robot, position_encode=false for "
            "svd-robot-calvin-ft.",
        )


def files(folder: Path) -> dict[str, Path]:
    """The weights to read, by the entries that they become."""
    return {part: folder / part / WEIGHTS for part in PARTS}


def convert(checkpoint: Checkpoint, position_encode: bool | None) -> Imported:
    """See `vpolicy_vpp.importing.VppImporter`. The files themselves are taken over; tensors are only compared.

    Raises:
        WeightsError: A description is missing or damaged, or it is a model that `svd` cannot be.
    """
    folder = checkpoint.path
    ensure_positions_given(folder, position_encode)
    configs = {part: _config(folder / part / CONFIG, kind) for part, kind in PARTS.items()}
    states = {part: checkpoint.tensors(part) for part in PARTS}
    options = _unet_options(folder, configs[UNET]) | _vae_options(configs[VAE])
    report = Report()
    for part in PARTS:  # under the names that stand in the files: they are taken over with these
        report.compare(f"{part}: ", checkpoint.content[part], _shapes(folder / part / CONFIG, part, configs[part]))
    return Imported(
        {
            "video model": _under("unet.", states[UNET]),
            "autoencoder": _under("latent.vae.", states[VAE]),
        },
        target="policy.extractor.backbone",
        dropped={name: reason for name, reason in OTHERS.items() if (folder / name).is_dir()},
        unexpected=report.unexpected,
        missing=report.missing,
        left_out=("text.",),
        not_carried=[TEXT],
        options={
            "type": "svd",
            "position_encode": position_encode,
            "text_tokens": "all",
            "double_text": True,
            **options,
        },
        place="policy.extractor.backbone.weights",
        files={f"{part}/{WEIGHTS}": file for part, file in files(folder).items()},
        documents={
            f"{UNET}/{CONFIG}": configs[UNET] | {"position_encode": position_encode},
            f"{VAE}/{CONFIG}": configs[VAE],
        },
    )


def _under(place: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {place + name: value for name, value in state.items()}


def _config(path: Path, kind: str) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.", _AGAIN) from None
    except ValueError as error:
        raise WeightsError(f"{path} is no JSON: {error}", _AGAIN) from None
    found = config.get("_class_name", kind) if isinstance(config, dict) else type(config).__name__
    if found != kind:
        raise WeightsError(f"{path} describes {found}, not {kind}.", _ONLY)
    return dict(config)


def _unet_options(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `svd` that make this UNet.

    Raises:
        WeightsError: None do.
    """
    try:
        down = config["down_block_types"]
        attention = [name.startswith("CrossAttn") for name in down]
        text, width = config["cross_attention_dim"], config["addition_time_embed_dim"]
        heads, levels = config["num_attention_heads"], len(config["block_out_channels"])
        wanted = {
            "in_channels": 2 * config["out_channels"],
            "projection_class_embeddings_input_dim": 3 * width,
            "down_block_types": ["CrossAttn" * a + "DownBlockSpatioTemporal" for a in attention],
            "up_block_types": ["CrossAttn" * a + "UpBlockSpatioTemporal" for a in reversed(attention)],
        }
        odd = [f"{name} is {config[name]}, not {value}" for name, value in wanted.items() if config[name] != value]
        single = ("cross_attention_dim", "layers_per_block", "transformer_layers_per_block")
        odd += [f"{name} is {config.get(name)}, not one number" for name in single if not _whole(config.get(name, 1))]
        if _whole(text) and text % 2:
            odd.append(f"cross_attention_dim is {text}, which is not twice the width of text tokens")
        if odd:
            raise WeightsError(f"{folder / UNET} is a UNet of another shape: {'; '.join(odd)}.", _ONLY)
        return {
            "text.width": text // 2,
            "unet.channels": config["block_out_channels"],
            "unet.heads": [heads] * levels if _whole(heads) else heads,
            "unet.attention": attention,
            "unet.layers": config["layers_per_block"],
            "unet.transformer_layers": config.get("transformer_layers_per_block", 1),
            "unet.time_ids_width": width,
            "unet.norm_epsilon": "diffusers",
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{folder / UNET / CONFIG} does not describe the UNet of a video model ({type(error).__name__}: {error}).",
            _AGAIN,
        ) from error


def _vae_options(config: Mapping[str, Any]) -> dict[str, Any]:
    own = {
        "channels": "block_out_channels",
        "layers": "layers_per_block",
        "latent_channels": "latent_channels",
        "scaling_factor": "scaling_factor",
    }
    found = {f"latent.{ours}": config[theirs] for ours, theirs in own.items() if theirs in config}
    return {"latent.type": "vae", "latent.condition_encoder": "shared", **found}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shapes(place: Path, part: str, config: Mapping[str, Any]) -> Shapes:
    """Names and shapes of what a description describes.

    Raises:
        WeightsError: diffusers can build nothing of it.
    """
    import diffusers

    try:
        with torch.device("meta"):
            module = getattr(diffusers, PARTS[part]).from_config(dict(config))
    except Exception as error:  # whatever a wrong number leads to inside the library
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise WeightsError(f"{place} describes no model: {reason}", _AGAIN) from error
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}
