"""Files in the layouts that the encoders' authors have published, at sizes that a test can afford."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}
"""Arguments of a small vision transformer; patches are kept where a test says nothing else."""
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "open", "the", "red", "draw", "##er", "push", "green", "button"]


def randomised(module: nn.Module) -> nn.Module:
    """No weight at its default, so that none can be mistaken for another."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


def vit(size: int = 32, **arguments: Any) -> nn.Module:
    """A random vision transformer without a classifier."""
    model = timm.create_model("vit_base_patch16_224.mae", num_classes=0, img_size=size, **{**VIT, **arguments})
    return randomised(model)


def masked_autoencoder(path: Path, model: nn.Module) -> Path:
    """A training checkpoint of a masked autoencoder, as VC-1's ``vc1_vitb.pth``: both halves, and what trained them."""
    width = model.embed_dim
    state = {
        **model.state_dict(),
        "mask_token": torch.ones(1, 1, 16),
        "decoder_pos_embed": torch.ones(1, 17, 16),
        "decoder_embed.weight": torch.ones(16, width),
        "decoder_blocks.0.norm1.weight": torch.ones(16),
        "decoder_pred.bias": torch.ones(192),
    }
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save({"model": state, "optimizer": optimizer, "epoch": 182, "args": Namespace(blr=1e-4)}, path)
    return path


def distilbert(folder: Path, seed: int = 0) -> Path:
    """A small DistilBERT in the files that the hub's has, the head of its pretraining included."""
    from safetensors.torch import load_file, save_file
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(seed)
    config = DistilBertConfig(vocab_size=len(WORDS), dim=32, hidden_dim=64, n_layers=2, n_heads=4)
    DistilBertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    file = folder / "model.safetensors"
    whole = {f"distilbert.{name}": value for name, value in load_file(file).items()}
    save_file(whole | {"vocab_layer_norm.weight": torch.ones(32)}, file, metadata={"format": "pt"})
    return folder


def v_cond(language: dict[str, Tensor], width: int = 32, depth: int = 2, side: int = 4, patch: int = 8) -> dict:
    """The tensors of V-Cond, by the names of its authors' code, all of them random."""
    generator = torch.Generator().manual_seed(1)

    def values(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.2

    def blocks(name: str, dim: int, count: int) -> dict[str, Tensor]:
        found = {}
        for number in range(count):
            block = f"{name}_blocks.{number}"
            found |= {
                f"{block}.pre_norm_attn.g": values(dim),
                f"{block}.attn.qkv.weight": values(3 * dim, dim),
                f"{block}.attn.qkv.bias": values(3 * dim),
                f"{block}.attn.proj.weight": values(dim, dim),
                f"{block}.attn.proj.bias": values(dim),
                f"{block}.layer_scale_attn.gamma": values(dim),
                f"{block}.pre_norm_mlp.g": values(dim),
                f"{block}.mlp.0.project.weight": values(8 * dim, dim),
                f"{block}.mlp.0.project.bias": values(8 * dim),
                f"{block}.mlp.2.weight": values(dim, 4 * dim),
                f"{block}.mlp.2.bias": values(dim),
                f"{block}.layer_scale_mlp.gamma": values(dim),
            }
        return found

    return {
        "encoder_pe": values(1, side**2, width),
        "mask_token": values(1, 1, 16),
        "decoder_pe": values(1, side**2, 16),
        "img_token": values(1, 1, width),
        "lang_token": values(1, 1, width),
        "patch2embed.proj.weight": values(width, 3, patch, patch),
        "patch2embed.proj.bias": values(width),
        **blocks("encoder", width, depth),
        "encoder_norm.g": values(width),
        "lang2encoder.weight": values(width, 32),
        "lang2encoder.bias": values(width),
        "encoder2decoder.weight": values(16, width),
        "encoder2decoder.bias": values(16),
        **blocks("decoder", 16, 1),
        "decoder_norm.g": values(16),
        "decoder_prediction.weight": values(3 * patch**2, 16),
        "decoder_prediction.bias": values(3 * patch**2),
        **{f"lm.{name}": value for name, value in language.items()},
        "lm.embeddings.position_ids": torch.arange(16)[None],  # which older transformers kept
    }


def v_cond_tokens(state: dict[str, Tensor], pixels: Tensor, words: Tensor, mask: Tensor, heads: int) -> Tensor:
    """What the authors' code makes of an image and a sentence, written down from its formulas, head by head."""

    def norm(tokens: Tensor, name: str) -> Tensor:
        size = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True) * tokens.shape[-1] ** -0.5
        return tokens / size * state[f"{name}.g"]

    def linear(tokens: Tensor, name: str) -> Tensor:
        return tokens @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    kernel = state["patch2embed.proj.weight"]
    patches = torch.nn.functional.conv2d(pixels, kernel, state["patch2embed.proj.bias"], stride=kernel.shape[-1])
    patches = patches.flatten(2).transpose(1, 2) + state["encoder_pe"] + state["img_token"]
    tokens = torch.cat([patches, linear(words, "lang2encoder") + state["lang_token"]], dim=1)
    there = torch.cat([torch.ones(len(patches), patches.shape[1], dtype=torch.bool), mask], dim=1)
    number = 0
    while (block := f"encoder_blocks.{number}") + ".pre_norm_attn.g" in state:
        mixed = []
        whole = linear(norm(tokens, f"{block}.pre_norm_attn"), f"{block}.attn.qkv")
        for query, key, value in zip(*(part.chunk(heads, dim=-1) for part in whole.chunk(3, dim=-1)), strict=True):
            scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
            scores = scores.masked_fill(~there[:, :, None], torch.finfo(scores.dtype).min)
            mixed.append(scores.softmax(dim=-1) @ value)
        read = linear(torch.cat(mixed, dim=-1), f"{block}.attn.proj")
        tokens = tokens + read * state[f"{block}.layer_scale_attn.gamma"]
        values, gate = linear(norm(tokens, f"{block}.pre_norm_mlp"), f"{block}.mlp.0.project").chunk(2, dim=-1)
        hidden = linear(values * gate * gate.sigmoid(), f"{block}.mlp.2")
        tokens = tokens + hidden * state[f"{block}.layer_scale_mlp.gamma"]
        number += 1
    return norm(tokens, "encoder_norm")
