"""A small CLIP in the files that the hub's checkpoints have."""

from __future__ import annotations

import json
from pathlib import Path


def write_clip(folder: Path, width: int, heads: int = 2) -> Path:
    """Write CLIP's text encoder of random weights, and a tokenizer that knows single characters.

    Args:
        folder: Where; it is made.
        width: Of tokens and of the projected vector.
        heads: Attention heads.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    folder.mkdir(parents=True)
    characters = [*map(chr, range(ord("!"), ord("~") + 1))]
    tokens = [*characters, *(f"{c}</w>" for c in characters), "op</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\no p</w>\n")
    end = len(tokens) - 1
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=1,
        num_attention_heads=heads,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    CLIPTextModelWithProjection(config).save_pretrained(folder)
    return folder
