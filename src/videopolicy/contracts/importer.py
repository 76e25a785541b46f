"""Weights that others have published: what was read of them, and what an importer makes of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopolicy.errors import WeightsError, listing

if TYPE_CHECKING:
    from torch import Tensor

    from videopolicy.contracts.dataset import Statistics


@dataclass(frozen=True)
class Checkpoint:
    """A published file, or a folder of some, as the core has read it.

    Args:
        path: The file or the folder.
        content: As stored; usually nested mappings with tensors on the CPU, mapped from the file where possible.
            Of a folder, the content of every file under its entry.
        inert: Classes and functions that the file names and that were neither imported nor run. Objects of them
            are empty in ``content``.
        remarks: What was changed or skipped of the state dicts that were asked for, one sentence each.
        files: Of a folder, what was read in it.
    """

    path: Path
    content: Any
    inert: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list, compare=False)
    files: tuple[Path, ...] = ()

    def tensors(self, *keys: str) -> dict[str, Tensor]:
        """The tensors, by name, of the mapping that lies under these keys one inside the other.

        They are dense, and their names are the model's own: see `videopolicy.contracts.state_dicts`.

        Raises:
            WeightsError: There is no such mapping, it holds no tensors, or some that no weights can be.
        """
        from videopolicy.contracts.state_dicts import read_state

        node, where = self.content, str(self.path)
        for key in keys:
            _ensure_made(node, where)
            if not isinstance(node, Mapping) or key not in node:
                raise WeightsError(
                    f"{where} has no entry '{key}'; it has {_entries(node)}.",
                    "Name a checkpoint of the method that this importer reads.",
                )
            node, where = node[key], f"{where}: {key}"
        _ensure_made(node, where)
        state = read_state(node, where) if isinstance(node, Mapping) else None
        if state is None or not state.tensors:
            raise WeightsError(
                f"{where} holds no weights; its entries are {_entries(node)}.",
                "Name a file with a state dict: names and tensors.",
            )
        self.remarks.extend(remark for remark in state.remarks if remark not in self.remarks)
        return state.tensors

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors of a training checkpoint's ``state_dict``, or of a file that is a state dict itself."""
        held = self.content.get("state_dict") if isinstance(self.content, Mapping) else None
        training = isinstance(held, Mapping) or hasattr(held, "stands_for")
        return self.tensors("state_dict") if training else self.tensors()


def _ensure_made(node: Any, where: str) -> None:
    """Ensure that this is no object whose class stayed inert: nothing of what it held is there."""
    if name := getattr(node, "stands_for", ""):
        raise WeightsError(
            f"{where} holds no weights that can be read without running code: it is an object of class {name}.",
            "Read it with --trust if you trust its authors, or ask them for a state dict: names and tensors.",
        )


def _entries(node: Any) -> str:
    return listing(map(str, node)) if isinstance(node, Mapping) else f"not listed: it is one {type(node).__name__}"


@dataclass
class Imported:
    """What an importer makes of a checkpoint.

    Args:
        parts: Tensors under the names of our modules, relative to ``target``; grouped by what people call the
            parts, such as ``video model``.
        target: What a recipe puts the weights into, such as ``policy`` or ``policy.extractor.backbone``. Empty for
            a folder in another library's layout.
        dropped: Names in the checkpoint that are of no use, each with the reason.
        unexpected: Names in the checkpoint that nobody knows. Any of them is an error.
        missing: Names that the checkpoint should have and has not. Any of them is an error.
        left_out: Names, or beginnings of names that end with a dot, of frozen parameters of the target that these
            weights do not hold, because the recipe's own components load them.
        not_carried: What the checkpoint cannot give, or what has to be done about it; one sentence each.
        options: What a recipe must say for the weights to fit, by its path in the target.
        statistics: How the checkpoint scales vectors; None where it does not say.
        normalization: What a recipe's ``normalization`` must say for these statistics to mean the same, by field.
        place: The option by which recipes name the folder, where they do not start from it with `init_from`: always
            for an empty target.
        file: Name of the file that the tensors go into.
        documents: Further JSON files by name, which another library's layout needs.
        files: Files of the source by their names in the folder, taken over as they are in place of the tensors, which
            then only are compared with a recipe. They are linked where the disk allows it and take no room.
    """

    parts: dict[str, dict[str, Tensor]]
    target: str = "policy"
    dropped: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    not_carried: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    statistics: Statistics | None = None
    normalization: dict[str, str] = field(default_factory=dict)
    place: str = ""
    file: str = "weights.safetensors"
    documents: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
