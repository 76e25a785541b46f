"""What files that are there already say before they are opened, so that `vpolicy check` finds what does not fit."""

from __future__ import annotations

from pathlib import Path

import h5py

from videopolicy import DataError, DeclaredSpaces
from vpolicy_hdf5.attributes import data_group, orientation_of, orientation_seen, spaces_of
from vpolicy_hdf5.choosing import data_files
from vpolicy_hdf5.faults import readable
from vpolicy_hdf5.options import RobomimicHDF5Options


def declared_by(path: Path, options: RobomimicHDF5Options, said: DeclaredSpaces) -> DeclaredSpaces:
    """What the recipe says, and where it says nothing what the first file does, if it was collected here.

    Args:
        path: A file or a folder.
        options: What the recipe says.
        said: The same as spaces.

    Raises:
        DataError: The recipe contradicts the file about the orientation of its images.
    """
    try:
        first = data_files(path, options.files)[0]
        with readable(first), h5py.File(first) as file:
            attributes = dict(data_group(first, file).attrs)
            spaces = spaces_of(first, file["data"].attrs)
    except DataError:  # what is damaged is said when the data are opened
        return said
    orientation_of(first, attributes, options.orientation)
    if spaces is None:  # this reader turns them
        return said.model_copy(update={"orientation": options.pictures or "upright"})
    return DeclaredSpaces(
        cameras=said.cameras or tuple(camera.name for camera in spaces.cameras),
        actions=said.actions or spaces.actions,
        state=None if options.state else spaces.state,
        orientation=options.pictures or orientation_seen([spaces]),
    )
