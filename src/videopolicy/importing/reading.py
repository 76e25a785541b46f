"""Reads published checkpoints without executing what is pickled in them."""

from __future__ import annotations

import difflib
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from videopolicy.components.kinds import ImporterComponent
from videopolicy.contracts.importer import Checkpoint
from videopolicy.errors import WeightsError, listing
from videopolicy.importing.pickles import inert_pickle
from videopolicy.paths import ensure_regular

_HEAD = 512
_ZIP = b"PK\x03\x04"


def read_published(importer: ImporterComponent, path: Path, trust: bool = False) -> Checkpoint:
    """Read what was published: a file, or those files of a folder that an importer asks for.

    Args:
        importer: Whoever is to make something of it.
        path: The file or the folder.
        trust: As for `read_checkpoint`.

    Raises:
        WeightsError: As for `read_checkpoint`, or the folder lacks something.
    """
    wanted = importer.files(path) if path.is_dir() else path
    if isinstance(wanted, Path):
        return read_checkpoint(wanted, trust)
    read = {name: read_checkpoint(file, trust) for name, file in wanted.items()}
    inert = {name for one in read.values() for name in one.inert}
    content = {name: one.content for name, one in read.items()}
    return Checkpoint(path, content, tuple(sorted(inert)), files=tuple(wanted.values()))


def read_checkpoint(path: Path, trust: bool = False) -> Checkpoint:
    """Read a file of safetensors, or one that torch has written, in its present or its older layout.

    Tensors are mapped from the file where its layout allows, so that a large file is never in memory twice.

    Args:
        path: The file.
        trust: Unpickle everything, and so run whatever code the file names.

    Raises:
        WeightsError: The file is missing, empty, damaged, cut short, or no checkpoint.
    """
    head = _head(path)
    try:
        if path.suffix == ".safetensors" or _is_safetensors(head, path.stat().st_size):
            return Checkpoint(path, load_file(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on old layouts are nothing that a user can act on
            return _read_torch(path, mapped=head.startswith(_ZIP), trust=trust)
    except WeightsError:
        raise
    except (ImportError, AttributeError) as error:
        if not trust:
            raise _unreadable(path, error) from error
        raise WeightsError(
            f"{path} names code that is not installed: {error}", "Install it, or read the file without --trust."
        ) from error
    except Exception as error:  # torch, zip, pickle and safetensors raise nearly every type on damaged files
        raise _unreadable(path, error) from error


def _read_torch(path: Path, mapped: bool, trust: bool) -> Checkpoint:
    # An archive of something else would be reported as damaged.
    if mapped and zipfile.is_zipfile(path):
        names = zipfile.ZipFile(path).namelist()
        if not any(name.endswith("data.pkl") for name in names):
            raise WeightsError(
                f"{path} is an archive with {listing(names, 5)}.", "Unpack it, and name the checkpoint inside."
            )
    options: dict[str, Any] = {"map_location": "cpu", "mmap": mapped}
    if trust:
        return Checkpoint(path, torch.load(path, weights_only=False, **options))
    try:
        return Checkpoint(path, torch.load(path, weights_only=True, **options))
    except pickle.UnpicklingError:
        # Compiled archives and the oldest layout, whose loaders do more than unpickle, raise another error here
        # and never come to the next line.
        met: set[str] = set()
        content = torch.load(path, weights_only=False, pickle_module=inert_pickle(met), **options)
        return Checkpoint(path, content, tuple(sorted(met)))


def _head(path: Path) -> bytes:
    """The first bytes of a file, which must be those of some checkpoint."""
    if path.is_dir():
        files = [file.name for file in path.iterdir() if file.is_file()]
        raise WeightsError(f"{path} is a folder.", f"Name the checkpoint itself; there are {listing(files)}.")
    ensure_regular(path, WeightsError, "Give the path of a downloaded file.")
    try:
        with path.open("rb") as handle:
            head = handle.read(_HEAD)
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
        hint = f"Did you mean {path.parent / near[0]}?" if near else "Give the path of a downloaded file."
        raise WeightsError(f"There is no checkpoint {path}.", hint) from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.", "Make the file readable.") from None
    again = "Download it again, and compare its size with the published one."
    if not head:
        raise WeightsError(f"{path} is empty.", again)
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(
            f"{path} is a web page, not a checkpoint.", "The download needs another address or a login; get it again."
        )
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} only points at the checkpoint in git LFS.", "Run `git lfs pull` in its repository.")
    return head


def _is_safetensors(head: bytes, size: int) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size


def _unreadable(path: Path, error: Exception) -> WeightsError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return WeightsError(
        f"{path} is damaged, cut short, or no checkpoint: {reason[:200]}",
        f"It has {path.stat().st_size:,} bytes: compare with the published size, and download it again if they differ.",
    )
