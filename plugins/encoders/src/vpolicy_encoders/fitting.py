"""Whether tensors of a file are those of a network, and what is said when they are not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from videopolicy import WeightsError, read_checkpoint


def published(path: Path) -> dict[str, Tensor]:
    """The tensors of a file: below ``model`` or ``state_dict`` where it has one of these, else its own."""
    checkpoint = read_checkpoint(path)
    entries = checkpoint.content if isinstance(checkpoint.content, Mapping) else {}
    for key in ("model", "state_dict"):
        if isinstance(entries.get(key), Mapping):
            return checkpoint.tensors(key)
    return checkpoint.tensors()


def ensure_fit(
    source: Path, network: str, own: Mapping[str, Tensor], found: Mapping[str, Tensor], patches: str, positions: str
) -> None:
    """Compare the shapes of tensors that have the same name.

    Args:
        source: The file.
        network: How to call the network in messages.
        own: The network's tensors.
        found: The file's.
        patches: Name of the weights of the layer that reads patches.
        positions: ``exact``, or ``interpolate`` where tensors of positions may differ.

    Raises:
        WeightsError: Patches are of another size, images were, or the file is of another network.
    """
    different = {
        name: (tuple(found[name].shape), tuple(own[name].shape))
        for name in own
        if name in found and found[name].shape != own[name].shape
    }
    if patches in different:
        theirs, ours = different[patches]
        if theirs[:-2] == ours[:-2]:
            raise WeightsError(
                f"The weights in {source} are for patches of {_size(theirs)} pixels, and {network} has {_size(ours)}.",
                "Name a network with patches of that size, or weights for these.",
            )
    placed = [name for name in different if "pos" in name or name.endswith("_pe")]
    others = [name for name in different if name not in placed]
    if others:
        theirs, ours = different[others[0]]
        more = f", and {len(others) - 1} more are different" if len(others) > 1 else ""
        raise WeightsError(
            f"The weights in {source} are not those of {network}: {others[0]} has the shape {list(theirs)} there and "
            f"{list(ours)} here{more}.",
            "Name weights of this network, or the network of these weights (its name, width and depth) in the recipe.",
        )
    if placed and positions == "exact":
        theirs, ours = different[placed[0]]
        raise WeightsError(
            f"The weights in {source} were trained on images of another size: {placed[0]} has the shape {list(theirs)} "
            f"there and {list(ours)} in {network} at this image_size.",
            "Set image_size to that of the weights, or positions: interpolate.",
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[-2:]))
