"""What a policy's folder does not hold, since no stage has trained it: where it is from, and what it must be."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from videopolicy.errors import WeightsError, listing
from videopolicy.paths import expanded, read_regular
from videopolicy.recipes.recipe import Recipe
from videopolicy.storage.files import write_json
from videopolicy.storage.plain_yaml import LARGEST_FILE
from videopolicy.storage.provenance import Facts
from videopolicy.storage.run_folder import RunFolder

FROZEN = "frozen.json"
REPOSITORY = r"[A-Za-z0-9][\w.-]*/\w[\w.-]*"
"""What repositories on the Hub are called, as an expression of ASCII letters."""
_AGAIN = "Copy the folder again, or export the run again."


class Published(Facts):
    """Published weights that a recipe names.

    Args:
        option: The recipe's option, such as ``policy.extractor.backbone.weights``.
        id: On the Hub.
        revision: Commit.
        files: Those that were used.
    """

    option: str
    id: str
    revision: str
    files: tuple[str, ...]


class FrozenFacts(Facts):
    """``frozen.json``.

    Args:
        version: Of this format.
        published: Where weights are from that the folder does not hold.
        digests: Beginning of the SHA-256 of every tensor that the folder does not hold, by name in the policy.
    """

    version: Literal[1] = 1
    published: tuple[Published, ...] = ()
    digests: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> FrozenFacts:
        """What a folder says; nothing where the file is missing.

        Raises:
            WeightsError: It is damaged.
        """
        try:
            return cls.model_validate_json(read_regular(folder / FROZEN, LARGEST_FILE, WeightsError, _AGAIN))
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            raise WeightsError(f"{folder / FROZEN} cannot be read: {error}", _AGAIN) from error

    def write(self, folder: Path) -> None:
        """Put it into a folder."""
        write_json(folder / FROZEN, self.model_dump(mode="json"))


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """What tensors hold, by their names."""
    return {name: _digest(tensor) for name, tensor in tensors.items()}


def _digest(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    found = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)}".encode())
    found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:32]


def ensure_frozen(policy: nn.Module, folder: Path, held: Collection[str]) -> None:
    """Ensure that what a policy has loaded from elsewhere is what it was trained with.

    Args:
        policy: With all of its weights.
        folder: That of the policy.
        held: Names of the tensors that the folder has itself.

    Raises:
        WeightsError: It is something else, or the folder does not say what it must be.
    """
    elsewhere = {name: tensor for name, tensor in policy.state_dict().items() if name not in held}
    facts = FrozenFacts.read(folder)
    if unknown := elsewhere.keys() - facts.digests.keys():
        raise WeightsError(
            f"{folder} holds no weights of {listing(unknown, 4)}, and {FROZEN} does not say what they must be.", _AGAIN
        )
    other = [name for name, found in digests(elsewhere).items() if found != facts.digests[name]]
    if other:
        from_where = ", ".join(f"{one.id} at revision {one.revision} ({one.option})" for one in facts.published)
        raise WeightsError(
            f"{len(other)} of {len(elsewhere)} frozen tensors are not those that the policy in {folder} was trained "
            f"with: {listing(other, 4)}.",
            f"They were from {from_where}." if from_where else "Put the weights that its recipe names where they were.",
        )


def published_weights(recipe: Recipe) -> tuple[Published, ...]:
    """The weights on the Hub that a recipe's policy names, as the Hub's local cache has them."""
    named = {
        option: value
        for option, value in _texts(recipe.policy.model_dump(mode="json"), "policy")
        if re.fullmatch(REPOSITORY, value, re.ASCII) and not expanded(value).exists()
    }
    if not named:
        return ()
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cached = {
            one.repo_id: one.refs for one in scan_cache_dir(constants.HF_HUB_CACHE).repos if one.repo_type == "model"
        }
    except CacheNotFound:
        return ()
    found = []
    for option, value in named.items():
        if (newest := cached.get(value, {}).get("main")) is not None:
            names = sorted(str(file.file_path.relative_to(newest.snapshot_path)) for file in newest.files)
            found.append(Published(option=option, id=value, revision=newest.commit_hash, files=tuple(names)))
    return tuple(found)


def _texts(value: Any, option: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inside in value.items():
            yield from _texts(inside, f"{option}.{name}")
    elif isinstance(value, str):
        yield option, value


def pinned(folder: Path) -> list[str]:
    """Overrides of a folder's recipe by which published weights are those of the revision that it was trained with.

    Where that cannot be had, the option stays: what is found instead is compared by `ensure_frozen`.

    Args:
        folder: That of the policy.
    """
    said = dict(_texts(RunFolder(folder).recipe().get("policy"), "policy"))
    found = []
    for one in FrozenFacts.read(folder).published:
        local = _snapshot(one) if said.get(one.option) == one.id and not expanded(one.id).exists() else None
        found += [f"{one.option}={json.dumps(str(local))}"] if local else []
    return found


def _snapshot(wanted: Published) -> Path | None:
    from huggingface_hub import snapshot_download

    for local in (True, False):
        with suppress(Exception):  # whatever keeps the Hub from giving it, its part's own error says more
            folder = Path(
                snapshot_download(
                    wanted.id, revision=wanted.revision, allow_patterns=list(wanted.files), local_files_only=local
                )
            )
            if all((folder / name).is_file() for name in wanted.files):
                return folder
    return None
