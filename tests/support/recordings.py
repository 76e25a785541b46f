"""Recorded outputs of the official codes: those of this repository, or others in the layout they were made in.

A recording is a tree of dictionaries and lists with numbers, texts and tensors as leaves. Here it is two files:
``NAME.safetensors`` holds the tables that the tensors are windows into, each distinct one once; ``NAME.json`` holds the
tree, in which ``{"table": "17", "offset": 4, "shape": [2, 3], "stride": [3, 1]}`` stands for such a window.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[1] / "oracle" / "recordings"


def recorded(name: str) -> dict[str, Any]:
    """A recording by its name.

    Args:
        name: ``uva``, ``video_policy`` or ``vpp``. Where ``VPOLICY_SHARED`` names a folder with ``oracles/NAME.pt``,
            that one is taken, so that recordings of other sizes meet the same tests.
    """
    return _read(_elsewhere(f"{name}.pt") or FOLDER / f"{name}.json")


@functools.cache
def _read(path: Path) -> dict[str, Any]:
    """Once a process: names of tests need it as well as tests. Nobody changes what is in it."""
    if path.suffix == ".pt":
        found: dict[str, Any] = torch.load(path, weights_only=True)
        return found
    tables = load_file(path.with_suffix(".safetensors"))
    return _with_windows(json.loads(path.read_text(encoding="utf-8")), tables)


def released_names() -> dict[str, list[int]]:
    """Shapes of the tensors of Video Policy's released checkpoint by their official names."""
    name = "video_policy_released_keys.json"
    shapes: dict[str, list[int]] = json.loads((_elsewhere(name) or FOLDER / name).read_text(encoding="utf-8"))
    return shapes


def _elsewhere(file: str) -> Path | None:
    folder = os.environ.get("VPOLICY_SHARED")
    path = Path(folder) / "oracles" / file if folder else None
    return path if path is not None and path.is_file() else None


def _with_windows(tree: Any, tables: dict[str, Tensor]) -> Any:
    if isinstance(tree, list):
        return [_with_windows(item, tables) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {"table", "offset", "shape", "stride"}:
        return tables[tree["table"]].as_strided(tree["shape"], tree["stride"], tree["offset"])
    return {key: _with_windows(item, tables) for key, item in tree.items()}


def write(recording: dict[str, Any], folder: Path, name: str) -> None:
    """Put a recording into the two files of this module's layout.

    Args:
        recording: The tree. Keys are texts, and there are no tuples: JSON has neither other keys nor tuples.
        folder: Where the files go.
        name: Theirs, without a suffix.
    """
    tables: dict[str, Tensor] = {}
    numbers: dict[tuple[str, torch.dtype], str] = {}

    def without_windows(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: without_windows(item) for key, item in tree.items()}
        if isinstance(tree, list):
            return [without_windows(item) for item in tree]
        if not isinstance(tree, Tensor):
            return tree
        table = torch.empty(0, dtype=tree.dtype).set_(tree.untyped_storage())
        content = hashlib.sha256(table.numpy().tobytes()).hexdigest()
        number = numbers.setdefault((content, tree.dtype), str(len(numbers)))
        tables.setdefault(number, table)
        place = {"offset": tree.storage_offset(), "shape": list(tree.shape), "stride": list(tree.stride())}
        return {"table": number, **place}

    text = json.dumps(without_windows(recording), separators=(",", ":"))
    save_file(tables, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
