"""Pretrained weights: where they come from, and what is said when they do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from videopolicy.errors import WeightsError, listing
from videopolicy.paths import ensure_regular, expanded

HUB_TIMEOUT = 10.0
"""Seconds until a hub that does not answer counts as unreachable."""


_RANDOM: ContextVar[bool] = ContextVar("random_weights", default=False)


@contextmanager
def random_weights() -> Iterator[None]:
    """Build modules at full size without their pretrained weights: what is measured then needs no download."""
    token = _RANDOM.set(True)
    try:
        yield
    finally:
        _RANDOM.reset(token)


def without_loading() -> bool:
    """Whether modules keep their initial weights: they are built inside `random_weights` or on the meta device."""
    import torch

    return _RANDOM.get() or torch.get_default_device().type == "meta"


class ToBeFetchedError(WeightsError):
    """Weights are not on this machine; nothing keeps them from being fetched."""


_LOOKING: ContextVar[Literal["here", "hub"] | None] = ContextVar("looking", default=None)


@contextmanager
def looking_only(hub: bool = False) -> Iterator[None]:
    """Let `pretrained_folder` say whether weights are here, and fetch nothing.

    Args:
        hub: Ask the hub too, whether it would give them; without it nothing is asked for over the network.
    """
    token = _LOOKING.set("hub" if hub else "here")
    try:
        yield
    finally:
        _LOOKING.reset(token)


def only_looking() -> bool:
    """Whether nothing is to be fetched now; say that it would be, with a `ToBeFetchedError`."""
    return _LOOKING.get() is not None


def pretrained_folder(weights: str, what: str, files: Sequence[str]) -> Path:
    """The local folder with pretrained weights, fetched from the hub where necessary.

    Args:
        weights: Local folder, or hub id (found in the hub's local cache when the hub is unreachable).
        what: What is being loaded, such as ``The UNet``.
        files: Patterns of the files that are needed, relative to the folder. Pickled weights are not
            fetched where safetensors lie beside them.

    Raises:
        WeightsError: There is no such folder and the hub cannot give it; says what to download and where
            to put it.
        ToBeFetchedError: Inside `looking_only`: it is not here.
    """
    folder = expanded(weights)
    if folder.is_dir():
        for found in (found for pattern in files for found in folder.glob(pattern)):
            ensure_regular(found, WeightsError, "Put the file itself there.")
        return folder
    if folder.is_absolute() or weights.startswith((".", "~", "$")) or weights.count("/") > 1:
        raise WeightsError(
            f"{what} cannot be loaded: the folder {weights} does not exist.",
            f"Put the files there ({', '.join(files)}), or name a hub id such as owner/name.",
        )
    from huggingface_hub import HfApi, snapshot_download

    if _LOOKING.get() and (cached := _cached(weights, files)):
        return cached
    if _LOOKING.get() == "here":
        raise _to_be_fetched(weights, what)
    try:
        siblings = HfApi().model_info(weights, timeout=HUB_TIMEOUT).siblings or []
        names = [s.rfilename for s in siblings if any(fnmatch(s.rfilename, pattern) for pattern in files)]
        safe = {str(Path(name).parent) for name in names if name.endswith(".safetensors")}
        wanted = [name for name in names if not (name.endswith(".bin") and str(Path(name).parent) in safe)]
        if _LOOKING.get():
            raise _to_be_fetched(weights, what)
        return Path(snapshot_download(weights, allow_patterns=wanted))
    except ToBeFetchedError:
        raise
    except Exception as error:  # whatever keeps the hub from answering, a local copy is as good
        with suppress(Exception):
            return Path(snapshot_download(weights, allow_patterns=list(files), local_files_only=True))
        raise WeightsError(
            f"{what} cannot be loaded: '{weights}' is no local folder, and the hub cannot give it ({_reason(error)}).",
            f"On a machine with access run `hf download {weights} --local-dir FOLDER`, copy FOLDER to this machine "
            f"(needed: {', '.join(files)}) and set `weights: FOLDER` in the recipe.",
        ) from error


def _cached(weights: str, files: Sequence[str]) -> Path | None:
    """The copy in the hub's local cache, where it has something of every folder that is needed."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(weights, allow_patterns=list(files), local_files_only=True))
    except Exception:  # there is none, or what was named is no hub id, which the hub will say
        return None
    needed = {str(Path(pattern).parent) for pattern in files}
    there = {str(Path(pattern).parent) for pattern in files if any(folder.glob(pattern))}
    return folder if there == needed else None


def _to_be_fetched(weights: str, what: str) -> ToBeFetchedError:
    return ToBeFetchedError(
        f"{what}: '{weights}' is no folder on this machine and would be downloaded from the hub.",
        "Nothing has to be done; a local folder in its place needs no network.",
    )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__


@contextmanager
def explain_loading(folder: Path, what: str, files: Sequence[str]) -> Iterator[None]:
    """Turn a library's failure to read a folder of weights into an error that says what is wrong.

    Raises:
        WeightsError: Reading failed; the library's own reason stands in the message.
    """
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:  # libraries raise OSError, ValueError, RuntimeError and safetensors' own alike
        raise WeightsError(
            f"{what} cannot be loaded from {folder}: {_reason(error)}",
            f"The folder needs {', '.join(files)}; a file may be missing, cut short or of another model.",
        ) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from showing progress of its own, and from reporting as surplus what is left out on purpose."""
    from transformers.utils import logging

    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def ensure_no_differences(source: str, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Ensure that the names of weights match the model.

    Raises:
        WeightsError: There are missing or unexpected keys; both lists stand in the message.
    """
    missing, unexpected = list(missing), list(unexpected)
    if missing or unexpected:
        raise WeightsError(
            f"The weights in {source} do not match the model: {len(missing)} keys are missing "
            f"({listing(missing)}), {len(unexpected)} are unexpected ({listing(unexpected)}).",
            "Name weights of this architecture, or change the architecture's options in the recipe.",
        )


def beginnings(names: Iterable[str], depth: int = 2) -> str:
    """How names begin, for messages: those of another model, or of a model inside a wrapper, differ there."""
    return listing({".".join(name.split(".")[:depth]) for name in names}, 4)
