"""How latents lie in a folder: one folder of shards for every split and camera.

| file | holds |
|---|---|
| ``chunk-0-N.bin`` | block N: runs of windows, each a blob of safetensors |
| ``block-N.json`` | what is known of it; it is written last |
| ``index.json`` | litdata's list of the shards; written when all blocks are there |
| ``clips.json`` | ours: windows of every run, what encoded them, and what they were encoded from |
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from videopolicy import DataError, EncodedRun
from videopolicy.parts.files import ensure_data

INDEX = "index.json"
CLIPS = "clips.json"
FORMAT = ["bytes"]
"""Of litdata's items. Others may be pickles, which would be run."""
_FACTS = ("encoder", "source", "observed", "future", "height", "width", "episodes")
AGAIN = "Run `vpolicy data encode` again, which goes on with what is missing, or remove the folder first."


def packed(run: EncodedRun) -> bytes:
    """A run as an item of a shard."""
    arrays = {
        "latents": run.latents.contiguous(),
        "frames": torch.from_numpy(run.frames),
        "there": torch.from_numpy(run.there),
        "texts": torch.frombuffer(bytearray(json.dumps(run.texts).encode()), dtype=torch.uint8),
    }
    return save(arrays)


def unpacked(item: bytes | memoryview, where: str) -> EncodedRun:
    """The same read again.

    Raises:
        DataError: It is damaged.
    """
    try:
        arrays = load(bytes(item))
        texts = json.loads(arrays["texts"].numpy().tobytes())
        return EncodedRun(arrays["latents"], arrays["frames"].numpy(), arrays["there"].numpy(), tuple(texts))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{where} is damaged: {error}.", AGAIN) from error


@dataclass(frozen=True)
class Shards:
    """What is known of a folder of shards.

    Args:
        runs: Windows of every run ``(R,)``, run after run.
        shards: Runs of every shard ``(S,)``.
        facts: What was said when they were written: encoder, source, offsets of the frames, size of the pictures.
    """

    runs: np.ndarray
    shards: np.ndarray
    facts: dict[str, Any]

    @property
    def windows(self) -> int:
        return int(self.runs.sum())


def read_shards(folder: Path) -> Shards:
    """What is known of a folder of shards.

    Raises:
        DataError: It was not finished, or is damaged.
    """
    if not (folder / CLIPS).is_file():
        raise DataError(f"{folder} holds no finished latents: there is no {CLIPS}.", AGAIN)
    index, clips = (_read(folder / name) for name in (INDEX, CLIPS))
    try:
        if index["config"]["data_format"] != FORMAT or index["config"]["compression"] or index["config"]["encryption"]:
            raise DataError(f"{folder / INDEX} is not of shards that `vpolicy data encode` has written.", AGAIN)
        for chunk in index["chunks"]:
            path = folder / str(chunk["filename"])
            if not path.is_file() or path.stat().st_size != chunk["chunk_bytes"]:
                raise DataError(f"The shard {path} is missing or cut short.", AGAIN)
        shards = np.array([chunk["chunk_size"] for chunk in index["chunks"]], np.int64)
        runs = np.array(clips["runs"], np.int64)
        if shards.sum() != len(runs) or (runs <= 0).any():
            raise ValueError(f"{INDEX} and {CLIPS} disagree")
        facts = {name: clips[name] for name in _FACTS}
        return Shards(runs, shards, facts)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder} is damaged: {error!r}.", AGAIN) from error


def _read(path: Path) -> Any:
    ensure_data(path)
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}.", AGAIN) from error
