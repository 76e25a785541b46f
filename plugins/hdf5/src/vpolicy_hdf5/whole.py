"""Checks that what is read was written: HDF5 gives zeros for whatever is not there."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil, prod
from pathlib import Path
from typing import NamedTuple

import h5py

from videopolicy import DataError
from videopolicy.parts.files import ensure_data
from vpolicy_hdf5.faults import readable

_FILTERS = {
    4: "szip",
    305: "LZO",
    307: "bzip2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32024: "SZ3",
    32026: "Blosc2",
}
"""The HDF Group's registered numbers; all but the first three and LZF come with the package hdf5plugin."""
_DEPTH = 8
"""Virtual datasets made of virtual datasets are followed so far; a deeper nest goes in a circle."""
_COPY = "Copy or download the data again, with all files that belong to them."


def follow(group: h5py.Group, key: str, where: str) -> h5py.Group | h5py.Dataset | None:
    """What lies under a key, such as ``obs/wrist/rgb``; None where nothing does.

    Raises:
        DataError: A link on the way leads to something that is not there.
    """
    found: h5py.Group | h5py.Dataset = group
    for name in key.split("/"):
        if not isinstance(found, h5py.Group) or not name:
            return None
        link = found.get(name, getlink=True)
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            _ensure_target(found, link, f"{where}: '{name}'")
        try:
            found = found[name]
        except (KeyError, OSError, RuntimeError) as error:
            if not isinstance(link, h5py.SoftLink | h5py.ExternalLink):
                raise
            target = f"{link.path} in {link.filename}" if isinstance(link, h5py.ExternalLink) else link.path
            said = error.args[-1] if error.args else error
            raise DataError(
                f"{where}: '{name}' is a link to {target}, which cannot be opened: {said}.",
                "Restore what it links to, or remove the link.",
            ) from error
    return found


def _ensure_target(group: h5py.Group, link: h5py.ExternalLink, where: str) -> None:
    places = list(_places(link.filename, Path(group.file.filename).parent, "HDF5_EXT_PREFIX"))
    there = [place for place in places if place.exists()]
    if not there:
        raise DataError(
            f"{where} is a link into the file {link.filename}, which is not there.",
            f"Put it to {places[-1]}, or remove the link.",
        )
    ensure_data(there[0])


def _places(name: str | bytes, folder: Path, variable: str) -> Iterator[Path]:
    """Where HDF5 looks for another file: places that a variable names, beside the first file, where one stands."""
    path = Path(os.fsdecode(name))
    if path.is_absolute():
        yield path
    for prefix in filter(None, os.environ.get(variable, "").split(":")):
        yield Path(prefix.replace("${ORIGIN}", str(folder))) / path
    yield path.absolute()
    yield folder / (path.name if path.is_absolute() else path)


def ensure_filters(dataset: h5py.Dataset, where: str) -> None:
    """Check that this installation can decompress a dataset; hdf5plugin is used where it is installed.

    Raises:
        DataError: It cannot.
    """
    settings = dataset.id.get_create_plist()
    for number in range(settings.get_nfilters()):
        code, _, _, name = settings.get_filter(number)
        if h5py.h5z.filter_avail(code):
            continue
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")  # registers its filters
        if not h5py.h5z.filter_avail(code):
            called = _FILTERS.get(code) or os.fsdecode(name) or "of unknown name"
            raise DataError(
                f"{where} is compressed with the filter {code} ({called}), which this installation of HDF5 lacks.",
                "Install it: `uv pip install hdf5plugin` has most filters; or rewrite the file with `h5repack`.",
            )


def ensure_whole(dataset: h5py.Dataset, where: str, depth: int = 0) -> None:
    """Check that all of a dataset was written and that it can be read.

    Where another file is missing, and where nothing was ever written, HDF5 gives fill values; values that were
    written are good whatever they are.

    Args:
        dataset: It.
        where: File, episode and key, for messages.
        depth: How many virtual datasets this one is part of.

    Raises:
        DataError: Naming what is missing.
    """
    if dataset.shape is None or not dataset.size:
        return
    if dataset.is_virtual:
        _ensure_sources(dataset, where, depth)
        return
    if dataset.external:
        _ensure_raw(dataset, where)
        return
    ensure_filters(dataset, where)
    if dataset.chunks is None:
        settings = dataset.id.get_create_plist()
        if settings.get_layout() == h5py.h5d.CONTIGUOUS and dataset.id.get_offset() is None:
            raise DataError(f"{where} was never written: the file has no numbers for it.", _COPY)
        return
    grid = [ceil(size / chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    missing = prod(grid) - dataset.id.get_num_chunks()
    if missing > 0:
        step = _first_hole(dataset, prod(grid[1:]))
        raise DataError(
            f"{where} has holes: {missing} of its {prod(grid)} chunks were never written, the first of them at step "
            f"{step}.",
            "Remove this episode, or copy, download or record it again.",
        )


def _first_hole(dataset: h5py.Dataset, per_row: int) -> int:
    """First step of the first row of chunks that is not all there."""
    found: dict[int, int] = {}
    length = dataset.chunks[0]

    def count(chunk: h5py.h5d.StoreInfo) -> None:
        row = chunk.chunk_offset[0] // length
        found[row] = found.get(row, 0) + 1

    dataset.id.chunk_iter(count)
    return next(row * length for row in range(ceil(dataset.shape[0] / length)) if found.get(row, 0) < per_row)


class _Taken(NamedTuple):
    """What a virtual dataset takes from another: where, and how many numbers; 0: as many as there are."""

    space: h5py.h5s.SpaceID
    numbers: int


def _ensure_sources(dataset: h5py.Dataset, where: str, depth: int) -> None:
    if depth >= _DEPTH:
        raise DataError(f"{where} is a virtual dataset that is made of itself.", _COPY)
    covered = 0
    needed: dict[tuple[str, str], list[_Taken]] = {}
    for source in dataset.virtual_sources():
        try:
            count = int(source.vspace.get_select_npoints())
        except RuntimeError:  # it grows with its source, and ends where that ends
            count = 0
        covered += count or dataset.size
        needed.setdefault((source.file_name, source.dset_name), []).append(_Taken(source.src_space, count))
    for (name, inside), taken in needed.items():
        if "%b" in name + inside:  # one for every block, as many as there are
            continue
        said = f"{where} is put together from '{inside}' in {'the same file' if name == '.' else name}"
        if name == ".":
            _ensure_source(dataset.file, inside, taken, said, depth)
            continue
        places = list(_places(name, Path(dataset.file.filename).parent, "HDF5_VDS_PREFIX"))
        there = next((place for place in places if place.exists()), None)
        if there is None:
            raise DataError(f"{said}, and that file is not there.", f"Put it to {places[-1]}. {_COPY}")
        ensure_data(there)
        with readable(there, f"of which {where} is put together"), h5py.File(there) as file:
            _ensure_source(file, inside, taken, said, depth)
    if covered < dataset.size:
        raise DataError(
            f"{where} is put together from other datasets that leave {dataset.size - covered} of its {dataset.size} "
            "numbers open.",
            _COPY,
        )


def _ensure_source(file: h5py.File, name: str, taken: list[_Taken], said: str, depth: int) -> None:
    found = follow(file, name.strip("/"), said)
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{said}, and there is no such dataset.", _COPY)
    for part in taken:
        if not _holds(found, part):
            raise DataError(f"{said}, which has shape {found.shape}: less than what is taken from it.", _COPY)
    ensure_whole(found, f"{said}, which", depth + 1)


def _holds(source: h5py.Dataset, taken: _Taken) -> bool:
    """Whether a source has all that a virtual dataset takes from it."""
    if taken.space.get_select_type() == h5py.h5s.SEL_ALL:
        return source.size is not None and source.size >= taken.numbers
    try:
        end = taken.space.get_select_bounds()[1]
    except (RuntimeError, ValueError):  # without a bound: as much as there is
        return True
    return len(end) == source.ndim and all(last < size for last, size in zip(end, source.shape, strict=True))


def _ensure_raw(dataset: h5py.Dataset, where: str) -> None:
    """External storage: HDF5 looks for relative names in the current folder, or where a variable says."""
    own = Path(dataset.file.filename).parent
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "").replace("${ORIGIN}", str(own))
    needed = dataset.size * dataset.dtype.itemsize
    for name, offset, size in dataset.external:
        path = Path(prefix) / os.fsdecode(name)
        if not path.exists():
            raise DataError(
                f"{where} lies in the external file {name}, which is not there.",
                "Put it to the current folder, or set HDF5_EXTFILE_PREFIX to the folder that holds it.",
            )
        ensure_data(path)
        wanted = needed if size == h5py.h5f.UNLIMITED else min(needed, size)
        if path.stat().st_size < offset + wanted:
            raise DataError(
                f"{where} lies in the external file {path}, which has {path.stat().st_size} bytes where "
                f"{offset + wanted} are needed.",
                _COPY,
            )
        needed -= wanted
