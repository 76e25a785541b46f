"""OpenCLIP's text tower in transformers' layout."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from videopolicy import Checkpoint, Imported, WeightsError

_ENDS = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")

TOKENIZER = (
    "The tokenizer, which the file does not hold; it is that of every CLIP. Put it into the same folder: `hf download "
    "openai/clip-vit-large-patch14 vocab.json merges.txt tokenizer.json tokenizer_config.json "
    "special_tokens_map.json --local-dir FOLDER`."
)


def convert(checkpoint: Checkpoint, heads: int | None, activation: str) -> Imported:
    """See `vpolicy_video_policy.importing.OpenClipTextImporter`.

    Raises:
        WeightsError: There is no text tower in the checkpoint.
    """
    state = checkpoint.state
    roots = [name.removesuffix("token_embedding.weight") for name in state if name.endswith("token_embedding.weight")]
    if len(roots) != 1:
        raise WeightsError(
            f"{checkpoint.path} holds {len(roots) or 'no'} text tower{'s' if len(roots) > 1 else ''} of OpenCLIP.",
            "Name open_clip_pytorch_model.bin, or a checkpoint of Video Policy.",
        )
    tower: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    unexpected: list[str] = []
    for name, value in state.items():
        inside = name.removeprefix(roots[0])
        if not name.startswith(roots[0]):
            dropped[name] = "everything but CLIP"
        elif inside == "logit_scale" or inside.startswith("visual."):
            dropped[name] = "the image tower and its scale"
        elif found := _renamed(inside, value):
            tower |= found
        else:
            unexpected.append(name)
    config = _config(tower, heads, activation)
    missing = [] if config is None else sorted(_wanted(config["num_hidden_layers"]) - tower.keys())
    if config is None:
        missing = sorted(set(_ENDS.values()) - tower.keys()) or ["text_model.encoder.layers.0.mlp.fc1.weight"]
    return Imported(
        {"text encoder": tower},
        target="",
        dropped=dropped,
        unexpected=unexpected,
        missing=missing,
        not_carried=[TOKENIZER],
        file="model.safetensors",
        documents={"config.json": config},
    )


def _renamed(name: str, value: Tensor) -> dict[str, Tensor]:
    if name in _ENDS:
        return {_ENDS[name]: value.T.contiguous() if name == "text_projection" else value}
    found = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)([._])(weight|bias)", name)
    if found is None:
        return {}
    layer, module, kind = f"text_model.encoder.layers.{found[1]}", found[2], found[4]
    if module == "attn.in_proj":
        thirds = zip(_PROJECTIONS, value.chunk(3), strict=True)
        return {f"{layer}.self_attn.{part}.{kind}": third for part, third in thirds}
    return {f"{layer}.{_LAYER[module]}.{kind}": value} if module in _LAYER else {}


def _wanted(layers: int) -> set[str]:
    modules = [*_LAYER.values(), *(f"self_attn.{part}" for part in _PROJECTIONS)]
    inside = {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}
    return set(_ENDS.values()) | {f"text_model.encoder.layers.{n}.{name}" for n in range(layers) for name in inside}


def _config(tower: dict[str, Tensor], heads: int | None, activation: str) -> dict[str, Any] | None:
    """What transformers wants to know; None where the tensors do not show it."""
    layers = 1 + max((int(found[1]) for name in tower if (found := re.search(r"layers\.(\d+)\.", name))), default=-1)
    try:
        vocabulary, width = tower["text_model.embeddings.token_embedding.weight"].shape
        return {
            "architectures": ["CLIPTextModelWithProjection"],
            "model_type": "clip_text_model",
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": tower["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": layers,
            "num_attention_heads": heads or max(width // 64, 1),
            "projection_dim": tower["text_projection.weight"].shape[0],
            "max_position_embeddings": tower["text_model.embeddings.position_embedding.weight"].shape[0],
            "hidden_act": activation,
            "layer_norm_eps": 1e-5,
            # The last two of the vocabulary begin and end a sentence; the vector is read at the first end.
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
        }
    except KeyError:
        return None
