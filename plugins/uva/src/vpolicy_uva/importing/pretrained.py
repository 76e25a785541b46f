"""What UVA's training begins with: MAR's ImageNet weights and its autoencoder."""

from __future__ import annotations

import json

from videopolicy import Checkpoint, Imported, WeightsError
from vpolicy_uva.importing import names, sizes
from vpolicy_uva.importing.checkpoints import Report, autoencoder_tensors

_DROPPED = {
    "class_emb.": "the embedding of ImageNet's classes",
    "mask_token": "the vector that stands for masked tokens in MAR's decoder, which UVA replaces by one of its encoder",
    "encoder_pos_embed_learned": "positions of one frame behind MAR's class tokens; UVA learns its own",
    "decoder_pos_embed_learned": "positions of one frame behind MAR's class tokens; UVA learns its own",
    "diffusion_pos_embed_learned": "positions of one frame; UVA learns its own",
    "loss.": "what the autoencoder was trained against",
}
_NEEDED = ("views.0.future.", "input_norm.", "encoder", "decoder_in.", "decoder_norm.", "decoder.")
NOT_IMAGENET = (
    "Everything about time, actions and history: it begins at random, as in the official code, which takes from MAR "
    "what has the same name and shape."
)


def convert_mar(checkpoint: Checkpoint) -> Imported:
    """See `vpolicy_uva.importing.MarImporter`.

    Raises:
        WeightsError: It is no checkpoint of MAR.
    """
    report = Report()
    state = checkpoint.tensors("model_ema")
    dropped = {name: why for name in state for start, why in _DROPPED.items() if name.startswith(start)}
    state = {name: value for name, value in state.items() if name not in dropped}
    found = {
        name.removeprefix("joint."): value
        for name, value in report.renamed("", state, names.model_names(state)).items()
    }
    try:
        shape, head = sizes.transformer_options(state, (1, 1)), sizes.head_options(state, "diffloss.net.")
        latent = {"type": "kl", "channels": [32], "latent_channels": state["z_proj.weight"].shape[1]}
    except KeyError as error:
        raise WeightsError(f"{checkpoint.path} lacks {error.args[0]}.", "Name a checkpoint of MAR.") from None
    joint = {"image_size": [4, 4], "latent": latent, "text": None, "transformer": shape, "video": head}
    own = sizes.twin({"joint": joint}, sizes.spaces(1, 0, 1), True)
    needed = tuple(f"transformer.{name}" for name in _NEEDED)
    own = {name: shape for name, shape in own.items() if name.startswith((*needed, "video_heads."))}
    report.compare({name: value for name, value in found.items() if name != "transformer.no_text"}, own)
    return Imported(
        {
            "transformer": {name: value for name, value in found.items() if name.startswith("transformer.")},
            "video head": {name: value for name, value in found.items() if name.startswith("video_heads.")},
        },
        target="",
        place="policy.joint.initial_weights",
        dropped=dropped,
        unexpected=report.unexpected,
        missing=report.missing,
        not_carried=[NOT_IMAGENET],
    )


def convert_autoencoder(checkpoint: Checkpoint, scaling_factor: float) -> Imported:
    """See `vpolicy_uva.importing.KlF16Importer`.

    Raises:
        WeightsError: It is no autoencoder.
    """
    report = Report()
    state = checkpoint.tensors("model")
    dropped = {name: _DROPPED["loss."] for name in state if name.startswith("loss.")}
    state = {name: value for name, value in state.items() if name not in dropped}
    found = autoencoder_tensors(state, report)
    try:
        twin = sizes.autoencoder_twin(sizes.autoencoder_options(state, scaling_factor))
    except KeyError as error:
        raise WeightsError(f"{checkpoint.path} lacks {error.args[0]}.", "Name kl16.ckpt.") from None
    report.compare(found, sizes.shapes(twin))
    return Imported(
        {"autoencoder": found},
        target="",
        place="policy.joint.latent.weights",
        dropped=dropped,
        unexpected=report.unexpected,
        missing=report.missing,
        file="diffusion_pytorch_model.safetensors",
        documents={"config.json": json.loads(twin.to_json_string())},
    )
