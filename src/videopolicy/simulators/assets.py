"""Files that simulators need besides their packages: written by a script, downloaded, or where the user has them."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import subprocess
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from videopolicy.contracts.benchmark import AssetPack, Assets, WorkerSpec
from videopolicy.errors import SimulationError, StorageError
from videopolicy.storage.files import locked_file, storage_errors
from videopolicy.storage.store import Store

_CHUNK = 2**20
_TELL_EVERY = 256 * _CHUNK
"""Bytes after which a download says how far it is."""
_TRIES = 3
_SECONDS = 60
"""Without a byte, after which a download has failed."""
_WRITING = 1800
"""Seconds that a script may take."""
_LAST_LINES = 12
_SCRIPTED = "scripted"
"""Name of the marker of a finished script."""

Say = Callable[[str], None]


def assets_variable(spec: WorkerSpec) -> str:
    """Name of the environment variable that points to the assets, for the user and for the worker."""
    return f"VPOLICY_{spec.environment.upper().replace('-', '_')}_ASSETS"


def assets_folder(spec: WorkerSpec, root: Path | None = None) -> Path | None:
    """Where the assets of a simulator lie or will lie; None where it needs none.

    The name carries a hash of what they are made from.
    """
    if spec.assets is None:
        return None
    if given := os.environ.get(assets_variable(spec)):
        return Path(given).expanduser().absolute()
    content = spec.assets.model_dump_json(exclude={"stand_in", "script", "size"})
    if spec.assets.script is not None:
        content += spec.assets.script.read_text(encoding="utf-8")
    content += spec.checkout.commit if spec.checkout else ""
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    return Store(root).root / "assets" / f"{spec.environment}-{spec.assets.name}-{key}"


def assets_are_there(spec: WorkerSpec, root: Path | None = None) -> bool:
    """Whether nothing has to be written or downloaded."""
    folder = assets_folder(spec, root)
    if folder is None:
        return True
    return folder.is_dir() if os.environ.get(assets_variable(spec)) else _finished(folder)


def assets_to_be_made(spec: WorkerSpec, root: Path | None = None) -> str:
    """What would have to be written for a simulator; empty where it is there, or nothing is needed.

    Raises:
        SimulationError: There are archives, which are downloaded on request alone, or the user has named a folder that
            does not exist.
    """
    if spec.assets is None or assets_are_there(spec, root):
        return ""
    folder = assets_folder(spec, root)
    assert folder is not None
    if _given_by_the_user(spec, folder):
        return ""
    if not spec.assets.packs:
        return f"The {spec.assets.name} assets of '{spec.environment}' have to be written."
    names = ", ".join(pack.name for pack in spec.assets.packs if not _marker(folder, pack.name).exists())
    size = f" ({spec.assets.size} together)" if spec.assets.size else ""
    otherwise = "; its option `assets` may offer stand-ins, which need no download" if spec.assets.stand_in else ""
    raise SimulationError(
        f"The simulator of '{spec.environment}' needs its {spec.assets.name} assets, and these packs are not here: "
        f"{names}{size}.",
        "Run `vpolicy env assets` with the benchmark's name where there is a network, or set "
        f"{assets_variable(spec)} to a folder that has them{otherwise}.",
    )


def ensure_written(
    spec: WorkerSpec, python: Path, variables: Mapping[str, str], root: Path | None = None, say: Say = lambda text: None
) -> None:
    """Make the assets of a simulator that need no download, where they are not there.

    Args:
        spec: Whose.
        python: The simulator's interpreter.
        variables: Environment variables of a worker.
        root: Folder of artifacts.
        say: Gets one line when something has to be made.

    Raises:
        SimulationError: The script has failed; with its last lines.
    """
    if spec.assets is not None and not spec.assets.packs and not assets_are_there(spec, root):
        ensure_assets(spec, python, variables, root, say)


def ensure_assets(
    spec: WorkerSpec, python: Path, variables: Mapping[str, str], root: Path | None = None, say: Say = lambda text: None
) -> Path:
    """Write and download the assets of a simulator where they are not there; a download that broke off goes on.

    See `ensure_written` for the arguments.

    Returns:
        Their folder.

    Raises:
        SimulationError: It needs none, the script has failed, or an archive cannot be downloaded or is damaged.
    """
    folder, assets = assets_folder(spec, root), spec.assets
    if folder is None or assets is None:
        raise SimulationError(
            f"The simulator of '{spec.environment}' needs no assets besides its environment.",
            "There is nothing to do.",
        )
    if _given_by_the_user(spec, folder) or _finished(folder):
        return folder
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(folder.with_name(f".{folder.name}.lock"), f"the assets {folder}", say), storage_errors(folder):
        if not _finished(folder):
            _make(spec, assets, folder, python, variables, say)
    return folder


def _given_by_the_user(spec: WorkerSpec, folder: Path) -> bool:
    """Whether the user has named the folder, which nothing is written into.

    Raises:
        SimulationError: It does not exist.
    """
    name = assets_variable(spec)
    if not os.environ.get(name):
        return False
    if not folder.is_dir():
        raise SimulationError(f"{name} is {folder}, which does not exist.", f"Correct {name}, or unset it.")
    return True


def _finished(folder: Path) -> bool:
    try:
        return Store.finished(folder) is not None
    except StorageError:  # it is made again
        return False


def _marker(folder: Path, name: str) -> Path:
    return folder / ".packs" / f"{name}.done"


def _make(spec: WorkerSpec, assets: Assets, folder: Path, python: Path, variables: Mapping[str, str], say: Say) -> None:
    if assets.script is not None and not _marker(folder, _SCRIPTED).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        say(f"Writing the {assets.name} assets of '{spec.environment}' into {folder}")
        _write(spec, assets, folder, python, variables)
        _marker(folder, _SCRIPTED).parent.mkdir(exist_ok=True)
        _marker(folder, _SCRIPTED).touch()
    for pack in assets.packs:
        if not _marker(folder, pack.name).exists():
            _fetch(pack, folder, say)
    facts = {"environment": spec.environment, "assets": assets.name, "packs": [pack.url for pack in assets.packs]}
    Store.finish(folder, facts, hashed=False)


def _write(spec: WorkerSpec, assets: Assets, folder: Path, python: Path, variables: Mapping[str, str]) -> None:
    done = subprocess.run(
        [str(python), str(assets.script), str(folder), *assets.arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=dict(variables),
        timeout=_WRITING,
    )
    if done.returncode != 0:
        last = "\n".join(f"  | {line}" for line in done.stdout.strip().splitlines()[-_LAST_LINES:])
        raise SimulationError(
            f"The {assets.name} assets of '{spec.environment}' could not be written by {assets.script}:\n{last}",
            "Check what its last lines say and run this again.",
        )


def _fetch(pack: AssetPack, folder: Path, say: Say) -> None:
    """Download and unpack one archive."""
    archive = folder / ".packs" / f"{pack.name}.zip"
    archive.parent.mkdir(parents=True, exist_ok=True)
    say(f"Downloading {pack.name} from {pack.url}")
    failure = ""
    for _ in range(_TRIES):
        try:
            if _download(pack, archive, say):
                break
            failure = "the connection ended early"
        except (OSError, http.client.HTTPException) as error:
            failure = str(getattr(error, "reason", "") or error) or type(error).__name__
            if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500:
                raise _not_downloaded(pack, f"{error.code} {error.reason}", archive) from None
    else:
        raise _not_downloaded(pack, failure, archive)
    if (wrong := _damage(pack, archive)) is not None:
        archive.unlink()
        raise SimulationError(
            f"What was downloaded from {pack.url} is not the pack '{pack.name}': {wrong}. It was deleted.",
            "Run this again; if it happens again, the publisher's file has changed.",
        )
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder / pack.folder)
    archive.unlink()
    _marker(folder, pack.name).touch()


def _download(pack: AssetPack, archive: Path, say: Say) -> bool:
    """Get an archive, or what is missing of it; returns whether it is whole."""
    have = archive.stat().st_size if archive.exists() else 0
    request = urllib.request.Request(pack.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if have and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # there is nothing after what is here
        raise
    with answer:
        if have and answer.status != http.client.PARTIAL_CONTENT:
            have = 0  # the server sends all of it again
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with archive.open("ab" if have else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if have // _TELL_EVERY != (have - len(chunk)) // _TELL_EVERY:
                    say(f"{pack.name}: {have / 2**20:.0f} MB{f' of {total / 2**20:.0f}' if total else ''}")
    return total is None or have == total


def _damage(pack: AssetPack, archive: Path) -> str | None:
    """What is wrong with a downloaded archive; None for nothing."""
    if pack.sha256:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != pack.sha256:
            return f"its SHA-256 is {found[:12]}..., not {pack.sha256[:12]}..."
    try:
        with zipfile.ZipFile(archive) as packed:
            damaged = packed.testzip()
    except zipfile.BadZipFile:
        return "it is no zip archive"
    return f"{damaged} in it is damaged" if damaged else None


def _not_downloaded(pack: AssetPack, failure: str, archive: Path) -> SimulationError:
    here = archive.stat().st_size / 2**20 if archive.exists() else 0.0
    kept = f" {here:.0f} MB of it are kept: running this again goes on from there." if here >= 1 else ""
    return SimulationError(
        f"The pack '{pack.name}' could not be downloaded from {pack.url}: {failure}.",
        f"Check the network and run this again.{kept}",
    )
