"""Checks what an importer has made of a checkpoint's tensors: what is written can be loaded, and means what it says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from videopolicy.components.kinds import ImporterComponent
from videopolicy.contracts.dataset import Statistics
from videopolicy.contracts.importer import Checkpoint, Imported
from videopolicy.errors import PluginError, VpolicyError, WeightsError, listing


def converted(importer: ImporterComponent, checkpoint: Checkpoint) -> Imported:
    """What an importer makes of a checkpoint, its tensors and numbers checked.

    Raises:
        WeightsError: It cannot make anything of it, or a value is NaN or infinite.
        PluginError: What it returns is no set of named tensors.
    """
    try:
        imported = importer.convert(checkpoint)
    except VpolicyError:
        raise
    # What arithmetic on the shapes of a foreign file raises: an axis that is not there, a size of 0, a missing name.
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"Importer '{importer.type}' can make nothing of {checkpoint.path}: names or shapes are not those that it "
            f"knows ({type(error).__name__}: {_first_line(error)}).",
            "Compare the file with the published one; if it is that one, report it to the authors of the plugin.",
        ) from error
    _ensure_tensors(imported, importer.type)
    if imported.missing or imported.unexpected:
        return imported  # which is another error, and says more
    _ensure_finite(imported, checkpoint)
    if imported.statistics is not None:
        _ensure_sound(imported.statistics, str(checkpoint.path))
    return imported


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")[:200]


def _ensure_tensors(imported: Imported, importer: str) -> None:
    if not isinstance(imported, Imported):
        raise PluginError(
            f"Importer '{importer}' returns {type(imported).__name__}, not videopolicy.Imported.",
            "Report it to the authors of the plugin.",
        )
    seen: dict[str, str] = {}
    for part, held in imported.parts.items():
        for name, value in held.items():
            if not isinstance(name, str) or not isinstance(value, Tensor):
                raise PluginError(
                    f"Importer '{importer}' gives {name!r} in '{part}' as {type(value).__name__}; expected a tensor "
                    "by its name.",
                    "Report it to the authors of the plugin.",
                )
            if name in seen:
                raise PluginError(
                    f"Importer '{importer}' gives '{name}' twice, in '{seen[name]}' and in '{part}'.",
                    "Report it to the authors of the plugin.",
                )
            seen[name] = part


def _ensure_finite(imported: Imported, checkpoint: Checkpoint) -> None:
    """Nothing is copied for it, so that a file larger than the memory can be checked."""
    for part, held in imported.parts.items():
        for name, value in held.items():
            if not value.is_floating_point() or value.numel() == 0:
                continue
            low, high = (float(one) for one in torch.aminmax(value))
            mask = "mask" in name.rpartition(".")[2]  # which may hold -inf
            largest = torch.finfo(torch.float32).max
            if math.isnan(low) or (not mask and max(abs(low), abs(high)) > largest):
                what = "NaN" if math.isnan(low) else "infinity" if math.isinf(high - low) else "numbers beyond float32"
                theirs = _name_of(value, checkpoint)
                raise WeightsError(
                    f"{checkpoint.path}: '{theirs or name}' contains {what}"
                    + (f" (it would become '{name}' of the {part})." if theirs and theirs != name else f" ({part})."),
                    "Name an earlier checkpoint: the training that saved this one diverged, or the file is damaged.",
                )


def _name_of(value: Tensor, checkpoint: Checkpoint) -> str:
    """The name in the file of a tensor that was carried over as it is; empty where there is none."""
    nodes, met = [checkpoint.content], set()
    while nodes:
        node = nodes.pop()
        if not isinstance(node, Mapping) or id(node) in met:
            continue
        met.add(id(node))
        for name, held in node.items():
            if isinstance(held, Tensor) and held.layout == torch.strided and not held.is_meta and held.numel():
                if held.data_ptr() == value.data_ptr():
                    return str(name)
            else:
                nodes.append(held)
    return ""


def _ensure_sound(statistics: Statistics, source: str) -> None:
    for name, field in (("actions", statistics.actions), ("state", statistics.state)):
        if field is None:
            continue
        columns = dataclasses.asdict(field)
        lengths = {len(column) for column in columns.values()}
        if len(lengths) > 1:
            raise WeightsError(
                f"{source}: the scaling of the {name} has {' and '.join(map(str, sorted(lengths)))} dimensions.",
                "Compare the file with the published one.",
            )
        broken = [key for key, column in columns.items() if not all(map(math.isfinite, column))]
        if broken:
            raise WeightsError(
                f"{source}: the scaling of the {name} is not finite ({listing(broken)}); a scale of 0 may stand in it.",
                "Name a checkpoint whose normalizer was fitted to data.",
            )


def ensure_same_kinds(own: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> None:
    """Ensure that floats become floats and whole numbers whole numbers: loading would round the others silently.

    Args:
        own: Of the model.
        found: What would be loaded, under the same names.
        source: Where it comes from, for the message.

    Raises:
        WeightsError: A kind differs.
    """
    different = [
        f"{name} is {_kind(value)} in the file and {_kind(own[name])} in the model"
        for name, value in found.items()
        if name in own and value.is_floating_point() != own[name].is_floating_point()
    ]
    if different:
        raise WeightsError(
            f"The weights in {source} do not fit the model: {'; '.join(different[:5])}.",
            "Name weights that are not quantised, of this architecture.",
        )


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def disjoint(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each with memory of its own where some shared it, which a file of safetensors cannot say.

    Whoever loads them ties them again. Nothing is copied but what overlaps or has gaps.
    """
    found = {name: value.contiguous() for name, value in tensors.items()}
    end = 0
    for name in sorted(found, key=lambda name: found[name].data_ptr()):
        value = found[name]
        if value.numel() == 0:
            continue
        first = value.data_ptr()
        if first < end:
            found[name] = value.clone()
        end = max(end, first + value.numel() * value.element_size())
    return found
