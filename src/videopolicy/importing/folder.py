"""Checks what an importer made of a checkpoint, and writes the folder."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from videopolicy.contracts.dataset import Statistics
from videopolicy.contracts.importer import Checkpoint, Imported
from videopolicy.errors import RecipeError, StorageError, WeightsError
from videopolicy.importing.tensors import disjoint, ensure_same_kinds
from videopolicy.recipes.recipe import Normalization, Recipe
from videopolicy.storage.files import file_digest, storage_errors, write_json
from videopolicy.training.checkpoints import ensure_fit, save_normalization
from videopolicy.training.stages import build_learner
from videopolicy.training.weight_files import CONFIG, NORMALIZATION, WEIGHTS
from videopolicy.weights import ensure_no_differences

IMPORT = "import.json"
_HELD = ("*.safetensors", "*/diffusion_pytorch_model.safetensors")
"""Weights of ours, and those of a pipeline's parts."""


def ensure_unoccupied(folder: Path, force: bool, source: Path) -> None:
    """Ensure that no weights are written over, unless asked to, and never those that are read.

    Raises:
        StorageError: The folder holds weights already, is a file, or is what is read.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file.", "Name a folder with -o.")
    if folder.resolve() == source.resolve():
        raise StorageError(f"{folder} is the folder that is read.", "Name another one with -o.")
    if not force and any(found for pattern in _HELD for found in folder.glob(pattern)):
        raise StorageError(f"{folder} holds weights already.", "Name another folder, or replace them with --force.")


def ensure_complete(imported: Imported, source: str) -> None:
    """Ensure that a checkpoint has all names that it should have, and none that nobody knows.

    Raises:
        WeightsError: Both lists stand in the message.
    """
    ensure_no_differences(source, imported.missing, imported.unexpected)


def ensure_same_policy(imported: Imported, recipe: Recipe, source: str) -> None:
    """Compare names, shapes and decisive options with a recipe's policy, which is built without memory.

    Raises:
        RecipeError: The recipe has no such part.
        WeightsError: Something differs.
    """
    try:
        part = recipe.part(imported.target)
    except KeyError as error:
        raise RecipeError(
            f"{source} holds weights for '{imported.target}', which recipe '{recipe.name}' has not: {error.args[0]}.",
            "Name a recipe of this method with --recipe.",
        ) from None
    written = part.model_dump(mode="json")
    different = [
        f"{path} is {found!r} in the recipe and must be {wanted!r}"
        for path, wanted in imported.options.items()
        if (found := _at(written, path)) != wanted
    ]
    if imported.target == "policy":
        different += [
            f"normalization.{name} is {found!r} in the recipe and must be {wanted!r}"
            for name, wanted in imported.normalization.items()
            if (found := getattr(recipe.normalization, name)) != wanted
        ]
    if different:
        raise WeightsError(
            f"{source} needs other options of {imported.target}: {'; '.join(different)}.",
            "Change the recipe, or extend it.",
        )
    with torch.device("meta"):
        module = build_learner(recipe, imported.target, recipe.seed)
    found = {name: value for part in imported.parts.values() for name, value in part.items()}
    ensure_fit(module, source, {name: tuple(value.shape) for name, value in found.items()}, imported.left_out)
    ensure_same_kinds(module.state_dict(), found, source)
    scaled, actions = imported.statistics, recipe.benchmark.spaces().actions.dim
    if imported.target == "policy" and scaled is not None and len(scaled.actions.mean) != actions:
        raise WeightsError(
            f"{source} scales actions of {len(scaled.actions.mean)} dimensions, and those of benchmark "
            f"'{recipe.benchmark.type}' have {actions}.",
            "Name a recipe of the benchmark that the policy was trained on.",
        )


def _at(written: Any, path: str) -> Any:
    for name in path.split("."):
        written = written.get(name) if isinstance(written, dict) else None
    return written


def write_imported(
    imported: Imported,
    checkpoint: Checkpoint,
    facts: dict[str, Any],
    folder: Path,
    recipe: Recipe | None = None,
    scaling: tuple[Normalization, Statistics] | None = None,
) -> dict[str, Any]:
    """Write weights and their description; the folder gets all of it or stays as it was.

    Where the importer takes files over as they are, they are linked or copied in place of a file of tensors.

    Args:
        imported: The weights.
        checkpoint: Where they come from.
        facts: Further entries of ``import.json``.
        folder: Where they go.
        recipe: The recipe that they were compared with.
        scaling: How vectors are scaled.

    Returns:
        What ``import.json`` says.
    """
    reasons: dict[str, list[str]] = {}
    for name, reason in imported.dropped.items():
        reasons.setdefault(reason, []).append(name)
    facts = {
        "source": _source(checkpoint),
        **facts,
        "target": imported.target,
        "options": imported.options,
        "normalization": imported.normalization,
        "place": imported.place,
        "parts": {
            name: {"tensors": len(part), "parameters": sum(value.numel() for value in part.values())}
            for name, part in imported.parts.items()
        },
        "dropped": reasons,
        "left_out": imported.left_out,
        "not_carried": imported.not_carried,
        "inert": checkpoint.inert,
        "remarks": checkpoint.remarks,
    }
    with _all_or_nothing(folder) as draft:
        if imported.target and not imported.files:
            options = recipe.part(imported.target).model_dump(mode="json") if recipe else {}
            write_json(draft / CONFIG, {"component": options, "frozen": list(imported.left_out)})
        for name, document in imported.documents.items():
            write_json(draft / name, document)
        if imported.files:
            linked = [_taken(file, draft / name) for name, file in imported.files.items()]
            how = "linked, no copy" if all(linked) else "copied, for the disk has no links or is another one"
            facts["remarks"] = [*checkpoint.remarks, f"files taken over as they are: {len(linked)} ({how})"]
        if scaling is not None:
            save_normalization(draft, *scaling)
        write_json(draft / IMPORT, facts)
        if not imported.files:
            weights = draft / imported.file
            _save({name: value for part in imported.parts.values() for name, value in part.items()}, weights)
            weights.chmod((draft / IMPORT).stat().st_mode)  # safetensors keeps others from reading it
    return facts


def _source(checkpoint: Checkpoint) -> dict[str, Any]:
    """Name, size and digest of what was read."""

    def facts(file: Path) -> dict[str, Any]:
        return {"bytes": file.stat().st_size, "sha256": file_digest(file)}

    path = checkpoint.path
    if not checkpoint.files:
        return {"file": path.name, **facts(path)}
    inside = {str(file.relative_to(path)): facts(file) for file in checkpoint.files}
    return {"file": path.resolve().name, "bytes": sum(one["bytes"] for one in inside.values()), "files": inside}


def _taken(file: Path, place: Path) -> bool:
    """Whether a file could be linked; it is copied where not."""
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), place)
        except OSError:
            shutil.copyfile(file, place)
            return False
    return True


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(disjoint(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        if "os error 28" not in str(error):
            raise
        with storage_errors(path):
            raise OSError(errno.ENOSPC, "No space left on device") from error


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``folder`` once everything is written.

    What lies in ``folder`` and is not of an import stays there.
    """
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield draft
        with storage_errors(folder):
            folder.mkdir(exist_ok=True)
            for stale in (WEIGHTS, CONFIG, NORMALIZATION, IMPORT):
                (folder / stale).unlink(missing_ok=True)
            # The weights last: without them a folder counts as empty.
            written = [file for file in draft.rglob("*") if file.is_file()]
            for file in sorted(written, key=lambda file: file.suffix == ".safetensors"):
                place = folder / file.relative_to(draft)
                place.parent.mkdir(exist_ok=True)
                file.replace(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
